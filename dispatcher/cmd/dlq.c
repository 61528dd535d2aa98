/* dlq.c: the command "pgmqd dlq": lists, shows, puts back and throws away the dead letters of a queue.
 *
 * What it does is done by the functions of sql/021_dead_letters.sql, each in one statement. Bodies may hold what is
 * nobody's business, so only `show` prints them.
 */
#include "config.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"Usage: pgmqd dlq list|show|redrive|purge QUEUE [--id N ...] [--where-reason TEXT] [--class C] [--limit N]\n"
	"                 [--dry-run] [--yes] [-d CONNINFO] [-c FILE] [-e FILE]\n"
	"\n"
	"Looks after the dead letters of a queue: messages that failed for good.\n"
	"\n"
	"  list     one line for each: number, time, class, attempts, reason\n"
	"  show     all about each, with its body\n"
	"  redrive  puts them back into the queue, all or none: their attempts start anew, their history goes with "
	"them\n"
	"  purge    throws them away for good\n"
	"\n"
	"Without a choice all of them are meant; purge, and redrive without a choice, ask first.\n"
	"\n"
	"      --id N               this one; may be given more than once\n"
	"      --where-reason TEXT  those whose reason has TEXT in it, in upper or lower case\n"
	"      --class C            those of this class: permanent, attempts, crash, malformed, memory, unknown\n"
	"      --limit N            no more than the oldest N\n"
	"      --dry-run            say which would be put back or thrown away; change nothing\n"
	"  -y, --yes                do not ask\n" DBCOMMAND_HELP "  -h, --help               this text\n"
	"\n"
	"Ends with 0, with 1 when something failed or an --id was not there, with 2 after a wrong command line.\n";

enum { OPT_ID = 256, OPT_REASON, OPT_CLASS, OPT_LIMIT, OPT_DRY_RUN };
enum action { LIST, SHOW, REDRIVE, PURGE };

/* What the command line says. */
struct request {
	struct dbcommand db;
	enum action action;
	const char *queue, *reason, *class, *limit;
	struct sqltext ids;
	int64_t *numbers; /* the same, each once */
	size_t nids;
	bool dry_run, yes;
};

/* Makes the parameters of the functions: queue, ids, reason, class, max_rows. */
static void make_params(struct request *q, const char *params[5])
{
	params[0] = q->queue;
	params[1] = q->nids ? sqltext_end(&q->ids) : NULL;
	params[2] = q->reason;
	params[3] = q->class;
	params[4] = q->limit;
}

/* Prints text that came from elsewhere: what a terminal would obey is replaced. */
static void print_safe(const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) { /* C1 controls in UTF-8 */
			putchar('?');
			p++;
		} else {
			putchar(*p < 0x20 || *p == 0x7f ? ' ' : *p);
		}
	}
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
		printf("%-10s  %8s  ", value(res, i, 2), value(res, i, 4));
		print_safe(value(res, i, 3));
		putchar('\n');
	}
}

/* All about each. */
static void print_letters(const PGresult *res)
{
	static const char *const names[] = { "id", "died (UTC)", "class", "reason", "attempts", "put back before",
		"original id", "first enqueued (UTC)", "plugin", "plugin version", "headers", "body" };

	for (int i = 0; i < PQntuples(res); i++) {
		if (i)
			putchar('\n');
		for (int c = 0; c < PQnfields(res); c++) {
			printf("%-21s ", names[c]);
			print_safe(value(res, i, c));
			putchar('\n');
		}
	}
}

/* Reads the dead letters that are meant; NULL after telling what failed. */
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
	PGresult *res = dbcommand_run(&q->db, NULL, sql, 5, params);
	free(sql);
	return res;
}

/* Tells when fewer were there than were asked for by number. Returns the exit status. */
static int missing(const struct request *q, size_t found)
{
	if (!q->nids || found >= q->nids || q->reason || q->class || q->limit)
		return 0;
	fprintf(stderr, "%s: %zu of the %zu dead letters that were asked for %s there\n", q->db.name, q->nids - found,
		q->nids, q->nids - found == 1 ? "is not" : "are not");
	return 1;
}

/* "1 dead letter", "3 dead letters". */
static void print_count(size_t n, const char *after)
{
	printf("%zu dead letter%s%s\n", n, n == 1 ? "" : "s", after);
}

/* list, show, and the other two when they are only tried. */
static int look(struct request *q)
{
	PGresult *res = select_letters(q);
	size_t n;

	if (!res)
		return 1;
	n = (size_t)PQntuples(res);
	(q->action == SHOW ? print_letters : print_list)(res);
	if (q->action == LIST)
		print_count(n, "");
	else if (q->action != SHOW)
		print_count(n, q->action == REDRIVE ? " would be put back: nothing was changed"
						    : " would be thrown away: nothing was changed");
	else if (!n)
		print_count(n, "");
	PQclear(res);
	return missing(q, n);
}

/* Asks a person; a script that does not say --yes is refused. */
static bool confirmed(struct request *q)
{
	bool choice = q->nids || q->reason || q->class;
	char answer[16] = "";

	if (q->yes || (q->action == REDRIVE && choice))
		return true;
	if (!isatty(STDIN_FILENO)) {
		dbcommand_usage(&q->db, q->action == PURGE ? "what purge throws away is gone: say --yes"
							   : "all dead letters are meant: say --yes");
		return false;
	}
	printf("%s %s dead letters of %s? [y/N] ", q->action == PURGE ? "Throw away" : "Put back",
		choice ? "these" : "all", q->queue);
	fflush(stdout);
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* redrive and purge. */
static int act(struct request *q)
{
	const char *params[5];
	PGresult *res;
	size_t n;

	make_params(q, params);
	if (q->action == REDRIVE) {
		res = dbcommand_run(&q->db, NULL,
			"SELECT dead_id, new_id FROM pgmqd.redrive($1, $2::bigint[], $3, $4, $5::bigint) ORDER BY 1", 5,
			params);
		if (!res)
			return 1;
		n = (size_t)PQntuples(res);
		for (int i = 0; i < PQntuples(res); i++)
			printf("%s is now message %s of %s\n", PQgetvalue(res, i, 0), PQgetvalue(res, i, 1), q->queue);
		print_count(n, " put back");
	} else {
		res = dbcommand_run(&q->db, NULL,
			"SELECT pgmqd.purge_dead_letters($1, $2::bigint[], $3, $4, $5::bigint)", 5, params);
		if (!res)
			return 1;
		n = (size_t)atoll(PQgetvalue(res, 0, 0));
		print_count(n, " thrown away");
	}
	PQclear(res);
	return missing(q, n);
}

/* Reads a whole number from 1 on. */
static bool read_number(const char *text, int64_t *n)
{
	char *end;

	errno = 0;
	*n = strtoll(text, &end, 10);
	return errno == 0 && end != text && !*end && *n > 0;
}

/* Another --id; one that was given twice counts once. */
static void add_id(struct request *q, int64_t n)
{
	for (size_t i = 0; i < q->nids; i++)
		if (q->numbers[i] == n)
			return;
	q->numbers = xrealloc(q->numbers, q->nids + 1, sizeof(*q->numbers));
	q->numbers[q->nids++] = n;
	sqltext_int(&q->ids, n);
}

/* Reads what to do and with which queue. -1, or the exit status. */
static int read_words(struct request *q, int argc, char **argv)
{
	static const char *const names[] = { "list", "show", "redrive", "purge" };

	if (argc - optind != 2)
		return dbcommand_usage(&q->db, argc == optind ? "it takes list, show, redrive or purge, and a queue"
							      : "it takes two words: what to do, and a queue");
	q->queue = argv[optind + 1];
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(argv[optind], names[i]) == 0) {
			q->action = (enum action)i;
			return -1;
		}
	char *problem = xasprintf("unknown action \"%s\": list, show, redrive or purge", argv[optind]);
	int status = dbcommand_usage(&q->db, problem);
	free(problem);
	return status;
}

/* Reads the command line; -1, or the exit status when there is nothing more to do. */
static int read_arguments(struct request *q, int argc, char **argv)
{
	static const struct option longs[] = { DBCOMMAND_LONGS, { "id", required_argument, NULL, OPT_ID },
		{ "where-reason", required_argument, NULL, OPT_REASON },
		{ "class", required_argument, NULL, OPT_CLASS }, { "limit", required_argument, NULL, OPT_LIMIT },
		{ "dry-run", no_argument, NULL, OPT_DRY_RUN }, { "yes", no_argument, NULL, 'y' }, { 0 } };
	int64_t n;
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":y" DBCOMMAND_SHORT, longs, NULL)) != -1) {
		switch (c) {
		case OPT_ID:
			if (!read_number(optarg, &n))
				return dbcommand_usage(&q->db, "--id takes the number of a dead letter");
			add_id(q, n);
			break;
		case OPT_REASON:
			q->reason = optarg;
			break;
		case OPT_CLASS:
			q->class = optarg;
			break;
		case OPT_LIMIT:
			if (!read_number(optarg, &n))
				return dbcommand_usage(&q->db, "--limit takes a number from 1 on");
			q->limit = optarg;
			break;
		case OPT_DRY_RUN:
			q->dry_run = true;
			break;
		case 'y':
			q->yes = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			if (!dbcommand_option(&q->db, c, optarg))
				return dbcommand_bad_option(&q->db, c, argv[optind - 1]);
		}
	}
	return read_words(q, argc, argv);
}

/* pgmqd dlq; returns the exit status. */
int cmd_dlq(int argc, char **argv)
{
	struct request q = { .db.name = "pgmqd dlq" };
	int status = read_arguments(&q, argc, argv);

	bool only_look = q.action == LIST || q.action == SHOW || q.dry_run;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (status < 0 && !only_look && !confirmed(&q))
		status = 2;
	if (status < 0)
		status = !dbcommand_load(&q.db) || !dbcommand_connect(&q.db) ? 1 : only_look ? look(&q) : act(&q);
	dbcommand_close(&q.db);
	sqltext_free(&q.ids);
	free(q.numbers);
	return status;
}
