/* stub_smtp.c: the stub as a mail server: takes every mail, or refuses as the answers say, and records it. */
#include "config.h"

#include "cmd/replay/stub_private.h"

#include "base/xalloc.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SIZE_MAX_BYTES "104857600"

void stub_smtp_begin(struct stub_conn *c)
{
	stub_say(c, "220 replay ESMTP\r\n");
}

/* Whether the line begins with a command. */
static bool is_command(const char *line, const char *command)
{
	size_t len = strlen(command);

	return strncasecmp(line, command, len) == 0 && (!line[len] || strchr(" :", line[len]));
}

/* The answers' reply to a command, or NULL. */
static const char *told(const struct stub_conn *c, const char *line)
{
	const cJSON *reply = cJSON_GetObjectItemCaseSensitive(stub_answer(c, "smtp", line), "reply");

	return cJSON_IsString(reply) ? reply->valuestring : NULL;
}

/* The address of MAIL or RCPT; malloc'd. */
static char *address(const char *line)
{
	const char *begin = strchr(line, '<'), *end = begin ? strchr(begin, '>') : NULL;

	return end ? xstrndup(begin + 1, (size_t)(end - begin - 1)) : xstrdup("");
}

/* Forgets the mail that was begun. */
static void reset(struct stub_conn *c)
{
	free(c->from);
	c->from = NULL;
	cJSON_Delete(c->to);
	c->to = cJSON_CreateArray();
	c->mail.len = 0;
}

/* Answers HELO and EHLO; the latter offers extensions. */
static void greet(struct stub_conn *c, const char *line)
{
	if (is_command(line, "HELO")) {
		stub_say(c, "250 replay\r\n");
		return;
	}
	stub_say(c,
		"250-replay\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n%s"
		"250-AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER\r\n250 SIZE " SIZE_MAX_BYTES "\r\n",
		c->tls ? "" : "250-STARTTLS\r\n");
}

/* A login: a line or two are asked for, and all are right. */
static void login(struct stub_conn *c, const char *line)
{
	bool initial = strchr(line + 5, ' ') != NULL;

	c->asking = strncasecmp(line + 5, "LOGIN", 5) == 0 ? (initial ? 1 : 2) : initial ? 0 : 1;
	stub_say(c, c->asking ? "334 \r\n" : "235 2.7.0 accepted\r\n");
}

/* One command. */
static void command(struct stub_conn *c, const char *line)
{
	const char *reply = told(c, line);

	if (c->asking) {
		stub_say(c, --c->asking ? "334 \r\n" : "235 2.7.0 accepted\r\n");
	} else if (reply) {
		stub_say(c, "%s\r\n", reply);
	} else if (is_command(line, "EHLO") || is_command(line, "HELO")) {
		greet(c, line);
	} else if (is_command(line, "STARTTLS")) {
		stub_say(c, "220 go ahead\r\n");
		c->upgrade = true;
	} else if (is_command(line, "AUTH") && strlen(line) > 5) {
		login(c, line);
	} else if (is_command(line, "MAIL")) {
		reset(c);
		c->from = address(line);
		stub_say(c, "250 2.1.0 ok\r\n");
	} else if (is_command(line, "RCPT")) {
		char *to = address(line);

		cJSON_AddItemToArray(c->to, cJSON_CreateString(to));
		free(to);
		stub_say(c, "250 2.1.5 ok\r\n");
	} else if (is_command(line, "DATA")) {
		c->in_data = cJSON_GetArraySize(c->to) > 0;
		stub_say(c, c->in_data ? "354 go ahead\r\n" : "554 no recipients\r\n");
	} else if (is_command(line, "QUIT")) {
		stub_say(c, "221 bye\r\n");
		c->closing = true;
	} else {
		if (is_command(line, "RSET"))
			reset(c);
		stub_say(c, "250 2.0.0 ok\r\n");
	}
}

/* The mail is there as a whole. */
static void take_mail(struct stub_conn *c)
{
	const char *reply = told(c, ".");
	bool is_text;
	cJSON *e, *data;

	c->in_data = false;
	if (!c->mail.len) { /* a mail that was taken back */
		stub_say(c, "550 5.6.0 empty\r\n");
		return;
	}
	e = cJSON_CreateObject();
	cJSON_AddStringToObject(e, "kind", "mail");
	cJSON_AddStringToObject(e, "from", c->from ? c->from : "");
	cJSON_AddItemToObject(e, "to", c->to);
	c->to = NULL;
	data = stub_text(c->mail.data, c->mail.len, &is_text);
	cJSON_AddItemToObject(e, is_text ? "data" : "data_base64", data);
	reset(c);
	stub_effect(c, e);
	stub_say(c, "%s\r\n", reply ? reply : "250 2.0.0 recorded");
}

/* Bytes of a mail; the length of what was taken. */
static size_t take_data(struct stub_conn *c, const char *data, size_t len)
{
	const char *p = data, *lf;

	while (c->in_data && (lf = memchr(p, '\n', (size_t)(data + len - p))) != NULL) {
		size_t n = (size_t)(lf + 1 - p);

		if ((n == 3 && memcmp(p, ".\r\n", 3) == 0) || (n == 2 && memcmp(p, ".\n", 2) == 0))
			take_mail(c);
		else
			bytes_add(&c->mail, *p == '.' ? p + 1 : p, *p == '.' ? n - 1 : n);
		p = lf + 1;
	}
	return (size_t)(p - data);
}

void stub_smtp_feed(struct stub_conn *c)
{
	size_t at = 0;

	while (at < c->in.len && !c->upgrade && !c->closing) {
		char *line = c->in.data + at, *lf = memchr(line, '\n', c->in.len - at);

		if (!lf)
			break;
		if (c->in_data) {
			at += take_data(c, line, c->in.len - at);
			continue;
		}
		at += (size_t)(lf + 1 - line);
		*lf = '\0';
		if (lf > line && lf[-1] == '\r')
			lf[-1] = '\0';
		command(c, line);
	}
	bytes_drop(&c->in, c->upgrade ? c->in.len : at);
}
