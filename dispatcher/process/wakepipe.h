/* wakepipe.h: what the listener writes into a worker's pipe: one of these 16-bit words at a time (atomic, below
 * PIPE_BUF). */
#ifndef WAKEUP_H
#define WAKEUP_H

#include <stdint.h>

/* Below WAKE_OPERATED: the index of a queue within its unit; with that bit set, an operator has paused or resumed it.
 */
typedef uint16_t wake_word;
enum {
	WAKE_OPERATED = 0x8000,
	WAKE_ALL = 0xfffd,     /* look at every queue: notifications may have been missed */
	WAKE_DEAF = 0xfffe,    /* notifications do not arrive: poll */
	WAKE_HEARING = 0xffff, /* they do (again), and a full look is due */
};

#endif
