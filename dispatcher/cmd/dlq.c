/* dlq.c: the command `pgmqd dlq`: lists, shows, requeues and deletes the dead letters of a queue.
 *
 * The functions of sql/021_dead_letters.sql do the work, each in one statement. Only `show` prints bodies, because they
 * may hold personal data.
 */
#include "config.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum action { LIST, SHOW, REDRIVE, PURGE };

/* The options on the command line. */
struct request {
	struct cmd_db db;
	enum action action;
	const char *queue, *reason, *class, *by;
	int64_t limit; /* 0: none */
	struct cmd_list given;
	struct sqltext ids;
	size_t nids; /* in `ids`, each once */
	char limit_text[24];
	bool dry_run, yes;
};

/* Makes the parameters of the functions: queue, ids, reason, class, max_rows. */
static void make_params(struct request *q, const char *params[5])
{
	params[0] = q->queue;
	params[1] = q->nids ? sqltext_end(&q->ids) : NULL;
	params[2] = q->reason;
	params[3] = q->class;
	params[4] = q->limit ? q->limit_text : NULL;
}

/* A value, or a dash. */
static const char *value(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? "-" : PQgetvalue(res, row, col);
}

/* One line for each. */
static void print_list(const PGresult *res)
{
	int rows = PQntuples(res);

	if (rows)
		printf("%8s  %-19s  %-10s  %8s  %s\n", "ID", "DIED (UTC)", "CLASS", "ATTEMPTS", "REASON");
	for (int i = 0; i < rows; i++) {
		printf("%8s  %-19s  ", value(res, i, 0), value(res, i, 1));
		cmd_print(stdout, value(res, i, 2));
		printf("%*s  %8s  ", PQgetlength(res, i, 2) < 10 ? 10 - PQgetlength(res, i, 2) : 0, "",
			value(res, i, 4));
		cmd_print(stdout, value(res, i, 3));
		putchar('\n');
	}
}

/* Everything about each. */
static void print_letters(const PGresult *res)
{
	static const char *const names[] = { "id", "died (UTC)", "class", "reason", "attempts", "requeued before",
		"original id", "first enqueued (UTC)", "plugin", "plugin version", "headers", "body" };

	for (int i = 0; i < PQntuples(res); i++) {
		if (i)
			putchar('\n');
		for (int c = 0; c < PQnfields(res); c++) {
			printf("%-21s ", names[c]);
			cmd_print(stdout, value(res, i, c));
			putchar('\n');
		}
	}
}

/* Reads the chosen dead letters; NULL after printing what failed. */
static PGresult *select_letters(struct request *q)
{
	static const char columns[] =
		"id, to_char(died_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), failure_class, failure_reason, "
		"attempts, redrives, original_id,"
		" to_char(first_enqueued_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), plugin, plugin_version";
	const char *params[5];
	char *sql = xasprintf("SELECT %s%s FROM pgmqd.dead_letters($1, $2::bigint[], $3, $4, $5::bigint) ORDER BY id",
		columns, q->action == SHOW ? ", headers, message" : "");

	make_params(q, params);
	PGresult *res = cmd_db_run(&q->db, NULL, sql, 5, params);
	free(sql);
	return res;
}

/* Prints how many of the numbers do not exist; returns the exit status. */
static int missing(const struct request *q, size_t found)
{
	if (!q->nids || found >= q->nids || q->reason || q->class || q->limit)
		return 0;
	fprintf(stderr, "%s: %zu of the %zu dead letters do not exist\n", q->db.name, q->nids - found, q->nids);
	return 1;
}

/* "1 dead letter", "3 dead letters". */
static void print_count(size_t n, const char *after)
{
	printf("%zu dead letter%s%s\n", n, n == 1 ? "" : "s", after);
}

/* How many dead letters there are without the limit, to say so behind a list that it has cut off; the exit status. */
static int print_total(struct request *q, size_t shown)
{
	const char *params[5];

	make_params(q, params);
	PGresult *res = cmd_db_run(
		&q->db, NULL, "SELECT count(*) FROM pgmqd.dead_letters($1, $2::bigint[], $3, $4, NULL)", 4, params);
	if (res)
		printf("%zu of %s dead letters, the oldest\n", shown, PQgetvalue(res, 0, 0));
	PQclear(res);
	return res ? 0 : 1;
}

/* list and show, and the other two with --dry-run. */
static int look(struct request *q)
{
	PGresult *res = select_letters(q);
	size_t n;

	if (!res)
		return 1;
	n = (size_t)PQntuples(res);
	(q->action == SHOW ? print_letters : print_list)(res);
	PQclear(res);
	if (q->action == LIST && q->limit && n == (size_t)q->limit)
		return print_total(q, n);
	if (q->action == LIST)
		print_count(n, "");
	else if (q->action != SHOW)
		print_count(n, q->action == REDRIVE ? " would be requeued; nothing was changed"
						    : " would be deleted; nothing was changed");
	else if (!n)
		print_count(n, "");
	return missing(q, n);
}

/* Asks the person at the terminal; without one, --yes is needed. */
static bool confirmed(struct request *q)
{
	bool choice = q->nids || q->reason || q->class;
	char answer[16] = "";

	if (q->yes || (q->action == REDRIVE && choice))
		return true;
	if (!isatty(STDIN_FILENO)) {
		cmd_usage("dlq", q->action == PURGE ? "purge deletes permanently; pass --yes to confirm"
						    : "this requeues all dead letters; pass --yes to confirm");
		return false;
	}
	printf("%s %s dead letters of %s? [y/N] ", q->action == PURGE ? "Permanently delete" : "Requeue",
		choice ? "these" : "all", q->queue);
	fflush(stdout);
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* redrive and purge. */
static int act(struct request *q)
{
	const char *params[6];
	PGresult *res;
	size_t n;

	make_params(q, params);
	params[5] = cmd_who(q->by);
	if (q->action == REDRIVE) {
		res = cmd_db_run(&q->db, NULL,
			"SELECT e->>'id', e->>'new_id' FROM jsonb_array_elements(pgmqd.act_on_dead_letters($1, "
			"'redrive', $2::bigint[], $3, $4, $6, $5::bigint)->'redriven') e",
			6, params);
		if (!res)
			return 1;
		n = (size_t)PQntuples(res);
		for (int i = 0; i < PQntuples(res); i++)
			printf("%s is now message %s of %s\n", PQgetvalue(res, i, 0), PQgetvalue(res, i, 1), q->queue);
		print_count(n, " requeued");
	} else {
		res = cmd_db_run(&q->db, NULL,
			"SELECT pgmqd.act_on_dead_letters($1, 'purge', $2::bigint[], $3, $4, $6, "
			"$5::bigint)->>'purged'",
			6, params);
		if (!res)
			return 1;
		n = (size_t)atoll(PQgetvalue(res, 0, 0));
		print_count(n, " deleted");
	}
	PQclear(res);
	return missing(q, n);
}

/* Whether text is a whole number from 1 on. */
static bool read_number(const char *text, int64_t *n)
{
	char *end;

	errno = 0;
	*n = strtoll(text, &end, 10);
	return errno == 0 && end != text && !*end && *n > 0;
}

/* Reads the numbers of --id; one that was given twice counts once. -1, or the exit status. */
static int read_ids(struct request *q)
{
	int64_t *numbers = xcalloc(q->given.n + 1, sizeof(*numbers)), n;
	int status = -1;

	for (size_t i = 0; i < q->given.n && status < 0; i++) {
		bool again = false;

		if (!read_number(q->given.items[i], &n))
			status = cmd_usage(
				"dlq", "--id takes the number of a dead letter, not \"%s\"", q->given.items[i]);
		for (size_t k = 0; k < q->nids; k++)
			again = again || numbers[k] == n;
		if (status >= 0 || again)
			continue;
		numbers[q->nids++] = n;
		sqltext_int(&q->ids, n);
	}
	free(numbers);
	return status;
}

/* Does what the command line says; the exit status. */
static int do_action(struct request *q, const char *action)
{
	static const char *const names[] = { "list", "show", "redrive", "purge" };
	bool only_look;

	while (strcmp(names[q->action], action) != 0)
		q->action++;
	snprintf(q->limit_text, sizeof(q->limit_text), "%" PRId64, q->limit);
	only_look = q->action == LIST || q->action == SHOW || q->dry_run;
	if (!only_look && !confirmed(q))
		return 2;
	return !cmd_db_ready(&q->db) ? 1 : only_look ? look(q) : act(q);
}

/* pgmqd dlq. */
static int dlq(void *request, int argc, char **argv)
{
	struct request *q = request;
	int status = read_ids(q);

	(void)argc;
	q->queue = argv[1];
	if (status < 0)
		status = do_action(q, argv[0]);
	sqltext_free(&q->ids);
	return status;
}

static const struct cmd_option options[] = {
	CMD_OPTION("id", 0, CMD_LIST, struct request, given, "N", "this one; may be given more than once"),
	CMD_OPTION("where-reason", 0, CMD_TEXT, struct request, reason, "TEXT",
		"those whose reason contains TEXT, in upper or lower case"),
	CMD_OPTION("class", 0, CMD_TEXT, struct request, class, "CLASS",
		"those of this class: permanent, attempts, crash, malformed, memory, or one of the plugin's own"),
	CMD_OPTION("limit", 0, CMD_NUMBER, struct request, limit, "N", "the oldest N at most", .least = 1,
		.most = INT64_MAX),
	CMD_OPTION("dry-run", 0, CMD_FLAG, struct request, dry_run, NULL,
		"print which would be requeued or deleted; change nothing"),
	CMD_OPTION("yes", 'y', CMD_FLAG, struct request, yes, NULL, "do not ask"),
	CMD_BY(by),
	{ 0 },
};

const struct command cmd_dlq = {
	.name = "dlq",
	.summary = "list, show, requeue or delete dead letters",
	.usage = "list|show|redrive|purge QUEUE",
	.text = "Handles the dead letters of a queue: messages that failed permanently.\n\n"
		"list prints a line for each: number, time, class, attempts, reason.\n"
		"show prints everything about each, with its body.\n"
		"redrive requeues them, all or none; their attempts start anew, and their history stays with them.\n"
		"purge deletes them permanently.\n\n"
		"Without --id, --where-reason and --class, all dead letters are meant. purge, and redrive of all, ask "
		"first.",
	.exits = "Exit status: 0 success; 1 failure, or an --id does not exist; 2 usage error.",
	.options = options,
	.size = sizeof(struct request),
	.run = dlq,
	CMD_DB,
};
