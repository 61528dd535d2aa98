/* bounce.c: `pgmqd bounce`: reads a mail that came back on stdin, finds whose it was and why, and has the address left
 * alone. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#define BOUNCE_TOKEN_LEN 32
#define BOUNCE_LINES_MAX 20000
#define BOUNCE_REPORTS_MAX 100

/* The part of a report on one recipient. */
struct report {
	char recipient[320]; /* "" when it does not say */
	char status[16];     /* "5.1.1"; "" when it does not say */
	char action[16];     /* "failed", "delayed", ... */
	char detail[400];    /* the other server's words */
};

/* The parts of a mail that came back. */
struct bounce {
	char token[BOUNCE_TOKEN_LEN + 1]; /* of bounce+TOKEN@..., "" when it was nowhere */
	char feedback[24];                /* of a complaint (RFC 5965): "abuse", "not-spam", ... */
	struct report reports[BOUNCE_REPORTS_MAX];
	unsigned nreports; /* the last one is being read */
};

/* Looks for +TOKEN@ in a text. */
static void find_token(struct bounce *b, const char *text)
{
	for (const char *p = strchr(text, '+'); p != NULL && b->token[0] == '\0'; p = strchr(p + 1, '+'))
		if (strspn(p + 1, "0123456789abcdef") == BOUNCE_TOKEN_LEN && p[1 + BOUNCE_TOKEN_LEN] == '@')
			memcpy(b->token, p + 1, BOUNCE_TOKEN_LEN);
}

/* The value of a header field, if the line is that one. */
static const char *field(const char *line, const char *name)
{
	size_t n = strlen(name);

	if (strncasecmp(line, name, n) != 0 || line[n] != ':')
		return NULL;
	line += n + 1;
	return line + strspn(line, " \t");
}

/* Copies up to the first blank. */
static void copy_word(char *to, size_t size, const char *from)
{
	size_t n = strcspn(from, " \t\r\n;(");

	snprintf(to, size, "%.*s", (int)(n < size ? n : size - 1), from);
	for (; *to != '\0'; to++)
		*to = (char)tolower((unsigned char)*to);
}

/* Copies an address out of "rfc822; <ivan@example.test>". */
static void copy_address(char *to, size_t size, const char *from)
{
	const char *semicolon = strchr(from, ';');
	size_t n;

	if (semicolon != NULL)
		from = semicolon + 1;
	from += strspn(from, " \t<");
	n = strcspn(from, " \t\r\n>");
	snprintf(to, size, "%.*s", (int)(n < size ? n : 0), from);
}

/* The report that a field belongs to; a recipient begins a new one, unless only the other name of it was told. */
static struct report *report_of(struct bounce *b, bool recipient)
{
	struct report *last = b->nreports > 0 ? &b->reports[b->nreports - 1] : NULL;

	if (last != NULL && (!recipient || (last->action[0] == '\0' && last->status[0] == '\0')))
		return last;
	if (b->nreports == BOUNCE_REPORTS_MAX)
		return last;
	return &b->reports[b->nreports++];
}

/* A whole field, its continuation lines joined: those of the mail and of what it quotes say where it went; the others
 * are those of a delivery report (RFC 3464) or a complaint (RFC 5965). */
static void take_field(struct bounce *b, const char *line)
{
	static const char *const where[] = { "X-Original-To", "Delivered-To", "Envelope-To", "To", "Original-Mail-From",
		"Return-Path" };
	const char *value;
	struct report *r;

	for (size_t i = 0; i < sizeof where / sizeof *where; i++)
		if ((value = field(line, where[i])) != NULL)
			find_token(b, value);
	if ((value = field(line, "Feedback-Type")) != NULL && b->feedback[0] == '\0')
		copy_word(b->feedback, sizeof b->feedback, value);
	else if ((value = field(line, "Original-Recipient")) != NULL ||
		 (value = field(line, "Original-Rcpt-To")) != NULL)
		copy_address(report_of(b, true)->recipient, sizeof b->reports->recipient, value);
	else if ((value = field(line, "Final-Recipient")) != NULL && (r = report_of(b, true))->recipient[0] == '\0')
		copy_address(r->recipient, sizeof r->recipient, value);
	else if ((value = field(line, "Action")) != NULL)
		copy_word(report_of(b, false)->action, sizeof b->reports->action, value);
	else if ((value = field(line, "Status")) != NULL && isdigit((unsigned char)value[0]))
		copy_word(report_of(b, false)->status, sizeof b->reports->status, value);
	else if ((value = field(line, "Diagnostic-Code")) != NULL)
		snprintf(report_of(b, false)->detail, sizeof b->reports->detail, "%s", value);
}

/* Reads the mail. */
static void read_mail(struct bounce *b, FILE *in)
{
	char *line = NULL, *whole = xstrdup("");
	size_t size = 0;
	ssize_t n;

	for (unsigned lines = 0; lines < BOUNCE_LINES_MAX && (n = getline(&line, &size, in)) >= 0; lines++) {
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
			line[--n] = '\0';
		if ((line[0] == ' ' || line[0] == '\t') && strlen(whole) < 4096) {
			char *joined = xasprintf("%s %s", whole, line + strspn(line, " \t"));

			free(whole);
			whole = joined;
			continue;
		}
		take_field(b, whole);
		free(whole);
		whole = xstrdup(line);
	}
	take_field(b, whole);
	free(whole);
	free(line);
}

/* Masks what looks like an address: the table keeps none. */
static void mask(char *text)
{
	for (char *at = strchr(text, '@'); at != NULL; at = strchr(at + 1, '@')) {
		char *from = at, *to = at;

		while (from > text && !isspace((unsigned char)from[-1]) && strchr("<>()\",;:", from[-1]) == NULL)
			from--;
		while (*to != '\0' && !isspace((unsigned char)*to) && strchr("<>()\",;:", *to) == NULL)
			to++;
		memset(from, '*', (size_t)(to - from));
	}
}

/* The options on the command line. */
struct request {
	struct cmd_db db;
	const char *recipient;
};

/* Tells the database of one recipient, and prints what it made of it. */
static bool record(struct request *q, const char *token, const char *status, const struct report *r)
{
	char detail[sizeof r->detail];
	const char *const params[] = { token, status, detail, r->recipient };
	PGresult *res;

	snprintf(detail, sizeof detail, "%s", r->detail);
	mask(detail);
	res = cmd_db_run(&q->db, "the bounce", "SELECT pgmqd.record_bounce($1, $2, $3, $4)", 4, params);
	if (res != NULL)
		printf("%s\n", PQgetvalue(res, 0, 0));
	PQclear(res);
	return res != NULL;
}

/* The kind of a complaint for us: NULL when it is none. */
static const char *complaint_kind(const char *feedback)
{
	static const char *const kinds[][2] = { { "abuse", "complaint" }, { "fraud", "complaint" },
		{ "virus", "complaint" }, { "opt-out", "unsubscribed" }, { "opt-out-list", "unsubscribed" } };

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(feedback, kinds[i][0]) == 0)
			return kinds[i][1];
	return NULL;
}

/* Records what the mail says: a complaint, or each recipient that failed. The exit status. */
static int record_all(struct request *q, struct bounce *b)
{
	static const struct report nobody;
	const char *complaint = complaint_kind(b->feedback);
	bool any = complaint != NULL, ready = false;

	for (unsigned i = 0; i < b->nreports; i++)
		any = any || (strcmp(b->reports[i].action, "failed") == 0 && b->reports[i].status[0] != '\0');
	if (b->token[0] == '\0' || !any) {
		printf("%s\n", b->token[0] == '\0' ? "ignored: it did not come to an address of ours with a token"
						   : "ignored: it does not report a mail that could not be delivered");
		return 0;
	}
	ready = cmd_db_ready(&q->db);
	if (complaint != NULL)
		ready = ready && record(q, b->token, complaint, b->nreports > 0 ? &b->reports[0] : &nobody);
	for (unsigned i = 0; i < b->nreports && complaint == NULL; i++)
		if (strcmp(b->reports[i].action, "failed") == 0 && b->reports[i].status[0] != '\0')
			ready = ready && record(q, b->token, b->reports[i].status, &b->reports[i]);
	return ready ? 0 : EX_TEMPFAIL; /* the mail server tries again later */
}

/* pgmqd bounce. */
static int bounce(void *request, int argc, char **argv)
{
	struct request *q = request;
	struct bounce *b = xcalloc(1, sizeof(*b));
	int status;

	(void)argc;
	(void)argv;
	if (q->recipient)
		find_token(b, q->recipient);
	read_mail(b, stdin);
	status = record_all(q, b);
	free(b);
	return status;
}

static const struct cmd_option options[] = {
	CMD_OPTION("recipient", 'r', CMD_TEXT, struct request, recipient, "ADDRESS",
		"the address that the mail came to, as the mail server knows it"),
	{ 0 },
};

const struct command cmd_bounce = {
	.name = "bounce",
	.summary = "read a mail that came back, and send no more to its address",
	.usage = "",
	.text = "Reads on standard input a mail that came back to bounce+TOKEN@DOMAIN (bounce_address of the email "
		"plugin). When the mail says that there is no such mailbox, or that its recipient complains, pgmqd "
		"sends no more mails to the address. A mail of another kind changes nothing, and the exit status is "
		"0.",
	.exits = "Exit status: 0 success; 2 usage error; 75 the database cannot be reached, the mail server shall try "
		 "again.",
	.options = options,
	.size = sizeof(struct request),
	.run = bounce,
	CMD_DB,
};
