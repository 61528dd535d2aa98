/* test.c: `pgmqd plugin test`: runs a plugin on messages from standard input, without PostgreSQL, and prints a line for
 * each outcome. The message path, the plugin interface and the loop are the daemon's own; only
 * the queue is not (queue_file.c).
 */
#include "config.h"

#include "cmd/plugin/test.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "cmd/plugin/queue_file.h"
#include "worker/flow.h"
#include "worker/plugin_call.h"
#include "worker/transfer.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_BAD 1 /* misuse, a message without an outcome, a plugin that does not start */
#define EXIT_USAGE 2
#define EXIT_CONFIG 78

struct test {
	struct event_base *base;
	struct flow *flow;
	struct event *again;
	struct queue_file_message *messages;
	size_t n, printed;
	unsigned attempts; /* tries of a message that is retried */
	bool json, headers, bad, idle;
	bool skip_time;
	cJSON *answers;
};

/* ---- messages ---- */

/* Everything is settled. */
static void test_idle(void *arg)
{
	struct test *t = arg;

	t->idle = true;
	event_base_loopbreak(t->base);
}

/* Prints what is through, in the order of the input; when everything is, the flow is drained. */
static void test_print(struct test *t)
{
	while (t->printed < t->n && t->messages[t->printed].through) {
		fputs(t->messages[t->printed].out, stdout);
		t->printed++;
	}
	fflush(stdout);
	if (t->printed == t->n)
		flow_drain(t->flow, test_idle, t);
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

/* What a plugin asked for, by name. */
static const char *test_outcome_name(const struct pgmqd_msg *m)
{
	return m->outcome == OUT_DONE_WITH                  ? "done_with"
	       : m->outcome == OUT_CONFIG                   ? "config_error"
	       : m->outcome == OUT_RELEASE && !m->cancelled ? "postpone"
	                                                    : outcome_name(m->outcome);
}

/* The outcome as an object. */
static cJSON *test_object(const struct pgmqd_msg *m)
{
	cJSON *o = cJSON_CreateObject(), *params;

	cJSON_AddNumberToObject(o, "id", (double)m->id);
	cJSON_AddNumberToObject(o, "attempt", m->attempt);
	cJSON_AddStringToObject(o, "outcome", test_outcome_name(m));
	if ((m->outcome == OUT_RETRY || m->outcome == OUT_REPLACE || m->outcome == OUT_RELEASE) && m->delay_ms > 1)
		cJSON_AddNumberToObject(o, "delay_ms", (double)m->delay_ms);
	if (m->reason)
		cJSON_AddStringToObject(o, "reason", m->reason);
	if (m->outcome == OUT_REPLACE)
		cJSON_AddStringToObject(o, "message", m->sql);
	if (m->outcome == OUT_DONE_WITH) {
		cJSON_AddStringToObject(o, "sql", m->sql);
		params = cJSON_AddArrayToObject(o, "params");
		for (int i = 0; i < m->nparams; i++)
			cJSON_AddItemToArray(
				params, m->params[i] ? cJSON_CreateString(m->params[i]) : cJSON_CreateNull());
	}
	return o;
}

/* The outcome as a line for people. */
static char *test_line(const struct pgmqd_msg *m)
{
	cJSON *o = test_object(m);
	char *delay = (m->outcome == OUT_RETRY || m->outcome == OUT_RELEASE) && m->delay_ms > 1
	                      ? xasprintf(" in %" PRId64 " ms", m->delay_ms)
	                      : xstrdup("");
	char *params = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(o, "params"));
	char *line = xasprintf("%" PRId64 " %s%s%s%s%s%s%s%s", m->id, test_outcome_name(m), delay,
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
	char *line, *former = msg->out;

	if (m->outcome == OUT_RELEASE &&
		!m->started_us) { /* the plugin has not seen it: the queue paused while it waited */
		msg->taken = false;
		event_active(t->again, 0, 0);
		return;
	}
	o = test_object(m);
	line = t->json ? cJSON_PrintUnformatted(o) : test_line(m);
	cJSON_Delete(o);
	msg->out = xasprintf("%s%s\n", former ? former : "", line);
	free(former);
	free(line);
	if (m->cancelled)
		t->bad = true;
	if ((m->outcome == OUT_RETRY || m->outcome == OUT_RELEASE) && !m->cancelled && msg->attempt < t->attempts) {
		msg->attempt++;
		msg->taken = false;
		event_active(t->again, 0, 0);
		return;
	}
	msg->through = true;
	test_print(t);
}

/* A message that is retried can be claimed once more. */
static void test_again(evutil_socket_t fd, short what, void *arg)
{
	struct test *t = arg;

	(void)fd, (void)what;
	flow_told(t->flow, 0);
}

/* What a database would answer. */
static const cJSON *test_answer(void *arg, const char *sql, int nparams, const char *const *params)
{
	const struct test *t = arg;
	const cJSON *a, *match;

	log_info("query: %s (%d parameters%s%s)", sql, nparams, nparams && params[0] ? ", the first is " : "",
		nparams && params[0] ? params[0] : "");
	cJSON_ArrayForEach(a, t->answers)
	{
		match = cJSON_GetObjectItemCaseSensitive(a, "match");
		if (!cJSON_IsString(match) || strstr(sql, match->valuestring))
			return a;
	}
	return NULL;
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

/* Reads the answers of the database. NULL, or what is wrong. */
static char *test_read_answers(struct test *t, const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL, *error = NULL;
	unsigned n = 0;
	size_t size = 0;

	if (!f)
		return xasprintf("--answers: cannot read %s: %s", path, strerror(errno));
	t->answers = cJSON_CreateArray();
	while (!error && getline(&line, &size, f) >= 0) {
		cJSON *a = cJSON_Parse(line);

		n++;
		if (cJSON_IsObject(a))
			cJSON_AddItemToArray(t->answers, a);
		else if (line[strspn(line, " \t\r\n")])
			error = xasprintf("%s:%u: not a JSON object", path, n);
		if (!cJSON_IsObject(a))
			cJSON_Delete(a);
	}
	free(line);
	fclose(f);
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

/* Timers that wait, and whether anything else is waited for. */
struct waits {
	struct event **timers;
	size_t n;
	bool others;
};

/* Collects one event of the loop. */
static int test_collect(const struct event_base *base, const struct event *ev, void *arg)
{
	struct waits *w = arg;

	(void)base;
	if (event_get_fd(ev) >= 0)
		w->others = true;
	if (event_pending(ev, EV_TIMEOUT, NULL)) {
		w->timers = xrealloc(w->timers, w->n + 1, sizeof(*w->timers));
		w->timers[w->n++] = (struct event *)(uintptr_t)ev;
	}
	return 0;
}

/* Brings all timers so much nearer that the first one is due, and puts the clocks forward by as much. */
static void test_skip(struct waits *w)
{
	struct timeval now, at, least = { 0, 0 };

	evutil_gettimeofday(&now, NULL);
	for (size_t i = 0; i < w->n; i++) {
		event_pending(w->timers[i], EV_TIMEOUT, &at);
		if (i == 0 || evutil_timercmp(&at, &least, <))
			least = at;
	}
	if (evutil_timercmp(&least, &now, <))
		return;
	for (size_t i = 0; i < w->n; i++) {
		event_pending(w->timers[i], EV_TIMEOUT, &at);
		evutil_timersub(&at, &least, &at);
		evtimer_add(w->timers[i], &at);
	}
	evutil_timersub(&least, &now, &least);
	clock_skip_ms((int64_t)least.tv_sec * 1000 + (least.tv_usec + 999) / 1000);
}

/* Runs the loop until all is settled. What a program or a server does takes its time; what only a timer waits for need
 * not. */
static void test_loop(struct test *t)
{
	if (!t->skip_time)
		event_base_dispatch(t->base);
	while (t->skip_time && !t->idle && event_base_loop(t->base, EVLOOP_NONBLOCK) == 0 && !t->idle) {
		struct waits w = { 0 };

		if (event_base_get_num_events(t->base, EVENT_BASE_COUNT_ACTIVE) > 0)
			continue;
		event_base_foreach_event(t->base, test_collect, &w);
		if (w.others || flow_children(t->flow))
			event_base_loop(t->base, EVLOOP_ONCE);
		else if (w.n)
			test_skip(&w);
		free(w.timers);
	}
}

/* Runs the plugin over the messages. The exit status. */
static int test_run(struct test *t, struct settings *s, struct queue_settings *q)
{
	struct stats *stats = stats_create(1);
	struct stats_slot *slot = stats_take(stats, ROLE_WORKER, "test", q->name, q->plugin);
	struct proc_env env = { .settings = s, .stats = stats, .slot = slot };
	static const struct queue_file_source source = {
		.next = test_next, .outcome = test_outcome, .answer = test_answer
	};
	struct template_set *templates = NULL;
	struct transfers *transfers;
	struct plugin *p;
	char *errors;

	if (!(p = plugin_load(s, q, &errors))) {
		fprintf(stderr, "%s\n", errors);
		free(errors);
		return EXIT_CONFIG;
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(t->base = event_base_new()))
		abort();
	transfers = transfer_new(t->base);
	t->again = event_new(t->base, -1, 0, test_again, t);
	t->flow = flow_new(&env, q, slot, p, t->base, queue_file_new(t->base, &source, t), transfers, &templates);
	if (flow_start(t->flow)) {
		flow_up(t->flow);
		test_print(t);
		test_loop(t);
	} else {
		fprintf(stderr, "pgmqd plugin test: the plugin's start() refused (see the line before)\n");
		t->bad = true;
	}
	flow_free(t->flow);
	transfer_free(transfers);
	template_free(templates);
	event_free(t->again);
	event_base_free(t->base);
	curl_global_cleanup();
	libevent_global_shutdown();
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
	struct test t = {
		.attempts = (unsigned)o->attempts, .headers = o->headers, .json = o->json, .skip_time = o->skip_time
	};
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
	if ((o->answers && (error = test_read_answers(&t, o->answers)) != NULL) ||
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
