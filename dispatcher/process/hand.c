/* hand.c: the numbers of the messages that a process has in hand, in memory that outlives it. */
#include "config.h"

#include "process/hand.h"

#define RELAXED memory_order_relaxed

unsigned hand_add(struct hand *h, int64_t id)
{
	for (unsigned tried = 0; tried < HAND_MAX; tried++) {
		unsigned at = h->next++ % HAND_MAX;

		if (atomic_load_explicit(&h->ids[at], RELAXED) == 0) {
			atomic_store_explicit(&h->ids[at], id, RELAXED);
			return at;
		}
	}
	atomic_fetch_add_explicit(&h->more, 1, RELAXED);
	return HAND_MAX;
}

void hand_remove(struct hand *h, unsigned place)
{
	if (place < HAND_MAX)
		atomic_store_explicit(&h->ids[place], 0, RELAXED);
	else
		atomic_fetch_sub_explicit(&h->more, 1, RELAXED);
}

size_t hand_left(const struct hand *h, int64_t ids[HAND_MAX], bool *more)
{
	size_t n = 0, k;

	for (unsigned i = 0; i < HAND_MAX; i++) {
		int64_t id = atomic_load_explicit(&h->ids[i], RELAXED);

		for (k = 0; k < n && ids[k] != id; k++)
			;
		if (id && k == n)
			ids[n++] = id;
	}
	*more = atomic_load_explicit(&h->more, RELAXED) > 0;
	return n;
}

void hand_forget(struct hand *h, int64_t id, unsigned keep)
{
	for (unsigned i = 0; i < HAND_MAX; i++)
		if (i != keep && atomic_load_explicit(&h->ids[i], RELAXED) == id)
			atomic_store_explicit(&h->ids[i], 0, RELAXED);
}

void hand_clear(struct hand *h)
{
	for (unsigned i = 0; i < HAND_MAX; i++)
		atomic_store_explicit(&h->ids[i], 0, RELAXED);
	atomic_store_explicit(&h->more, 0, RELAXED);
}
