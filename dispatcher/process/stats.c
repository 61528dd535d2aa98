/* stats.c: the shared mapping of counters, its slots, and the few ways of writing to one. */
#include "config.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "process/stats.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Counters are read by others while they grow; only their own value matters, never their order. */
#define RELAXED memory_order_relaxed

const uint64_t stats_bounds_us[STATS_NBOUNDS] = { 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000,
	500000, 1000000, 2500000, 5000000, 10000000, 60000000 };

static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
	"a lock inside an atomic would not work between processes");

/* Maps room for slots; a page costs nothing before somebody reads or writes it. */
struct stats *stats_create(size_t room)
{
	struct stats *st;
	size_t size = sizeof *st + room * sizeof st->slot[0];

	st = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (st == MAP_FAILED) {
		log_error("cannot map %zu bytes for counters: %s", size, strerror(errno));
		exit(1);
	}
	st->room = room;
	atomic_store(&st->started_ms, clock_monotonic_ms());
	atomic_store(&st->generation, 1);
	return st;
}

/* Takes a free slot and names it; the role comes last, as readers go by it. */
struct stats_slot *stats_take(
	struct stats *st, enum stats_role role, const char *process, const char *queue, const char *plugin)
{
	struct stats_slot *s;
	size_t i;

	for (i = 0; i < st->nslots; i++)
		if (atomic_load(&st->slot[i].role) == ROLE_FREE)
			break;
	if (i == st->room)
		return NULL;
	s = &st->slot[i];
	memset(s, 0, sizeof *s);
	if (i == st->nslots)
		atomic_store(&st->nslots, i + 1);
	s->lead = 1;
	snprintf(s->process, sizeof s->process, "%s", process);
	snprintf(s->queue, sizeof s->queue, "%s", queue != NULL ? queue : "");
	snprintf(s->plugin, sizeof s->plugin, "%s", plugin != NULL ? plugin : "");
	atomic_store(&s->role, role);
	return s;
}

/* Frees a slot whose process is gone; its counts go to another slot of the same queue, a newer one rather than one
 * that drains too. */
void stats_release(struct stats *st, struct stats_slot *s)
{
	struct stats_slot *heir = NULL;
	size_t i, b;
	int h;

	for (i = 0; i < st->nslots; i++) {
		struct stats_slot *o = &st->slot[i];

		if (o == s || s->queue[0] == '\0' || atomic_load(&o->role) != ROLE_WORKER ||
			strcmp(o->queue, s->queue) != 0 || strcmp(o->plugin, s->plugin) != 0)
			continue;
		if (heir == NULL || (atomic_load(&heir->retired) && !atomic_load(&o->retired)))
			heir = o;
	}
	atomic_store(&s->role, ROLE_FREE);
	if (heir == NULL)
		return;
	for (i = 0; i < STATS_NCOUNTERS; i++)
		stats_add(heir, (enum stats_counter)i, atomic_load_explicit(&s->counters[i], RELAXED));
	for (i = 0; i < STATS_NEXTRA && atomic_load(&s->extra[i].kind) != 0; i++) {
		struct stats_extra *x = &s->extra[i], *to;

		if (atomic_load(&x->kind) == STATS_EXTRA_COUNTER &&
			(to = stats_extra(heir, STATS_EXTRA_COUNTER, x->name, x->help, x->label, x->value)) != NULL)
			atomic_fetch_add_explicit(&to->number, atomic_load_explicit(&x->number, RELAXED), RELAXED);
	}
	for (h = 0; h < STATS_NHISTOGRAMS; h++) {
		for (b = 0; b <= STATS_NBOUNDS; b++)
			atomic_fetch_add_explicit(&heir->hist[h].bucket[b],
				atomic_load_explicit(&s->hist[h].bucket[b], RELAXED), RELAXED);
		atomic_fetch_add_explicit(
			&heir->hist[h].count, atomic_load_explicit(&s->hist[h].count, RELAXED), RELAXED);
		atomic_fetch_add_explicit(
			&heir->hist[h].sum_us, atomic_load_explicit(&s->hist[h].sum_us, RELAXED), RELAXED);
	}
}

/* How many slots can still be taken. */
size_t stats_free_slots(const struct stats *st)
{
	size_t i, n = st->room - st->nslots;

	for (i = 0; i < st->nslots; i++)
		if (atomic_load_explicit(&st->slot[i].role, RELAXED) == ROLE_FREE)
			n++;
	return n;
}

/* Adds to a counter. */
void stats_add(struct stats_slot *s, enum stats_counter c, uint64_t n)
{
	atomic_fetch_add_explicit(&s->counters[c], n, RELAXED);
}

/* Sets a gauge. */
void stats_gauge(struct stats_slot *s, enum stats_gauge g, int64_t value)
{
	atomic_store_explicit(&s->gauges[g], value, RELAXED);
}

/* Counts a duration; a bound belongs to the bucket below it, as Prometheus has it, and clocks that ran back count as
 * zero. */
void stats_observe(struct stats_slot *s, enum stats_histogram h, int64_t us)
{
	size_t b = 0;

	if (us < 0)
		us = 0;
	while (b < STATS_NBOUNDS && (uint64_t)us > stats_bounds_us[b])
		b++;
	atomic_fetch_add_explicit(&s->hist[h].bucket[b], 1, RELAXED);
	atomic_fetch_add_explicit(&s->hist[h].count, 1, RELAXED);
	atomic_fetch_add_explicit(&s->hist[h].sum_us, (uint64_t)us, RELAXED);
}

/* Finds a plugin's number, or takes a free place for it. */
struct stats_extra *stats_extra(
	struct stats_slot *s, int kind, const char *name, const char *help, const char *label, const char *value)
{
	size_t i;

	for (i = 0; i < STATS_NEXTRA; i++) {
		struct stats_extra *x = &s->extra[i];

		if (atomic_load(&x->kind) == 0) {
			snprintf(x->name, sizeof x->name, "%s", name);
			snprintf(x->help, sizeof x->help, "%s", help);
			snprintf(x->label, sizeof x->label, "%s", label);
			snprintf(x->value, sizeof x->value, "%s", value);
			atomic_store(&x->kind, kind);
			return x;
		}
		if (strcmp(x->name, name) == 0 && strcmp(x->value, value) == 0)
			return x;
	}
	return NULL;
}

bool stats_listener_hears(const struct stats *st)
{
	for (size_t i = 0; i < st->nslots; i++)
		if (st->slot[i].role == ROLE_LISTENER)
			return st->slot[i].gauges[GAUGE_HEARING] != 0;
	return false;
}

/* Gives a sign of life. */
void stats_beat(struct stats_slot *s)
{
	atomic_store_explicit(&s->beat_ms, clock_monotonic_ms(), RELAXED);
}

/* Says how the process or queue is. */
void stats_state(struct stats_slot *s, enum stats_state state)
{
	atomic_store(&s->state, state);
}

/* Keeps the newest error for people. A writer that died half-way left an odd number; the next one puts it right. */
void stats_error(struct stats_slot *s, const char *text)
{
	uint32_t seq = atomic_load(&s->error_seq) | 1;
	size_t len = strlen(text);

	if (len >= sizeof s->last_error) {
		len = sizeof s->last_error - 1;
		while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
			len--; /* never cut inside a character */
	}
	atomic_store(&s->error_seq, seq);
	atomic_thread_fence(memory_order_seq_cst);
	memcpy(s->last_error, text, len);
	memset(s->last_error + len, 0, sizeof s->last_error - len);
	atomic_thread_fence(memory_order_seq_cst);
	atomic_store(&s->error_seq, seq + 1);
}

/* Copies the newest error out; after a few tries a text in the making is taken as it is. */
void stats_error_read(const struct stats_slot *s, char *buf, size_t size)
{
	uint32_t before, after;
	int tries = 100;

	if (size == 0)
		return;
	do {
		before = atomic_load(&s->error_seq);
		atomic_thread_fence(memory_order_seq_cst);
		snprintf(buf, size, "%.*s", (int)sizeof s->last_error - 1, s->last_error);
		atomic_thread_fence(memory_order_seq_cst);
		after = atomic_load(&s->error_seq);
	} while (((before & 1) != 0 || before != after) && --tries > 0);
}

bool stats_first(struct stats *st, const struct stats_slot *s, const char *text)
{
	uint64_t hash = hash_add(HASH_START, s->queue, strlen(s->queue) + 1);

	hash = hash_add(hash, text, strlen(text));
	hash += hash == 0; /* an empty place */
	for (size_t i = 0; i < STATS_NTOLD; i++) {
		uint64_t there = 0;

		if (atomic_compare_exchange_strong(&st->told[i], &there, hash))
			return true;
		if (there == hash)
			return false;
	}
	return true;
}

/* "ready", "paused", ... */
const char *stats_state_name(int state)
{
/* NOLINTNEXTLINE(bugprone-macro-parentheses): an initializer takes none */
#define STATS_NAME(id, name) [id] = name,
	static const char *const names[STATS_NSTATES] = { STATS_STATES(STATS_NAME) };
#undef STATS_NAME

	return state >= 0 && state < STATS_NSTATES ? names[state] : "unknown";
}
