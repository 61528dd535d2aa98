/* pause.c: a queue that an operator has paused: nothing is claimed until it is resumed, by this dispatcher or any
 * other.
 *
 * The pause is a row in the database. It is asked for after each (re)connect, when a notification says that it has
 * changed, when notifications arrive again, and with each poll while they do not. What the plugin has in hand is
 * finished.
 */
#include "config.h"

#include "worker/flow.h"

#include "base/log.h"
#include "base/xalloc.h"

#include <stdlib.h>

/* The queue is paused from now on. */
static void hold_begin(struct flow *f, const char *why)
{
	char *text = xasprintf("paused %s", why);

	if (!f->held) {
		log_warn("queue %s; what runs is finished, and nothing more is claimed until pgmqd resume", text);
		stats_error(f->slot, text);
	}
	f->held = true;
	free(text);
	wakeup_release(f);
}

/* It is not paused, or not any more. */
static void hold_end(struct flow *f)
{
	if (f->held)
		log_info("queue resumed");
	f->held = false;
	f->look_wanted = true;
	if (f->operated)
		flow_resume(f); /* also what was paused for a configuration error */
}

/* The database has answered. One whose schema is older knows of no pauses. */
static void hold_answer(void *arg, const char *why, const char *error)
{
	struct flow *f = arg;
	struct log_context former;
	bool was = f->held;

	if (!queue_is_up(f->queue))
		return; /* flow_down() comes or has come, and it is asked again */
	former = host_enter(&f->host, 0);
	if (why)
		hold_begin(f, why);
	else if (f->held || f->operated)
		hold_end(f);
	if (error && !f->ready)
		log_warn("cannot tell whether an operator has paused the queue: %s", error);
	host_leave(former);
	f->operated = false;
	if (!f->ready && f->probed) {
		f->probed = false;
		f->ready = true;
		flow_show(f);
		wakeup_up(f);
	} else if (was != f->held) {
		flow_show(f);
	}
	flow_kick(f);
}

void hold_ask(struct flow *f)
{
	queue_ask_pause(f->queue, hold_answer, f);
}

void flow_operated(struct flow *f)
{
	f->operated = true;
	if (f->ready)
		hold_ask(f);
}
