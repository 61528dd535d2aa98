/* bounce.c: `pgmqd bounce`: reads a mail that came back on stdin, finds whose it was and why, and has the address left
 * alone. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#define BOUNCE_TOKEN_LEN 32
#define BOUNCE_LINES_MAX 20000

/* What is in a bounce mail. */
struct bounce {
	char token[BOUNCE_TOKEN_LEN + 1]; /* of bounce+TOKEN@..., "" when it was nowhere */
	char status[16];                  /* "5.1.1", of a recipient that failed; "" when the mail does not say */
	char action[16];                  /* "failed", "delayed", ... */
	char detail[400];                 /* the other server's words */
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

/* A whole field, its continuation lines joined. The first header of the mail are where it went; Status and the like are
 * those of the report (RFC 3464), and the first recipient that failed counts. */
static void take_field(struct bounce *b, const char *line)
{
	static const char *const where[] = { "X-Original-To", "Delivered-To", "Envelope-To", "To" };
	const char *value;

	for (size_t i = 0; i < sizeof where / sizeof *where; i++)
		if ((value = field(line, where[i])) != NULL)
			find_token(b, value);
	if (b->status[0] != '\0' && strcmp(b->action, "failed") == 0) {
		if (b->detail[0] == '\0' && (value = field(line, "Diagnostic-Code")) != NULL)
			snprintf(b->detail, sizeof b->detail, "%s", value);
		return;
	}
	if ((value = field(line, "Action")) != NULL)
		copy_word(b->action, sizeof b->action, value);
	else if ((value = field(line, "Status")) != NULL && isdigit((unsigned char)value[0]))
		copy_word(b->status, sizeof b->status, value);
	else if ((value = field(line, "Diagnostic-Code")) != NULL)
		snprintf(b->detail, sizeof b->detail, "%s", value);
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

/* What the command line says. */
struct request {
	struct cmd_db db;
	const char *recipient;
};

/* pgmqd bounce. */
static int bounce(void *request, int argc, char **argv)
{
	struct request *q = request;
	struct bounce b = { .token = "" };
	PGresult *res;

	(void)argc;
	(void)argv;
	if (q->recipient)
		find_token(&b, q->recipient);
	read_mail(&b, stdin);
	if (b.token[0] == '\0' || b.status[0] == '\0' || strcmp(b.action, "failed") != 0) {
		printf("%s\n", b.token[0] == '\0' ? "ignored: it did not come to an address of ours with a token"
						  : "ignored: it does not report a mail that could not be delivered");
		return 0;
	}
	mask(b.detail);
	if (!cmd_db_ready(&q->db))
		return EX_TEMPFAIL; /* the mail server tries again later */
	const char *const params[] = { b.token, b.status, b.detail };

	res = cmd_db_run(&q->db, "the bounce", "SELECT pgmqd.record_bounce($1, $2, $3)", 3, params);
	if (res != NULL)
		printf("%s\n", PQgetvalue(res, 0, 0));
	PQclear(res);
	return res != NULL ? 0 : EX_TEMPFAIL;
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
		"plugin). "
		"When the mail says that there is no such mailbox, pgmqd sends no more mails to the address. A mail of "
		"another "
		"kind changes nothing, and the exit status is 0.",
	.exits = "Exit status: 0 success; 2 usage error; 75 the database cannot be reached, the mail server shall try "
		 "again.",
	.options = options,
	.size = sizeof(struct request),
	.run = bounce,
	CMD_DB,
};
