/* api_spawn.c: programs that a plugin starts: a process group of their own, three pipes, limits, and an end that the
 * loop hears of. */
#include "config.h"

#include "base/loop.h"
#include "worker/api.h"

#include "base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_CANNOT 127
#define LOOK_MS 5 /* without pidfd_open(2) */

struct pgmqd_child {
	TAILQ_ENTRY(pgmqd_child) link;
	struct pgmqd_worker *w;
	struct event *ev; /* on the pidfd */
	int pidfd;        /* -1: the kernel (or valgrind) has none, so `ev` is a timer that looks now and then */
	pid_t pid;
	pgmqd_exit_cb cb; /* NULL: the plugin waits for it no more */
	void *arg;
};

static TAILQ_HEAD(, pgmqd_child) children = TAILQ_HEAD_INITIALIZER(children);

/* The part of our environment that the program gets. */
static const char *const inherited[] = { "PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR" };
#define NINHERITED (sizeof(inherited) / sizeof(*inherited))

/* The new environment: an array that is freed at once after the fork; its first `own` texts are malloc'd. */
static char **make_environment(const char *const *more, size_t *own)
{
	size_t n = 0, k = 0;
	char **env;

	while (more && more[k])
		k++;
	env = xcalloc(NINHERITED + k + 1, sizeof(*env));
	for (size_t i = 0; i < NINHERITED; i++)
		if (getenv(inherited[i]))
			env[n++] = xasprintf("%s=%s", inherited[i], getenv(inherited[i]));
	*own = n;
	for (size_t i = 0; i < k; i++)
		env[n++] = (char *)(uintptr_t)more[i];
	return env;
}

/* Sets one limit; 0 leaves it. */
static void set_limit(int what, uint64_t value)
{
	struct rlimit r = { .rlim_cur = (rlim_t)value, .rlim_max = (rlim_t)value };

	if (value)
		(void)setrlimit(what, &r);
}

/* Becomes the program; only async-signal-safe calls. Returns errno. */
static int child_become(const struct pgmqd_command *c, char **env, const int ends[3], int tell)
{
	struct sigaction def = { .sa_handler = SIG_DFL };
	sigset_t none;

	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &def, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 0; i < 3; i++)
		if (dup2(ends[i], i) != i)
			return errno;
	if (dup2(tell, 3) != 3 || fcntl(3, F_SETFD, FD_CLOEXEC) != 0)
		return errno;
#ifdef HAVE_CLOSE_RANGE
	(void)close_range(4, ~0U, 0);
#else
	for (int fd = 4; fd < 65536; fd++)
		(void)close(fd);
#endif
	if (c->dir && chdir(c->dir) != 0)
		return errno;
	set_limit(RLIMIT_CPU, c->cpu_seconds);
	set_limit(RLIMIT_AS, c->memory_bytes);
	set_limit(RLIMIT_NOFILE, c->open_files);
	set_limit(RLIMIT_FSIZE, c->file_bytes);
	execvpe(c->argv[0], (char *const *)(uintptr_t)c->argv, env);
	return errno;
}

/* The child's part. It has its parent's memory until the program runs, so all that it leaves there is on its own frame
 * and errno. */
static _Noreturn __attribute__((noinline)) void child_run(
	const struct pgmqd_command *c, char **env, const int ends[3], int tell)
{
	int error = child_become(c, env, ends, tell);

	(void)!write(3, &error, sizeof(error)); /* no variable instead: under valgrind the memory is not shared */
	_exit(STATUS_CANNOT);
}

/* The descriptors of the new process: `ends` and `tell` are its own, above 3 so that none is overwritten by another. */
static bool make_pipes(int fds[3], int ends[3], int tell[2])
{
	int p[2], moved;

	fds[0] = fds[1] = fds[2] = ends[0] = ends[1] = ends[2] = tell[0] = tell[1] = -1;
	for (int i = 0; i < 4; i++) {
		int *near = i < 3 ? &fds[i] : &tell[0], *far = i < 3 ? &ends[i] : &tell[1];

		if (pipe2(p, O_CLOEXEC) != 0)
			return false;
		*near = i == 0 ? p[1] : p[0];
		*far = i == 0 ? p[0] : p[1];
		moved = fcntl(*far, F_DUPFD_CLOEXEC, 4);
		if (moved < 0)
			return false;
		close(*far);
		*far = moved;
		if (i < 3 && fcntl(*near, F_SETFL, O_NONBLOCK) != 0)
			return false;
	}
	return true;
}

/* Closes what is open of n descriptors. */
static void close_all(const int *fds, int n)
{
	for (int i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Starts the process. Its pid, or -1 with errno, also when the program could not be executed. */
static pid_t start(const struct pgmqd_command *c, char **env, const int ends[3], int tell[2])
{
	sigset_t all, former;
	int error, status;
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &former);
	/* fork() copies the tables of all our memory, and the loop waits for that; posix_spawn() can set neither limits
	 * nor a death signal. */
	/* NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.vfork): the loop waits until execve() in any case, for its
	 * errno */
	pid = vfork();
	if (pid == 0)
		/* NOLINTNEXTLINE(clang-analyzer-unix.Vfork): a frame of its own, and it does not return */
		child_run(c, env, ends, tell[1]);
	error = errno;
	sigprocmask(SIG_SETMASK, &former, NULL);
	close(tell[1]);
	tell[1] = -1;
	if (pid < 0) {
		errno = error;
		return -1;
	}
	(void)setpgid(pid, pid); /* both sides do it, so that it is done when either goes on */
	error = 0;
	if (read(tell[0], &error, sizeof(error)) ==
		(ssize_t)sizeof(error)) { /* ends when the program runs: exec closes the other end */
		waitpid(pid, &status, 0);
		errno = error;
		return -1;
	}
	return pid;
}

/* Frees what was kept of a process that is gone. */
static void child_free(struct pgmqd_child *c)
{
	TAILQ_REMOVE(&children, c, link);
	event_free(c->ev);
	if (c->pidfd >= 0)
		close(c->pidfd);
	free(c);
}

/* Ends what is left of a worker's programs and waits for them: only when the worker stops. */
static void child_reap(struct pgmqd_worker *w)
{
	struct pgmqd_child *c, *next;

	for (c = TAILQ_FIRST(&children); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->w != w)
			continue;
		(void)kill(-c->pid, SIGKILL);
		while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
			;
		child_free(c);
	}
}

/* The process has ended. */
static void child_ended(evutil_socket_t fd, short what, void *arg)
{
	struct pgmqd_child *c = arg, mine = *c;
	struct plugin_call call;
	int status = 0;

	(void)fd, (void)what;
	if (waitpid(c->pid, &status, WNOHANG) != c->pid) {
		if (c->pidfd < 0)
			loop_timer(c->ev, LOOK_MS);
		return;
	}
	(void)kill(-c->pid, SIGKILL); /* what it left behind in its group */
	child_free(c);
	if (!mine.cb)
		return;
	mine.w->children--;
	call = plugin_call_begin(mine.w, 0);
	mine.cb(mine.arg, status);
	plugin_call_end(call);
}

PGMQD_EXPORT struct pgmqd_child *pgmqd_spawn(
	struct pgmqd_worker *w, const struct pgmqd_command *command, int fds[3], pgmqd_exit_cb cb, void *arg)
{
	struct pgmqd_command c = { 0 };
	struct pgmqd_child *child;
	int ends[3], tell[2], error;
	size_t own;
	char **env;
	pid_t pid = -1;

	memcpy(&c, command, command->size < sizeof(c) ? command->size : sizeof(c));
	if (!c.argv || !c.argv[0] || !cb) {
		plugin_call_misuse(w, 0, "pgmqd_spawn() without a program or a callback");
		errno = EINVAL;
		return NULL;
	}
	env = make_environment(c.env, &own);
	if (make_pipes(fds, ends, tell))
		pid = start(&c, env, ends, tell);
	error = errno;
	for (size_t i = 0; i < own; i++)
		free(env[i]);
	free(env);
	close_all(ends, 3);
	close_all(tell, 2);
	if (pid < 0) {
		close_all(fds, 3);
		fds[0] = fds[1] = fds[2] = -1;
		errno = error;
		return NULL;
	}
	child = xcalloc(1, sizeof(*child));
	*child = (struct pgmqd_child){
		.w = w, .pid = pid, .cb = cb, .arg = arg, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0)
	};
	child->ev = loop_event(w->base, child->pidfd, child->pidfd < 0 ? 0 : EV_READ | EV_PERSIST, child_ended, child);
	if (child->pidfd < 0)
		loop_timer(child->ev, LOOK_MS);
	else
		loop_add(child->ev, NULL);
	TAILQ_INSERT_TAIL(&children, child, link);
	plugin_call_reap = child_reap;
	w->children++;
	return child;
}

PGMQD_EXPORT void pgmqd_child_signal(struct pgmqd_child *c, int sig)
{
	(void)kill(-c->pid, sig);
}

PGMQD_EXPORT void pgmqd_child_end(struct pgmqd_child *c)
{
	if (!c || !c->cb)
		return;
	(void)kill(-c->pid, SIGKILL);
	c->cb = NULL;
	c->w->children--;
}
