/* hand.h: the numbers of the messages that a process has in hand, in memory that outlives it: the next one in its place
 * knows what was in hand when it died. */
#ifndef HAND_H
#define HAND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HAND_MAX 512

struct hand {
	_Atomic int64_t ids[HAND_MAX]; /* 0: free */
	_Atomic unsigned more;         /* messages for which there was no place */
	unsigned next;                 /* where to look for a free place */
};

/* Writes a number down; the place goes back to hand_remove(). */
unsigned hand_add(struct hand *h, int64_t id);
void hand_remove(struct hand *h, unsigned place);

/* For the next process: the numbers that the one before left, each once. `more` says that there were others. */
size_t hand_left(const struct hand *h, int64_t ids[HAND_MAX], bool *more);
void hand_forget(struct hand *h, int64_t id, unsigned keep); /* a number, but not at the place `keep` */
void hand_clear(struct hand *h);

#endif
