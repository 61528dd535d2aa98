/* test.c: `pgmqd plugin test`: runs a plugin on messages from standard input, without PostgreSQL, and prints a line for
 * each outcome (host.c runs it).
 */
#include "config.h"

#include "cmd/plugin/test.h"

#include "base/xalloc.h"
#include "cmd/plugin/answers.h"
#include "cmd/plugin/host.h"
#include "worker/plugin.h"
#include "worker/plugin_call.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_BAD 1 /* misuse, a message without an outcome, a plugin that does not start */
#define EXIT_USAGE 2
#define EXIT_CONFIG 78

struct test {
	struct host host;
	struct queue_file_message *messages;
	size_t n, printed;
	unsigned attempts; /* tries of a message that is retried */
	bool json, headers, bad;
	cJSON *answers;
};

/* ---- messages ---- */

/* Prints what is through, in the order of the input; when everything is, the flow is drained. */
static void test_print(struct test *t)
{
	while (t->printed < t->n && t->messages[t->printed].through) {
		fputs(t->messages[t->printed].out, stdout);
		t->printed++;
	}
	fflush(stdout);
	if (t->printed == t->n)
		host_finish(&t->host);
}

/* The next message to deliver. */
static struct queue_file_message *test_next(void *arg)
{
	struct test *t = arg;

	for (size_t i = t->printed; i < t->n; i++)
		if (!t->messages[i].taken) {
			t->messages[i].taken = true;
			return &t->messages[i];
		}
	return NULL;
}

/* The outcome as a line for people. */
static char *test_line(const struct pgmqd_msg *m)
{
	cJSON *o = host_outcome(m);
	char *delay = (m->outcome == OUT_RETRY || m->outcome == OUT_RELEASE) && m->delay_ms > 1
	                      ? xasprintf(" in %" PRId64 " ms", m->delay_ms)
	                      : xstrdup("");
	char *params = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(o, "params"));
	char *line = xasprintf("%" PRId64 " %s%s%s%s%s%s%s%s", m->id, host_outcome_name(m), delay,
		m->reason ? ": " : "", m->reason ? m->reason : "", m->sql ? ": " : "", m->sql ? m->sql : "",
		params ? " " : "", params ? params : "");

	free(delay);
	free(params);
	cJSON_Delete(o);
	return line;
}

/* A message got its outcome. */
static void test_outcome(void *arg, const struct pgmqd_msg *m)
{
	struct test *t = arg;
	struct queue_file_message *msg = &t->messages[m->id - 1];
	cJSON *o;
	char *line, *safe, *former = msg->out;

	if (m->outcome == OUT_RELEASE &&
		!m->started_us) { /* the plugin has not seen it: the queue paused while it waited */
		msg->taken = false;
		host_again(&t->host);
		return;
	}
	o = host_outcome(m);
	line = t->json ? cJSON_PrintUnformatted(o) : test_line(m);
	cJSON_Delete(o);
	safe = t->json ? log_escape_json(line) : log_escape(line);
	msg->out = xasprintf("%s%s\n", former ? former : "", safe);
	free(former);
	free(line);
	free(safe);
	if (m->cancelled)
		t->bad = true;
	if ((m->outcome == OUT_RETRY || m->outcome == OUT_RELEASE) && !m->cancelled && msg->attempt < t->attempts) {
		msg->attempt++;
		msg->taken = false;
		host_again(&t->host);
		return;
	}
	msg->through = true;
	test_print(t);
}

/* The answer of a database that is not there. */
static void test_answer(void *arg, const char *sql, int nparams, const char *const *params, struct answer *reply)
{
	const struct test *t = arg;
	const cJSON *found = answers_find(t->answers, "match", sql);

	log_info("query: %s (%d parameters%s%s)", sql, nparams, nparams && params[0] ? ", the first is " : "",
		nparams && params[0] ? params[0] : "");
	if (found) {
		answers_reply(found, reply);
	} else {
		reply->error = xstrdup("there is no database here; --answers FILE says what it would answer");
		strcpy(reply->sqlstate, "XX000");
	}
}

/* ---- input ---- */

/* Reads the messages. NULL, or what is wrong. */
static char *test_read(struct test *t)
{
	char *line = NULL, *error = NULL;
	size_t size = 0, room = 0;
	ssize_t len;

	while (!error && (len = getline(&line, &size, stdin)) >= 0) {
		char *body = line, *tab = t->headers ? strchr(line, '\t') : NULL;
		struct queue_file_message *m;

		while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
			line[--len] = 0;
		if (!len)
			continue;
		if (t->n == room) {
			room = room ? room * 2 : 64;
			t->messages = xrealloc(t->messages, room, sizeof(*t->messages));
		}
		if (t->headers && !tab) {
			error = xasprintf(
				"message %zu: with --headers, a line is HEADERS, a tab, and the message", t->n + 1);
			break;
		}
		m = &t->messages[t->n++];
		*m = (struct queue_file_message){ .id = (int64_t)t->n, .attempt = 1 };
		if (tab) {
			*tab = 0;
			m->headers = xstrdup(line);
			body = tab + 1;
		}
		m->text = xstrdup(body);
	}
	free(line);
	return error;
}

/* One KEY=VALUE. NULL, or what is wrong. */
static char *test_option(struct queue_settings *q, char *text, unsigned number)
{
	char *equals = strchr(text, '=');
	const struct pgmqd_option *row;

	if (!equals)
		return xasprintf("\"%s\" is not KEY=VALUE", text);
	*equals = 0;
	row = option_find(settings_queue_options, text);
	if (row)
		return option_set(row, q, equals + 1);
	q->pairs = xrealloc(q->pairs, q->npairs + 1, sizeof(*q->pairs));
	q->pairs[q->npairs++] = (struct settings_pair){ .key = text, .value = equals + 1, .line = number };
	return NULL;
}

/* ---- running ---- */

/* Runs the plugin over the messages. The exit status. */
static int test_run(struct test *t, struct settings *s, struct queue_settings *q)
{
	static const struct queue_file_source source = {
		.next = test_next, .outcome = test_outcome, .answer = test_answer
	};
	struct plugin *p;
	char *errors;

	if (!(p = plugin_load(s, q, &errors))) {
		fprintf(stderr, "%s\n", errors);
		free(errors);
		return EXIT_CONFIG;
	}
	host_open(&t->host, s, q, p, &source, t);
	if (host_start(&t->host)) {
		test_print(t);
		host_run(&t->host);
	} else {
		fprintf(stderr, "pgmqd plugin test: the plugin's start() refused (see the line before)\n");
		t->bad = true;
	}
	host_close(&t->host);
	if (plugin_call_misuses)
		fprintf(stderr, "pgmqd plugin test: the plugin broke a rule %u times\n", plugin_call_misuses);
	return t->bad || plugin_call_misuses ? EXIT_BAD : 0;
}

/* Prints an error and ends the program. */
static _Noreturn void test_refuse(char *error)
{
	fprintf(stderr, "pgmqd plugin test: %s\n", error);
	free(error);
	exit(EXIT_USAGE);
}

/* Fills in the settings of the host and of the queue; NULL, or what is wrong with KEY=VALUE. */
static char *test_settings(
	struct settings *s, struct queue_settings *q, const struct test_options *o, int argc, char **argv)
{
	const struct pgmqd_option *plugin_dir = option_find(settings_global_options, "plugin_dir");
	const struct pgmqd_option *template_dir = option_find(settings_global_options, "template_dir");
	const char *dirs[] = { o->plugin_dir ? o->plugin_dir : getenv(plugin_dir->env),
		o->template_dir ? o->template_dir : getenv(template_dir->env) };
	char *error = NULL;

	option_defaults(settings_global_options, s);
	option_defaults(settings_queue_options, q);
	for (int i = 0; i < 2; i++)
		if (dirs[i] && *dirs[i])
			free(option_set(i ? template_dir : plugin_dir, s, dirs[i]));
	free(option_set(option_find(settings_queue_options, "plugin"), q, argv[0]));
	free(option_set(option_find(settings_queue_options, "max_attempts"), q, "1000000"));
	free(option_set(option_find(settings_queue_options, "deadline"), q, "10s"));
	q->backoff_min = q->backoff_max = 0; /* a delay that the plugin leaves to the queue is not printed */
	q->config_retry = 10;
	s->path = xstrdup("command line");
	for (int i = 1; i < argc && !error; i++)
		error = test_option(q, argv[i], (unsigned)i);
	return error;
}

int test_main(const struct test_options *o, int argc, char **argv)
{
	static char name[] = "test";
	struct test t = { .attempts = (unsigned)o->attempts,
		.headers = o->headers,
		.json = o->json,
		.host.skip_time = o->skip_time };
	struct settings s = { 0 };
	struct queue_settings q = { .name = name };
	char *error, *real = NULL;
	int level = log_level_parse(o->log), status;

	if (level < 0)
		test_refuse(xasprintf("--log: \"%s\" is none of error, warn, info, debug", o->log));
	if (strchr(argv[0], '/')) {
		real = realpath(argv[0], NULL);
		if (!real)
			test_refuse(xasprintf("%s: %s", argv[0], strerror(errno)));
		argv[0] = real;
	}
	if ((o->answers && !(t.answers = answers_read(o->answers, &error))) ||
		(error = test_settings(&s, &q, o, argc, argv)) != NULL || (error = test_read(&t)) != NULL)
		test_refuse(error);
	log_setup((enum log_level)level, LOG_FORMAT_TEXT);
	status = test_run(&t, &s, &q);
	for (size_t i = 0; i < t.n; i++) {
		free(t.messages[i].text);
		free(t.messages[i].headers);
		free(t.messages[i].out);
	}
	free(t.messages);
	cJSON_Delete(t.answers);
	option_free(settings_queue_options, &q);
	option_free(settings_global_options, &s);
	free(q.pairs);
	free(s.path);
	free(real);
	return status;
}
