/* wakeup.c: interrupts when idle, polling when busy: when a queue's worker looks, and when its producers may stay
 * silent.
 *
 *   ASLEEP   producers notify; the worker waits for a notification, a due timer or the fallback poll
 *   WAKING   many messages in a short time: the lock "awake" is being asked for
 *   AWAKE    it is held: producers are silent, and the worker looks every 1, 2, 4 ... 8 ms while messages come, then up
 * to 20 ms CLOSING  "awake" is given up; until "in flight" was once had exclusively and a look after that has come
 * back, the worker goes on looking, so that whoever was silent because it saw us awake is seen by us; many messages
 * lead back to WAKING, since producers that follow each other closely may never leave "in flight" free
 *
 * The other half is pgmqd.wakeup() in sql/020_pgmqd.sql; tests/model/wakeup.pml is the proof of the pair.
 */
#include "config.h"

#include "base/clock.h"
#include "base/loop.h"
#include "worker/flow.h"

#include "base/backoff.h"

#include <string.h>

#define BURST_MS 100 /* so many messages ... */
#define BURST_MESSAGES                                                                                                 \
	15 /* ... in this time make it worth while; with slow disks a notifying commit takes some ms, one after the    \
	      other */
#define CALM_MESSAGES 12 /* fewer than that in the same time, and it is not worth while any more */
#define POLL_MAX_MS 20
#define POLL_BUSY_MAX_MS 8 /* while messages come */
#define POLL_BUSY_MIN_MS 4 /* while many come: what waits meanwhile makes the next look worth its cost */
#define POLL_ROWS 50       /* so many in one look are many */
#define MISSED_US 1000000  /* a notification that took longer was missed */
#define EMPTY_LOOKS 4      /* 1 + 2 + 4 + 8 ms without a message: the burst is over */

void wakeup_due_in(struct flow *f, int64_t ms)
{
	f->due_at_ms = clock_boottime_ms() + ms;
	loop_timer(f->due, ms);
}

void wakeup_due_by(struct flow *f, int64_t ms)
{
	if (!evtimer_pending(f->due, NULL) || f->due_at_ms > clock_boottime_ms() + ms)
		wakeup_due_in(f, ms);
}

/* While awake the next look comes soon enough for whatever falls due, and the walk to it is over all that was settled
 * lately. */
bool wakeup_wants_due(const struct flow *f)
{
	return f->wake != WAKE_AWAKE || f->notify == NOTIFY_OFF;
}

/* Arms the poll that comes when nothing else does; spread a little so that many dispatchers do not poll in step. */
void wakeup_poll_arm(struct flow *f)
{
	int64_t ms = f->qs->fallback_poll ? f->qs->fallback_poll : f->settings->fallback_poll;

	if (f->deaf || f->notify == NOTIFY_OFF)
		ms = f->settings->poll_when_deaf < ms ? f->settings->poll_when_deaf : ms;
	if (f->shared && f->settings->shared_poll < ms)
		ms = f->settings->shared_poll;
	loop_timer(f->poll, ms - ms / 10 + (int64_t)(backoff_random() % (uint64_t)(ms / 5 + 1)));
}

/* Outcomes are on their way: with groups, the messages that come after them may be claimed by a look behind. */
void wakeup_next(struct flow *f)
{
	if (f->qs->ordered != ORDERED_GROUP)
		return;
	f->look_again = f->look_again || f->looking;
	f->look_wanted = f->look_wanted || !f->looking;
}

/* Whether another worker has the queue, too (-1: as before). One that comes tells those that believed to be alone:
 * until they know, nobody but the fallback poll looks at what was enqueued silently for one that then died. */
void wakeup_shared(struct flow *f, int shared)
{
	if (shared > 0 && !f->shared && f->notify != NOTIFY_OFF)
		queue_announce(f->queue, f->settings->channel);
	f->shared = shared > 0 || (shared < 0 && f->shared);
}

/* There may be something to claim; the first reason for a look counts. */
static void wakeup_look(struct flow *f, enum wake_cause cause)
{
	struct wake *w = f->looking ? &f->woke_again : &f->woke;

	if (!w->us)
		*w = (struct wake){ .cause = cause, .us = clock_realtime_us() };
	if (f->looking)
		f->look_again = true;
	else
		f->look_wanted = true;
	flow_look(f);
}

void wakeup_observe(struct flow *f, const struct pgmqd_msg *m, bool missed)
{
	int64_t woke = f->woke.us;

	if (m->read_ct != 1 || f->woke.cause == WOKE_DUE) /* it was seen before, or has had a delay */
		return;
	stats_observe(f->slot, HIST_WAKE, woke - m->due_us);
	stats_observe(f->slot, HIST_CLAIM, clock_realtime_us() - (woke > m->due_us ? woke : m->due_us));
	if (missed && f->woke.cause == WOKE_POLL && woke - m->due_us > MISSED_US)
		stats_add(f->slot, STAT_MISSED, 1);
}

void wakeup_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	wakeup_look(arg, WOKE_DUE);
}

void wakeup_poll(evutil_socket_t fd, short what, void *arg)
{
	struct flow *f = arg;

	(void)fd, (void)what;
	f->full_look = true; /* also at what lies below the mark */
	if (f->ready && (f->deaf || f->notify == NOTIFY_OFF))
		hold_ask(f); /* the notification of a pause may have been missed */
	wakeup_poll_arm(f);
	wakeup_look(f, WOKE_POLL);
}

void flow_wake(struct flow *f)
{
	stats_add(f->slot, STAT_WAKEUPS, 1);
	if (f->notify != NOTIFY_OFF)
		wakeup_look(f, WOKE_NOTIFY);
}

void flow_hearing(struct flow *f, bool hearing)
{
	f->deaf = !hearing;
	stats_gauge(f->slot, GAUGE_HEARING, hearing);
	if (f->ready)
		hold_ask(f);
	f->full_look = true;
	wakeup_look(f, WOKE_OTHER);
	wakeup_poll_arm(f);
}

/* "awake" was asked for. */
static void wakeup_awake(void *arg, bool ok)
{
	struct flow *f = arg;

	if (f->wake != WAKE_WAKING) { /* the connection was lost meanwhile, or the queue pauses */
		if (ok)
			wakeup_close(f);
		return;
	}
	f->wake = ok ? WAKE_AWAKE : WAKE_ASLEEP;
	f->burst = 0;
	f->burst_ms = clock_boottime_ms();
	f->empty_looks = 0;
	f->poll_ms = 1;
	if (ok)
		loop_timer(f->busy, f->poll_ms);
	else if (!f->closed)
		wakeup_close(f); /* it was not asleep when it asked */
}

/* "awake" was given up, and "in flight" tried. */
static void wakeup_closed(void *arg, bool ok)
{
	struct flow *f = arg;

	if (f->wake != WAKE_CLOSING)
		return;
	f->closed = ok;
	if (!f->looking && ok)
		f->wake = WAKE_ASLEEP; /* there is no room for a look; look_wanted stays, and the look comes with the
		                          room */
	else if (!f->looking)
		loop_timer(f->busy, f->poll_ms);
}

void wakeup_close(struct flow *f)
{
	bool held = f->wake == WAKE_AWAKE || f->wake == WAKE_WAKING;

	if (f->wake != WAKE_CLOSING)
		f->poll_ms = 2;
	f->wake = WAKE_CLOSING;
	f->closed = false;
	queue_release_awake(f->queue, held, wakeup_closed, f);
	if (f->looking)
		f->look_again = true; /* the one under way is ahead of the tries and does not count */
	else
		f->look_wanted = true;
	flow_look(f); /* behind the tries on the same connection, so it comes after them */
}

/* Busy: the next look, or the next try to close. */
void wakeup_busy(evutil_socket_t fd, short what, void *arg)
{
	struct flow *f = arg;

	(void)fd, (void)what;
	if (!f->ready)
		return;
	if (f->wake == WAKE_CLOSING && !f->looking)
		wakeup_close(f);
	else if (f->wake == WAKE_AWAKE || f->wake == WAKE_CLOSING)
		wakeup_look(f, WOKE_OTHER);
}

/* When to look next while awake. Each look is a statement or two and a commit, which the producers pay for, too: so a
 * look that brought little is followed by a longer pause, which is short all the same while there was anything at all.
 */
static int64_t wakeup_busy_poll(int64_t ms, int rows)
{
	int64_t max = rows ? POLL_BUSY_MAX_MS : POLL_MAX_MS;

	ms = rows >= POLL_ROWS ? POLL_BUSY_MIN_MS : ms * 2;
	return ms > max ? max : ms;
}

/* Counts messages while "awake" is not held; asks for it, and says so, when there are many in a short time. */
static bool wakeup_burst(struct flow *f, int64_t now, int rows)
{
	if (now - f->burst_ms > BURST_MS) {
		f->burst_ms = now;
		f->burst = 0;
	}
	f->burst += (unsigned)rows;
	if (f->notify == NOTIFY_PLAIN || (f->notify == NOTIFY_ADAPTIVE && f->burst < BURST_MESSAGES))
		return false;
	f->wake = WAKE_WAKING;
	queue_awake(f->queue, wakeup_awake, f);
	return true;
}

/* A look came back with `rows`. */
void wakeup_looked(struct flow *f, int rows)
{
	int64_t now = clock_boottime_ms();
	bool calm;

	switch (f->wake) {
	case WAKE_ASLEEP:
		wakeup_burst(f, now, rows);
		break;
	case WAKE_WAKING:
		break;
	case WAKE_AWAKE:
		if (f->notify == NOTIFY_OFF)
			break; /* always awake, and polled as if deaf */
		f->empty_looks = rows ? 0 : f->empty_looks + 1;
		f->burst += (unsigned)rows;
		calm = now - f->burst_ms > BURST_MS && f->burst < CALM_MESSAGES;
		if (now - f->burst_ms > BURST_MS) {
			f->burst_ms = now;
			f->burst = 0;
		}
		f->poll_ms = wakeup_busy_poll(f->poll_ms, rows);
		if (calm || f->empty_looks >= EMPTY_LOOKS)
			wakeup_close(f);
		else
			loop_timer(f->busy, f->poll_ms);
		break;
	case WAKE_CLOSING:
		if (f->closed) {
			f->wake = WAKE_ASLEEP;
		} else if (!wakeup_burst(f, now, rows)) {
			f->poll_ms = f->poll_ms * 2 > POLL_MAX_MS ? POLL_MAX_MS : f->poll_ms * 2;
			loop_timer(f->busy, f->poll_ms);
		}
		break;
	}
}

/* Nobody looks here for now: the producers notify, so that other dispatchers hear of new work. */
void wakeup_release(struct flow *f)
{
	if (f->wake == WAKE_AWAKE)
		wakeup_close(f);
}

/* A new session: whoever was silent because our former one was awake may not have committed yet, so it begins like a
 * worker that is about to sleep. */
void wakeup_up(struct flow *f)
{
	f->full_look = true;
	wakeup_close(f);
}

void wakeup_no_room(struct flow *f)
{
	if (f->notify != NOTIFY_OFF)
		wakeup_release(f);
}

void wakeup_down(struct flow *f)
{
	f->wake = WAKE_ASLEEP; /* the locks went with the session */
	evtimer_del(f->due);
	evtimer_del(f->poll);
	evtimer_del(f->busy);
}
