/* finding.h: the findings of `pgmqd doctor`, and the statements that its checks run. */
#ifndef DOCTOR_FINDING_H
#define DOCTOR_FINDING_H

#include "cmd/db.h"
#include "pgmqd-plugin.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/* The conditions of a check; a mask of these also says which of them hold so far. */
enum doctor_need {
	DOCTOR_SETTINGS = 1, /* read without an error */
	DOCTOR_DB = 2,       /* connected */
	DOCTOR_PRIMARY = 4,  /* to a server that can be written to */
	DOCTOR_SCHEMA = 8,   /* with the schemas pgmqd and pgmq in it */
	DOCTOR_CURRENT = 16, /* which are of this version */
	DOCTOR_HEARING = 32  /* notifications come through */
};

struct doctor_finding {
	const char *check;    /* name in the table */
	int status;           /* enum pgmqd_check_status */
	char *subject, *seen; /* subject may be "" */
	char *remedy, *fix;   /* fix: one that is safe, SQL or a pgmqd command; NULL: by hand */
};

/* A fix that was applied; `error` is NULL when it worked. */
struct doctor_fix {
	char *text, *error;
};

struct doctor {
	struct cmd_db db;
	bool fix, json, read_only; /* read_only: no probe queue is made */
	const char *sql_dir, *old; /* old: age of a transaction that is worth a word */
	PGconn *ear;               /* listens; NULL where that is of no use */
	unsigned have;             /* enum doctor_need */
	const char *now;           /* the check that runs */
	char *queues;              /* names, as an array literal */
	char *role;                /* that the dispatcher connects as; we may be another one */
	struct doctor_finding *findings;
	size_t nfindings;
	struct doctor_fix *fixes;
	size_t nfixes;
	const char **skipped; /* checks that were not made because of another failure */
	size_t nskipped;
	const char **denied; /* checks for which the role lacks a right that the dispatcher does not need */
	size_t ndenied;
};

/* Notes a finding. Takes over `remedy` and `fix`; without a remedy the fix is the remedy. */
void doctor_report(struct doctor *d, int status, const char *subject, char *remedy, char *fix, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

/* Notes that the role has no right to read what the present check needs. It is no fault: the daemon does not need it.
 */
void doctor_deny(struct doctor *d);

/* Runs a statement whose parameters are $1 the queues' names (text[]), $2 the channel, $3 the age `old`, $4 the
 * dispatcher's role. NULL after a finding. */
PGresult *doctor_query(struct doctor *d, const char *sql);
/* The same, and each of its rows is a finding: status, subject, seen, remedy, fix. */
void doctor_rows(struct doctor *d, const char *sql);
const char *doctor_channel(const struct doctor *d);
/* The directory of the SQL files. */
const char *doctor_sql_dir(const struct doctor *d);
/* Forgets all findings. */
void doctor_forget(struct doctor *d);

#endif
