/* notify.c: fuzz target: the payloads of notifications, one a line, as the listener gets them: a worker is told of its
 * own queue once in a round, of an operator's word each time, and of nothing else. */
#include "config.h"

#include "../../dispatcher/listener/listener.c" /* the parser of a notification is static there */

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = { "email_queue", "email_queue", "q", "report" };
#define NNAMES (sizeof(names) / sizeof(*names))

/* Routes of two workers, the first with all but the last queue. */
static void make(struct listener *l, struct proc_env *env, struct stats *st, int pipes[2][2])
{
	static const wake_word index[] = { 0, 0, 1, 2 };

	env->stats = st;
	env->slot = st->slot;
	l->env = env;
	l->base = event_base_new();
	l->routes = xcalloc(NNAMES, sizeof(*l->routes));
	for (size_t i = 0; i < NNAMES; i++)
		l->routes[l->nroutes++] = (struct route){
			.queue = names[i], .fd = pipes[i == 1][1], .index = index[i]
		};
	qsort(l->routes, l->nroutes, sizeof(*l->routes), route_compare);
	l->pg = pgconn_new(l->base, "", "pgmqd listener", false, &listener_events, l);
	l->round = loop_event(l->base, -1, 0, listener_round, l);
	l->canary_timer = loop_event(l->base, -1, 0, listener_canary_due, l);
	l->told = l->hearing = true;
	snprintf(l->canary_payload, sizeof(l->canary_payload), "!canary 1 1");
}

/* How many of `index` words, with the bit of a pause or a cancel or without, and how many others came through the pipe.
 */
static void count(int fd, size_t seen[12], size_t *other)
{
	wake_word word;

	while (read(fd, &word, sizeof(word)) == (ssize_t)sizeof(word)) {
		if (word < 4)
			seen[word]++;
		else if (word >= WAKE_OPERATED && word < WAKE_OPERATED + 4)
			seen[4 + word - WAKE_OPERATED]++;
		else if (word >= WAKE_CANCEL && word < WAKE_CANCEL + 4)
			seen[8 + word - WAKE_CANCEL]++;
		else
			(*other)++;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct stats *st;
	static int pipes[2][2] = { { -1, -1 }, { -1, -1 } };
	char *text = xstrndup((const char *)data, size), *rest = text, *payload;
	size_t seen[2][12] = { { 0 } }, other = 0, mine[8] = { 0 }, paused = 0, cancelled = 0;
	struct proc_env env = { 0 };
	struct listener l = { 0 };

	if (!st)
		st = stats_create(4);
	for (int i = 0; i < 2; i++)
		if (pipes[i][0] < 0 && pipe2(pipes[i], O_NONBLOCK | O_CLOEXEC) != 0)
			abort();
	make(&l, &env, st, pipes);
	while ((payload = strsep(&rest, "\n")) != NULL) {
		mine[0] += strcasecmp(payload, "email_queue") == 0;
		mine[1] += strcasecmp(payload, "q") == 0;
		mine[2] += strcasecmp(payload, "report") == 0;
		paused += strncmp(payload, "!pause ", 7) == 0 && (strcasecmp(payload + 7, "q") == 0);
		cancelled += strncmp(payload, "!cancel ", 8) == 0 && strcasecmp(payload + 8, "q") == 0;
		listener_notify(&l, "pgmqd", payload, 1);
	}
	count(pipes[0][0], seen[0], &other);
	count(pipes[1][0], seen[1], &other);
	if (other || seen[0][3] || seen[1][1] || seen[1][2] || seen[0][0] != (mine[0] > 0) ||
		seen[1][0] != (mine[0] > 0) || seen[0][1] != (mine[1] > 0) || seen[0][2] != (mine[2] > 0) ||
		seen[0][5] != paused || seen[0][9] != cancelled)
		abort();
	pgconn_free(l.pg);
	event_free(l.round);
	event_free(l.canary_timer);
	event_base_free(l.base);
	free(l.routes);
	free(text);
	return 0;
}
