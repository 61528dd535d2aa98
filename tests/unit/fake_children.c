/* fake_children.c: listener, workers and control process of test_supervisor; what a worker does is the name of its
 * plugin. */
#include "config.h"

#include "base/log.h"
#include "process/proc.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t terms;

/* Counts SIGTERM and PROC_STOP_NOW. */
static void on_term(int sig)
{
	(void)sig;
	terms++;
}

/* How many descriptors above stderr are open. */
static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	int n = 0, fd;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		fd = atoi(e->d_name);
		if (fd > STDERR_FILENO && fd != dirfd(dir) && fd < 1000) /* valgrind keeps its own high up */
			n++;
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}

/* Lives until the `enough`-th of SIGTERM and PROC_STOP_NOW or the end of the supervisor; wake words are logged. */
static int live(const struct proc_env *env, int enough)
{
	struct pollfd p[2] = { { .fd = env->parent_fd, .events = POLLIN }, { .fd = -1, .events = POLLIN } };
	struct timespec ts = { .tv_nsec = 100000000 };
	struct sigaction sa = { .sa_handler = on_term };
	sigset_t block, during;
	uint16_t word;

	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, PROC_STOP_NOW);
	sigprocmask(SIG_BLOCK, &block, &during);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(PROC_STOP_NOW, &sa, NULL);
	if (env->unit != NULL)
		p[1].fd = env->unit->wake[0];
	while (terms < enough) {
		int before = terms;

		proc_beat(env);
		ppoll(p, 2, &ts, &during);
		if (terms > before && terms < enough)
			log_info("asked to leave");
		if (p[0].revents != 0)
			return PROC_EXIT_OK;
		if (p[1].revents != 0)
			while (read(p[1].fd, &word, sizeof word) == (ssize_t)sizeof word)
				log_info("woken");
	}
	log_info("goes");
	return PROC_EXIT_OK;
}

/* Says that a child is there. */
static void report_up(const char *what)
{
	struct log_field fields[] = { LOG_STR("up", what), LOG_INT("pid", getpid()), LOG_INT("fds", open_fds()),
		LOG_END };

	log_write(LOG_LEVEL_INFO, fields, "up");
}

static int listener_main(const struct proc_env *env)
{
	uint16_t word = 0;
	size_t i;

	stats_state(env->slot, STATE_READY);
	report_up("listener");
	for (i = 0; i < env->nunits; i++)
		if (write(env->units[i].wake[1], &word, sizeof word) != (ssize_t)sizeof word)
			log_error("cannot wake %s", env->units[i].name);
	return live(env, 1);
}

static int control_main(const struct proc_env *env)
{
	stats_state(env->slot, STATE_READY);
	report_up("control");
	return live(env, 1);
}

static int worker_main(const struct proc_env *env)
{
	const char *plugin = env->slot->plugin;
	size_t i;

	report_up(env->unit->name);
	if (strcmp(plugin, "crash") == 0)
		abort();
	if (strcmp(plugin, "config") == 0)
		return PROC_EXIT_CONFIG;
	if (strcmp(plugin, "nothing") == 0)
		return PROC_EXIT_OK;
	for (i = 0; i < env->unit->nqueues; i++)
		stats_state(env->unit->slots[i], strcmp(plugin, "slow") == 0 ? STATE_CONNECTING : STATE_READY);
	if (strcmp(plugin, "hang") == 0) {
		proc_beat(env);
		signal(SIGTERM, SIG_IGN);
		for (;;)
			pause();
	}
	if (strcmp(plugin, "lone") == 0)
		for (;;)
			pause(); /* looks at nothing; the kernel's SIGTERM ends it */
	if (strcmp(plugin, "stubborn") == 0)
		return live(env, INT32_MAX);
	if (strcmp(plugin, "twice") == 0)
		return live(env, 2);
	return live(env, 1);
}

/* A check may find a plugin broken, die of it, or last until there is a file "go" beside the templates. */
static int check_main(const struct settings *settings)
{
	const char *plugin;
	char go[256];
	size_t i;

	snprintf(go, sizeof go, "%s/go", settings->template_dir);
	for (i = 0; i < settings->nqueues; i++) {
		plugin = settings->queues[i].plugin;
		if (strcmp(plugin, "broken") == 0)
			return PROC_EXIT_CONFIG;
		if (strcmp(plugin, "deadly") == 0)
			abort();
		while (strcmp(plugin, "lasting") == 0 && access(go, F_OK) != 0)
			poll(NULL, 0, 10);
	}
	return PROC_EXIT_OK;
}

const struct proc_roles fake_roles = {
	.listener = listener_main, .worker = worker_main, .control = control_main, .check = check_main
};
