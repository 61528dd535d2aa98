/* sources.c: the plugin whose jobs gather from several HTTP sources at once, and try again later only those that
 * failed.
 *
 *   message -> what its job has already -> a request to each source that is missing -> pgmqd.job_part() as each answer
 * comes
 *     -> all there: pgmqd.job_finish() together with the archive
 *     -> some missing: pgmqd.job_partial(), and the message is postponed; when the time is over, finished as it is
 *
 * What has come is in the job's row, so that after a worker's death no source is asked twice whose answer was stored.
 */
#include "config.h"

#include "clean.h"
#include "list.h"
#include "pgmqd-plugin.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOURCES_PAUSE_MS 500 /* before a retry at once; doubled each time */
#define SOURCES_PAUSE_MAX_MS 20000

struct sources {
	/* options */
	const char *sources, *authorization, *ca_file;
	int64_t timeout, retry_every, retry_for;
	uint64_t retries, max_answer;
	int allow_private;
	/* while running */
	struct pgmqd_worker *worker;
	struct source_list list;
};

/* One source of one job under way. */
struct part {
	struct gather *gather;
	const struct source *source;
	unsigned tries;
	bool there, over; /* over: it has come, or it has not */
	bool hopeless;    /* its answer cannot be stored, whenever it comes */
};

/* One job under way. */
struct gather {
	struct sources *h;
	struct pgmqd_msg *msg;
	char *job;
	bool limited;    /* left_ms counts: it was partial before */
	int64_t left_ms; /* for trying again */
	struct curl_slist *headers;
	size_t open; /* parts that are not over */
	struct part parts[];
};

#define AT(field) offsetof(struct sources, field)

static const struct pgmqd_option sources_options[] = {
	{ .name = "sources",
		.type = PGMQD_STRING,
		.required = 1,
		.offset = AT(sources),
		.doc = "Where to gather from: NAME URL [required] [get] [timeout=20s] [retries=2] | NAME URL ..." },
	{ .name = "authorization",
		.type = PGMQD_SECRET,
		.offset = AT(authorization),
		.doc = "Value of the header Authorization.",
		.env = "SOURCES_AUTHORIZATION" },
	{ .name = "timeout",
		.type = PGMQD_DURATION,
		.offset = AT(timeout),
		.def = "30s",
		.doc = "Time for a request and its answer, for a source that says none of its own." },
	{ .name = "retries",
		.type = PGMQD_UINT,
		.offset = AT(retries),
		.def = "2",
		.doc = "Tries at once after the first, for a source that says none of its own." },
	{ .name = "retry_every",
		.type = PGMQD_DURATION,
		.offset = AT(retry_every),
		.def = "5min",
		.doc = "How often what is missing is tried again." },
	{ .name = "retry_for",
		.type = PGMQD_DURATION,
		.offset = AT(retry_for),
		.def = "3h",
		.doc = "How long; then the job ends with what there is." },
	{ .name = "allow_private",
		.type = PGMQD_BOOL,
		.offset = AT(allow_private),
		.def = "no",
		.doc = "Allow addresses that are not on the public Internet." },
	{ .name = "ca_file",
		.type = PGMQD_STRING,
		.offset = AT(ca_file),
		.doc = "File of the authorities (PEM) that certificates are checked against, instead of the "
		       "system's." },
	{ .name = "max_answer",
		.type = PGMQD_BYTES,
		.offset = AT(max_answer),
		.def = "1MB",
		.doc = "Longest answer of a source." },
	{ .name = NULL },
};

static void part_send(struct part *p);

/* Frees a job's state; the host has ended its transfers, or does when the message is settled. */
static void gather_free(struct gather *g)
{
	if (g == NULL)
		return;
	pgmqd_msg_data_set(g->msg, NULL);
	curl_slist_free_all(g->headers);
	free(g->job);
	free(g);
}

/* The names of the missing sources as an array literal (names need no quotes), or for people. Malloc'd. */
static char *gather_missing(const struct gather *g, bool literal)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	bool first = true;

	if (f == NULL)
		abort();
	fputs(literal ? "{" : "", f);
	for (size_t i = 0; i < g->h->list.n; i++)
		if (!g->parts[i].there) {
			fprintf(f, literal ? "%s\"%s\"" : "%s%s",
				first     ? ""
				: literal ? ","
					  : ", ",
				g->parts[i].source->name);
			first = false;
		}
	fputs(literal ? "}" : "", f);
	if (fclose(f) != 0)
		abort();
	return text;
}

/* Ends the job: with all there is, in the transaction that archives the message. */
static void gather_finish(struct gather *g, const char *missing, const char *required)
{
	const char *params[3] = { g->job, missing, NULL };
	struct pgmqd_msg *m = g->msg;
	char *error = NULL;

	if (required != NULL && asprintf(&error, "source %s is required, and did not answer in time", required) == -1)
		abort();
	params[2] = error;
	if (error != NULL)
		pgmqd_msg_log(m, PGMQD_WARN, "the job failed: %s", error);
	pgmqd_done_with(m, "SELECT pgmqd.job_finish($1::uuid, NULL, $2::text[], $3)", 3, params);
	gather_free(g);
	free(error);
}

/* It was written down that something is missing: the message comes back later. */
static void gather_postponed(void *arg, const struct pgmqd_result *r)
{
	struct gather *g = arg;
	struct pgmqd_msg *m = g->msg;
	int64_t delay = g->limited && g->left_ms < g->h->retry_every ? g->left_ms : g->h->retry_every;
	const char *error = pgmqd_result_error(r);
	char *names = gather_missing(g, false);

	gather_free(g);
	if (error != NULL)
		pgmqd_retry(m, 0, "the job's state could not be written: %s", error);
	else
		pgmqd_postpone(m, delay, "missing: %s", names);
	free(names);
}

/* Every source has answered, or has not. */
static void gather_end(struct gather *g)
{
	char *missing = gather_missing(g, true), delay[32], left[32];
	const char *required = NULL, *params[4] = { g->job, missing, delay, left };
	size_t n = 0, hopeless = 0;

	for (size_t i = 0; i < g->h->list.n; i++)
		if (!g->parts[i].there) {
			n++;
			hopeless += g->parts[i].hopeless;
			if (g->parts[i].source->required && required == NULL)
				required = g->parts[i].source->name;
		}
	if (n == hopeless || (g->limited ? g->left_ms <= 0 : g->h->retry_for <= 0)) {
		pgmqd_msg_log(g->msg, PGMQD_INFO, "%zu of %zu sources are there%s", g->h->list.n - n, g->h->list.n,
			n == 0          ? ""
			: n == hopeless ? ", the others answer what cannot be stored"
					: ", and the time is over");
		gather_finish(g, missing, required);
	} else {
		if (!g->limited)
			g->left_ms = g->h->retry_for;
		g->limited = true;
		snprintf(delay, sizeof delay, "%" PRId64,
			g->left_ms < g->h->retry_every ? g->left_ms : g->h->retry_every);
		snprintf(left, sizeof left, "%" PRId64, g->left_ms);
		if (pgmqd_query(g->msg,
			    "SELECT pgmqd.job_partial($1::uuid, $2::text[], $3::bigint * interval '1 ms', $4::bigint * "
			    "interval '1 ms')",
			    4, params, gather_postponed, g) != 0) {
			struct pgmqd_msg *m = g->msg;

			gather_free(g);
			pgmqd_retry(m, 0, "the job's state could not be written");
		}
	}
	free(missing);
}

/* A source is through. */
static void part_over(struct part *p, bool there)
{
	struct gather *g = p->gather;

	p->there = there;
	p->over = true;
	if (--g->open == 0)
		gather_end(g);
}

/* An answer was stored, or could not be. */
static void part_stored(void *arg, const struct pgmqd_result *r)
{
	struct part *p = arg;
	const char *error = pgmqd_result_error(r);

	if (error != NULL) {
		/* class 22: the data itself, a number beyond numeric for instance */
		p->hopeless = strncmp(pgmqd_result_sqlstate(r), "22", 2) == 0;
		pgmqd_msg_log(p->gather->msg, PGMQD_WARN, "source %s: its answer cannot be stored: %s", p->source->name,
			error);
	}
	part_over(p, error == NULL);
}

/* Whole percents of the sources that will have come when this one has. */
static int gather_percent(const struct gather *g)
{
	size_t n = 1;

	for (size_t i = 0; i < g->h->list.n; i++)
		n += g->parts[i].there;
	/* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): there is a source, since one has come */
	return (int)(100 * n / g->h->list.n);
}

/* Stores an answer. */
static void part_store(struct part *p, const char *body)
{
	struct gather *g = p->gather;
	char percent[16];
	const char *params[4] = { g->job, p->source->name, body, percent };

	snprintf(percent, sizeof percent, "%d", gather_percent(g));
	if (pgmqd_query(g->msg, "SELECT pgmqd.job_part($1::uuid, $2, $3::jsonb, $4::int)", 4, params, part_stored, p) !=
		0)
		part_over(p, false);
}

/* The pause before another try is over. */
static void part_again(void *arg)
{
	part_send(arg);
}

/* A source did not do: once more at once, if that may help. */
static void part_failed(struct part *p, bool may_help, int64_t pause_ms, const char *why)
{
	struct gather *g = p->gather;
	int64_t pause = SOURCES_PAUSE_MS << (p->tries > 1 ? p->tries - 1 : 0);

	if (pause_ms > pause)
		pause = pause_ms;
	may_help = may_help && p->tries <= p->source->retries && pause <= SOURCES_PAUSE_MAX_MS;
	pgmqd_msg_log(g->msg, may_help ? PGMQD_DEBUG : PGMQD_INFO, "source %s: %s", p->source->name, why);
	if (!may_help)
		part_over(p, false);
	else if (pgmqd_msg_timer(g->msg, pause, part_again, p) == NULL)
		part_over(p, false);
}

/* A source has answered, or will not. */
static void part_answered(void *arg, const struct pgmqd_http_answer *a)
{
	struct part *p = arg;
	char why[64];
	char *text;
	cJSON *json;

	if (a->curl_code != 0 || a->status == 0) {
		part_failed(p, !a->refused, 0, a->error != NULL ? a->error : "no answer");
	} else if (a->status < 200 || a->status > 299) {
		snprintf(why, sizeof why, "HTTP %ld", a->status);
		part_failed(p, a->status == 408 || a->status == 429 || a->status >= 500, a->retry_after_ms, why);
	} else if (a->body_len == 0) {
		part_store(p, "null");
	} else {
		if ((text = strdup(a->body)) == NULL)
			abort();
		clean_escapes(text);
		json = cJSON_ParseWithOpts(text, NULL, 1);
		cJSON_Delete(json); /* this was only a check: the text is what is stored */
		if (json == NULL)
			part_failed(p, false, 0, "its answer is no JSON");
		else
			part_store(p, text);
		free(text);
	}
}

/* Asks a source. */
static void part_send(struct part *p)
{
	struct gather *g = p->gather;
	struct sources *h = g->h;
	CURL *easy = pgmqd_http_new(h->worker);
	size_t len;
	const char *body = pgmqd_msg_text(g->msg, &len);
	bool ok;

	p->tries++;
	ok = curl_easy_setopt(easy, CURLOPT_URL, p->source->url) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_HTTPHEADER, g->headers) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)p->source->timeout_ms) == CURLE_OK &&
	     (h->ca_file == NULL || *h->ca_file == '\0' ||
		     curl_easy_setopt(easy, CURLOPT_CAINFO, h->ca_file) == CURLE_OK);
	if (!p->source->get)
		ok = ok && curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body) == CURLE_OK &&
		     curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len) == CURLE_OK;
	pgmqd_http_body_max(easy, h->max_answer);
	if (!h->allow_private)
		pgmqd_http_public_only(easy);
	if (!ok)
		pgmqd_http_discard(easy);
	if (!ok || pgmqd_http_submit(g->msg, easy, part_answered, p) != 0)
		part_failed(p, false, 0, "libcurl refuses the request");
}

/* Marks the sources that the job has already. */
static void gather_mark(struct gather *g, const char *names)
{
	cJSON *list = cJSON_Parse(names), *name;

	cJSON_ArrayForEach(name,
		list) for (size_t i = 0; i < g->h->list.n;
			   i++) if (cJSON_IsString(name) && strcmp(name->valuestring, g->parts[i].source->name) == 0)
		g->parts[i]
			.there = g->parts[i].over = true;
	cJSON_Delete(list);
}

/* The sources that the job has are known: all others are asked at once. */
static void gather_known(void *arg, const struct pgmqd_result *r)
{
	struct gather *g = arg;
	struct pgmqd_msg *m = g->msg;
	const char *error = pgmqd_result_error(r), *status, *left;

	if (error != NULL || pgmqd_result_rows(r) != 1) {
		gather_free(g);
		if (error != NULL)
			pgmqd_retry(m, 0, "the job cannot be read: %s", error);
		else
			pgmqd_fail(m, "there is no job of this id");
		return;
	}
	status = pgmqd_result_value(r, 0, 0);
	left = pgmqd_result_value(r, 0, 2);
	if (strcmp(status, "completed") == 0 || strcmp(status, "failed") == 0) {
		gather_free(g);
		pgmqd_done(m);
		return;
	}
	g->limited = left != NULL;
	g->left_ms = left != NULL ? strtoll(left, NULL, 10) : 0;
	gather_mark(g, pgmqd_result_value(r, 0, 1));
	for (size_t i = 0; i < g->h->list.n; i++)
		g->open += !g->parts[i].over;
	if (g->open == 0) {
		gather_end(g);
		return;
	}
	g->open++; /* held until all are asked: one that fails at once must not end it */
	for (size_t i = 0; i < g->h->list.n; i++)
		if (!g->parts[i].over)
			part_send(&g->parts[i]);
	if (--g->open == 0)
		gather_end(g);
}

/* Adds a header. */
static void gather_header(struct gather *g, const char *name, const char *value)
{
	char *line = NULL;

	if (asprintf(&line, "%s: %s", name, value) == -1)
		abort();
	g->headers = curl_slist_append(g->headers, line);
	free(line);
}

/* Takes a job up. */
static void sources_deliver(void *handle, struct pgmqd_msg *m)
{
	struct sources *h = handle;
	const char *job = pgmqd_msg_str(m, "/job_id");
	struct gather *g;

	if (job == NULL || strlen(job) != 36 || strspn(job, "0123456789abcdefABCDEF-") != 36) {
		pgmqd_fail(m, "the message has no job_id: it was not started as a job");
		return;
	}
	g = calloc(1, sizeof(*g) + h->list.n * sizeof(g->parts[0]));
	if (g == NULL || (g->job = strdup(job)) == NULL)
		abort();
	g->h = h;
	g->msg = m;
	for (size_t i = 0; i < h->list.n; i++)
		g->parts[i] = (struct part){ .gather = g, .source = &h->list.sources[i] };
	pgmqd_msg_data_set(m, g);
	gather_header(g, "Content-Type", "application/json");
	gather_header(g, "Accept", "application/json");
	gather_header(g, "Pgmqd-Job", job);
	if (h->authorization != NULL && *h->authorization != '\0')
		gather_header(g, "Authorization", h->authorization);
	if (pgmqd_query(m, "SELECT status, parts, left_ms FROM pgmqd.job_state($1::uuid)", 1, (const char *[]){ job },
		    gather_known, g) != 0) {
		gather_free(g);
		pgmqd_retry(m, 0, "the job cannot be read");
	}
}

/* Frees the gathering of a message that the host takes back; the host has ended its transfers, timers and queries. */
static void sources_cancel(void *handle, struct pgmqd_msg *m)
{
	(void)handle;
	gather_free(pgmqd_msg_data(m));
}

/* Whether a text can be the value of a header. */
static bool is_header_value(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 32 || *text == 127)
			return false;
	return true;
}

/* Cross-checks of the options. */
static int sources_config_complete(void *handle)
{
	struct sources *h = handle;
	struct source_list list = { 0 };
	char *error = source_list_parse(&list, h->sources, h->timeout, (unsigned)h->retries);
	const char *inside = NULL;
	int r = -1;

	for (size_t i = 0; error == NULL && !h->allow_private && inside == NULL && i < list.n; i++)
		if (pgmqd_http_private_host(list.sources[i].url))
			inside = list.sources[i].name;
	if (error != NULL)
		pgmqd_log(PGMQD_ERROR, "sources: %s", error);
	else if (inside != NULL)
		pgmqd_log(PGMQD_ERROR,
			"sources: the host of \"%s\" is an address that is not on the public Internet; "
			"allow_private = yes allows it",
			inside);
	else if (h->authorization != NULL && !is_header_value(h->authorization))
		pgmqd_log(PGMQD_ERROR, "authorization: there is a control character in it");
	else if (h->timeout <= 0 || h->retry_every < 10)
		pgmqd_log(PGMQD_ERROR, "timeout has to be longer than 0, and retry_every 10ms or more");
	else if (h->retries > 10)
		pgmqd_log(PGMQD_ERROR, "retries: 10 are the most");
	else
		r = 0;
	free(error);
	source_list_free(&list);
	return r;
}

/* Gets the list ready. */
static int sources_start(void *handle, struct pgmqd_worker *w)
{
	struct sources *h = handle;
	char *error = source_list_parse(&h->list, h->sources, h->timeout, (unsigned)h->retries);

	h->worker = w;
	free(error); /* there is none: sources_config_complete() has looked */
	return 0;
}

/* The end. */
static void sources_stop(void *handle)
{
	source_list_free(&((struct sources *)handle)->list);
}

static struct pgmqd_plugin plugin = {
	.name = "sources",
	.version = PACKAGE_VERSION,
	.summary = "gathers a job's result from several HTTP sources",
	.options = sources_options,
	.handle_size = sizeof(struct sources),
	.config_complete = sources_config_complete,
	.start = sources_start,
	.deliver = sources_deliver,
	.cancel = sources_cancel,
	.stop = sources_stop,
};

PGMQD_REGISTER_PLUGIN(plugin);
