/* supervised.c: a supervisor in a process of its own: starts it, reads its log and what it tells systemd, ends it. */
#include "config.h"

#include "supervised.h"

#include "base/clock.h"
#include "settings/load.h"
#include "base/log.h"
#include "process/proc.h"
#include "supervisor/supervisor.h"
#include "base/xalloc.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define PATIENCE_MS 30000 /* for things that happen at once; only a failure ever waits so long */

extern const struct proc_roles fake_roles; /* fake_children.c */

void supervised_write_conf(struct supervised *f, const char *global, const char *queues)
{
	FILE *file = fopen(f->conf, "w");

	assert_non_null(file);
	fprintf(file, "[pgmqd]\nlog_format = json\nlog_level = debug\ntemplate_dir = %s\nplugin_dir = %s\n%s%s\n%s",
		f->dir, f->dir, strstr(global, "http_listen") == NULL ? "http_listen = 127.0.0.1:1\n" : "", global,
		queues);
	fclose(file);
	chmod(f->conf, 0600);
}

void supervised_start(struct supervised *f, const char *global, const char *queues)
{
	struct settings *s;
	char *errors = NULL;
	int p[2];

	supervised_write_conf(f, global, queues);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	f->pid = fork();
	assert_int_not_equal(f->pid, -1);
	if (f->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(p[1], STDERR_FILENO);
		(void)!open("/dev/null", O_RDONLY); /* one that children must not get */
		setenv("NOTIFY_SOCKET", f->notify, 1);
		setenv("WATCHDOG_USEC", "1000000", 1);
		log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
		if ((s = settings_load(f->conf, &errors)) == NULL) {
			log_error("%s", errors);
			_exit(99);
		}
		exit(supervisor_run(s, &fake_roles));
	}
	close(p[1]);
	f->log = p[0];
}

/* Whether this runs under valgrind. */
static bool by_valgrind(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

/* Milliseconds of CLOCK_MONOTONIC. */
static int64_t now_ms(void)
{
	return clock_monotonic_ms();
}

/* Reads what the log has to offer within `timeout`; false at its end or when nothing came. */
static bool read_log(struct supervised *f, int64_t timeout)
{
	struct pollfd p = { .fd = f->log, .events = POLLIN };
	char *end;
	ssize_t n;

	if (poll(&p, 1, (int)timeout) != 1)
		return false;
	n = read(f->log, f->buf + f->len, sizeof f->buf - 1 - f->len);
	if (n <= 0)
		return false;
	f->len += (size_t)n;
	f->buf[f->len] = '\0';
	while ((end = strchr(f->buf, '\n')) != NULL) {
		*end = '\0';
		if (getenv("SHOW_LOG") != NULL)
			printf("    %s\n", f->buf);
		cJSON *record = cJSON_Parse(f->buf);

		if (record != NULL)
			cJSON_AddItemToArray(f->records, record);
		else
			printf("    not JSON: %s\n", f->buf); /* a sanitizer's report, say */
		f->len -= (size_t)(end + 1 - f->buf);
		memmove(f->buf, end + 1, f->len + 1);
	}
	return true;
}

const char *supervised_field(const cJSON *record, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(record, name));

	return text != NULL ? text : "";
}

int supervised_number(const cJSON *record, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(record, name);

	return cJSON_IsNumber(item) ? item->valueint : -1;
}

const cJSON *supervised_wait_record(struct supervised *f, const char *text, const char *who)
{
	int64_t until = now_ms() + PATIENCE_MS;
	const cJSON *r;
	int i = f->seen;

	for (;;) {
		for (; i < cJSON_GetArraySize(f->records); i++) {
			r = cJSON_GetArrayItem(f->records, i);
			if (strstr(supervised_field(r, "text"), text) != NULL &&
				(who == NULL || strcmp(supervised_field(r, "up"), who) == 0)) {
				f->seen = i + 1;
				return r;
			}
		}
		if (!read_log(f, until - now_ms() > 0 ? until - now_ms() : 0)) {
			for (i = cJSON_GetArraySize(f->records) - 30; i < cJSON_GetArraySize(f->records); i++)
				if (i >= 0)
					printf("    %s: %s\n",
						supervised_field(cJSON_GetArrayItem(f->records, i), "process"),
						supervised_field(cJSON_GetArrayItem(f->records, i), "text"));
			fail_msg("no \"%s\" of %s in the log, which ends as above", text, who != NULL ? who : "anyone");
		}
	}
}

const cJSON *supervised_wait_ready(struct supervised *f)
{
	const cJSON *r;

	do
		r = supervised_wait_record(f, "ready", NULL);
	while (strcmp(supervised_field(r, "text"), "ready") != 0);
	return r;
}

int supervised_count_records(const struct supervised *f, const char *text, const char *who)
{
	const cJSON *r;
	int n = 0;

	cJSON_ArrayForEach(r, f->records) if (strstr(supervised_field(r, "text"), text) != NULL &&
					      (who == NULL || strcmp(supervised_field(r, "up"), who) == 0)) n++;
	return n;
}

pid_t supervised_newest(const struct supervised *f, const char *who)
{
	const cJSON *r;
	pid_t pid = -1;

	cJSON_ArrayForEach(r, f->records) if (strcmp(supervised_field(r, "up"), who) == 0)
		pid = supervised_number(r, "pid");
	return pid;
}

pid_t supervised_newer(struct supervised *f, const char *who, pid_t than)
{
	int64_t until = now_ms() + PATIENCE_MS;

	while (supervised_newest(f, who) == than && read_log(f, until - now_ms() > 0 ? until - now_ms() : 0))
		;
	return supervised_newest(f, who);
}

int supervised_wait_end(struct supervised *f)
{
	int64_t until = now_ms() + PATIENCE_MS;
	int status, result = -1;
	pid_t pid;

	while (read_log(f, PATIENCE_MS)) /* its end: no process has the write end any more */
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) >= 0 && now_ms() < until)
		if (pid == 0)
			poll(NULL, 0, 5); /* its stderr is closed, so it is about to end */
		else if (pid == f->pid)
			result = status;
	if (pid != -1)
		fail_msg("a process is left");
	f->pid = 0;
	return result;
}

void supervised_wait_orderly_end(struct supervised *f)
{
	int status = supervised_wait_end(f);

	assert_true(WIFEXITED(status));
	if (!by_valgrind() || supervised_count_records(f, "has not left in time", NULL) == 0)
		assert_int_equal(WEXITSTATUS(status), 0);
}

void supervised_stop(struct supervised *f)
{
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	supervised_wait_orderly_end(f);
}

/* Whether a notification that begins with `text` comes before `until`, past any others. */
static bool notified(struct supervised *f, const char *text, int64_t until)
{
	struct pollfd p = { .fd = f->notified, .events = POLLIN };
	int64_t left;
	char buf[1024];
	ssize_t n;

	while ((left = until - now_ms()) > 0 && poll(&p, 1, (int)left) == 1) {
		n = recv(f->notified, buf, sizeof buf - 1, 0);
		assert_true(n >= 0);
		buf[n] = '\0';
		if (strncmp(buf, text, strlen(text)) == 0)
			return true;
	}
	return false;
}

void supervised_wait_notified(struct supervised *f, const char *text)
{
	if (!notified(f, text, now_ms() + PATIENCE_MS))
		fail_msg("systemd was never told %s", text);
}

void supervised_wait_silence(struct supervised *f, const char *text, int64_t ms)
{
	int64_t until = now_ms() + PATIENCE_MS;

	while (notified(f, text, now_ms() + ms))
		if (now_ms() > until)
			fail_msg("systemd is told %s again and again", text);
}

int supervised_setup(void **state)
{
	struct supervised *f = xcalloc(1, sizeof *f);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	strcpy(f->dir, "/tmp/pgmqd-supervisor-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	snprintf(f->conf, sizeof f->conf, "%s/pgmqd.conf", f->dir);
	snprintf(f->notify, sizeof f->notify, "%s/notify", f->dir);
	strcpy(sun.sun_path, f->notify);
	f->notified = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (f->notified == -1 || bind(f->notified, (struct sockaddr *)&sun, sizeof sun) == -1)
		return -1;
	f->records = cJSON_CreateArray();
	f->log = -1;
	*state = f;
	return 0;
}

int supervised_teardown(void **state)
{
	struct supervised *f = *state;
	char file[160];
	FILE *children;
	int pid;

	/* After a failure something may still live; the supervisor first, since then its children become ours. */
	if (f->pid > 0) {
		(void)kill(f->pid, SIGKILL);
		(void)waitpid(f->pid, NULL, 0);
	}
	snprintf(file, sizeof file, "/proc/self/task/%d/children", (int)getpid());
	if ((children = fopen(file, "r")) != NULL) {
		while (fscanf(children, "%d", &pid) == 1)
			(void)kill((pid_t)pid, SIGKILL);
		fclose(children);
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (f->log != -1)
		close(f->log);
	close(f->notified);
	snprintf(file, sizeof file, "%s/pgmqd-ok-plugin.so", f->dir);
	unlink(file);
	unlink(f->conf);
	unlink(f->notify);
	rmdir(f->dir);
	cJSON_Delete(f->records);
	free(f);
	return 0;
}
