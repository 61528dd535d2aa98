/* probe.c: the two ends of a latency measurement: a producer, and the floor, which is a bare libpq loop of the dispatcher's statements.
 *
 *   probe produce CONNINFO QUEUE COUNT GAP_MS    sends COUNT messages; prints "msg_id nanoseconds" of the moment before each call
 *   probe floor CONNINFO QUEUE COUNT             LISTENs on channel "floor", claims, prints "msg_id nanoseconds", archives
 */
#include "config.h"

#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROWS_MAX 100

/* Nanoseconds since 1970. */
static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Ends the program with libpq's message. */
static void die(PGconn *c, const char *what)
{
	fprintf(stderr, "probe: %s: %s", what, PQerrorMessage(c));
	exit(1);
}

/* Runs or prepares a statement that must work. */
static PGresult *run(PGconn *c, PGresult *res, const char *what)
{
	ExecStatusType st = PQresultStatus(res);

	if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK)
		die(c, what);
	return res;
}

/* Sends the messages, one every gap. */
static void produce(PGconn *c, const char *queue, int count, int gap_ms)
{
	const char *params[1] = { queue };
	long long next = now_ns();

	PQclear(run(c, PQprepare(c, "send", "SELECT pgmq.send($1::text, '{\"n\": 1}'::jsonb)", 1, NULL), "prepare"));
	for (int i = 0; i < count; i++) {
		struct timespec until;
		PGresult *res;
		long long t0;

		next += (long long)gap_ms * 1000000;
		until = (struct timespec){ .tv_sec = next / 1000000000, .tv_nsec = next % 1000000000 };
		clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
		t0 = now_ns();
		res = run(c, PQexecPrepared(c, "send", 1, params, NULL, NULL, 0), "send");
		printf("%s %lld\n", PQgetvalue(res, 0, 0), t0);
		PQclear(res);
	}
}

/* Waits until the server has something to say. */
static void wait_input(PGconn *c)
{
	struct pollfd p = { .fd = PQsocket(c), .events = POLLIN };

	poll(&p, 1, -1);
	if (!PQconsumeInput(c))
		die(c, "connection");
}

/* LISTEN, claim, timestamp, archive. */
static void floor_loop(PGconn *c, const char *queue, int count)
{
	char sql[1024];
	int seen = 0;

	snprintf(sql, sizeof(sql),
	         "WITH picked AS MATERIALIZED (SELECT msg_id FROM pgmq.q_%s WHERE vt <= (SELECT clock_timestamp()) ORDER BY vt LIMIT %d FOR UPDATE"
	         " SKIP LOCKED) UPDATE pgmq.q_%s q SET vt = clock_timestamp() + interval '30 s', read_ct = q.read_ct + 1"
	         " WHERE q.msg_id = ANY (ARRAY(SELECT msg_id FROM picked)) RETURNING q.msg_id, q.read_ct, q.message",
	         queue, ROWS_MAX, queue);
	PQclear(run(c, PQexec(c, "SET enable_seqscan = off"), "set"));
	PQclear(run(c, PQprepare(c, "claim", sql, 0, NULL), "prepare"));
	snprintf(sql, sizeof(sql),
	         "WITH gone AS (DELETE FROM pgmq.q_%s WHERE msg_id = $1::bigint RETURNING *)"
	         " INSERT INTO pgmq.a_%s (msg_id, read_ct, enqueued_at, vt, message) SELECT msg_id, read_ct, enqueued_at, vt, message FROM gone",
	         queue, queue);
	PQclear(run(c, PQprepare(c, "archive", sql, 1, NULL), "prepare"));
	PQclear(run(c, PQexec(c, "LISTEN floor"), "listen"));
	fprintf(stderr, "listening\n");
	while (seen < count) {
		PGnotify *n = PQnotifies(c);
		PGresult *res;
		long long t;

		if (!n) {
			wait_input(c);
			continue;
		}
		PQfreemem(n);
		res = run(c, PQexecPrepared(c, "claim", 0, NULL, NULL, NULL, 0), "claim");
		t = now_ns();
		for (int i = 0; i < PQntuples(res); i++) {
			const char *id = PQgetvalue(res, i, 0);

			printf("%s %lld\n", id, t);
			PQclear(run(c, PQexecPrepared(c, "archive", 1, &id, NULL, NULL, 0), "archive"));
			seen++;
		}
		PQclear(res);
	}
}

int main(int argc, char **argv)
{
	PGconn *c;

	if (argc < 5) {
		fprintf(stderr, "usage: probe produce CONNINFO QUEUE COUNT GAP_MS | probe floor CONNINFO QUEUE COUNT\n");
		return 2;
	}
	c = PQconnectdb(argv[2]);
	if (PQstatus(c) != CONNECTION_OK)
		die(c, "connect");
	if (strcmp(argv[1], "produce") == 0 && argc > 5)
		produce(c, argv[3], atoi(argv[4]), atoi(argv[5]));
	else if (strcmp(argv[1], "floor") == 0)
		floor_loop(c, argv[3], atoi(argv[4]));
	PQfinish(c);
	return 0;
}
