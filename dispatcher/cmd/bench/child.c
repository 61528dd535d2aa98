/* child.c: the processes that `pgmqd bench` starts: a pgmqd of its own from the same binary, bare loops, producers. */
#include "config.h"

#include "cmd/bench/child.h"

#include "base/xalloc.h"
#include "cmd/bench/bench_private.h"
#include "pg/pgstart.h"
#include "process/proc.h"
#include "settings/settings.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 200 /* between looks at whether the children live */
#define ROWS_MAX 100

int64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- for the children ---- */

PGresult *bench_must(PGconn *conn, PGresult *res, const char *what)
{
	ExecStatusType status = PQresultStatus(res);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
		char *error = cmd_db_error(conn, res);

		fprintf(stderr, "pgmqd bench: %s: %s\n", what, error);
		_exit(1);
	}
	return res;
}

void bench_line(int out, const char *fmt, ...)
{
	va_list ap;
	char line[128];
	int len;

	va_start(ap, fmt);
	len = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (write(out, line, (size_t)len) != len)
		_exit(1);
}

char *bench_claim_sql(const char *queue)
{
	return xasprintf(
		"WITH picked AS MATERIALIZED (SELECT msg_id FROM pgmq.q_%1$s WHERE vt <= (SELECT clock_timestamp()) "
		"ORDER BY vt LIMIT %2$d FOR UPDATE"
		" SKIP LOCKED) UPDATE pgmq.q_%1$s q SET vt = clock_timestamp() + interval '30 s', read_ct = q.read_ct "
		"+ 1"
		" WHERE q.msg_id = ANY (ARRAY(SELECT msg_id FROM picked)) RETURNING q.msg_id, q.read_ct, q.message",
		queue, ROWS_MAX);
}

const char *bench_option(const struct bench *b, const char *key)
{
	size_t len = strlen(key);

	for (size_t i = b->options.n; i-- > 0;)
		if (strncmp(b->options.items[i], key, len) == 0 &&
			b->options.items[i][len + strspn(b->options.items[i] + len, " ")] == '=') {
			const char *value = strchr(b->options.items[i], '=') + 1;

			return value + strspn(value, " ");
		}
	return NULL;
}

bool bench_deletes(const struct bench *b)
{
	const char *on_done = bench_option(b, "on_done");

	return on_done && strcasecmp(on_done, "delete") == 0;
}

char *bench_done_sql(const struct bench *b, const char *queue)
{
	if (bench_deletes(b))
		return xasprintf("DELETE FROM pgmq.q_%s WHERE msg_id = $1::bigint", queue);
	return xasprintf("WITH gone AS (DELETE FROM pgmq.q_%1$s WHERE msg_id = $1::bigint RETURNING *)"
			 " INSERT INTO pgmq.a_%1$s (msg_id, read_ct, enqueued_at, vt, message) SELECT msg_id, read_ct, "
			 "enqueued_at, vt, message FROM gone",
		queue);
}

void bench_wait_notify(PGconn *conn)
{
	struct pollfd p = { .fd = PQsocket(conn), .events = POLLIN };
	PGnotify *n;

	while (!(n = PQnotifies(conn))) {
		poll(&p, 1, -1);
		if (!PQconsumeInput(conn)) {
			fprintf(stderr, "pgmqd bench: %s", PQerrorMessage(conn));
			_exit(1);
		}
	}
	PQfreemem(n);
}

/* ---- processes ---- */

/* Whether the list of children has room for one more. */
static bool has_room(struct bench *b)
{
	if (b->nchildren < BENCH_CHILDREN_MAX)
		return true;
	cmd_db_fail(&b->db, xasprintf("no more than %d processes at once", BENCH_CHILDREN_MAX));
	return false;
}

bool bench_fork(struct bench *b, bench_main fn, const char *queue, int out)
{
	char *error;
	pid_t pid;

	if (!has_room(b))
		return false;
	pid = proc_fork(&out, 1);
	if (pid < 0) {
		cmd_db_fail(&b->db, xasprintf("cannot fork: %s", strerror(errno)));
		return false;
	}
	if (pid > 0) {
		b->children[b->nchildren++] = pid;
		return true;
	}
	PGconn *conn = pgstart_wait(cmd_db_conninfo(&b->db), "pgmqd bench", &error);

	if (error) {
		fprintf(stderr, "pgmqd bench: cannot connect to the database: %s\n", error);
		_exit(1);
	}
	int status = fn(b, conn, out, queue);
	PQfinish(conn);
	_exit(status);
}

/* The settings of the daemon, in a file that has no name. -1 when that failed. */
static int daemon_settings(struct bench *b, const char *queue, const char *section)
{
	int fd = memfd_create("pgmqd-bench", 0);
	char *text = xasprintf("[pgmqd]\nchannel = %s\nlog_level = warn\nlog_format = text\nhttp_listen = "
			       "off\nfallback_poll = 30s\nschedules = no\npoll_when_deaf = 10ms\n"
			       "[queue %s]\n%s",
		b->channel, queue, section);

	for (size_t i = 0; i < b->options.n; i++) {
		char *more = xasprintf("%s%s\n", text, b->options.items[i]);

		free(text);
		text = more;
	}
	if (fd >= 0 && (fchmod(fd, 0600) != 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))) {
		close(fd);
		fd = -1;
	}
	free(text);
	return fd;
}

/* In the new process: becomes pgmqd run. */
static void daemon_exec(const struct bench *b, int settings, const char *notify)
{
	char path[40], name[] = "pgmqd", run[] = "run", option[] = "-c";
	char *argv[] = { name, run, option, path, NULL };

	snprintf(path, sizeof(path), "/dev/fd/%d", settings);
	if (*cmd_db_conninfo(&b->db))
		setenv("DATABASE_URL", cmd_db_conninfo(&b->db), 1);
	else
		unsetenv("DATABASE_URL");
	if (b->db.settings) {
		setenv("PGMQD_PLUGIN_DIR", b->db.settings->plugin_dir, 1);
		setenv("PGMQD_TEMPLATE_DIR", b->db.settings->template_dir, 1);
	}
	setenv("NOTIFY_SOCKET", notify, 1);
	unsetenv("WATCHDOG_USEC");
	proc_again(argv);
	fprintf(stderr, "pgmqd bench: cannot run itself: %s\n", strerror(errno));
	_exit(1);
}

/* A datagram socket for "ready"; its name goes to `name`. */
static int ready_socket(char *name, size_t size)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(a);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* an address of nothing but the family: the kernel finds a free name */
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a.sun_family)) != 0 ||
		getsockname(fd, (struct sockaddr *)&a, &len) != 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	snprintf(name, size, "@%.*s", (int)(len - offsetof(struct sockaddr_un, sun_path) - 1), a.sun_path + 1);
	return fd;
}

/* Waits for READY=1, and checks that the worker is ready, too: without a worker nothing is measured. */
static bool wait_ready(struct bench *b, int fd)
{
	char text[1024], *status;
	unsigned ready, all;

	while (bench_wait(b, fd)) {
		ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

		text[n > 0 ? n : 0] = '\0';
		if (!strstr(text, "READY=1"))
			continue;
		status = strstr(text, "STATUS=");
		if (!status || sscanf(status, "STATUS=%u of %u", &ready, &all) != 2 || ready == all)
			return true;
		cmd_db_fail(&b->db, xstrdup("pgmqd runs, but its worker does not; what is wrong stands above"));
		return false;
	}
	return false;
}

bool bench_daemon_start(struct bench *b, const char *queue, const char *section)
{
	char name[128];
	int settings = daemon_settings(b, queue, section), ready = ready_socket(name, sizeof(name));
	bool ok = false;

	if (settings < 0 || ready < 0) {
		cmd_db_fail(&b->db, xasprintf("cannot start pgmqd: %s", strerror(errno)));
	} else if (has_room(b) && (b->daemon = proc_fork(&settings, 1)) == 0) {
		daemon_exec(b, settings, name);
	} else if (b->daemon > 0) {
		b->children[b->nchildren++] = b->daemon;
		ok = wait_ready(b, ready);
	}
	if (settings >= 0)
		close(settings);
	if (ready >= 0)
		close(ready);
	return ok;
}

/* Takes a child off the list. */
static void forget(struct bench *b, pid_t pid)
{
	for (size_t i = 0; i < b->nchildren; i++)
		if (b->children[i] == pid)
			b->children[i--] = b->children[--b->nchildren];
	if (pid == b->daemon)
		b->daemon = 0;
}

/* Records a child's end; false, after printing it, when the child failed. */
static bool ended(struct bench *b, pid_t pid, int status)
{
	bool daemon = pid == b->daemon;

	forget(b, pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (!bench_interrupted)
		cmd_db_fail(&b->db, xasprintf("%s ended with %s %d",
					    daemon ? "the pgmqd that was measured" : "a process of the benchmark",
					    WIFSIGNALED(status) ? "signal" : "status",
					    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
	return false;
}

bool bench_daemon_stop(struct bench *b)
{
	pid_t pid = b->daemon;
	int status;

	if (pid <= 0)
		return false;
	kill(pid, SIGTERM);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return ended(b, pid, status);
}

bool bench_children_live(struct bench *b)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		bool daemon = pid == b->daemon;

		if (!ended(b, pid, status))
			return false;
		if (daemon) {
			cmd_db_fail(&b->db, xstrdup("the pgmqd that was measured has ended by itself"));
			return false;
		}
	}
	return true;
}

bool bench_wait(struct bench *b, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	for (int waited = 0; waited < BENCH_STUCK_MS; waited += LOOK_MS) {
		if (bench_interrupted)
			return false;
		if (poll(&p, 1, LOOK_MS) > 0)
			return true;
		if (!bench_children_live(b))
			return false;
	}
	cmd_db_fail(&b->db, xasprintf("nothing has happened for %d s", BENCH_STUCK_MS / 1000));
	return false;
}

bool bench_reap(struct bench *b)
{
	struct timespec pause = { .tv_nsec = 2000000 };

	while (b->nchildren > (b->daemon > 0)) {
		if (bench_interrupted || !bench_children_live(b))
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

void bench_kill(struct bench *b)
{
	for (size_t i = 0; i < b->nchildren; i++)
		kill(b->children[i], SIGTERM);
	for (size_t i = 0; i < b->nchildren; i++)
		while (waitpid(b->children[i], NULL, 0) < 0 && errno == EINTR)
			;
	b->nchildren = 0;
	b->daemon = 0;
}
