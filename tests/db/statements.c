/* statements.c: prints the statements of a queue as PREPARE commands, for tests that run them one by one.
 *
 * usage: statements QUEUE OID [delete] [grouped] [rate=N] [burst=N] [all=N] [each=N] [key=KEY] [fair]; OID is that of
 * the queue's table. With a key, the rate is that of each key.
 */
#include "config.h"

#include "worker/queue_private.h"

#include "base/xalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[ST_COUNT] = {
	[ST_CLAIM] = "claim",
	[ST_AHEAD] = "ahead",
	[ST_SPOT] = "spot",
	[ST_DONE] = "done",
	[ST_DONE_CAREFUL] = "done_careful",
	[ST_RETRY] = "retry",
	[ST_RELEASE] = "release",
	[ST_FAIL] = "fail",
	[ST_REPLACE] = "replace",
	[ST_FENCE] = "fence",
	[ST_KNOWN] = "known",
	[ST_EXTEND] = "extend",
	[ST_AWAKE] = "awake",
	[ST_RELEASE_AWAKE] = "release_awake",
	[ST_IN_FLIGHT] = "in_flight",
	[ST_TURN] = "turn",
};

/* Takes one of the limits. */
static void limit(struct limits *l, const char *arg)
{
	if (strncmp(arg, "rate=", 5) == 0)
		l->rate = atof(arg + 5);
	else if (strncmp(arg, "burst=", 6) == 0)
		l->burst = atof(arg + 6);
	else if (strncmp(arg, "all=", 4) == 0)
		l->at_once = (unsigned)atoi(arg + 4);
	else if (strncmp(arg, "each=", 5) == 0)
		l->of_a_key = (unsigned)atoi(arg + 5);
	else if (strcmp(arg, "fair") == 0)
		l->fair = true;
	else if (strncmp(arg, "key=", 4) == 0)
		l->key = arg + 4;
	l->rate_by_key = l->rate > 0 && l->key;
}

int main(int argc, char **argv)
{
	struct queue_pg q = { .rules = { .lease_ms = 30000, .max_attempts = 5, .archive = true },
		.headers = true,
		.a_headers = true,
		.has_dlq = true,
		.dlq_asks = true,
		.refunds = true,
		.keyed = true };
	static char plugin[] = "null", version[] = "1";

	if (argc < 3)
		return 2;
	for (int i = 3; i < argc; i++) {
		q.rules.archive = q.rules.archive && strcmp(argv[i], "delete") != 0;
		q.rules.grouped = q.rules.grouped || strcmp(argv[i], "grouped") == 0;
		limit(&q.rules.limits, argv[i]);
	}
	q.key_index = q.held_index = true;
	q.name = q.table = argv[1];
	q.plugin = plugin;
	q.version = version;
	q.oid = xasprintf("(%s)", argv[2]);
	q.queue_table = xasprintf("pgmq.q_%s", argv[1]);
	q.archive_table = xasprintf("pgmq.a_%s", argv[1]);
	q.dlq_table = xasprintf("pgmq.q_%s_dlq", argv[1]);
	q.index = xasprintf("pgmq.q_%s_priority_idx", argv[1]);
	for (int st = 0; st < ST_COUNT; st++)
		if (names[st]) {
			char *sql = queue_sql(&q, (enum stmt)st);

			printf("PREPARE %s AS %s;\n", names[st], sql);
			free(sql);
		}
	free(q.oid);
	free(q.queue_table);
	free(q.archive_table);
	free(q.dlq_table);
	free(q.index);
	return 0;
}
