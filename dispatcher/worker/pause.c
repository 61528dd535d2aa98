/* pause.c: whether a queue pauses, and why: by an operator, after a configuration error, or on trial after one.
 *
 * An operator's pause is a row in the database, made by this dispatcher or any other. The worker asks for it after each
 * (re)connect, when a notification says that it has changed, when notifications arrive again, and with each poll while
 * they do not. While the answer is not known, nothing is claimed; a question that fails is asked again. What the plugin
 * has in hand is finished.
 */
#include "config.h"

#include "worker/pause.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/sqlstate.h"
#include "process/stats.h"
#include "settings/settings.h"
#include "worker/queue.h"

#include <stdlib.h>

#define LONGEST_MS 300000 /* longest pause after configuration errors in a row */
#define ASK_AGAIN_MS 1000 /* after a question that failed */

/* Changes the state, and says so. */
static void pause_set(struct pause *p, enum pause_state state)
{
	bool changed = p->state != state;

	p->state = state;
	if (changed)
		p->changed(p->arg);
}

/* Changes the state that errors ask for. Its time runs on while the database is away or an operator pauses the queue.
 */
static void pause_set_after(struct pause *p, enum pause_state state)
{
	p->after = state;
	if (p->state < PAUSE_UNKNOWN)
		pause_set(p, state);
}

bool pause_holds(const struct pause *p)
{
	return p->state >= PAUSE_ERROR;
}

/* ---- configuration errors ---- */

void pause_error(struct pause *p, const char *reason)
{
	int64_t first = p->worker->qs->config_retry, ms = first;

	if (p->after == PAUSE_ERROR)
		return;
	for (unsigned i = 0; i < p->errors && ms < LONGEST_MS; i++)
		ms *= 2;
	if (ms > LONGEST_MS && LONGEST_MS > first)
		ms = LONGEST_MS;
	p->errors++;
	stats_error(p->worker->slot, reason);
	log_error("queue paused, no attempt is counted: %s; trying again in %lld s, or at once on SIGHUP", reason,
		(long long)((ms + 999) / 1000));
	loop_timer(p->timer, ms);
	pause_set_after(p, PAUSE_ERROR);
}

void pause_away(struct pause *p, int64_t ms, const char *reason)
{
	if (p->after == PAUSE_ERROR)
		return;
	stats_error(p->worker->slot, reason);
	/* Once for each outage: a failed trial is no news. */
	log_write(p->after == PAUSE_TRIAL ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, NULL,
		"queue waits, no attempt is counted: %s; trying again in %lld s, or at once on SIGHUP", reason,
		(long long)((ms + 999) / 1000));
	loop_timer(p->timer, ms);
	pause_set_after(p, PAUSE_ERROR);
}

void pause_success(struct pause *p)
{
	p->errors = 0;
	if (p->after != PAUSE_TRIAL)
		return;
	log_info("the cause of the pause is gone, the queue goes on");
	pause_set_after(p, PAUSE_NONE);
}

void pause_resume(struct pause *p)
{
	if (p->after != PAUSE_ERROR)
		return;
	evtimer_del(p->timer);
	pause_set_after(p, PAUSE_TRIAL);
}

/* The pause after a configuration error is over. */
static void pause_over(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	pause_resume(arg);
}

/* ---- the operator ---- */

/* An operator has paused the queue. */
static void pause_begin(struct pause *p, const char *why)
{
	char *text;

	if (p->state == PAUSE_OPERATOR)
		return;
	text = xasprintf("paused %s", why);
	log_warn("queue %s; what runs is finished, and nothing more is claimed until pgmqd resume", text);
	stats_error(p->worker->slot, text);
	free(text);
	pause_set(p, PAUSE_OPERATOR);
}

/* No operator has paused the queue, or not any more; a configuration error before is tried anew. */
static void pause_end(struct pause *p)
{
	if (p->state == PAUSE_OPERATOR)
		log_info("queue resumed");
	if (p->operated)
		pause_resume(p);
	if (p->state >= PAUSE_UNKNOWN)
		pause_set(p, p->after);
}

/* The question failed: until it is answered, the queue counts as paused. */
static void pause_lost(struct pause *p, const char *error, const char *sqlstate)
{
	if (!p->told)
		log_error("cannot find out whether an operator has paused the queue, nothing is claimed until then: %s "
			  "(%s); "
			  "asking again",
			error, sqlstate);
	p->told = true;
	stats_error(p->worker->slot, error);
	if (p->state < PAUSE_UNKNOWN)
		pause_set(p, PAUSE_UNKNOWN);
	loop_timer(p->retry, ASK_AGAIN_MS);
}

/* The database has answered. One whose schema is older has no pauses. */
static void pause_answered(void *arg, const char *why, const char *error, const char *sqlstate)
{
	struct pause *p = arg;
	struct log_context former;

	p->asking = false;
	if (!queue_is_up(p->worker->queue))
		return; /* pause_down() comes or has come, and the question is asked again after it */
	former = plugin_call_enter(p->worker, 0);
	if (p->ask_again) {
		pause_ask(p);
	} else if (error && sqlstate_class(sqlstate) != SQLSTATE_STALE) {
		pause_lost(p, error, sqlstate);
	} else {
		p->told = false;
		if (why)
			pause_begin(p, why);
		else
			pause_end(p);
		p->operated = false;
	}
	plugin_call_leave(former);
}

void pause_ask(struct pause *p)
{
	p->ask_again = p->asking;
	if (p->asking)
		return;
	evtimer_del(p->retry);
	p->asking = true;
	queue_ask_pause(p->worker->queue, pause_answered, p);
}

/* Asks once more after a question that failed. */
static void pause_retry(evutil_socket_t fd, short what, void *arg)
{
	struct pause *p = arg;

	(void)fd, (void)what;
	if (p->worker->up)
		pause_ask(p);
}

void pause_operated(struct pause *p)
{
	p->operated = true;
	if (p->worker->up)
		pause_ask(p);
}

void pause_down(struct pause *p)
{
	p->asking = p->ask_again = false;
	evtimer_del(p->retry);
	if (p->state < PAUSE_UNKNOWN)
		pause_set(p, PAUSE_UNKNOWN);
}

void pause_drain(struct pause *p)
{
	evtimer_del(p->timer);
	evtimer_del(p->retry);
}

/* ---- life ---- */

void pause_init(struct pause *p, struct pgmqd_worker *w, void (*changed)(void *arg), void *arg)
{
	*p = (struct pause){ .worker = w, .changed = changed, .arg = arg, .state = PAUSE_UNKNOWN };
	p->timer = loop_timer_new(w->base, pause_over, p);
	p->retry = loop_timer_new(w->base, pause_retry, p);
}

void pause_close(struct pause *p)
{
	event_free(p->timer);
	event_free(p->retry);
}
