/* cancel.c: messages in hand that an operator wants cancelled.
 *
 * The operator's wish is a row in the database, made by any dispatcher, command or client; a notification says that
 * there is one. The worker that has the message takes it from its plugin and settles it as cancelled, under its claim
 * like any outcome. So a message has one outcome: one that has its own already keeps it. A worker that may have missed
 * the notification asks, too: after each (re)connect, when notifications arrive again, and with each poll while they do
 * not; a question that fails is asked again.
 */
#include "config.h"

#include "worker/cancel.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/sqlstate.h"
#include "worker/message.h"
#include "worker/queue.h"

#define ASK_AGAIN_MS 1000 /* after a question that failed */

/* Takes one message from the plugin, if the claim that is meant holds it here. */
static void cancel_one(struct cancel *c, const struct queue_cancel *wanted)
{
	struct pgmqd_msg *m = message_find(c->worker->messages, wanted->id, wanted->born_us);

	if (!m || m->read_ct != wanted->read_ct)
		return;
	if (m->state == MSG_RUNNING)
		settle_cancel(c->settle, m, OUT_CANCEL, NULL, wanted->why);
	else if (m->state == MSG_WAITING)
		settle_end(c->settle, m, OUT_CANCEL, NULL, 0, xstrdup(wanted->why));
}

/* The question failed: the notification does not come again, so the question does. */
static void cancel_lost(struct cancel *c, const char *error, const char *sqlstate)
{
	struct log_context former = plugin_call_enter(c->worker, 0);

	if (!c->told)
		log_error("cannot find out which messages an operator wants cancelled: %s (%s); asking again", error,
			sqlstate);
	c->told = true;
	loop_timer(c->retry, ASK_AGAIN_MS);
	plugin_call_leave(former);
}

/* The database has answered. A schema of before cancels has none. */
static void cancel_answered(
	void *arg, const struct queue_cancel *cancels, size_t n, const char *error, const char *sqlstate)
{
	struct cancel *c = arg;
	bool again = c->ask_again;

	c->asking = c->ask_again = false;
	if (!error)
		c->told = false;
	else if (*sqlstate && sqlstate_class(sqlstate) != SQLSTATE_STALE)
		cancel_lost(c, error, sqlstate);
	for (size_t i = 0; i < n; i++)
		cancel_one(c, &cancels[i]);
	if (again && c->worker->up)
		cancel_ask(c);
}

void cancel_ask(struct cancel *c)
{
	c->ask_again = c->asking;
	if (c->asking)
		return;
	evtimer_del(c->retry);
	c->asking = true;
	queue_ask_cancels(c->worker->queue, cancel_answered, c);
}

/* Asks once more after a question that failed. */
static void cancel_retry(evutil_socket_t fd, short what, void *arg)
{
	struct cancel *c = arg;

	(void)fd, (void)what;
	if (c->worker->up)
		cancel_ask(c);
}

void cancel_down(struct cancel *c)
{
	c->asking = c->ask_again = false;
	evtimer_del(c->retry);
}

void cancel_init(struct cancel *c, struct pgmqd_worker *w, struct settle *settle)
{
	*c = (struct cancel){ .worker = w, .settle = settle };
	c->retry = loop_timer_new(w->base, cancel_retry, c);
}

void cancel_close(struct cancel *c)
{
	event_free(c->retry);
}
