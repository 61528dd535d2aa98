/* wakeup.c: interrupts when idle, polling when busy: when a queue's worker claims, and when its producers may stay
 * silent. It alone owns whether a claim is wanted.
 *
 *   ASLEEP   producers notify; the worker waits for a notification, a due timer or the fallback poll
 *   WAKING   many messages in a short time: the lock "awake" is being asked for
 *   AWAKE    it is held: producers are silent, and the worker claims every 1, 2, 4 ... 8 ms while messages come, then
 *            up to 20 ms
 *   CLOSING  "awake" is given up. Until "in flight" was once had exclusively, and a claim after that has come back, the
 *            worker goes on claiming: so it sees the messages of every producer that was silent because it saw the
 * worker awake. Many messages lead back to WAKING, since producers that follow each other closely may never leave "in
 * flight" free.
 *
 * The other half is pgmqd.wakeup() in the SQL files; tests/model/wakeup.pml is the proof of the pair.
 */
#include "config.h"

#include "worker/wakeup.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "process/stats.h"
#include "settings/settings.h"
#include "worker/queue.h"

#include <stdlib.h>

/* So many messages in this time make it worth while to hold "awake": with slow disks a notifying commit takes some ms,
 * one after the other. */
#define BURST_MS 100
#define BURST_MESSAGES 15
#define CALM_MESSAGES 12 /* fewer than that in the same time, and it is not worth while any more */
#define POLL_MAX_MS 20
#define POLL_BUSY_MAX_MS 8 /* while messages come */
#define POLL_BUSY_MIN_MS 4 /* while many come: what waits meanwhile makes the next claim worth its cost */
#define POLL_ROWS 50       /* so many in one claim are many */
#define MISSED_US 1000000  /* a notification that took longer was missed */
#define EMPTY_CLAIMS 4     /* 1 + 2 + 4 + 8 ms without a message: the burst is over */
#define CLOSING_MAX_MS 1000
#define DUE_MAX_MS 86400000
#define QUIET_MAX 6 /* so often the time between polls beside others is doubled, up to fallback_poll */

void wakeup_due_in(struct wakeup *u, int64_t ms)
{
	u->due_at_ms = clock_boottime_ms() + ms;
	loop_timer(u->due, ms);
}

void wakeup_due_by(struct wakeup *u, int64_t ms)
{
	if (!evtimer_pending(u->due, NULL) || u->due_at_ms > clock_boottime_ms() + ms)
		wakeup_due_in(u, ms);
}

/* The time between two polls now. */
static int64_t wakeup_poll_period(const struct wakeup *u)
{
	const struct settings *set = u->worker->settings;
	int64_t ms = u->worker->qs->fallback_poll ? u->worker->qs->fallback_poll : set->fallback_poll;

	if (u->unnotified || u->silent || u->taken || u->worker->qs->notify == NOTIFY_OFF)
		ms = set->poll_when_deaf < ms ? set->poll_when_deaf : ms;
	if (u->shared && set->shared_poll << u->quiet < ms)
		ms = set->shared_poll << u->quiet;
	return ms;
}

/* Arms the poll; a little early at times, so that many dispatchers do not poll in step. */
static void wakeup_poll_arm(struct wakeup *u)
{
	int64_t ms = u->period_ms = wakeup_poll_period(u);

	loop_timer(u->poll, ms - (int64_t)(backoff_random() % (uint64_t)(ms / 5 + 1)));
}

/* Arms the poll if it is not armed, or for another period. Traffic does not put it off: whatever the claims in between
 * have overlooked waits for one period at most. */
static void wakeup_poll_keep(struct wakeup *u)
{
	if (!evtimer_pending(u->poll, NULL) || u->period_ms != wakeup_poll_period(u))
		wakeup_poll_arm(u);
}

/* ---- whether a claim is wanted ---- */

void wakeup_want(struct wakeup *u)
{
	if (u->claiming)
		u->wanted_again = true; /* the one under way may be ahead of it */
	else
		u->wanted = true;
}

bool wakeup_wants(const struct wakeup *u)
{
	return u->wanted && !u->claiming;
}

/* With groups, and where places are limited or left free, a message may be claimed as soon as another one is settled.
 */
void wakeup_next(struct wakeup *u)
{
	const struct queue_settings *qs = u->worker->qs;

	if (qs->ordered == ORDERED_GROUP || qs->max_in_flight_cluster || qs->concurrency ||
		(qs->fair_by && *qs->fair_by))
		wakeup_want(u);
}

/* There may be something to claim; the first reason for a claim counts. */
static void wakeup_claim_for(struct wakeup *u, enum wake_cause cause)
{
	struct wake *w = u->claiming ? &u->woke_again : &u->woke;

	if (!w->us)
		*w = (struct wake){ .cause = cause, .us = clock_realtime_us() };
	wakeup_want(u);
	u->events->claim(u->arg);
}

/* ---- round a claim ---- */

/* While awake we claim every few ms, so the next due time is not needed, and finding it would scan recently settled
 * rows. */
struct wakeup_claim wakeup_claim(struct wakeup *u)
{
	struct wakeup_claim c = { .full = u->full,
		.ask_share = u->full || u->state == WAKE_ASLEEP,
		.ask_due = u->state != WAKE_AWAKE || u->worker->qs->notify == NOTIFY_OFF,
		.hurry = u->state == WAKE_ASLEEP && u->woke.us && u->woke.cause == WOKE_NOTIFY };

	u->wanted = u->full = false;
	u->claiming = true;
	if (!u->woke.us)
		u->woke.us = clock_realtime_us();
	evtimer_del(u->due);
	return c;
}

void wakeup_observe(struct wakeup *u, const struct pgmqd_msg *m)
{
	struct stats_slot *slot = u->worker->slot;
	bool may_miss = !u->unnotified && !u->shared &&
	                u->worker->qs->notify != NOTIFY_OFF; /* a message found by a poll was missed */
	int64_t woke = u->woke.us;

	if (m->read_ct != 1 || u->woke.cause == WOKE_DUE) /* it was seen before, or has had a delay */
		return;
	stats_observe(slot, HIST_WAKE, woke - m->due_us);
	stats_observe(slot, HIST_CLAIM, clock_realtime_us() - (woke > m->due_us ? woke : m->due_us));
	if (may_miss && u->woke.cause == WOKE_POLL && woke - m->due_us > MISSED_US)
		stats_add(slot, STAT_MISSED, 1);
}

/* Producers are silent only while a worker is awake. So a poll that finds all of them asleep, and nothing to do, lets
 * the next one wait twice as long: many dispatchers of an idle queue cost little. Whatever else happens ends that. */
static void wakeup_quiet(struct wakeup *u, bool polled, int shared)
{
	if (shared < 0)
		return;
	if (!polled || shared != 1)
		u->quiet = 0;
	else if (u->quiet < QUIET_MAX)
		u->quiet++;
}

/* Whether another worker has the queue, too (-1: as before). When a second worker appears, it notifies the others: if
 * it dies after a silent enqueue, only shared_poll finds that message, and they must know to poll so often. */
static void wakeup_share(struct wakeup *u, int shared)
{
	if (shared > 0 && !u->shared && u->worker->qs->notify != NOTIFY_OFF)
		queue_announce(u->worker->queue, u->worker->settings->channel);
	u->shared = shared > 0 || (shared < 0 && u->shared);
}

void wakeup_claimed(struct wakeup *u, bool more, int64_t due_ms, int shared)
{
	u->claiming = false;
	wakeup_quiet(u, u->woke.cause == WOKE_POLL && !more, shared);
	u->woke = u->woke_again;
	u->woke_again = (struct wake){ 0 };
	u->wanted = u->wanted_again || more;
	u->wanted_again = false;
	if (!u->wanted && due_ms < DUE_MAX_MS)
		wakeup_due_in(u, due_ms + 1);
	wakeup_share(u, shared);
	wakeup_poll_keep(u);
}

void wakeup_silent(struct wakeup *u, int silent)
{
	if (silent > 0 && !u->silent)
		log_warn("the server's notification queue is filling up, so producers do not notify: polling; "
			 "pgmqd doctor names the session that holds it");
	if (silent >= 0)
		u->silent = silent > 0;
}

void wakeup_claim_failed(struct wakeup *u, int64_t again_ms)
{
	u->claiming = u->wanted_again = false;
	u->wanted = again_ms == 0;
	if (again_ms)
		wakeup_due_in(u, again_ms);
}

/* ---- the events ---- */

/* A message falls due. */
static void wakeup_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	wakeup_claim_for(arg, WOKE_DUE);
}

/* The fallback poll. */
static void wakeup_poll(evutil_socket_t fd, short what, void *arg)
{
	struct wakeup *u = arg;

	(void)fd, (void)what;
	u->full = true;
	if (u->unnotified || u->worker->qs->notify == NOTIFY_OFF)
		u->events->polled(u->arg);
	wakeup_poll_arm(u);
	wakeup_claim_for(u, WOKE_POLL);
}

void wakeup_notified(struct wakeup *u)
{
	stats_add(u->worker->slot, STAT_WAKEUPS, 1);
	u->quiet = 0;
	if (u->worker->qs->notify != NOTIFY_OFF)
		wakeup_claim_for(u, WOKE_NOTIFY);
}

void wakeup_listener(struct wakeup *u, bool hearing)
{
	u->unnotified = !hearing;
	stats_gauge(u->worker->slot, GAUGE_HEARING, hearing);
}

void wakeup_hearing(struct wakeup *u, bool hearing)
{
	wakeup_listener(u, hearing);
	u->full = true;
	wakeup_claim_for(u, WOKE_OTHER);
	wakeup_poll_arm(u);
}

/* ---- the handshake ---- */

static void wakeup_give_up(struct wakeup *u);

/* "awake" was asked for. */
static void wakeup_awake(void *arg, bool ok)
{
	struct wakeup *u = arg;

	if (u->state != WAKE_WAKING) { /* the connection was lost meanwhile, or the queue pauses */
		if (ok) {
			wakeup_give_up(u);
			u->events->claim(u->arg);
		}
		return;
	}
	u->state = ok ? WAKE_AWAKE : WAKE_ASLEEP;
	u->burst = 0;
	u->burst_ms = clock_boottime_ms();
	u->empty_claims = 0;
	u->poll_ms = 1;
	if (ok) {
		loop_timer(u->busy, u->poll_ms);
	} else if (!u->closed) { /* it was not asleep when it asked */
		wakeup_give_up(u);
		u->events->claim(u->arg);
	}
}

/* "awake" was given up, and "in flight" tried. */
static void wakeup_tried(void *arg, bool ok)
{
	struct wakeup *u = arg;

	if (u->state != WAKE_CLOSING)
		return;
	u->closed = ok;
	if (!u->claiming && ok)
		u->state = WAKE_ASLEEP; /* there is no room for a claim; it stays wanted, and comes with the room */
	else if (!u->claiming)
		loop_timer(u->busy, u->poll_ms);
}

/* Gives "awake" up and tries to have "in flight" once. The claim that is wanted from here on goes out behind the tries
 * on the same connection, so it comes after them; its caller sends it. */
static void wakeup_give_up(struct wakeup *u)
{
	bool held = u->state == WAKE_AWAKE || u->state == WAKE_WAKING;

	if (u->state != WAKE_CLOSING)
		u->poll_ms = 2;
	u->state = WAKE_CLOSING;
	u->closed = false;
	queue_release_awake(u->worker->queue, held, wakeup_tried, u);
	wakeup_want(u);
}

/* Busy: the next claim, or the next try to close. */
static void wakeup_busy(evutil_socket_t fd, short what, void *arg)
{
	struct wakeup *u = arg;

	(void)fd, (void)what;
	if (!u->worker->up)
		return;
	if (u->state == WAKE_CLOSING && !u->claiming) {
		wakeup_give_up(u);
		u->events->claim(u->arg);
	} else if (u->state == WAKE_AWAKE || u->state == WAKE_CLOSING) {
		wakeup_claim_for(u, WOKE_OTHER);
	}
}

/* When to claim next while awake. Each claim is a statement or two and a commit, which the producers pay for, too: so a
 * claim that brought little is followed by a longer pause, which is short all the same while there was anything at all.
 */
static int64_t wakeup_busy_poll(int64_t ms, int rows)
{
	int64_t max = rows ? POLL_BUSY_MAX_MS : POLL_MAX_MS;

	ms = rows >= POLL_ROWS ? POLL_BUSY_MIN_MS : ms * 2;
	return ms > max ? max : ms;
}

/* Counts messages while "awake" is not held; asks for it, and says so, when there are many in a short time. */
static bool wakeup_burst(struct wakeup *u, int64_t now, int rows)
{
	if (now - u->burst_ms > BURST_MS) {
		u->burst_ms = now;
		u->burst = 0;
	}
	u->burst += (unsigned)rows;
	if (u->taken || u->worker->qs->notify == NOTIFY_PLAIN ||
		(u->worker->qs->notify == NOTIFY_ADAPTIVE && u->burst < BURST_MESSAGES))
		return false;
	u->state = WAKE_WAKING;
	queue_awake(u->worker->queue, wakeup_awake, u);
	return true;
}

/* A claim came back while "awake" is held: claim again soon, or let go because it has become calm. */
static void wakeup_stay(struct wakeup *u, int64_t now, int rows)
{
	bool calm;

	if (u->worker->qs->notify == NOTIFY_OFF)
		return; /* always awake, and polled as if notifications did not arrive */
	u->empty_claims = rows ? 0 : u->empty_claims + 1;
	u->burst += (unsigned)rows;
	calm = now - u->burst_ms > BURST_MS && u->burst < CALM_MESSAGES;
	if (now - u->burst_ms > BURST_MS) {
		u->burst_ms = now;
		u->burst = 0;
	}
	u->poll_ms = wakeup_busy_poll(u->poll_ms, rows);
	if (calm || u->empty_claims >= EMPTY_CLAIMS)
		wakeup_give_up(u); /* the caller claims behind it */
	else
		loop_timer(u->busy, u->poll_ms);
}

void wakeup_fed(struct wakeup *u, int rows)
{
	int64_t now = clock_boottime_ms();

	if (rows > 0 && u->quiet) {
		u->quiet = 0;
		wakeup_poll_keep(u);
	}
	switch (u->state) {
	case WAKE_ASLEEP:
		wakeup_burst(u, now, rows);
		break;
	case WAKE_WAKING:
		break;
	case WAKE_AWAKE:
		wakeup_stay(u, now, rows);
		break;
	case WAKE_CLOSING:
		if (u->closed) {
			u->state = WAKE_ASLEEP;
		} else if (!wakeup_burst(u, now, rows) && !evtimer_pending(u->busy, NULL)) {
			/* Claims for other reasons do not put the next try off. It is put off up to a second, because a
			 * transaction that was prepared may hold "in flight" for days. */
			u->poll_ms = u->poll_ms * 2 > CLOSING_MAX_MS ? CLOSING_MAX_MS : u->poll_ms * 2;
			loop_timer(u->busy, u->poll_ms);
		}
		break;
	}
}

void wakeup_release(struct wakeup *u)
{
	if (u->state == WAKE_AWAKE || u->state == WAKE_WAKING)
		wakeup_give_up(u);
}

void wakeup_no_room(struct wakeup *u)
{
	if (u->worker->qs->notify != NOTIFY_OFF && u->state == WAKE_AWAKE)
		wakeup_give_up(u);
}

void wakeup_taken(struct wakeup *u, bool taken)
{
	if (u->taken == taken)
		return;
	u->taken = u->full = taken;
	if (!u->worker->up)
		return;
	wakeup_release(u);
	wakeup_poll_keep(u);
	wakeup_claim_for(u, WOKE_OTHER);
}

/* ---- life ---- */

/* A new session: a producer that was silent because our former session was awake may not have committed yet, so the
 * worker begins like one that is about to sleep. */
void wakeup_up(struct wakeup *u)
{
	u->full = true;
	wakeup_give_up(u);
}

void wakeup_down(struct wakeup *u)
{
	u->state = WAKE_ASLEEP; /* the locks went with the session */
	u->claiming = u->wanted_again = false;
	u->wanted = u->full = true;
	evtimer_del(u->due);
	evtimer_del(u->poll);
	evtimer_del(u->busy);
}

void wakeup_drain(struct wakeup *u)
{
	wakeup_release(u);
	evtimer_del(u->due);
	evtimer_del(u->poll);
}

void wakeup_init(struct wakeup *u, struct pgmqd_worker *w, const struct wakeup_events *events, void *arg)
{
	*u = (struct wakeup){ .worker = w, .events = events, .arg = arg };
	u->due = loop_timer_new(w->base, wakeup_due, u);
	u->poll = loop_timer_new(w->base, wakeup_poll, u);
	u->busy = loop_timer_new(w->base, wakeup_busy, u);
}

void wakeup_close(struct wakeup *u)
{
	event_free(u->due);
	event_free(u->poll);
	event_free(u->busy);
}
