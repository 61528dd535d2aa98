/* probe.c: whether the queue's tables are there and as they should be: looked at after each connect and when a
 * statement says that they have changed. */
#include "config.h"

#include "worker/probe.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "process/stats.h"
#include "worker/queue.h"

#include <stdlib.h>

#define MISSING_MS 1000 /* a queue that does not exist (yet), or whose tables are locked, is looked for again */
#define DOUBT_MS 5000   /* ... and not more often because of a lease that was lost */
#define STALE_MS 1000   /* tables are not probed more often because of a statement */

/* The catalogue was looked at. */
static void probe_answered(void *arg, const char *error, const char *warning)
{
	struct probe *p = arg;

	p->under_way = false;
	if (!queue_is_up(p->worker->queue))
		return; /* probe_down() comes or has come */
	if (error) {
		if (!p->failed)
			log_error("%s; looking again every %d s", error, MISSING_MS / 1000);
		stats_error(p->worker->slot, error);
		p->failed = true;
		loop_timer(p->again, MISSING_MS);
		return;
	}
	if (p->failed)
		log_info("the queue is there now");
	if (warning && !p->warned)
		log_warn("%s", warning);
	p->warned = warning != NULL;
	p->failed = false;
	p->good_ms = clock_boottime_ms();
	log_debug("claims go %s", queue_order(p->worker->queue));
	p->known(p->arg);
}

void probe_now(struct probe *p)
{
	if (p->under_way || !queue_is_up(p->worker->queue))
		return;
	p->under_way = true;
	p->worker->up = false;
	p->unknown(p->arg);
	queue_probe(p->worker->queue, probe_answered, p);
}

/* Not in a circle when the tables are as they should be and something behind them is not (a trigger, say). */
void probe_stale(struct probe *p)
{
	if (clock_boottime_ms() - p->good_ms >= STALE_MS) {
		probe_now(p);
		return;
	}
	p->worker->up = false;
	p->unknown(p->arg);
	loop_timer(p->again, STALE_MS);
}

void probe_doubt(struct probe *p)
{
	if (clock_boottime_ms() < p->doubt_ms)
		return;
	p->doubt_ms = clock_boottime_ms() + DOUBT_MS;
	probe_now(p);
}

/* Looks again. */
static void probe_again(evutil_socket_t fd, short what, void *arg)
{
	struct probe *p = arg;

	(void)fd, (void)what;
	if (!p->worker->up)
		probe_now(p);
}

void probe_up(struct probe *p)
{
	p->under_way = false;
	probe_now(p);
}

void probe_down(struct probe *p)
{
	p->under_way = p->worker->up = false;
	evtimer_del(p->again);
}

void probe_init(
	struct probe *p, struct pgmqd_worker *w, void (*known)(void *arg), void (*unknown)(void *arg), void *arg)
{
	*p = (struct probe){ .worker = w, .known = known, .unknown = unknown, .arg = arg };
	p->again = loop_timer_new(w->base, probe_again, p);
}

void probe_close(struct probe *p)
{
	event_free(p->again);
}
