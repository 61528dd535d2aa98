/* check.c: what an option's type cannot say about pgmqd's own settings. */
#include "config.h"

#include "base/lines.h"
#include "base/network.h"
#include "base/xalloc.h"
#include "settings/check.h"
#include "settings/limits.h"
#include "settings/settings.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CHECK_PROCESSES_MAX 64
#define CHECK_SLOTS_MAX 10000      /* messages in one process's hands */
#define CHECK_BATCH_MAX 1000       /* messages in one call, as in one claim */
#define CHECK_ATTEMPTS_MAX 1000000 /* fits pgmq's int */
#define CHECK_POLL_MIN 10          /* ms: below it, polling is all that a process would do */
#define CHECK_LEASE_MIN 1000       /* ms: a lease has to outlive its own renewal */

/* Whether text is 1 to max letters, digits and those of `extra`. */
static bool is_word(const char *text, size_t max, const char *extra)
{
	size_t len = strlen(text);

	if (len == 0 || len > max)
		return false;
	for (; *text; text++)
		if (!isascii((unsigned char)*text) || (!isalnum((unsigned char)*text) && !strchr(extra, *text)))
			return false;
	return true;
}

/* Whether pgmq takes the name, but for control characters, which would split a line of the settings or the log. */
bool settings_check_queue_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > 47 || strpbrk(name, "$;'") || strstr(name, "--"))
		return false;
	for (; *name; name++)
		if ((unsigned char)*name < ' ' || *name == 0x7f)
			return false;
	return true;
}

/* Whether it is HOST:PORT, unix:/PATH or off. */
static bool listen_is_good(const char *text)
{
	const char *colon = strrchr(text, ':');
	size_t digits;

	if (strcmp(text, "off") == 0)
		return true;
	if (strncmp(text, "unix:", 5) == 0)
		return text[5] == '/';
	if (!colon || colon == text)
		return false;
	digits = strspn(colon + 1, "0123456789");
	if (digits == 0 || digits > 5 || colon[1 + digits] || atoi(colon + 1) > 65535)
		return false;
	if (*text == '[')
		return colon[-1] == ']';
	return !memchr(text, ':', (size_t)(colon - text)); /* an IPv6 address stands in brackets */
}

/* Checks an address of the brand. */
static void check_address(const struct settings *s, unsigned line, const char *name, const char *text, char **errors)
{
	if (*text && strncmp(text, "https://", 8) != 0 && strncmp(text, "http://", 7) != 0)
		settings_error(errors, "%s:%u: [pgmqd]: %s: \"%.100s\" does not start with https:// or http://",
			s->path, line, name, text);
}

/* Checks [pgmqd]; `line` is its section's. */
void settings_check_global(const struct settings *s, unsigned line, char **errors)
{
	size_t channel = strlen(s->channel);
	struct people people;
	char *wrong;

	if (channel == 0 || channel > 63)
		settings_error(errors, "%s:%u: [pgmqd]: channel has to be a name of 1 to 63 bytes", s->path, line);
	if (!listen_is_good(s->http_listen))
		settings_error(errors, "%s:%u: [pgmqd]: http_listen: \"%.100s\" is not HOST:PORT, unix:/PATH or off",
			s->path, line, s->http_listen);
	if (*s->http_token && (strlen(s->http_token) < PEOPLE_TOKEN_MIN || strpbrk(s->http_token, " \t")))
		settings_error(errors,
			"%s:%u: [pgmqd]: http_token%s has to be %d characters or more, without blanks (openssl rand "
			"-hex 32 makes one)",
			s->path, line, getenv("PGMQD_HTTP_TOKEN") ? " (or PGMQD_HTTP_TOKEN in the environment)" : "",
			PEOPLE_TOKEN_MIN);
	if ((wrong = settings_people(s, &people)) != NULL)
		settings_error(errors, "%s:%u: [pgmqd]: %s", s->path, line, wrong);
	free(wrong);
	people_free(&people);
	if ((wrong = network_list_problem(s->payment_networks)) != NULL)
		settings_error(errors, "%s:%u: [pgmqd]: payment_networks: %s", s->path, line, wrong);
	free(wrong);
	if (!is_word(s->default_lang, 15, "-_"))
		settings_error(errors, "%s:%u: [pgmqd]: default_lang: \"%.100s\" is not a language like ru or en",
			s->path, line, s->default_lang);
	check_address(s, line, "otlp_endpoint", s->otlp_endpoint, errors);
	check_address(s, line, "brand_logo_url", s->brand_logo_url, errors);
	check_address(s, line, "brand_app_url", s->brand_app_url, errors);
	if (*s->brand_colour && (strlen(s->brand_colour) != 7 || s->brand_colour[0] != '#' ||
					strspn(s->brand_colour + 1, "0123456789abcdefABCDEF") != 6))
		settings_error(errors, "%s:%u: [pgmqd]: brand_colour: \"%.100s\" is not a colour like #0f6e64", s->path,
			line, s->brand_colour);
	if (s->fallback_poll < CHECK_POLL_MIN)
		settings_error(errors, "%s:%u: [pgmqd]: fallback_poll%s has to be %dms or more", s->path, line,
			getenv("WORKER_INTERVAL_MS") ? " (or WORKER_INTERVAL_MS in the environment)" : "",
			CHECK_POLL_MIN);
	if (s->poll_when_deaf < CHECK_POLL_MIN)
		settings_error(
			errors, "%s:%u: [pgmqd]: poll_when_deaf has to be %dms or more", s->path, line, CHECK_POLL_MIN);
	if (s->watchdog != 0 && s->watchdog < 1000)
		settings_error(
			errors, "%s:%u: [pgmqd]: watchdog has to be 1s or more, or 0 to switch it off", s->path, line);
}

/* A number outside its bounds. */
static void check_range(const struct settings *s, const struct queue_settings *q, const char *what, uint64_t n,
	uint64_t min, uint64_t max, char **errors)
{
	if (n < min || n > max)
		settings_error(errors,
			"%s:%u: [queue %s]: %s = %" PRIu64 " is out of bounds (from %" PRIu64 " to %" PRIu64 ")",
			s->path, q->line, q->name, what, n, min, max);
}

/* Checks the limits of a queue. */
static void check_limits(const struct settings *s, const struct queue_settings *q, char **errors)
{
	struct limits limits;
	char *error = limits_read(q, &limits);

	if (error)
		settings_error(errors, "%s:%u: [queue %s]: %s", s->path, q->line, q->name, error);
	free(error);
}

/* Checks the names of the queues that may follow. */
static void check_then(const struct settings *s, const struct queue_settings *q, char **errors)
{
	char *copy = xstrdup(q->then ? q->then : ""), *rest = copy, *name;

	while ((name = words_next(&rest)) != NULL)
		if (!settings_check_queue_name(name))
			settings_error(errors, "%s:%u: [queue %s]: then: \"%.100s\" is no queue's name", s->path,
				q->line, q->name, name);
	free(copy);
}

/* Checks one [queue NAME]. */
void settings_check_queue(const struct settings *s, const struct queue_settings *q, char **errors)
{
	check_limits(s, q, errors);
	check_then(s, q, errors);
	if (!q->plugin || !*q->plugin)
		settings_error(errors,
			"%s:%u: [queue %s]: the queue has no plugin (write plugin = email, for instance)", s->path,
			q->line, q->name);
	else if (*q->plugin != '/' && !is_word(q->plugin, 63, "-_"))
		settings_error(errors,
			"%s:%u: [queue %s]: plugin: \"%.100s\" is neither a plugin's name nor the absolute path of its "
			"file",
			s->path, q->line, q->name, q->plugin);
	if (q->group && *q->group && !is_word(q->group, 40, "-_"))
		settings_error(errors,
			"%s:%u: [queue %s]: group: \"%.100s\" is not a name (letters, digits, - and _, at most 40)",
			s->path, q->line, q->name, q->group);
	check_range(s, q, "processes", q->processes, 1, CHECK_PROCESSES_MAX, errors);
	if (q->group && *q->group && q->processes > 1)
		settings_error(errors,
			"%s:%u: [queue %s]: a queue of a group shares one process: take out either group or processes",
			s->path, q->line, q->name);
	check_range(s, q, "nice", q->nice, 0, 19, errors);
	check_range(s, q,
		getenv("MAX_TASKS_PER_CYCLE") ? "max_in_flight (or MAX_TASKS_PER_CYCLE in the environment)"
					      : "max_in_flight",
		q->max_in_flight, 1, CHECK_SLOTS_MAX, errors);
	check_range(s, q, "prefetch", q->prefetch, 0, CHECK_SLOTS_MAX, errors);
	check_range(s, q, "batch", q->batch, 1, CHECK_BATCH_MAX, errors);
	if (q->batch > 1 && (q->batch_wait < 0 || q->batch_wait >= q->visibility_timeout))
		settings_error(errors, "%s:%u: [queue %s]: batch_wait has to be shorter than visibility_timeout",
			s->path, q->line, q->name);
	check_range(s, q, "max_attempts", q->max_attempts, 1, CHECK_ATTEMPTS_MAX, errors);
	if (q->visibility_timeout < CHECK_LEASE_MIN)
		settings_error(errors, "%s:%u: [queue %s]: visibility_timeout has to be 1s or more", s->path, q->line,
			q->name);
	if (q->backoff_min > q->backoff_max)
		settings_error(errors, "%s:%u: [queue %s]: backoff_min is greater than backoff_max", s->path, q->line,
			q->name);
	if (q->config_retry < CHECK_POLL_MIN)
		settings_error(errors, "%s:%u: [queue %s]: config_retry has to be %dms or more", s->path, q->line,
			q->name, CHECK_POLL_MIN);
	if (q->fallback_poll != 0 && q->fallback_poll < CHECK_POLL_MIN)
		settings_error(errors,
			"%s:%u: [queue %s]: fallback_poll has to be %dms or more, or 0 for the one of [pgmqd]", s->path,
			q->line, q->name, CHECK_POLL_MIN);
}

/* Checks one [job TYPE]: its name is a part of paths, and its queue has to be one of ours if it is here. */
void settings_check_job(const struct settings *s, const struct job_settings *j, char **errors)
{
	static const char *const taken[] = { "queues", "cron", "jobs" };

	for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++)
		if (strcmp(j->name, taken[i]) == 0)
			settings_error(errors, "%s:%u: [job %s]: /api/%s is something else; choose another name",
				s->path, j->line, j->name, j->name);
	if (!j->queue || !settings_check_queue_name(j->queue)) {
		settings_error(
			errors, "%s:%u: [job %s]: queue has to be the name of a queue", s->path, j->line, j->name);
		return;
	}
	for (size_t i = 0; i < s->nqueues; i++)
		if (strcasecmp(s->queues[i].name, j->queue) == 0 && s->queues[i].on_done != ON_DONE_ARCHIVE)
			settings_error(errors,
				"%s:%u: [job %s]: the queue %s has on_done = delete; jobs are known to be done by the "
				"archive",
				s->path, j->line, j->name, j->queue);
}
