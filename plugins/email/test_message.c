/* test_message.c: what the email plugin reads out of a queue's message, and which messages it refuses. */
#include "config.h"

#include "keys.h"
#include "message.h"

#include <cjson/cJSON.h>
#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ROOM 1000

/* Parses `text`; the caller frees the JSON after the message. */
static char *parse(const char *text, cJSON **json, struct email_message *m)
{
	*json = cJSON_Parse(text);
	return message_parse(*json, text, ROOM, false, m);
}

/* A message as queue_email_task() sends it. */
static void plain(void **state)
{
	struct email_message m;
	cJSON *json;

	(void)state;
	assert_null(parse("{\"to\": \"ivan@\\u043f\\u0440\\u0438\\u043c\\u0435\\u0440.\\u0440\\u0444\", \"subject\": "
			  "null, \"template\": "
			  "\"report_ready\", \"variables\": {\"lang\": \"ru\", \"report_id\": \"7\"}, \"priority\": 0, "
			  "\"other\": [1]}",
		&json, &m));
	assert_string_equal(m.rcpt.list[0].mailbox.address, "ivan@xn--e1afmkfd.xn--p1ai");
	assert_string_equal(m.template, "report_ready");
	assert_string_equal(m.lang, "ru");
	assert_null(m.subject);
	assert_null(m.text);
	assert_null(m.reply_to.address);
	assert_int_equal(m.rcpt.n, 1);
	assert_ptr_equal(m.variables, cJSON_GetObjectItemCaseSensitive(json, "variables"));
	message_clear(&m);
	cJSON_Delete(json);
}

/* Keys that no mail has are left alone, or refused without being repeated; queue_email_task()'s own are known. */
static void strict(void **state)
{
	static const char *const texts[] = {
		"{\"to\": \"a@e.test\", \"subject\": \"S\", \"text\": \"T\", \"priority\": 0}",
		"{\"to\": \"a@e.test\", \"subject\": \"S\", \"text\": \"T\", \"secret\": 0}"
	};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct email_message m;
		cJSON *json = cJSON_Parse(texts[i / 2]);
		char *reason = message_parse(json, texts[i / 2], ROOM, i % 2 == 1, &m);

		assert_int_equal(reason != NULL, i == 3);
		assert_true(
			reason == NULL || (strstr(reason, "strict_keys") != NULL && strstr(reason, "secret") == NULL));
		g_free(reason);
		message_clear(&m);
		cJSON_Delete(json);
	}
}

/* Everything at once. */
static void full(void **state)
{
	struct email_message m;
	cJSON *json;

	(void)state;
	assert_null(parse("{\"to\": \"a@e.test\", \"to_name\": \"A B\", \"reply_to\": \"c@e.test\", \"subject\": "
			  "\"S\", \"text\": \"T\\n\", "
			  "\"html\": \"<p>\", \"lang\": \"en_GB\", \"key\": \"order-1\", \"template\": \"\", "
			  "\"variables\": {\"lang\": \"ru\"}, "
			  "\"attachments\": [{\"filename\": \"a.txt\", \"content_type\": \"text/plain\", \"content\": "
			  "\"aGk=\\r\\n\"},"
			  "{\"filename\": \"b\", \"content\": \"\"}]}",
		&json, &m));
	assert_string_equal(m.rcpt.list[0].mailbox.name, "A B");
	assert_string_equal(m.reply_to.address, "c@e.test");
	assert_string_equal(m.subject, "S");
	assert_string_equal(m.text, "T\n");
	assert_string_equal(m.html, "<p>");
	assert_string_equal(m.lang, "en-GB");
	assert_string_equal(m.key, "order-1");
	assert_null(m.template);
	assert_int_equal(m.nattachments, 2);
	assert_string_equal(m.attachments[0].filename, "a.txt");
	assert_string_equal(m.attachments[0].content_type, "text/plain");
	assert_int_equal(m.attachments[0].len, 2);
	assert_memory_equal(m.attachments[0].content, "hi", 2);
	assert_string_equal(m.attachments[1].content_type, "application/octet-stream");
	assert_int_equal(m.attachments[1].len, 0);
	message_clear(&m);
	cJSON_Delete(json);
}

/* Messages that can never be sent, and what the reason must say. */
static void refused(void **state)
{
#define TO "{\"to\": \"a@e.test\", "
#define TEXT "\"subject\": \"s\", \"text\": \"t\", "
	static const struct {
		const char *in, *reason;
	} rows[] = {
		{ "nonsense", "not valid JSON" },
		{ "[]", "must be a JSON object" },
		{ "\"text\"", "must be a JSON object" },
		{ "{}", "to: it is missing" },
		{ "{\"to\": null}", "to: it is missing" },
		{ "{\"to\": \"\"}", "to: it is missing" },
		{ "{\"To\": \"a@e.test\"}", "To: there is no such key; write to" },
		{ "{\"to\": [1]}", "to[0]: it must be a string" },
		{ "{\"to\": []}", "to: it is missing" },
		{ "{\"to\": [\"a@e.test\", \"b@e.test\\r\\nX: y\"]}", "to[1]: it has a line break" },
		{ "{\"to\": \"a@e.test, B <b@e.test>\"}", "to: it must be one address, or Name <address>" },
		{ "{\"to\": \"\\\"a\\\" b <b@e.test>\"}", "to: it must be one address, or Name <address>" },
		{ TO "\"cc\": \"a\"}", "cc: it has no @" },
		{ TO "\"bcc\": {}}", "bcc: it must be a string, or a list of strings" },
		{ TO "\"from\": \"A\\nB <b@e.test>\"}", "from: it has a line break" },
		{ TO "\"replyTo\": \"b@e.test\"}", "replyTo: there is no such key; write reply_to" },
		{ TO "\"sbuject\": \"s\"}", "sbuject: there is no such key; write subject" },
		{ TO "\"atachments\": []}", "atachments: there is no such key; write attachments" },
		{ TO TEXT "\"attachments\": [{\"contentType\": \"a/b\"}]}",
			"attachments[0]: contentType: there is no such key; write content_type" },
		{ TO TEXT "\"headers\": []}", "headers: it must be an object" },
		{ TO TEXT "\"headers\": {\"Bcc\": \"b@e.test\"}}", "headers.Bcc: it is none that a message may set" },
		{ TO TEXT "\"headers\": {\"X-A\\r\\nBcc\": \"b\"}}", "headers: a name must have 1 to" },
		{ TO TEXT "\"headers\": {\"X-SMTPAPI\": \"{}\"}}", "headers.X-SMTPAPI: it is none" },
		{ TO TEXT "\"headers\": {\"X-A\": \"a\\r\\nBcc: b@e.test\"}}", "headers.X-A: it has a line break" },
		{ TO TEXT "\"headers\": {\"X-A\": \"a\", \"x-a\": \"b\"}}", "headers.x-a: it is there twice" },
		{ TO TEXT "\"headers\": {\"References\": \"\u0443\"}}", "headers.References: it must be plain ASCII" },
		{ TO TEXT "\"tags\": \"a\"}", "tags: it must be a list" },
		{ TO TEXT "\"tags\": [\"a b\"]}", "tags: each must be a word" },
		{ TO TEXT "\"metadata\": {\"a\": 1}}", "metadata.a: it must be a text" },
		{ TO TEXT "\"metadata\": {\"pgmqd_key\": \"1\"}}", "metadata: a name must be" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\", \"url\": \"https://e\", \"content\": \"\"}]}",
			"attachments[0]: it must have one of content, url and path" },
		{ TO TEXT "\"attachments\": [{\"path\": \"b/../c\"}]}",
			"attachments[0]: path: it must be BUCKET/FILE" },
		{ TO TEXT "\"attachments\": [{\"url\": \"https://e/a b\"}]}", "attachments[0]: url: it is no URL" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\", \"cid\": \"a>b\", \"content\": \"\"}]}",
			"attachments[0]: cid: only letters" },
		{ "{\"to\": \"a@e.test\\r\\nBcc: b@e.test\"}", "to: it has a line break" },
		{ "{\"to\": \"a@e.test>\\r\\nRCPT TO:<b@e.test\"}", "to: it has a line break" },
		{ "{\"to\": \"a@e.test, b@e.test\"}", "to: it has a space" },
		{ "{\"to\": \"a@e.test\"}", "template: it is missing" },
		{ TO "\"template\": 5}", "template: it must be a string" },
		{ TO "\"text\": \"y\"}", "subject: it is missing" },
		{ TO "\"subject\": \"a\\r\\nBcc: b@e.test\", \"text\": \"y\"}", "subject: it has a line break" },
		{ TO "\"subject\": \"a\\u0000b\", \"text\": \"y\"}", "NUL" },
		{ TO "\"subject\": \"a\", \"text\": \"y\\\\\\u0000\"}", "NUL" },
		{ TO "\"to_name\": \"a\\nb\", " TEXT "\"x\": 1}", "to_name: it has a line break" },
		{ TO "\"reply_to\": \"a\", " TEXT "\"x\": 1}", "reply_to: it has no @" },
		{ TO "\"template\": \"x\", \"variables\": []}", "variables: it must be an object" },
		{ TO "\"template\": \"x\", \"lang\": \"../../etc\"}", "lang: it must be a language tag" },
		{ TO "\"template\": \"x\", \"lang\": \"ru-\"}", "lang: it must be a language tag" },
		{ TO "\"template\": \"x\", \"lang\": \"russian12\"}", "lang: it must be a language tag" },
		{ TO "\"template\": \"x\", \"lang\": 1}", "lang: it must be a string" },
		{ TO "\"template\": \"x\", \"variables\": {\"lang\": \"a/b\"}}",
			"variables.lang: it must be a language tag" },
		{ TO TEXT "\"attachments\": {}}", "attachments: it must be a list" },
		{ TO TEXT "\"attachments\": [1]}", "attachments[0]: it must be an object" },
		{ TO TEXT "\"attachments\": [{\"content\": \"\"}]}", "attachments[0]: filename: it is missing" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\\nb\", \"content\": \"\"}]}",
			"attachments[0]: filename: it has a line break" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\"}]}",
			"attachments[0]: it must have one of content, url and path" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content\": \"a-b_\"}]}", "not valid base64" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content\": \"aGk\"}]}", "not valid base64" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content\": \"=aGk\"}]}", "not valid base64" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content\": \"a===\"}]}", "not valid base64" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content_type\": \"pdf\", \"content\": \"\"}]}",
			"content_type" },
		{ TO TEXT
			"\"attachments\": [{\"filename\": \"a\", \"content_type\": \"a/b; c=d\", \"content\": \"\"}]}",
			"content_type" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content_type\": \"a/b\\r\\nX: y\", \"content\": "
			  "\"\"}]}",
			"content_type" },
		{ TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content_type\": \"message/rfc822\", \"content\": "
			  "\"\"}]}",
			"content_type" },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		struct email_message m;
		cJSON *json;
		char *reason = parse(rows[i].in, &json, &m);

		if (reason == NULL || strstr(reason, rows[i].reason) == NULL)
			fail_msg("%s: %s", rows[i].in, reason != NULL ? reason : "was taken");
		/* Reasons go into logs. */
		assert_null(strstr(reason, "e.test"));
		g_free(reason);
		message_clear(&m);
		cJSON_Delete(json);
	}
}

/* Several recipients, a sender, headers, labels, and all kinds of attachments. */
static void asked_for(void **state)
{
	struct email_message m;
	cJSON *json;

	(void)state;
	assert_null(parse(
		"{\"to\": [\"Ivan \u041f <ivan@e.test>\", \"petr@e.test\", \"IVAN@e.test\"], \"cc\": \"\\\"O, "
		"\\\\\\\"P\\\\\\\"\\\" <olga@e.test>\", \"bcc\": [\"anna@e.test\"], \"from\": \"News <news@e.test>\", "
		"\"headers\": {\"X-Order\": \"7\", \"In-Reply-To\": \"<a@b>\"}, \"tags\": [\"a\"], "
		"\"metadata\": {\"order\": \"7\"}, " TEXT
		"\"attachments\": [{\"url\": \"https://e.test/a%20b.pdf?x=1\"}, "
		"{\"path\": \"bucket/r/1.pdf\", \"filename\": \"r.pdf\"}, {\"content\": \"\", \"content_type\": "
		"\"text/calendar; method=REQUEST\"}, {\"filename\": \"l.png\", \"content_type\": \"image/png\", "
		"\"cid\": \"logo\", \"content\": \"aGk=\"}]}",
		&json, &m));
	assert_int_equal(m.rcpt.n, 4);
	assert_string_equal(m.rcpt.list[0].mailbox.name, "Ivan П");
	assert_string_equal(m.rcpt.list[1].mailbox.address, "petr@e.test");
	assert_string_equal(m.rcpt.list[2].mailbox.name, "O, \"P\"");
	assert_int_equal(m.rcpt.list[2].kind, RECIPIENT_CC);
	assert_int_equal(m.rcpt.list[3].kind, RECIPIENT_BCC);
	assert_string_equal(m.from.address, "news@e.test");
	assert_string_equal(m.headers.list[1].value, "<a@b>");
	assert_string_equal(m.tags.list[0].name, "a");
	assert_string_equal(m.metadata.list[0].value, "7");
	assert_string_equal(m.attachments[0].filename, "a b.pdf");
	assert_null(m.attachments[0].content);
	attachment_fill(&m.attachments[0], "%PDF", 4, "application/pdf; charset=binary");
	assert_string_equal(m.attachments[0].content_type, "application/pdf");
	assert_string_equal(m.attachments[1].filename, "r.pdf");
	assert_string_equal(m.attachments[1].path, "bucket/r/1.pdf");
	assert_string_equal(m.attachments[2].method, "REQUEST");
	assert_string_equal(m.attachments[2].filename, "invite.ics");
	assert_string_equal(m.attachments[3].cid, "logo");
	message_clear(&m);
	cJSON_Delete(json);
}

/* Adds a name to the list of them. */
static void add_name(void *arg, const char *name)
{
	g_string_append_printf(arg, "%s ", name);
}

/* Keys that are somebody else's are told of by name; those that only look a bit like ours are theirs, too. */
static void strange_keys(void **state)
{
	cJSON *json = cJSON_Parse(
		"{\"to\": 1, \"user_id\": 1, \"type\": 1, \"ttl\": 1, \"object\": 1, \"created_at\": 1, "
		"\"no\\nline\": 1, \"attachments\": [{\"size\": 1, \"content\": \"\"}]}");
	GString *names = g_string_new(NULL);

	(void)state;
	assert_null(keys_check(json, false));
	keys_unknown(json, add_name, names);
	assert_string_equal(
		names->str, "user_id type ttl object created_at (a name that cannot be shown) attachments.size ");
	g_string_free(names, TRUE);
	cJSON_Delete(json);
}

/* An escaped backslash before u0000 is not a NUL. */
static void no_nul(void **state)
{
	struct email_message m;
	cJSON *json;

	(void)state;
	assert_null(parse(TO "\"subject\": \"a\\\\u0000\", \"text\": \"y\"}", &json, &m));
	assert_string_equal(m.subject, "a\\u0000");
	message_clear(&m);
	cJSON_Delete(json);
}

/* Names of attachments. */
static void filenames(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "report.pdf", "report.pdf" },
		{ "../../x.pdf", "x.pdf" },
		{ "/etc/passwd", "passwd" },
		{ "Отчёт \\\"за\\\" май; 2026\\\\.pdf", "Отчёт \"за\" май; 2026_.pdf" },
		{ "invoice\\u202efdp.exe", "invoicefdp.exe" },
		{ "..", "attachment" },
		{ "a/", "a_" },
		{ "/", "_" },
		{ "\\u202e", "attachment" },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		char *text = g_strdup_printf(
			TO TEXT "\"attachments\": [{\"filename\": \"%s\", \"content\": \"\"}]}", rows[i].in);
		struct email_message m;
		cJSON *json;

		assert_null(parse(text, &json, &m));
		assert_string_equal(m.attachments[0].filename, rows[i].out);
		message_clear(&m);
		cJSON_Delete(json);
		g_free(text);
	}
}

/* A name that is too long is cut between letters and keeps its extension. */
static void long_filename(void **state)
{
	GString *text = g_string_new(TO TEXT "\"attachments\": [{\"filename\": \"x");
	struct email_message m;
	const char *name;
	cJSON *json;

	(void)state;
	for (int i = 0; i < 300; i++)
		g_string_append(text, "б");
	g_string_append(text, ".pdf\", \"content\": \"\"}]}");
	assert_null(parse(text->str, &json, &m));
	name = m.attachments[0].filename;
	assert_true(strlen(name) <= 180 && strlen(name) > 170);
	assert_true(g_utf8_validate(name, -1, NULL));
	assert_string_equal(name + strlen(name) - 4, ".pdf");
	message_clear(&m);
	cJSON_Delete(json);
	g_string_free(text, TRUE);
}

/* The room for attachments is for all of them together; so is their number. */
static void too_much(void **state)
{
	char *bytes = g_malloc0(600), *base64 = g_base64_encode((const guchar *)bytes, 600), *reason;
	char *one = g_strdup_printf("{\"filename\": \"a\", \"content\": \"%s\"}", base64);
	char *two = g_strdup_printf(TO TEXT "\"attachments\": [%s, %s]}", one, one);
	GString *many = g_string_new(TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content\": \"\"}");
	struct email_message m;
	cJSON *json;

	(void)state;
	reason = parse(two, &json, &m);
	assert_non_null(reason);
	assert_non_null(strstr(reason, "attachments[1]: content: the attachments are larger"));
	g_free(reason);
	message_clear(&m);
	cJSON_Delete(json);
	for (int i = 0; i < 20; i++)
		g_string_append(many, ", {\"filename\": \"a\", \"content\": \"\"}");
	g_string_append(many, "]}");
	reason = parse(many->str, &json, &m);
	assert_non_null(reason);
	assert_non_null(strstr(reason, "more than 20"));
	g_free(reason);
	message_clear(&m);
	cJSON_Delete(json);
	g_string_free(many, TRUE);
	g_free(bytes), g_free(base64), g_free(one), g_free(two);
}

/* Base64 gives its bytes back, whatever their number and wherever the lines break; each of these is none. */
static void base64(void **state)
{
	static const char *const wrong[] = { "=", "a", "ab", "abc",
		"ab=", "abcd=", "ab===", "abc==", "abcd====", "ab=c", "ab==cd==", "abc-", "abcde", "a\u00e4bc",
		"====" };
	guchar bytes[200];
	cJSON *json;
	struct email_message m;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (guchar)(i * 89 + i / 3);
	for (size_t n = 0; n < sizeof(bytes); n++) {
		char *text = g_base64_encode(bytes, n), *all;
		GString *lines = g_string_new("");

		for (size_t i = 0, each = n % 80 + 1; text[i] != '\0'; i++)
			g_string_append_printf(lines, "%c%s", text[i], i % each == each - 1 ? "\\r\\n " : "");
		all = g_strdup_printf(
			TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content\": \"%s\"}]}", lines->str);
		assert_null(parse(all, &json, &m));
		assert_int_equal(m.attachments[0].len, n);
		assert_memory_equal(m.attachments[0].content, bytes, n);
		message_clear(&m);
		cJSON_Delete(json);
		g_string_free(lines, TRUE);
		g_free(all), g_free(text);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
		char *all = g_strdup_printf(
			TO TEXT "\"attachments\": [{\"filename\": \"a\", \"content\": \"%s\"}]}", wrong[i]);
		char *reason = parse(all, &json, &m);

		assert_non_null(reason);
		assert_non_null(strstr(reason, "not valid base64"));
		g_free(reason);
		message_clear(&m);
		cJSON_Delete(json);
		g_free(all);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(strict),
		cmocka_unit_test(full),
		cmocka_unit_test(refused),
		cmocka_unit_test(asked_for),
		cmocka_unit_test(strange_keys),
		cmocka_unit_test(no_nul),
		cmocka_unit_test(filenames),
		cmocka_unit_test(long_filename),
		cmocka_unit_test(too_much),
		cmocka_unit_test(base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
