/* processes.c: the processes in which versions are run. A crash costs its message a record that says so, and a new
 * process goes on behind it.
 */
#include "config.h"

#include "cmd/replay/processes.h"

#include "base/xalloc.h"
#include "cmd/replay/child.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANGS_S 60  /* without a sign of a message, the plugin hangs */
#define LOOK_MS 200 /* between signs of progress */
#define PROCESSES_MAX 64
#define HUNG (-1)

struct process {
	struct replay_version *version;
	unsigned number;
	pid_t pid;
	int fd;          /* its notes; -1: it is through */
	int64_t current; /* the message at hand, or -1 */
	time_t heard;
	bool hung;
};

struct run {
	const struct replay_way *way;
	const struct replay_messages *messages;
	struct process processes[PROCESSES_MAX];
	size_t n, through;
	int inherited;
	bool failed;
};

/* The time that has passed, in seconds. */
static time_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* Starts a process. */
static void start(struct run *r, struct process *p)
{
	pid_t parent = getpid();
	int ends[2];

	fflush(NULL);
	if (pipe2(ends, O_CLOEXEC) != 0 || (p->pid = fork()) < 0) {
		fprintf(stderr, "pgmqd replay: cannot start a process: %s\n", strerror(errno));
		exit(2);
	}
	if (p->pid == 0) {
		struct child_task task = { .way = r->way,
			.messages = r->messages,
			.version = p->version,
			.process = p->number,
			.tell = ends[1] };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		signal(SIGPIPE, SIG_IGN);
		close(ends[0]);
		close(r->inherited);
		for (size_t i = 0; i < r->n; i++)
			if (r->processes[i].fd >= 0 && &r->processes[i] != p)
				close(r->processes[i].fd);
		_exit(child_main(&task));
	}
	close(ends[1]);
	p->fd = ends[0];
	p->current = -1;
	p->heard = now_s();
	p->hung = false;
}

/* A message is through, or one begins. */
static void take_note(struct run *r, struct process *p, const struct replay_note *n)
{
	p->heard = now_s();
	if (!n->recorded) {
		p->current = (int64_t)n->message;
		return;
	}
	p->version->records[n->message] = (struct replay_record){
		.state = REPLAY_RECORDED, .process = p->number, .at = n->at, .len = n->len
	};
	p->current = -1;
	r->through++;
}

/* A process has ended. */
static void ended(struct run *r, struct process *p)
{
	int status = 0;

	close(p->fd);
	p->fd = -1;
	while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && p->current < 0)
		return;
	if ((WIFEXITED(status) && WEXITSTATUS(status) == CHILD_REFUSED) || p->current < 0) {
		if (!WIFEXITED(status) || WEXITSTATUS(status) != CHILD_REFUSED)
			fprintf(stderr, "pgmqd replay: the %s version ends before it takes a message\n",
				p->version->name);
		r->failed = true;
		return;
	}
	p->version->records[p->current] = (struct replay_record){ .state = REPLAY_CRASHED,
		.status = p->hung ? HUNG : status };
	r->through++;
	start(r, p);
}

/* Reads the notes of a process. */
static void listen_to(struct run *r, struct process *p)
{
	struct replay_note notes[64];
	ssize_t n = read(p->fd, notes, sizeof(notes));

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		ended(r, p);
		return;
	}
	for (size_t i = 0; i < (size_t)n / sizeof(notes[0]); i++)
		take_note(r, p, &notes[i]);
}

/* Listens to all processes until something comes. False: none is left. */
static bool wait_all(struct run *r)
{
	struct pollfd fds[PROCESSES_MAX];
	struct process *whose[PROCESSES_MAX];
	nfds_t n = 0;

	for (size_t i = 0; i < r->n; i++) {
		struct process *p = &r->processes[i];

		if (p->fd < 0)
			continue;
		if (!p->hung && now_s() - p->heard > HANGS_S) {
			p->hung = true;
			kill(p->pid, SIGKILL);
		}
		whose[n] = p;
		fds[n++] = (struct pollfd){ .fd = p->fd, .events = POLLIN };
	}
	if (n && poll(fds, n, LOOK_MS) > 0)
		for (nfds_t i = 0; i < n; i++)
			if (fds[i].revents)
				listen_to(r, whose[i]);
	return n > 0;
}

bool processes_run(const struct replay_way *way, const struct replay_messages *messages,
	struct replay_version *versions, size_t nversions, int inherited, processes_progress_cb progress, void *arg)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned each = cores > (long)nversions ? (unsigned)cores / (unsigned)nversions : 1;
	struct run r = { .way = way, .messages = messages, .inherited = inherited };

	if (each > messages->n)
		each = messages->n ? (unsigned)messages->n : 1;
	if (each * nversions > PROCESSES_MAX)
		each = (unsigned)(PROCESSES_MAX / nversions);
	for (size_t v = 0; v < nversions; v++) {
		versions[v].nprocesses = each;
		versions[v].records = xcalloc(messages->n + 1, sizeof(*versions[v].records));
		for (unsigned i = 0; i < each; i++)
			r.processes[r.n++] = (struct process){ .version = &versions[v], .number = i, .fd = -1 };
	}
	for (size_t i = 0; i < r.n; i++)
		start(&r, &r.processes[i]);
	while (wait_all(&r))
		progress(arg, r.through);
	return !r.failed;
}

/* The record of a message whose run had no end. */
static cJSON *crash_record(const struct replay_record *rec)
{
	cJSON *o = cJSON_CreateObject(), *outcome = cJSON_AddObjectToObject(o, "outcome");
	char *reason = rec->status == HUNG ? xasprintf("the plugin hung: no outcome within %d s", HANGS_S)
	               : WIFSIGNALED(rec->status)
	                       ? xasprintf("the plugin crashed: %s", strsignal(WTERMSIG(rec->status)))
	                       : xasprintf("the plugin ended the process: exit status %d", WEXITSTATUS(rec->status));

	cJSON_AddArrayToObject(o, "effects");
	cJSON_AddStringToObject(outcome, "outcome", "crash");
	cJSON_AddStringToObject(outcome, "reason", reason);
	free(reason);
	return o;
}

cJSON *processes_record(const struct replay_way *way, const struct replay_version *v, size_t message)
{
	const struct replay_record *rec = &v->records[message];
	char *path, *text;
	cJSON *o = NULL;
	int fd;

	if (rec->state != REPLAY_RECORDED)
		return crash_record(rec);
	path = xasprintf("%s/%s.%u/records", way->scratch, v->name, rec->process);
	text = xcalloc(1, (size_t)rec->len + 1);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && pread(fd, text, (size_t)rec->len, rec->at) == rec->len)
		o = cJSON_Parse(text);
	if (fd >= 0)
		close(fd);
	free(text);
	free(path);
	return o ? o : crash_record(rec);
}
