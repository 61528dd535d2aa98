/* message.c: the command `pgmqd message`: lists and shows the messages of a queue, and cancels, hurries, delays, edits
 * and requeues them.
 *
 * The functions of sql/029_messages.sql do the work. Only `show` prints bodies, because they may hold personal data.
 */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 100         /* between two looks for what became of a message that is being cancelled */
#define BODY_MAX (16 << 20) /* bytes of a new body */

/* The options on the command line. */
struct request {
	struct cmd_db db;
	const char *action, *queue;
	const char *state, *reason, *class, *group, *before, *version, *body, *why, *by;
	struct cmd_list ids, where;
	int64_t priority, attempts, limit, older, newer, delay, wait;
	bool dry_run, yes;
};

#define NO_PRIORITY INT64_MIN

/* ---- what the command line asks for ---- */

/* Adds a text where there is one. */
static void add_text(cJSON *json, const char *name, const char *text)
{
	if (text)
		cJSON_AddStringToObject(json, name, text);
}

/* Adds a list where it has something in it. */
static void add_list(cJSON *json, const char *name, const struct cmd_list *given)
{
	cJSON *list = given->n ? cJSON_AddArrayToObject(json, name) : NULL;

	for (size_t i = 0; i < given->n; i++)
		cJSON_AddItemToArray(list, cJSON_CreateString(given->items[i]));
}

/* The filter of pgmqd.message_condition(). */
static cJSON *make_filter(const struct request *q)
{
	cJSON *filter = cJSON_CreateObject();

	add_list(filter, "ids", &q->ids);
	add_list(filter, "where", &q->where);
	add_text(filter, "state", q->state);
	add_text(filter, "reason", q->reason);
	add_text(filter, "class", q->class);
	add_text(filter, "group", q->group);
	if (q->priority != NO_PRIORITY)
		cJSON_AddNumberToObject(filter, "priority", (double)q->priority);
	if (q->attempts)
		cJSON_AddNumberToObject(filter, "attempts", (double)q->attempts);
	if (q->older)
		cJSON_AddNumberToObject(filter, "older", (double)q->older / 1000);
	if (q->newer)
		cJSON_AddNumberToObject(filter, "newer", (double)q->newer / 1000);
	return filter;
}

/* Whether all messages of the queue are meant. */
static bool means_all(const struct request *q)
{
	return !q->ids.n && !q->where.n && !q->state && !q->reason && !q->class && !q->group &&
	       q->priority == NO_PRIORITY && !q->attempts && !q->older && !q->newer;
}

/* Runs a function that answers with JSON; NULL after printing what failed. */
static cJSON *ask(const struct request *q, const char *sql, int nparams, const char *const *params)
{
	PGresult *res = cmd_db_run(&q->db, NULL, sql, nparams, params);
	cJSON *json = NULL;

	if (!res)
		return NULL;
	json = PQgetisnull(res, 0, 0) ? cJSON_CreateNull() : cJSON_Parse(PQgetvalue(res, 0, 0));
	if (!json)
		cmd_db_fail(&q->db, xstrdup("the answer of the database is no JSON"));
	PQclear(res);
	return json;
}

/* ---- looking ---- */

/* A field as text for people. */
static const char *field(const cJSON *json, const char *name, char *buf, size_t size)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, name);

	if (cJSON_IsString(item))
		return item->valuestring;
	if (!cJSON_IsNumber(item))
		return "-";
	snprintf(buf, size, "%.0f", item->valuedouble);
	return buf;
}

/* One message as one line. */
static void print_line(const cJSON *m)
{
	static const char *const names[] = { "id", "state", "at", "attempts", "due_at", "reason" };
	static const int widths[] = { 10, 9, 20, 8, 20, 0 };
	char buf[32];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *text = field(m, names[i], buf, sizeof buf);
		int pad = widths[i] - (int)strlen(text);

		if (i == 0 || i == 3)
			printf("%*s", pad > 0 ? pad : 0, "");
		cmd_print(stdout, text);
		if (i != 0 && i != 3)
			printf("%*s", pad > 0 ? pad : 0, "");
		fputs(i + 1 < sizeof names / sizeof *names ? "  " : "\n", stdout);
	}
}

/* A page of the list: one answer looks at some thousand messages only, and what is searched may be further back. */
static cJSON *list_page(const struct request *q, const char *filter)
{
	char limit[24], before[64] = "", buf[32];
	const char *params[] = { q->queue, filter, q->before, limit };
	cJSON *page;

	snprintf(limit, sizeof limit, "%" PRId64, q->limit);
	while ((page = ask(q, "SELECT pgmqd.message_page($1, $2::jsonb, $3, $4::int)", 4, params)) &&
		!cJSON_GetArraySize(cJSON_GetObjectItem(page, "messages")) &&
		cJSON_IsTrue(cJSON_GetObjectItem(page, "more"))) {
		snprintf(before, sizeof before, "%s", field(page, "before", buf, sizeof buf));
		params[2] = before;
		cJSON_Delete(page);
	}
	return page;
}

/* list. */
static int list(const struct request *q)
{
	cJSON *filter = make_filter(q), *page, *m;
	char *text = cJSON_PrintUnformatted(filter), buf[32];

	page = list_page(q, text);
	cJSON_Delete(filter);
	free(text);
	if (!page)
		return 1;
	if (cJSON_GetArraySize(cJSON_GetObjectItem(page, "messages")))
		printf("%10s  %-9s  %-20s  %8s  %-20s  %s\n", "ID", "STATE", "SINCE", "ATTEMPTS", "DUE", "REASON");
	cJSON_ArrayForEach(m, cJSON_GetObjectItem(page, "messages")) print_line(m);
	if (cJSON_IsTrue(cJSON_GetObjectItem(page, "more")))
		printf("there may be more: --before %s\n", field(page, "before", buf, sizeof buf));
	cJSON_Delete(page);
	return 0;
}

/* The life of a message, oldest event first. */
static void print_life(const cJSON *life)
{
	const cJSON *l, *name;
	char buf[32];

	cJSON_ArrayForEach(l, life)
	{
		printf("  %s  ", field(l, "at", buf, sizeof buf));
		cmd_print(stdout, field(l, "what", buf, sizeof buf));
		cJSON_ArrayForEach(name, l)
		{
			if (cJSON_IsNull(name) || strcmp(name->string, "at") == 0 || strcmp(name->string, "what") == 0)
				continue;
			printf(", %s ", name->string);
			cmd_print(stdout, field(l, name->string, buf, sizeof buf));
		}
		putchar('\n');
	}
}

/* show: everything about one. */
static int show(const struct request *q)
{
	const char *params[] = { q->queue, NULL, q->state };
	static const char *const names[] = { "id", "queue", "state", "attempts", "priority", "group", "class", "reason",
		"enqueued_at", "at", "due_at", "lease_until", "workers", "cancel_asked", "cancelled_by", "original_id",
		"trace_id", "version", "headers" };
	const cJSON *item;
	cJSON *m;
	char buf[32], *text;

	if (q->ids.n != 1)
		return cmd_usage("message", "show takes one --id");
	params[1] = q->ids.items[0];
	if (!(m = ask(q, "SELECT pgmqd.message_life($1, $2, $3)", 3, params)))
		return 1;
	if (cJSON_IsNull(m)) {
		cJSON_Delete(m);
		return cmd_db_fail(&q->db, xasprintf("%s has no message %s", q->queue, params[1]));
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		item = cJSON_GetObjectItemCaseSensitive(m, names[i]);
		if (item == NULL || cJSON_IsNull(item))
			continue;
		printf("%-13s ", names[i]);
		text = cJSON_IsObject(item) || cJSON_IsArray(item) ? cJSON_PrintUnformatted(item) : NULL;
		cmd_print(stdout, text ? text : field(m, names[i], buf, sizeof buf));
		free(text);
		putchar('\n');
	}
	puts("life");
	print_life(cJSON_GetObjectItem(m, "life"));
	puts("body");
	text = xstrdup(field(m, "body", buf, sizeof buf));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		fputs("  ", stdout);
		cmd_print(stdout, line);
		putchar('\n');
	}
	free(text);
	cJSON_Delete(m);
	return 0;
}

/* ---- acting ---- */

/* All of the standard input as text; NULL after printing what is wrong. */
static char *read_input(const struct request *q)
{
	char *text = xcalloc(1, BODY_MAX + 1);
	size_t n = fread(text, 1, BODY_MAX + 1, stdin);

	if (n <= BODY_MAX && strlen(text) == n)
		return text;
	free(text);
	cmd_db_fail(&q->db, xstrdup("the standard input is larger than 16 MiB, or no text"));
	return NULL;
}

/* The request of pgmqd.act_on_messages(); NULL after printing what is wrong. */
static cJSON *make_request(const struct request *q)
{
	cJSON *json = cJSON_CreateObject();
	char *body = q->body && strcmp(q->body, "-") == 0 ? read_input(q) : NULL;

	if (q->body && strcmp(q->body, "-") == 0 && !body) {
		cJSON_Delete(json);
		return NULL;
	}
	cJSON_AddItemToObject(json, "filter", make_filter(q));
	cJSON_AddBoolToObject(json, "all", means_all(q));
	add_text(json, "why", q->why);
	add_text(json, "version", q->version);
	add_text(json, "body", body ? body : q->body);
	if (strcmp(q->action, "delay") == 0)
		cJSON_AddNumberToObject(json, "seconds", (double)q->delay / 1000);
	free(body);
	return json;
}

/* Sends the request; NULL after printing what failed. */
static cJSON *send_request(const struct request *q, const cJSON *json)
{
	char *text = cJSON_PrintUnformatted(json);
	const char *params[] = { q->queue, q->action, text, cmd_who(q->by) };
	cJSON *answer = ask(q, "SELECT pgmqd.act_on_messages($1, $2, $3::jsonb, $4)", 4, params);

	free(text);
	return answer;
}

/* A number of an answer. */
static int64_t number(const cJSON *json, const char *name)
{
	return (int64_t)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(json, name));
}

/* "1 message", "3 messages". */
static void print_count(int64_t n, const char *after)
{
	printf("%" PRId64 " message%s %s\n", n, n == 1 ? "" : "s", after);
}

/* Asks the person at the terminal whether to go on with so many; without one, --yes is needed. */
static bool confirmed(const struct request *q, int64_t n)
{
	char answer[16] = "";

	if (q->yes || q->ids.n)
		return true;
	if (!isatty(STDIN_FILENO)) {
		cmd_usage("message", "%" PRId64 " messages match; pass --yes to confirm", n);
		return false;
	}
	printf("%" PRId64 " messages of %s: %s? [y/N] ", n, q->queue, q->action);
	fflush(stdout);
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* How many of these messages are running; -1 after printing what failed. */
static int64_t still_running(const struct request *q, const char *ids)
{
	const char *params[] = { q->queue, ids };
	PGresult *res = cmd_db_run(&q->db, NULL,
		"SELECT pgmqd.count_messages($1, pg_catalog.jsonb_build_object('state', 'running', 'ids', $2::jsonb))",
		2, params);
	int64_t n = res ? atoll(PQgetvalue(res, 0, 0)) : -1;

	PQclear(res);
	return n;
}

/* Waits until the workers have settled what was asked of them, and says how many messages they have cancelled. */
static int wait_for(const struct request *q, const cJSON *asked)
{
	const struct timespec pause = { .tv_nsec = POLL_MS * 1000000L };
	char *ids = cJSON_PrintUnformatted(asked), *text;
	int64_t left, waited = 0, cancelled = -1;
	const char *params[2] = { q->queue };
	PGresult *res;

	while ((left = still_running(q, ids)) > 0 && waited < q->wait) {
		nanosleep(&pause, NULL);
		waited += POLL_MS;
	}
	text = xasprintf("{\"state\": \"cancelled\", \"ids\": %s}", ids);
	params[1] = text;
	if (left >= 0 && (res = cmd_db_run(&q->db, NULL, "SELECT pgmqd.count_messages($1, $2::jsonb)", 2, params))) {
		cancelled = atoll(PQgetvalue(res, 0, 0));
		PQclear(res);
	}
	free(text);
	free(ids);
	if (cancelled < 0)
		return 1;
	print_count(cancelled, "cancelled while running");
	if (left)
		print_count(left, "still running; the worker was told");
	if (cancelled + left < cJSON_GetArraySize(asked))
		print_count(cJSON_GetArraySize(asked) - cancelled - left, "had an outcome first");
	return cancelled < cJSON_GetArraySize(asked);
}

/* Says what was done; the exit status. */
static int print_done(const struct request *q, const cJSON *answer)
{
	static const char *const words[][2] = { { "cancel", "cancelled" }, { "run-now", "made due now" },
		{ "delay", "delayed" }, { "edit", "edited" }, { "requeue", "requeued" } };
	const cJSON *item, *asked = cJSON_GetObjectItem(answer, "asked");
	int refused = cJSON_GetArraySize(cJSON_GetObjectItem(answer, "refused")), status = refused > 0;

	cJSON_ArrayForEach(item, cJSON_GetObjectItem(answer, "new_ids"))
	{
		printf("%s is now message %.0f of %s\n", item->string, item->valuedouble, q->queue);
	}
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(words[i][0], q->action) == 0)
			print_count(cJSON_GetArraySize(cJSON_GetObjectItem(answer, "changed")), words[i][1]);
	if (cJSON_GetArraySize(asked))
		status |= wait_for(q, asked);
	if (refused) {
		fprintf(stderr,
			"%s: refused, since they are not there, changed meanwhile, or are not in a state for it:",
			q->db.name);
		cJSON_ArrayForEach(item, cJSON_GetObjectItem(answer, "refused"))
			fprintf(stderr, " %.0f", item->valuedouble);
		fputc('\n', stderr);
	}
	return status;
}

/* One of the actions: counts, asks, does it, in parts where there are many. */
static int act(const struct request *q)
{
	cJSON *json = make_request(q), *answer;
	int64_t matched;
	int status = 0;
	bool more = true;

	if (!json)
		return 1;
	cJSON_AddTrueToObject(json, "dry_run");
	answer = send_request(q, json);
	matched = answer ? number(answer, "matched") : -1;
	cJSON_Delete(answer);
	cJSON_DeleteItemFromObject(json, "dry_run");
	if (matched >= 0 && q->dry_run)
		print_count(matched, "match; nothing was changed");
	else if (matched >= 0 && !confirmed(q, matched))
		status = 2;
	else if (matched >= 0)
		while (more && (answer = send_request(q, json))) {
			status |= print_done(q, answer);
			more = cJSON_IsTrue(cJSON_GetObjectItem(answer, "more")) &&
			       cJSON_GetArraySize(cJSON_GetObjectItem(answer, "changed"));
			cJSON_Delete(answer);
		}
	cJSON_Delete(json);
	return matched < 0 || (more && !q->dry_run && status != 2) ? 1 : status;
}

/* Whether the command line makes sense; -1, or the exit status. */
static int check(const struct request *q)
{
	for (size_t i = 0; i < q->ids.n; i++)
		if (!*q->ids.items[i] || strspn(q->ids.items[i], "-0123456789") != strlen(q->ids.items[i]))
			return cmd_usage("message", "--id takes the number of a message, not \"%s\"", q->ids.items[i]);
	if (strcmp(q->action, "delay") == 0 && q->delay < 0)
		return cmd_usage("message", "delay needs --for: how long from now");
	if (strcmp(q->action, "edit") == 0 && (q->ids.n != 1 || !q->version || !q->body))
		return cmd_usage("message", "edit needs --id, --version (as show prints it) and --body");
	return -1;
}

/* pgmqd message. */
static int message(void *request, int argc, char **argv)
{
	struct request *q = request;
	int status;

	(void)argc;
	q->action = argv[0];
	q->queue = argv[1];
	if ((status = check(q)) >= 0)
		return status;
	if (!cmd_db_ready(&q->db))
		return 1;
	return strcmp(q->action, "list") == 0 ? list(q) : strcmp(q->action, "show") == 0 ? show(q) : act(q);
}

static const struct request defaults = { .priority = NO_PRIORITY, .limit = 50, .delay = -1, .wait = 10000 };

static const struct cmd_option options[] = {
	CMD_OPTION("id", 0, CMD_LIST, struct request, ids, "N", "this one; may be given more than once"),
	CMD_OPTION("state", 0, CMD_TEXT, struct request, state, "STATE",
		"waiting, delayed, running, live (these three), archived, cancelled or dead; for requeue archived is "
		"the default, else live"),
	CMD_OPTION("where", 0, CMD_LIST, struct request, where, "KEY=VALUE",
		"those whose body or headers hold it; KEY may be a path, a.b; may be given more than once"),
	CMD_OPTION("where-reason", 0, CMD_TEXT, struct request, reason, "TEXT",
		"those whose last attempt failed for a reason that contains TEXT"),
	CMD_OPTION("class", 0, CMD_TEXT, struct request, class, "CLASS", "dead letters of this class"),
	CMD_OPTION("group", 0, CMD_TEXT, struct request, group, "NAME", "those of this group"),
	CMD_OPTION("priority", 0, CMD_NUMBER, struct request, priority, "N", "those of this priority",
		.least = -1000000000, .most = 1000000000),
	CMD_OPTION("attempts", 0, CMD_NUMBER, struct request, attempts, "N", "those with so many attempts, or more",
		.least = 1, .most = INT32_MAX),
	CMD_OPTION("older", 0, CMD_DURATION, struct request, older, "TIME",
		"those that were enqueued, archived or dead-lettered so long ago, or longer"),
	CMD_OPTION("newer", 0, CMD_DURATION, struct request, newer, "TIME", "those that are not older than that"),
	CMD_OPTION("limit", 0, CMD_NUMBER, struct request, limit, "N", "list so many at most (default 50)", .least = 1,
		.most = 1000),
	CMD_OPTION("before", 0, CMD_TEXT, struct request, before, "PLACE", "list goes on from there; list prints it"),
	CMD_OPTION(
		"for", 0, CMD_DURATION, struct request, delay, "TIME", "delay: the messages are due so long from now"),
	CMD_OPTION("body", 0, CMD_TEXT, struct request, body, "JSON", "edit: the new body; - reads the standard input"),
	CMD_OPTION("version", 0, CMD_TEXT, struct request, version, "VERSION",
		"edit: what show printed; the edit is refused when the message has changed since"),
	CMD_OPTION("wait", 0, CMD_DURATION, struct request, wait, "TIME",
		"cancel: how long to wait for the workers of messages that run (default 10s)"),
	CMD_OPTION("why", 0, CMD_TEXT, struct request, why, "TEXT", "why; it is kept with who did it"),
	CMD_BY(by),
	CMD_OPTION("dry-run", 0, CMD_FLAG, struct request, dry_run, NULL,
		"count the messages that are meant; change nothing"),
	CMD_OPTION("yes", 'y', CMD_FLAG, struct request, yes, NULL, "do not ask"),
	{ 0 },
};

const struct command cmd_message = {
	.name = "message",
	.summary = "list, show, cancel, delay, edit or requeue messages",
	.usage = "list|show|cancel|run-now|delay|edit|requeue QUEUE",
	.text = "Handles the messages of a queue one by one, or all that the options describe.\n\n"
		"list prints a line for each, the newest first.\n"
		"show prints all about one: its state, its life, its headers and its body.\n"
		"cancel archives those that wait as cancelled, and has the workers of those that run do the same.\n"
		"run-now makes delayed ones due, delay makes those that wait due later.\n"
		"edit gives one that waits, or a dead letter, another body.\n"
		"requeue puts archived ones, or dead letters, back into the queue as new messages.\n\n"
		"A message that a worker has taken meanwhile is refused, not overwritten. Without --id, the actions "
		"count first and ask. The table pgmqd.actions keeps each action.",
	.exits = "Exit status: 0 success; 1 failure, or a message was refused or had its outcome first; 2 usage error.",
	.options = options,
	.size = sizeof(struct request),
	.defaults = &defaults,
	.run = message,
	CMD_DB,
};
