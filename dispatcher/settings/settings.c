/* settings.c: the tables of pgmqd's own options, and what is done with settings once they are read. */
#include "config.h"

#include "base/lines.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "settings/settings.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GLOBAL(field) offsetof(struct settings, field)
#define QUEUE(field) offsetof(struct queue_settings, field)
#define JOB(field) offsetof(struct job_settings, field)

const struct pgmqd_option settings_global_options[] = {
	{ "database", PGMQD_STRING, 0, GLOBAL(database), "",
		"Connection string or URI of the database; empty leaves everything to the PG* variables.",
		"DATABASE_URL", NULL },
	{ "allow_insecure", PGMQD_BOOL, 0, GLOBAL(allow_insecure), "no",
		"Allow a connection to a database on another machine that is less than sslmode=verify-full.", NULL,
		NULL },
	{ "channel", PGMQD_STRING, 0, GLOBAL(channel), "pgmqd", "Notification channel on which the wake-ups arrive.",
		NULL, NULL },
	{ "log_level", OPTION_CHOICE, 0, GLOBAL(log_level), "info", "Least important lines that are logged.",
		"LOG_LEVEL", "error|warn|info|debug" },
	{ "log_format", OPTION_CHOICE, 0, GLOBAL(log_format), "text",
		"Form of the log lines: for people, or JSON objects.", NULL, "text|json" },
	{ "plugin_dir", PGMQD_STRING, 0, GLOBAL(plugin_dir), PGMQD_PLUGINDIR,
		"Directory of the plugins, pgmqd-NAME-plugin.so.", "PGMQD_PLUGIN_DIR", NULL },
	{ "template_dir", PGMQD_STRING, 0, GLOBAL(template_dir), PGMQD_DATADIR "/templates",
		"Directory of the mail templates.", "PGMQD_TEMPLATE_DIR", NULL },
	{ "sql_dir", PGMQD_STRING | OPTION_RELOADS, 0, GLOBAL(sql_dir), PGMQD_DATADIR "/sql",
		"Directory of the SQL files for pgmqd migrate.", "PGMQD_SQL_DIR", NULL },
	{ "default_lang", PGMQD_STRING, 0, GLOBAL(default_lang), "ru", "Language of messages that name none.", NULL,
		NULL },
	{ "brand_name", PGMQD_STRING, 0, GLOBAL(brand_name), "",
		"Name of the product or company, for mails and reports.", NULL, NULL },
	{ "brand_team", PGMQD_STRING, 0, GLOBAL(brand_team), "", "Name that mails are signed with; else brand_name.",
		NULL, NULL },
	{ "brand_about", PGMQD_STRING, 0, GLOBAL(brand_about), "", "A few words on the brand, for the end of mails.",
		NULL, NULL },
	{ "brand_logo_url", PGMQD_STRING, 0, GLOBAL(brand_logo_url), "",
		"Address of a logo for mails, shown 42 pixels high; none: the name's first letter.", NULL, NULL },
	{ "brand_colour", PGMQD_STRING, 0, GLOBAL(brand_colour), "",
		"Colour of buttons, links and charts, like #0f6e64.", NULL, NULL },
	{ "brand_app_url", PGMQD_STRING, 0, GLOBAL(brand_app_url), "",
		"Address of the application, for the links of mails that bring none.", NULL, NULL },
	{ "brand_support_email", PGMQD_STRING, 0, GLOBAL(brand_support_email), "",
		"Address for questions, for mails that bring none.", NULL, NULL },
	{ "http_listen", PGMQD_STRING | OPTION_RELOADS, 0, GLOBAL(http_listen), "127.0.0.1:8089",
		"Where health, metrics and the API are served: HOST:PORT, unix:/PATH, or off.", NULL, NULL },
	{ "http_token", PGMQD_SECRET | OPTION_RELOADS, 0, GLOBAL(http_token), "",
		"Token without which nothing is changed over HTTP, no message is shown, and no address but loopback is "
		"served.",
		"PGMQD_HTTP_TOKEN", NULL },
	{ "http_people", PGMQD_SECRET | OPTION_RELOADS, 0, GLOBAL(http_people), "",
		"More tokens, NAME:ROLE:TOKEN separated by blanks; the role is look, bodies (sees bodies, too) or act.",
		"PGMQD_HTTP_PEOPLE", NULL },
	{ "http_guests", OPTION_CHOICE | OPTION_RELOADS, 0, GLOBAL(http_guests), "local",
		"Who may look without a token: those on this machine, if http_listen is loopback; all; or none.", NULL,
		"local|all|none" },
	{ "http_hosts", PGMQD_STRING | OPTION_RELOADS, 0, GLOBAL(http_hosts), "",
		"More host names that HTTP clients may use for this server, separated by commas: those of a proxy in "
		"front, say.",
		NULL, NULL },
	{ "payment_networks", PGMQD_STRING | OPTION_RELOADS, 0, GLOBAL(payment_networks), "",
		"Addresses that may send notifications of payments, like 203.0.113.0/24, separated by commas; empty: "
		"all.",
		NULL, NULL },
	{ "otlp_endpoint", PGMQD_STRING, 0, GLOBAL(otlp_endpoint), "",
		"Where spans of traces go, as OTLP over HTTP in JSON: http://127.0.0.1:4318/v1/traces; empty: off.",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", NULL },
	{ "otlp_headers", PGMQD_SECRET, 0, GLOBAL(otlp_headers), "",
		"Headers for the collector, NAME=VALUE separated by commas.", "OTEL_EXPORTER_OTLP_HEADERS", NULL },
	{ "fallback_poll", PGMQD_DURATION, 0, GLOBAL(fallback_poll), "30s",
		"How often each queue is looked at although no notification came.", "WORKER_INTERVAL_MS", NULL },
	{ "poll_when_deaf", PGMQD_DURATION, 0, GLOBAL(poll_when_deaf), "1s",
		"The same while notifications are known not to arrive (a pooler in between).", NULL, NULL },
	{ "require_notify", PGMQD_BOOL, 0, GLOBAL(require_notify), "no",
		"Refuse a connection on which notifications cannot arrive (a transaction pooler) instead of polling.",
		NULL, NULL },
	{ "shared_poll", PGMQD_DURATION, 0, GLOBAL(shared_poll), "2s",
		"The same for a queue that another worker serves, too: it may have died between a silent enqueue and "
		"its look.",
		NULL, NULL },
	{ "schedules", PGMQD_BOOL | OPTION_RELOADS, 0, GLOBAL(schedules), "yes",
		"Run what is due by the clock, where pg_cron does not.", NULL, NULL },
	{ "drain_timeout", PGMQD_DURATION, 0, GLOBAL(drain_timeout), "30s",
		"Time to finish what is in hand when pgmqd is told to stop.", NULL, NULL },
	{ "core_dumps", PGMQD_BOOL | OPTION_NEEDS_RESTART, 0, GLOBAL(core_dumps), "no",
		"Leave core dumps and debuggers of the same user as the system has them; they see secrets and "
		"messages.",
		NULL, NULL },
	{ "watchdog", PGMQD_DURATION, 0, GLOBAL(watchdog), "30s",
		"Time without a sign of life after which a process is replaced; 0 switches it off.", NULL, NULL },
	{ 0 },
};

const struct pgmqd_option settings_queue_options[] = {
	{ "plugin", PGMQD_STRING, 1, QUEUE(plugin), NULL,
		"Plugin that handles the queue: its name, or the absolute path of its file.", NULL, NULL },
	{ "group", PGMQD_STRING, 0, QUEUE(group), NULL,
		"Queues with the same group share one process and one connection.", NULL, NULL },
	{ "processes", PGMQD_UINT, 0, QUEUE(processes), "1", "Number of processes for this queue.", NULL, NULL },
	{ "nice", PGMQD_UINT, 0, QUEUE(nice), "0",
		"How far its process steps back when others want the processor, 0 to 19; for heavy work.", NULL, NULL },
	{ "visibility_timeout", PGMQD_DURATION, 0, QUEUE(visibility_timeout), "30s",
		"Lease of a claimed message; it is renewed while the plugin works.", NULL, NULL },
	{ "deadline", PGMQD_DURATION, 0, QUEUE(deadline), "0",
		"Time after which an attempt is cancelled and retried; 0: ten times the visibility timeout.", NULL,
		NULL },
	{ "max_in_flight", PGMQD_UINT, 0, QUEUE(max_in_flight), "10", "Messages handled at once in each process.",
		"MAX_TASKS_PER_CYCLE", NULL },
	{ "prefetch", PGMQD_UINT, 0, QUEUE(prefetch), "0", "Messages claimed beyond that, waiting for a free place.",
		NULL, NULL },
	{ "batch", PGMQD_UINT, 0, QUEUE(batch), "1",
		"Messages handed to the plugin in one call, if it takes them so; 1: one by one.", NULL, NULL },
	{ "batch_wait", PGMQD_DURATION, 0, QUEUE(batch_wait), "20ms",
		"How long a batch that is not full waits for more.", NULL, NULL },
	{ "max_attempts", PGMQD_UINT, 0, QUEUE(max_attempts), "5", "Attempts after which a message is dead-lettered.",
		NULL, NULL },
	{ "backoff_min", PGMQD_DURATION, 0, QUEUE(backoff_min), "30s",
		"Delay before the first retry; four times as long each further time.", NULL, NULL },
	{ "backoff_max", PGMQD_DURATION, 0, QUEUE(backoff_max), "1h", "Greatest delay before a retry.", NULL, NULL },
	{ "config_retry", PGMQD_DURATION, 0, QUEUE(config_retry), "30s",
		"First pause of the queue after a configuration error (a wrong password, say); doubles up to 5min.",
		NULL, NULL },
	{ "on_done", OPTION_CHOICE, 0, QUEUE(on_done), "archive", "What becomes of a message that was handled.", NULL,
		"archive|delete" },
	{ "then", PGMQD_STRING, 0, QUEUE(then), "",
		"Queues that the headers then and else of its messages may put a message into, separated by commas.",
		NULL, NULL },
	{ "ordered", OPTION_CHOICE, 0, QUEUE(ordered), "no",
		"With group, messages with the same group in their headers run one at a time and in order.", NULL,
		"no|group" },
	{ "rate", PGMQD_STRING, 0, QUEUE(rate), "",
		"Messages delivered in a time at most: 10/s, 300/min, 1000/h or 5000/d.", NULL, NULL },
	{ "rate_burst", PGMQD_UINT, 0, QUEUE(rate_burst), "0",
		"How many of them may come at once after a pause; 0: what the rate gives in a second, or 1.", NULL,
		NULL },
	{ "rate_key", PGMQD_STRING, 0, QUEUE(rate_key), "",
		"Gives each key the rate by itself: header:NAME or body:/PATH.", NULL, NULL },
	{ "rate_scope", OPTION_CHOICE, 0, QUEUE(rate_scope), "cluster",
		"Whether all dispatchers have the rate together, or each worker process has it by itself.", NULL,
		"cluster|process" },
	{ "max_in_flight_cluster", PGMQD_UINT, 0, QUEUE(max_in_flight_cluster), "0",
		"Messages handled at once by all dispatchers together; 0: as many as their max_in_flight.", NULL,
		NULL },
	{ "concurrency", PGMQD_UINT, 0, QUEUE(concurrency), "0",
		"Messages of one key handled at once by all dispatchers together; 0: any number.", NULL, NULL },
	{ "concurrency_key", PGMQD_STRING, 0, QUEUE(concurrency_key), "",
		"The key that concurrency counts by: header:NAME or body:/PATH.", NULL, NULL },
	{ "fair_by", PGMQD_STRING, 0, QUEUE(fair_by), "",
		"Gives the keys their turns, so that many messages of one do not make the others wait: header:NAME or "
		"body:/PATH.",
		NULL, NULL },
	{ "allow_unlogged", PGMQD_BOOL, 0, QUEUE(allow_unlogged), "no",
		"Serve the queue although it is unlogged: a crash of the server empties it.", NULL, NULL },
	{ "notify", OPTION_CHOICE, 0, QUEUE(notify), "adaptive",
		"When producers notify: while the worker sleeps (adaptive), always (plain), or never, and the queue is "
		"polled (off).",
		NULL, "adaptive|plain|off" },
	{ "fallback_poll", PGMQD_DURATION, 0, QUEUE(fallback_poll), "0",
		"This queue's own fallback_poll; 0: the one of [pgmqd].", NULL, NULL },
	{ 0 },
};

const struct pgmqd_option settings_job_options[] = {
	{ "queue", PGMQD_STRING, 1, JOB(queue), NULL, "Queue that the messages of these jobs are put into.", NULL,
		NULL },
	{ "open", PGMQD_BOOL, 0, JOB(open), "no",
		"Start and follow these jobs without the token, where http_listen is on this machine only.", NULL,
		NULL },
	{ 0 },
};

/* Adds a line: a variable that is wrong for five queues is one error. */
void settings_error(char **errors, const char *fmt, ...)
{
	char *line;
	va_list ap;

	va_start(ap, fmt);
	line = xvasprintf(fmt, ap);
	va_end(ap);
	lines_add(errors, line);
	free(line);
}

/* A brand_* setting that is given. */
const char *settings_brand_value(const struct settings *s, const char *name)
{
	const struct pgmqd_option *row = strncmp(name, "brand_", 6) == 0 ? option_find(settings_global_options, name)
	                                                                 : NULL;
	const char *text = NULL;

	if (row)
		memcpy(&text, (const char *)s + row->offset, sizeof(text));
	return text && *text ? text : NULL;
}

/* The brand_* settings that are given. */
struct cJSON *settings_brand(const struct settings *s)
{
	struct cJSON *brand = cJSON_CreateObject();

	for (const struct pgmqd_option *row = settings_global_options; row->name; row++) {
		const char *text = settings_brand_value(s, row->name);

		if (text)
			cJSON_AddStringToObject(brand, row->name, text);
	}
	return brand;
}

/* Frees all of it. */
void settings_free(struct settings *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->nqueues; i++) {
		struct queue_settings *q = &s->queues[i];

		for (size_t j = 0; j < q->npairs; j++) {
			free(q->pairs[j].key);
			free(q->pairs[j].value);
		}
		free(q->pairs);
		free(q->name);
		option_free(settings_queue_options, q);
	}
	free(s->queues);
	for (size_t i = 0; i < s->njobs; i++) {
		free(s->jobs[i].name);
		option_free(settings_job_options, &s->jobs[i]);
	}
	free(s->jobs);
	option_free(settings_global_options, s);
	free(s->path);
	free(s->assumed);
	free(s);
}

/* The value of a queue's pair, or NULL. */
static const char *queue_pair(const struct queue_settings *q, const char *key)
{
	for (size_t i = 0; i < q->npairs; i++)
		if (strcmp(q->pairs[i].key, key) == 0)
			return q->pairs[i].value;
	return NULL;
}

char *settings_plugin_path(const struct settings *s, const char *plugin)
{
	return plugin[0] == '/' ? xstrdup(plugin) : xasprintf("%s/pgmqd-%s-plugin.so", s->plugin_dir, plugin);
}

bool settings_plugin_name(const char *file, char *buf, size_t size)
{
	static const char prefix[] = "pgmqd-", suffix[] = "-plugin.so";
	size_t len = strlen(file);

	if (len <= sizeof(prefix) + sizeof(suffix) - 2 || strncmp(file, prefix, sizeof(prefix) - 1) != 0 ||
		strcmp(file + len - (sizeof(suffix) - 1), suffix) != 0)
		return false;
	snprintf(buf, size, "%.*s", (int)(len - (sizeof(prefix) + sizeof(suffix) - 2)), file + sizeof(prefix) - 1);
	return true;
}

/* Compares two sections; neither their place in the file nor the order of the plugin's options matters. */
bool settings_queue_equal(const struct queue_settings *a, const struct queue_settings *b)
{
	if (strcmp(a->name, b->name) != 0 || a->npairs != b->npairs || a->files != b->files)
		return false;
	for (const struct pgmqd_option *row = settings_queue_options; row->name; row++)
		if (!option_equal(row, a, b))
			return false;
	for (size_t i = 0; i < a->npairs; i++) {
		const char *value = queue_pair(b, a->pairs[i].key);

		if (!value || strcmp(value, a->pairs[i].value) != 0)
			return false;
	}
	return true;
}

/* The end of a value of a key = value connection string: quoted, or up to a blank. */
static const char *conninfo_value_end(const char *s)
{
	char quote = *s == '\'' ? *s++ : '\0';

	while (*s && (quote ? *s != quote : !strchr(" \t\n", *s)))
		s += s[0] == '\\' && s[1] ? 2 : 1;
	return quote && *s ? s + 1 : s;
}

/* Whether the word is a parameter that holds a password. */
static bool conninfo_is_secret(const char *word, size_t len)
{
	static const char *const names[] = { "password", "sslpassword", "oauth_client_secret", "scram_client_key",
		"scram_server_key" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == len && strncmp(names[i], word, len) == 0)
			return true;
	return false;
}

/* Hides the passwords of "key = value ...". */
static void redact_pairs(FILE *out, const char *s)
{
	while (*s) {
		size_t blank = strspn(s, " \t\n"), name = strcspn(s + blank, "= \t\n");
		const char *word = s + blank, *value = word + name + strspn(word + name, " \t\n"), *end;

		if (*value != '=') { /* no pair at all; libpq will say so */
			fprintf(out, "%.*s", (int)(word + name - s), s);
			s = word + name;
			continue;
		}
		value++;
		value += strspn(value, " \t\n");
		end = conninfo_value_end(value);
		fprintf(out, "%.*s%.*s", (int)(value - s), s, conninfo_is_secret(word, name) ? 3 : (int)(end - value),
			conninfo_is_secret(word, name) ? "***" : value);
		s = end;
	}
}

/* Hides the passwords of a URI: between the first : and the last @, so that one which was not encoded does not show
 * either. */
static void redact_uri(FILE *out, const char *s)
{
	const char *user = strstr(s, "://") + 3, *at = strrchr(user, '@'),
		   *colon = at ? memchr(user, ':', (size_t)(at - user)) : NULL;
	const char *query;

	if (colon) {
		fprintf(out, "%.*s:***", (int)(colon - s), s);
		s = at;
	}
	query = strchr(s, '?');
	if (!query) {
		fputs(s, out);
		return;
	}
	fprintf(out, "%.*s", (int)(query - s), s);
	for (s = query; *s; s += 1 + strcspn(s + 1, "&")) {
		size_t len = 1 + strcspn(s + 1, "&"), name = strcspn(s + 1, "=&");

		if (conninfo_is_secret(s + 1, name))
			fprintf(out, "%.*s=***", (int)name + 1, s);
		else
			fprintf(out, "%.*s", (int)len, s);
	}
}

/* Those who have a token: the one of http_token is named HTTP. */
char *settings_people(const struct settings *s, struct people *p)
{
	char *error, *text;

	*p = (struct people){ 0 };
	if (*s->http_token)
		people_add(p, "HTTP", PEOPLE_ACT, s->http_token);
	if ((error = people_read(p, s->http_people)) == NULL)
		return NULL;
	people_free(p);
	text = xasprintf("http_people%s: %s",
		getenv("PGMQD_HTTP_PEOPLE") ? " (or PGMQD_HTTP_PEOPLE in the environment)" : "", error);
	free(error);
	return text;
}

/* A connection string that can be shown. */
char *settings_redact_conninfo(const char *conninfo)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.";
	char *text = NULL;
	size_t size;
	FILE *out;

	if (!conninfo)
		return xstrdup("");
	out = open_memstream(&text, &size);
	if (!out)
		abort();
	if (strncmp(conninfo + strspn(conninfo, letters), "://", 3) == 0)
		redact_uri(out, conninfo);
	else
		redact_pairs(out, conninfo);
	if (fclose(out) != 0)
		abort();
	return text;
}

/* Prints the rows of a table, commented out at their defaults; `mark` is in front of each setting: "#" when the whole
 * section is commented out. */
static void print_sample_rows(const struct pgmqd_option *table, const char *mark, const char *required)
{
	for (const struct pgmqd_option *row = table; row->name; row++) {
		printf("\n# %s\n# (%s%s%s%s%s)\n", row->doc, option_type_name(row), row->choices ? ": " : "",
			row->choices ? row->choices : "", row->env ? "; environment: " : "", row->env ? row->env : "");
		if (row->required)
			printf("%s%s = %s\n", mark, row->name, required);
		else
			printf("%s#%s =%s%s\n", mark, row->name, row->def && *row->def ? " " : "",
				row->def ? row->def : "");
	}
}

/* Prints the sample file. */
void settings_print_sample(void)
{
	printf("# pgmqd.conf: the settings of pgmqd; pgmqd.conf(5) says more, `pgmqd run --check` tries them.\n"
	       "#\n"
	       "# One key = value on a line, taken as it stands, without quotes. A comment begins with # or ; at the "
	       "start of a line,\n"
	       "# or with a blank and ; behind a value. What stands here wins over the environment, and the "
	       "environment over the\n"
	       "# default. Lines that are commented out show the default. Keep passwords in the environment (pgmqd run "
	       "--env-file).\n"
	       "\n[pgmqd]\n");
	print_sample_rows(settings_global_options, "", "");
	printf("\n\n# One section for each queue. Whatever is not listed here is an option of the queue's plugin: see "
	       "its own man page,\n"
	       "# pgmqd-email(7) for instance.\n"
	       "[queue email_queue]\n");
	print_sample_rows(settings_queue_options, "", "email");
	printf("\n\n# One section for each kind of job that may be started over HTTP, by POST /api/TYPE/start; see "
	       "pgmqd(8).\n"
	       "#[job professional-report]\n");
	print_sample_rows(settings_job_options, "#", "report_generation_queue");
}
