/* wakepipe.h: what the listener writes into a worker's pipe: one of these 16-bit words at a time (atomic, below
 * PIPE_BUF). */
#ifndef WAKEPIPE_H
#define WAKEPIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Below WAKE_CANCEL: the index of a queue within its unit; with one of the bits set, it tells something of that queue.
 * Of more than 4,096 queues in a unit those of one remainder are meant together. */
typedef uint16_t wake_word;
enum {
	WAKE_INDEX = 0x0fff,
	WAKE_CANCEL = 0x1000,   /* an operator wants messages of it cancelled */
	WAKE_FREE = 0x2000,     /* no stranger holds its advisory locks any more */
	WAKE_TAKEN = 0x4000,    /* somebody else has one of its advisory locks: poll */
	WAKE_OPERATED = 0x8000, /* an operator has paused or resumed it */
	WAKE_ALL = 0xfffd,      /* look at every queue: notifications may have been missed */
	WAKE_DEAF = 0xfffe,     /* notifications do not arrive: poll */
	WAKE_HEARING = 0xffff,  /* they do (again), and a full look is due */
};

/* The word for the queue of that index; `news` is 0 for a notification, or one of the bits. */
static inline wake_word wake_word_for(size_t index, int news)
{
	return (wake_word)((index & WAKE_INDEX) | (size_t)news);
}

/* Whether a word that is no WAKE_DEAF and no WAKE_HEARING means the queue of that index. */
static inline bool wake_word_means(wake_word word, size_t index)
{
	return word == WAKE_ALL || (word & WAKE_INDEX) == (index & WAKE_INDEX);
}

/* The meaning of each word for its queue. */
static inline wake_word wake_word_news(wake_word word)
{
	return word & (wake_word)~WAKE_INDEX;
}

#endif
