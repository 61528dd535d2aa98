/* probe.c: the producer of a latency measurement: runs a statement again and again, and prints when it began to.
 *
 *   probe CONNINFO SQL COUNT GAP_MS    prints "ID REALTIME MONOTONIC" (nanoseconds before the call); ID is the
 * statement's first column
 */
#include "config.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Nanoseconds of a clock. */
static long long now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The statement must have worked. */
static PGresult *must(PGconn *c, PGresult *res)
{
	ExecStatusType st = PQresultStatus(res);

	if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK) {
		fprintf(stderr, "probe: %s", PQerrorMessage(c));
		exit(1);
	}
	return res;
}

int main(int argc, char **argv)
{
	long long next;
	PGconn *c;

	if (argc != 5) {
		fprintf(stderr, "usage: probe CONNINFO SQL COUNT GAP_MS\n");
		return 2;
	}
	c = PQconnectdb(argv[1]);
	PQclear(must(c, PQprepare(c, "send", argv[2], 0, NULL)));
	next = now_ns(CLOCK_MONOTONIC);
	for (int left = atoi(argv[3]); left > 0; left--) {
		struct timespec until;
		long long real, mono;
		PGresult *res;

		next += atoll(argv[4]) * 1000000;
		until = (struct timespec){ .tv_sec = next / 1000000000, .tv_nsec = next % 1000000000 };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		real = now_ns(CLOCK_REALTIME);
		mono = now_ns(CLOCK_MONOTONIC);
		res = must(c, PQexecPrepared(c, "send", 0, NULL, NULL, NULL, 0));
		printf("%s %lld %lld\n", PQgetvalue(res, 0, 0), real, mono);
		PQclear(res);
	}
	PQfinish(c);
	return 0;
}
