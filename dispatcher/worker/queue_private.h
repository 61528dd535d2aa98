/* queue_private.h: what queue.c and queue_order.c, which hold the SQL, and queue_run.c and queue_claim.c, which run it,
 * share. */
#ifndef QUEUE_PRIVATE_H
#define QUEUE_PRIVATE_H

#include "base/sqltext.h"
#include "pg/sqlstate.h"
#include "worker/queue.h"

#define NONCES 1000000U                 /* a nonce is below it: the microseconds of a second */
#define FENCE_MARK "pgmqd: lease lost"  /* in the error by which the fence of done_with fails */
#define FENCE_KEPT "pgmqd: row kept"    /* the same, when the claims hold the rows, and they cannot be deleted */
#define STILL_MARK "pgmqd: row changed" /* the same, when a trigger has changed what a claim has written */
#define QUEUE_LOCK_TIMEOUT_MS "250"     /* of the daemon's own statements */
#define QUEUE_LARGE (1024U * 1024U)     /* bytes of text: a message for which there may be no memory */

/* WITH items and parts of the statements that pick. */
#define CLOCK "clock AS MATERIALIZED (SELECT pg_catalog.clock_timestamp() AS now)"
#define NOW "(SELECT now FROM clock)"
#define NOT_REFUSED " AND msg_id <> ALL ((SELECT $9::bigint[])::bigint[])" /* the claim passes them over */
#define MARK "pg_catalog.to_timestamp($3::pg_catalog.float8)"

/* Whether such triggers are on a table or on one of its partitions. */
#define QUEUE_TRIGGERS(table)                                                                                          \
	"EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid JOIN "              \
	"pg_catalog.pg_namespace o ON o.oid = f.pronamespace WHERE (t.tgrelid = " table " OR t.tgrelid = ANY "         \
	"(ARRAY(SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree((" table                              \
	")::pg_catalog.regclass) p))) AND NOT "                                                                        \
	"t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 16::int2 <> 0::int2 AND o.nspname <> 'pgmqd')"

/* Small numbers come first: the index that pgmqd.prioritize_queue() in sql/020_pgmqd.sql makes is on the same
 * expression. */
#define QUEUE_RANK                                                                                                     \
	"(CASE WHEN pg_catalog.jsonb_typeof(message -> 'priority'::text) = 'number' THEN - pg_catalog.floor((message " \
	"-> 'priority'::text)::numeric) ELSE 0 END)"

/* The statements that the queue runs; each is prepared when it is first needed. */
enum stmt {
	ST_CLAIM,
	ST_AHEAD, /* one fresh message, ahead of a claim */
	ST_SPOT,  /* which row a claim would take */
	ST_DONE,
	ST_DONE_CAREFUL, /* when ST_DONE was refused, or its answer was lost */
	ST_RETRY,
	ST_RELEASE,
	ST_FAIL,
	ST_REPLACE,
	ST_FENCE,
	ST_KNOWN,
	ST_CANCEL,
	ST_EXTEND,
	ST_STILL, /* behind a claim or an extension: whether a trigger has changed what it has written */
	ST_AWAKE,
	ST_RELEASE_AWAKE,
	ST_IN_FLIGHT,
	ST_TURN,
	ST_COUNT
};

/* A statement as it stands for the tables that the last probe has found. */
struct statement {
	char *text;
	enum prepared { PREPARED_NOT, PREPARED_UNDER_WAY, PREPARED_YES } prepared; /* on the present session */
};

struct queue_pg {
	struct queue queue;
	struct pgconn *pg;
	struct second *second;     /* by which ST_DONE goes while there is a backlog; NULL: pg */
	enum prepared second_done; /* ST_DONE, on the second connection in this session of it */
	unsigned second_session;
	bool more;                   /* the last claim has brought all that it asked for */
	struct plugin_db *plugin_db; /* the connection for statements of plugins; NULL: pg */
	char *fence;                 /* the text of ST_FENCE */
	struct pgconn *fence_conn;   /* where it is prepared, in which session */
	unsigned fence_session;
	unsigned serial;  /* makes the names of its prepared statements its own */
	unsigned session; /* the connection's, at the last probe */
	unsigned texts;   /* counts the probes: an older one's statements have other texts */
	char *name;       /* as configured and as in notifications */
	char *present;    /* the oid under which this session holds "present" */
	char *oid; /* of the queue's table, as the first key of its advisory locks (-1 in flight, -2 awake, -3 present,
	              -4 turns) */
	char *table; /* the name of its table behind the q_: the queue's name in one spelling */
	char *queue_table, *archive_table, *dlq_table, *index; /* as they are written in a statement */
	int64_t mark_us;                                       /* low-water mark; 0: none */
	int64_t full_ms;                                       /* when the next full look is within the budget */
	unsigned claim_max;      /* after a claim that failed on a row's data: no more at once; 0: any number */
	struct refused *refused; /* rows that the database cannot claim; claims pass them over */
	size_t nrefused;
	char *unreadable;            /* claim one message without reading it, since reading it fails with this error */
	struct sqlstate_row failing; /* claims that failed with an error that passes */
	int64_t spotted_id, spotted_us; /* the row that may be at fault, and its birth: spotted once; 0: none */
	char *plugin, *version;
	struct queue_rules rules;
	bool headers, a_headers, last_read, a_last_read, has_dlq, refunds, attempts;
	bool follows;   /* there is pgmqd.follow() */
	bool keyed;     /* there is pgmqd.key_goes_on() */
	bool dlq_asks;  /* the headers of dead letters can be read; an update of pgmq adds the column without a right */
	bool key_index; /* there are the indexes that pgmqd.limit_queue() makes */
	bool held_index;
	bool told_limits; /* the database knows the limits of this queue */
	bool set_headers; /* a claim may write the time at which the message fell due */
	bool triggers;    /* triggers that are not pgmqd's fire when a row of the queue changes */
	bool priority;    /* there is the index that pgmqd.prioritize_queue() makes */
	bool pooled;
	struct statement statement[ST_COUNT];
	queue_probe_cb probe_cb;
	void *probe_arg;
	char *probe_warning;
};

static inline struct queue_pg *queue_pg(struct queue *q)
{
	return (struct queue_pg *)(void *)q;
}

/* queue.c */
void queue_pg_free(struct queue *base);
void queue_pg_probe(struct queue *base, queue_probe_cb cb, void *arg);

/* queue_sql.c, queue_order.c: the texts. Malloc'd. */
char *queue_sql(const struct queue_pg *q, enum stmt st);
char *queue_process_literal(void); /* the name of this process in the database, "HOST, process PID" */
/* The WITH items of a claim, `picked` being the rows, locked; what they cost is written down only when it `claims`. */
char *queue_pick_sql(const struct queue_pg *q, bool claims);
bool queue_passes_over(const struct queue_pg *q); /* whether a claim leaves due rows where they are */

/* queue_limit.c: the same for a queue with limits. Malloc'd. */
char *queue_limit_budget(const struct queue_pg *q); /* the WITH items up to `budget`: how many may be picked */
char *queue_limit_pick(const struct queue_pg *q);   /* those behind it, up to `picked`, by the queue's key */
char *queue_limit_spend(const struct queue_pg *q);  /* those behind `picked`, up to `hold`: when the next may be */
const char *queue_pg_order(const struct queue *base);

/* A settling or an extension under way. */
struct settle_call {
	struct queue_pg *queue;
	queue_settled_cb cb;
	void *arg;
	bool fence;            /* the first of done_with's two statements: only the second one answers */
	bool ours;             /* it is the fence that has failed, not the plugin's statement */
	bool plain;            /* ST_DONE, which ST_DONE_CAREFUL may follow */
	bool counted;          /* second_answered() is to follow */
	enum queue_fate *fate; /* what is known already, and told with a later answer */
	struct sqltext ids, tokens, born, results;
	size_t n;
	int64_t wanted[]; /* numbers of the messages, in their order */
};

/* queue_second.c */
bool queue_second_done(struct queue_pg *q, const char *const *params, struct settle_call *call); /* false: not now */
void queue_second_forget(struct queue_pg *q); /* the tables have changed */

/* queue_plugin.c */
void queue_plugin_query(
	struct queue *base, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg);
void queue_settle_done_with(struct queue_pg *q, struct pgmqd_msg *const *msgs, size_t n, struct settle_call *call);
void queue_forget_fence(struct queue_pg *q); /* the tables have changed */

/* queue_follow.c: texts malloc'd but for queue_follow_answer(). */
bool queue_follows(const struct queue_pg *q); /* whether the headers then and else are followed */
/* The item `followed` for the rows of `gone`, or "": `result` is an expression of `from`, which has a row r by msg_id.
 */
char *queue_follow_sql(const struct queue_pg *q, const char *step, const char *result, const char *from);
const char *queue_follow_answer(const struct queue_pg *q, const char *plain, const char *follows); /* one of the two */
/* The results of the messages, as a parameter; NULL when nothing is followed. */
const char *queue_follow_results(
	const struct queue_pg *q, struct pgmqd_msg *const *msgs, size_t n, struct sqltext *results);
void queue_follow_failed(const PGresult *res, int row, const char *id); /* logs what was not sent, if a row says so */
char *queue_follow_sends(struct pgmqd_msg *const *msgs, size_t n);      /* of their plugin; NULL: nothing */
void queue_follow_send(struct pgconn *c, const char *sends);            /* in the group that was begun */

/* queue_operate.c */
void queue_pg_ask_pause(struct queue *base, queue_pause_cb cb, void *arg);
void queue_pg_ask_cancels(struct queue *base, queue_cancels_cb cb, void *arg);

/* queue_claim.c */
void queue_pg_claim(struct queue *base, const struct queue_look *look, queue_claim_cb cb, void *arg);
void queue_pg_claim_row(const struct queue *base, const struct queue_claim *claim, int row, struct pgmqd_msg *m);

/* queue_refused.c */
#define QUEUE_REFUSED_MAX 64

/* A row that the database cannot claim. */
struct refused {
	int64_t id, born_us, until_ms; /* until_ms: handed over or put aside, and not looked at again before */
	int read_ct, nonce;
	bool passes, again; /* again: claims take it as any other row */
	bool proven;        /* it was put aside when others could be claimed */
	unsigned tries;
	char *error;
};

void queue_forget_refused(struct queue_pg *q);                  /* they may be others now */
void queue_refused_add(struct queue_pg *q, struct refused row); /* one more; takes over its error */
/* Rows that a claim has picked and not changed, each as "id read_ct born nonce": a trigger keeps them as they are. */
void queue_refused_kept(struct queue_pg *q, const char *rows);
void queue_refused_due(struct queue_pg *q); /* a look begins: those for which it is time are looked at again */
/* How many of this look may be there because no row can be claimed; `hopeless`: how many are to be handed over, when
 * others can be. */
size_t queue_refused_new(const struct queue_pg *q, size_t *hopeless);
/* No other row can be claimed either: the error that stands for all, malloc'd. They are tried again. */
char *queue_refused_all(struct queue_pg *q);
/* Puts those of this look aside that are not to be handed over. Milliseconds until one that was put aside is tried
 * again, and at most `ms`. */
int64_t queue_refused_aside(struct queue_pg *q, int64_t ms);
bool queue_refused_is_below(const struct queue_pg *q); /* some are due and below any mark: they are or were put aside */
/* A claim has brought `n` rows, or `all` that were due: what was put aside and is among them is a row as any other. */
void queue_refused_claimed(struct queue_pg *q, const PGresult *res, int n, bool all);
/* One that is to be handed over, as a message: its text is as little to be had as the message itself. */
void queue_refused_row(const struct queue_pg *q, int row, struct pgmqd_msg *m);
void queue_refused_told(struct queue_pg *q); /* they have been handed over */

/* queue_run.c: queue_run() runs a statement by itself, queue_run_grouped() within the group that was begun. */
void queue_run(
	struct queue_pg *q, enum stmt st, int nparams, const char *const *params, pgconn_result_cb cb, void *arg);
void queue_run_grouped(
	struct queue_pg *q, enum stmt st, int nparams, const char *const *params, pgconn_result_cb cb, void *arg);
void queue_run_still(struct queue_pg *q);                      /* in a group, behind a claim or an extension */
void queue_settle_answer(void *arg, const struct pgresult *r); /* the answer; `arg` is the settle_call */
extern const struct queue_ops queue_run_ops;
extern const char queue_session_sql[]; /* queue.c: settings of the daemon's own sessions */
void queue_prepare(struct queue_pg *q, enum stmt st, pgconn_result_cb cb, void *arg); /* cb may be NULL */
void queue_forget(struct queue_pg *q); /* deallocates what was prepared */

#endif
