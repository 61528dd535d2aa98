/* watch.c: who else has the advisory locks of our queues. Anybody who may connect can take them, and so make producers
 * silent or keep a worker from sleeping: he is named in the log, and the queue is polled until he lets go. */
#include "config.h"

#include "listener/watch.h"

#include "base/log.h"
#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

/* A lock in the hands of somebody else. */
struct holder {
	char *queue, *text;
	bool there; /* in the last look */
};

struct watch {
	void (*taken)(void *arg, const char *queue, bool taken);
	void *arg;
	struct holder *holders;
	size_t n;
};

const char watch_sql[] = "SELECT queue, holder FROM pgmqd.lock_holders() WHERE lock <> 'transaction'";

struct watch *watch_new(void (*taken)(void *arg, const char *queue, bool taken), void *arg)
{
	struct watch *w = xcalloc(1, sizeof *w);

	w->taken = taken;
	w->arg = arg;
	return w;
}

/* Forgets one; the last takes its place. */
static void watch_forget(struct watch *w, size_t i)
{
	free(w->holders[i].queue);
	free(w->holders[i].text);
	w->holders[i] = w->holders[--w->n];
}

void watch_free(struct watch *w)
{
	while (w->n > 0)
		watch_forget(w, 0);
	free(w->holders);
	free(w);
}

/* Takes a row of the answer. */
static void watch_take(struct watch *w, const char *queue, const char *text)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->holders[i].queue, queue) == 0 && strcmp(w->holders[i].text, text) == 0) {
			w->holders[i].there = true;
			return;
		}
	w->holders = xrealloc(w->holders, w->n + 1, sizeof *w->holders);
	w->holders[w->n++] = (struct holder){ .queue = xstrdup(queue), .text = xstrdup(text), .there = true };
	log_warn("queue %s: %s holds its advisory lock and is no pgmqd, so that producers may be silent or the worker "
		 "cannot sleep; polling until that session ends",
		queue, text);
}

void watch_seen(struct watch *w, const PGresult *res)
{
	for (size_t i = 0; i < w->n; i++)
		w->holders[i].there = false;
	for (int row = 0; row < PQntuples(res); row++)
		watch_take(w, PQgetvalue(res, row, 0), PQgetvalue(res, row, 1));
	for (size_t i = w->n; i > 0; i--) {
		if (w->holders[i - 1].there)
			continue;
		log_info("queue %s: %s holds its advisory lock no more", w->holders[i - 1].queue,
			w->holders[i - 1].text);
		w->taken(w->arg, w->holders[i - 1].queue, false);
		watch_forget(w, i - 1);
	}
	/* After that, since a queue may have two. */
	for (size_t i = 0; i < w->n; i++)
		w->taken(w->arg, w->holders[i].queue, true);
}
