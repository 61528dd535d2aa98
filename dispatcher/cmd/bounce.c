/* bounce.c: `pgmqd bounce`: reads a mail that came back on stdin, finds whose it was and why, and has the address left
 * alone. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

/* Prints how it is used. */
static int help(void)
{
	puts("usage: pgmqd bounce [-d CONNINFO] [-c FILE] [-e FILE] [-r ADDRESS] < MAIL\n"
	     "Reads a mail that came back to bounce+TOKEN@DOMAIN (bounce_address of the email plugin), and suppresses "
	     "the address when\n"
	     "it says that there is no such mailbox. Mails that it does not understand are left alone, with exit "
	     "status 0.\n\n"
	     "  -r, --recipient ADDRESS  the address that the mail came to, as the mail server knows "
	     "it\n" DBCOMMAND_HELP "  -h, --help               this text");
	return 0;
}

/* The command. */
int cmd_bounce(int argc, char **argv)
{
	static const struct option longs[] = { { "recipient", required_argument, NULL, 'r' }, DBCOMMAND_LONGS,
		{ NULL, 0, NULL, 0 } };
	struct dbcommand d = { .name = "pgmqd bounce" };
	struct bounce b = { .token = "" };
	PGresult *res;
	int c;

	while ((c = getopt_long(argc, argv, ":r:" DBCOMMAND_SHORT, longs, NULL)) != -1) {
		if (c == 'h')
			return help();
		if (c == 'r')
			find_token(&b, optarg);
		else if (!dbcommand_option(&d, c, optarg))
			return dbcommand_bad_option(&d, c, argv[optind - 1]);
	}
	if (optind < argc)
		return dbcommand_usage(&d, "there is nothing to be named");
	read_mail(&b, stdin);
	if (b.token[0] == '\0' || b.status[0] == '\0' || strcmp(b.action, "failed") != 0) {
		printf("%s\n", b.token[0] == '\0' ? "ignored: it did not come to an address of ours with a token"
						  : "ignored: it is no report of a mail that could not be delivered");
		return 0;
	}
	mask(b.detail);
	if (!dbcommand_load(&d) || !dbcommand_connect(&d)) {
		dbcommand_close(&d);
		return 75; /* EX_TEMPFAIL: the mail server tries again later */
	}
	const char *const params[] = { b.token, b.status, b.detail };

	res = dbcommand_run(&d, "the bounce", "SELECT pgmqd.record_bounce($1, $2, $3)", 3, params);
	if (res != NULL)
		printf("%s\n", PQgetvalue(res, 0, 0));
	PQclear(res);
	dbcommand_close(&d);
	return res != NULL ? 0 : 75;
}
