/* clock.h: the time, of the clock that fits the question. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

int64_t clock_boottime_ms(void);  /* goes on while the machine sleeps: leases and due times */
int64_t clock_realtime_us(void);  /* microseconds since 1970, as the database and people count */
int64_t clock_monotonic_ms(void); /* no clock setting moves it: how long a process ran, when it beat last */
int64_t clock_monotonic_us(void);

/* A real time as RFC 3339 in UTC with microseconds. `buf` is returned. */
#define CLOCK_STAMP_SIZE 48
const char *clock_stamp(int64_t us, char buf[CLOCK_STAMP_SIZE]);

/* Moves the boottime and the realtime clock forward, for `pgmqd plugin test --skip-time` and for tests. */
void clock_skip_ms(int64_t ms);

#endif
