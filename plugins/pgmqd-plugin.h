/* pgmqd-plugin.h: the whole interface between a queue's plugin and pgmqd, API version 1.
 *
 * A plugin is one shared object, pgmqd-NAME-plugin.so, that exports one symbol (PGMQD_REGISTER_PLUGIN defines it).
 * The worker process of a queue loads it after fork, so a plugin needs no thread and no lock, and a crash costs its own
 * queue a restart and nothing else. See pgmqd-plugin(3) for the lifecycle, and plugins/example for a first one.
 *
 * The header is C99 and C++ clean and includes only stddef and stdint.
 */
#ifndef PGMQD_PLUGIN_H
#define PGMQD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PGMQD_API_VERSION 1

#if defined(__GNUC__)
#define PGMQD_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PGMQD_EXPORT __attribute__((visibility("default")))
#else
#define PGMQD_PRINTF(fmt, args)
#define PGMQD_EXPORT
#endif
#ifdef __cplusplus
#define PGMQD_EXTERN_C extern "C"
#else
#define PGMQD_EXTERN_C
#endif

struct cJSON;
struct event_base;
struct pgmqd_worker; /* the process that runs the plugin; lives as long as the plugin does */
struct pgmqd_msg;    /* one message; valid from deliver() until the callback in which it was settled has returned */
struct pgmqd_timer;
struct pgmqd_child;  /* a program that pgmqd_spawn() started */
struct pgmqd_result; /* rows of a query; valid inside its callback only */
struct pgmqd_check;  /* collects the findings of check(); valid inside it only */

/* How an option is written in the settings file, and what its field in the handle is declared as. */
enum pgmqd_option_type {
	PGMQD_STRING = 1, /* const char *, NULL when not given and without default */
	PGMQD_SECRET,     /* const char *, never printed */
	PGMQD_BOOL,       /* int: yes/no, true/false, on/off, 1/0 */
	PGMQD_UINT,       /* uint64_t */
	PGMQD_DURATION,   /* int64_t milliseconds: 250ms, 30s (or 30), 5min, 3h, 7d */
	PGMQD_BYTES,      /* uint64_t: 512, 64kB, 5MB, 1GB (powers of 1024) */
	PGMQD_URL,        /* const char *, scheme http or https */
	PGMQD_ENUM        /* const char *, one of `choices` */
};

/* One option of a plugin. A table of these ends with a row whose name is NULL. */
struct pgmqd_option {
	const char *name;    /* as in the settings file: lower case, digits, underscores */
	uint32_t type;       /* enum pgmqd_option_type */
	uint32_t required;   /* 1: no start without it */
	size_t offset;       /* of its field in the handle: offsetof(struct my_handle, field) */
	const char *def;     /* default, written as in the file; NULL: none */
	const char *doc;     /* one line for people */
	const char *env;     /* environment variable that fills it when the file does not; NULL: none */
	const char *choices; /* PGMQD_ENUM only: "a|b|c" */
};

/* The description of a plugin. Fields whose names begin with an underscore are set by PGMQD_REGISTER_PLUGIN.
 * New fields are only ever added at the end. */
struct pgmqd_plugin {
	uint32_t _struct_size, _api_version, _option_size;
	uint32_t
		max_in_flight; /* messages at once that the plugin can take; 1: strictly one by one; 0: as configured */
	const char *name;      /* mandatory, equal to NAME in the file's name */
	const char *version;   /* of the plugin, for logs and dead letters */
	const char *summary;   /* one line */
	const struct pgmqd_option *options;
	size_t handle_size; /* the host allocates this much, zeroed, fills the options in and passes it as `h` */

	/* Cross-checks of options; runs in `pgmqd run --check` too, so it touches nothing outside.
	 * 0, or -1 after a pgmqd_log(PGMQD_ERROR, ...). */
	int (*config_complete)(void *h);
	/* Once, before the first message. 0, or -1 after a log line: the worker is restarted with backoff. */
	int (*start)(void *h, struct pgmqd_worker *w);
	/* Mandatory. Settle `m` exactly once, now or from a later callback. */
	void (*deliver)(void *h, struct pgmqd_msg *m);
	/* The message's time is up or the worker is stopping: free everything of `m` now (the host has already ended
	 * its timers, transfers and queries). The host settles it as a retry when cancel returns. */
	void (*cancel)(void *h, struct pgmqd_msg *m);
	/* Once, when every message is settled or cancelled. */
	void (*stop)(void *h);
	/* For `pgmqd doctor`: checks that the plugin's surroundings are there (a server, a directory, a program),
	 * and calls pgmqd_check_tell() once for each. It runs after config_complete() and without start(), in a process
	 * of its own that has neither messages nor event loop nor database; so it may wait, but is killed after 45 s.
	 * It must leave nothing behind. */
	void (*check)(void *h, struct pgmqd_check *c);
	/* For `pgmqd replay`, which runs old messages and keeps in what goes out through this interface. NULL: the
	 * plugin is replayed as it is; "no": it must not be; else options that it runs with there, over those of the
	 * settings: "dry_run=yes limits=". */
	const char *replay;
	/* On SIGHUP, in a process that stays: a cause outside may be gone, so what the plugin leaves alone
	 * for a while is worth a try at once. Then the queue's own pauses end. */
	void (*reload)(void *h);
	/* 1: the statements of pgmqd_done_with() and pgmqd_done_batch() write down what has happened (a mail was
	 * accepted), and may run more than once and without the archive. While a message cannot be archived, the host
	 * then runs its statement alone, so that the effect is known even if the worker is killed. 0: only together
	 * with the archive. */
	uint32_t records;
	/* Many messages in one call, instead of deliver(), in a queue whose section has `batch`: then even a single
	 * message comes this way. Settle each of them exactly once, now or from a later callback, in any order. The
	 * array is the host's and ends with the call. cancel() takes messages back one by one. NULL: batches are not
	 * for this plugin. */
	void (*deliver_batch)(void *h, struct pgmqd_msg *const *msgs, size_t n);
};

#define PGMQD_REGISTER_PLUGIN(plugin)                                                                                  \
	PGMQD_EXTERN_C PGMQD_EXPORT struct pgmqd_plugin *pgmqd_plugin_init(void);                                      \
	PGMQD_EXTERN_C PGMQD_EXPORT struct pgmqd_plugin *pgmqd_plugin_init(void)                                       \
	{                                                                                                              \
		(plugin)._struct_size = (uint32_t)sizeof(plugin);                                                      \
		(plugin)._api_version = PGMQD_API_VERSION;                                                             \
		(plugin)._option_size = (uint32_t)sizeof(struct pgmqd_option);                                         \
		return &(plugin);                                                                                      \
	}                                                                                                              \
	struct pgmqd_plugin

/* ---- outcomes: each message gets exactly one; a second one is logged and ignored ---- */

/* Handled: the message is archived, or deleted, as its queue is configured. */
void pgmqd_done(struct pgmqd_msg *m);

/* Not now: seen again after delay_ms; 0 leaves the delay to the queue's exponential backoff with jitter. After the
 * queue's max_attempts it is dead-lettered with this reason. */
void pgmqd_retry(struct pgmqd_msg *m, int64_t delay_ms, const char *fmt, ...) PGMQD_PRINTF(3, 4);

/* Never: dead-lettered with this reason. */
void pgmqd_fail(struct pgmqd_msg *m, const char *fmt, ...) PGMQD_PRINTF(2, 3);

/* The same with a class of the plugin's own (up to 31 characters), by which `pgmqd dlq --class` can choose; else it is
 * "permanent". */
void pgmqd_fail_as(struct pgmqd_msg *m, const char *kind, const char *fmt, ...) PGMQD_PRINTF(3, 4);

/* Partly done: in one transaction json_text is sent as a new message, seen after delay_ms, and this one is archived. */
void pgmqd_replace(struct pgmqd_msg *m, const char *json_text, int64_t delay_ms);

/* Handled, and `sql` (one statement, $1... from params, text, NULL for null) commits together with the archive, or
 * neither does: exactly once for effects in the database. The texts are copied. */
void pgmqd_done_with(struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params);

/* The same for many messages at once: the host puts up to 500 messages that were settled with the same `sql` together,
 * and runs it once for all of them, in the transaction that archives them. Each $n is an array (text[]; cast it) with
 * one element per message; a statement takes them apart with unnest($1::text[], $2::text[], ...). If it fails, or if
 * another worker has taken one of the messages, the host runs it for each message alone. */
void pgmqd_done_batch(struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params);

/* Handled, with a result (JSON): where the message has a header "then", a text {{result}} in its message becomes it. */
void pgmqd_done_result(struct pgmqd_msg *m, const char *json_text);

/* Before a message is settled as done (pgmqd_done, _result, _with, _batch): json_text goes into another queue, or the
 * same one, in the transaction that archives this message, seen after delay_ms; with any other outcome it does not.
 * headers (a JSON object) may be NULL. May be called many times. When it cannot be sent (no such queue, no JSON), the
 * message is tried again. */
void pgmqd_send(struct pgmqd_msg *m, const char *queue, const char *json_text, const char *headers, int64_t delay_ms);

/* Not yet, and no attempt is counted: seen again after delay_ms; below 0 after the queue's backoff, by how often the
 * message has been claimed and by its age. Use it while another party has to act first; the plugin itself must know
 * when to give up. */
void pgmqd_postpone(struct pgmqd_msg *m, int64_t delay_ms, const char *fmt, ...) PGMQD_PRINTF(3, 4);

/* The party behind the message's key (rate_key, concurrency_key, fair_by) asks for a pause, by Retry-After say: no
 * attempt is counted, and no message with this key is started, by any dispatcher, before delay_ms have passed; those
 * with other keys are. 0 or less: after the queue's backoff, as of pgmqd_postpone(). In a queue without a key only the
 * message waits. */
void pgmqd_retry_key(struct pgmqd_msg *m, int64_t delay_ms, const char *fmt, ...) PGMQD_PRINTF(3, 4);

/* In deliver_batch(): the call failed as a whole (it was refused, the answer is none), which says nothing of this one
 * message: no attempt is counted, and it comes again at once, alone. For one that came alone it is pgmqd_retry(). */
void pgmqd_apart(struct pgmqd_msg *m, const char *fmt, ...) PGMQD_PRINTF(2, 3);

/* A fault of the settings, not of the message (wrong password, provider paused): the message goes back without losing
 * an attempt and the whole queue pauses, shows this reason, and tries again by itself after a while or on reload. */
void pgmqd_config_error(struct pgmqd_msg *m, const char *fmt, ...) PGMQD_PRINTF(2, 3);

/* A server that every message of the queue needs is away (it cannot be reached, or is overloaded): the message goes
 * back to its place without losing an attempt, and the queue waits for pause_ms (0: 30 s). Then one message tries
 * again. */
void pgmqd_unavailable(struct pgmqd_msg *m, int64_t pause_ms, const char *fmt, ...) PGMQD_PRINTF(3, 4);

/* ---- the message; texts belong to the host and live as long as the message ---- */

int64_t pgmqd_msg_id(const struct pgmqd_msg *m);
unsigned pgmqd_msg_attempt(const struct pgmqd_msg *m);    /* 1 on the first try */
int64_t pgmqd_msg_enqueued_us(const struct pgmqd_msg *m); /* microseconds since 1970, server's clock */
int64_t pgmqd_msg_due_us(const struct pgmqd_msg *m); /* the same clock: the end of the delay that it was sent with */
const char *pgmqd_msg_queue(const struct pgmqd_msg *m);
const char *pgmqd_msg_text(
	const struct pgmqd_msg *m, size_t *len);          /* the body as PostgreSQL printed it; len may be NULL */
const char *pgmqd_msg_headers(const struct pgmqd_msg *m); /* JSON text, or NULL */
const struct cJSON *pgmqd_msg_json(struct pgmqd_msg *m);  /* parsed at the first call; NULL if it is no JSON */

/* The message's place in a trace, for requests to others: the value of an HTTP header "traceparent" (W3C Trace
 * Context), in the trace that the message's own header "traceparent" names, with a new span at each call. NULL when the
 * message has no trace. Valid until the next call for it. */
const char *pgmqd_msg_traceparent(struct pgmqd_msg *m);

/* A pointer of the plugin's own, kept with the message: for cancel() to find what belongs to it. NULL at first. */
void pgmqd_msg_data_set(struct pgmqd_msg *m, void *data);
void *pgmqd_msg_data(const struct pgmqd_msg *m);

/* A string out of the body by its JSON Pointer, "/patient/name" say, so that simple plugins need no JSON library. NULL
 * when there is none at that place, or when it is no string. */
const char *pgmqd_msg_str(struct pgmqd_msg *m, const char *pointer);

/* ---- logging: the host adds time, queue and plugin; no message bodies or addresses above debug ---- */

enum pgmqd_level { PGMQD_ERROR = 0, PGMQD_WARN, PGMQD_INFO, PGMQD_DEBUG };
void pgmqd_log(int level, const char *fmt, ...) PGMQD_PRINTF(2, 3);
void pgmqd_msg_log(const struct pgmqd_msg *m, int level, const char *fmt, ...) PGMQD_PRINTF(3, 4);

/* Not 0 for the first of a queue's processes that asks with this text since the daemon was started, and for nobody
 * else: so a warning comes once. */
int pgmqd_first(struct pgmqd_worker *w, const char *text);

/* ---- numbers of the plugin's own among the host's metrics ---- */

enum pgmqd_metric_kind { PGMQD_COUNTER = 1, PGMQD_GAUGE };
struct pgmqd_metric; /* lives as long as the plugin does */

/* pgmqd_NAME{queue="...", plugin="...", LABEL="VALUE"}: makes it, or finds the one that is there already. A queue has
 * room for 32. The names of counters end in _total. NULL when there is no room; NULL may be given to the other two. */
struct pgmqd_metric *pgmqd_metric(
	struct pgmqd_worker *w, int kind, const char *name, const char *help, const char *label, const char *value);
void pgmqd_metric_add(struct pgmqd_metric *m, int64_t n);
void pgmqd_metric_set(struct pgmqd_metric *m, int64_t value);

/* ---- the findings of check(): an observation, and the exact remedy (NULL when all is well); no addresses, no secrets
 * ---- */

enum pgmqd_check_status { PGMQD_CHECK_OK = 0, PGMQD_CHECK_WARN, PGMQD_CHECK_FAIL };
void pgmqd_check_tell(struct pgmqd_check *c, int status, const char *remedy, const char *fmt, ...) PGMQD_PRINTF(4, 5);

/* ---- the worker's event loop; never block in a callback ---- */

struct event_base *pgmqd_event_base(struct pgmqd_worker *w);

/* One shot. The timer is gone when its callback runs; cancel it before that, or never. The timer of a message is gone
 * when the message is settled or cancelled, too. */
typedef void (*pgmqd_timer_cb)(void *arg);
struct pgmqd_timer *pgmqd_timer(struct pgmqd_worker *w, int64_t ms, pgmqd_timer_cb cb, void *arg);
struct pgmqd_timer *pgmqd_msg_timer(struct pgmqd_msg *m, int64_t ms, pgmqd_timer_cb cb, void *arg);
void pgmqd_timer_cancel(struct pgmqd_timer *t);

/* ---- other programs: the only way to start one ---- */

/* The program to run. It gets a process group of its own, no descriptors but its three, default signals, and an
 * environment of PATH, HOME, USER, LANG, LC_ALL, LC_CTYPE, TZ, TMPDIR and `env`: the rest of the daemon's environment
 * is secret. */
struct pgmqd_command {
	size_t size;             /* sizeof(struct pgmqd_command) */
	const char *const *argv; /* ends with NULL; argv[0] is searched for along PATH */
	const char *const *env;  /* "NAME=value", ends with NULL; NULL: none */
	const char *dir;         /* working directory; NULL: the daemon's */
	uint64_t cpu_seconds, memory_bytes, open_files, file_bytes; /* limits; 0: the daemon's own */
};

/* `status` is as from waitpid(2): WIFEXITED() and so on. Runs once, and the child is gone after it. */
typedef void (*pgmqd_exit_cb)(void *arg, int status);

/* Starts it. fds becomes the non-blocking near ends of its stdin, stdout and stderr, which are the caller's to close.
 * NULL with errno, and all three are -1. */
struct pgmqd_child *pgmqd_spawn(
	struct pgmqd_worker *w, const struct pgmqd_command *command, int fds[3], pgmqd_exit_cb cb, void *arg);
void pgmqd_child_signal(struct pgmqd_child *c, int signal); /* to the whole process group */
void pgmqd_child_end(struct pgmqd_child *c); /* SIGKILL to the group, no callback; the host collects the remains */

/* ---- HTTP and raw connections through the worker's one curl multi; `easy` is a CURL * ---- */

/* A fresh easy handle, set up for a safe transfer: 10 s to connect, 30 s in all, http and https only, TLS verified,
 * no redirects, no netrc, a user agent, and a connection of its own: when a kept one dies, libcurl sends the request
 * again. For requests that may be repeated set CURLOPT_FRESH_CONNECT and CURLOPT_FORBID_REUSE to 0. Set on it what
 * should be different; CURLOPT_PRIVATE, the write and the socket
 * functions and the error buffer are the host's. Never NULL. One that is not submitted after all is given back with
 * pgmqd_http_discard(). */
void *pgmqd_http_new(struct pgmqd_worker *w);
void pgmqd_http_discard(void *easy);

/* For a fresh handle: connects to no address that is not on the public Internet (loopback, private, link-local, ...),
 * whatever the name resolves to, and goes through no proxy. For URLs that come from outside. */
void pgmqd_http_public_only(void *easy);

/* 1 when the host of this URL is written as an address that pgmqd_http_public_only() would refuse, so that a plugin's
 * config_complete() can say so; 0 when it is a public one, or a name: what that resolves to is seen by each request. */
int pgmqd_http_private_host(const char *url);

/* For a fresh handle: how long an answer may be at most; 1 MiB if never called. */
void pgmqd_http_body_max(void *easy, size_t bytes);

/* Runs an easy handle for a message. The host owns `easy` from here on and frees it after `cb`, which runs once, unless
 * the message is settled or cancelled before. A handle from elsewhere is bound to http and https without redirects,
 * too. 0, or -1: `easy` is freed, no cb. */
struct pgmqd_http_answer {
	int curl_code;    /* CURLcode */
	long status;      /* HTTP status, 0 when there was none */
	const char *body; /* NUL-terminated, never NULL */
	size_t body_len;
	const char *error;      /* text for people when curl_code is not 0 */
	int64_t retry_after_ms; /* from Retry-After, 0 when absent */
	int refused;            /* pgmqd_http_public_only() kept it from an address */
};
typedef void (*pgmqd_http_cb)(void *arg, const struct pgmqd_http_answer *answer);
int pgmqd_http_submit(struct pgmqd_msg *m, void *easy, pgmqd_http_cb cb, void *arg);

/* The same for no message alone, but for a batch, say: it goes on when a message is settled or cancelled. The plugin
 * ends it with pgmqd_http_discard(), without the callback, before stop() returns at the latest. */
int pgmqd_http_start(struct pgmqd_worker *w, void *easy, pgmqd_http_cb cb, void *arg);

/* For protocols of the plugin's own: adds an easy handle (CURLOPT_CONNECT_ONLY, say) as it is and calls `cb` when
 * libcurl is done with it. The handle stays the plugin's and stays in the multi until pgmqd_curl_remove(), which must
 * not be called from inside libcurl's own callbacks. 0, or -1 with no cb. */
typedef void (*pgmqd_curl_cb)(void *arg, int curl_code);
int pgmqd_curl_add(struct pgmqd_worker *w, void *easy, pgmqd_curl_cb cb, void *arg);
void pgmqd_curl_remove(struct pgmqd_worker *w, void *easy);

/* ---- the database, on a connection that the worker keeps for its plugins; one statement, autocommitted, texts are
 * copied. Without a callback the result is dropped, and the message's outcome is stored after the statement is over;
 * then it may also be sent from cancel(). ---- */

typedef void (*pgmqd_query_cb)(void *arg, const struct pgmqd_result *res);
int pgmqd_query(
	struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params, pgmqd_query_cb cb, void *arg);
const char *pgmqd_result_error(const struct pgmqd_result *r);    /* NULL when the statement succeeded */
const char *pgmqd_result_sqlstate(const struct pgmqd_result *r); /* five characters; "" when the connection was lost */
int pgmqd_result_rows(const struct pgmqd_result *r);             /* rows returned */
int pgmqd_result_affected(const struct pgmqd_result *r);         /* rows inserted, updated or deleted */
const char *pgmqd_result_value(const struct pgmqd_result *r, int row, int col); /* NULL for null */

/* ---- templates ---- */

/* Renders templates/LANG/NAME.{subject,txt,html}.mustache with `vars` (an object; NULL: none). `lang` falls back from
 * ru-RU to ru to the host's default_lang. 0: the three texts are the caller's, freed by pgmqd_rendered_free(). -1:
 * `error` says what is wrong with the message (unknown template, a required variable that is missing, a name with a
 * path in it) and is freed by the same call. -2: the templates cannot be loaded, which is no message's fault
 * (pgmqd_config_error); they are read again at the next call. */
struct pgmqd_rendered {
	char *subject, *text, *html;
	char *lang; /* the language that was found */
	char *error;
};
int pgmqd_render(struct pgmqd_worker *w, const char *name, const char *lang, const struct cJSON *vars,
	struct pgmqd_rendered *out);
void pgmqd_rendered_free(struct pgmqd_rendered *r);

/* 1 when there is a template of that name, in any language; 0 when there is none, or templates cannot be loaded. */
int pgmqd_has_template(struct pgmqd_worker *w, const char *name);

/* A setting brand_* of pgmqd.conf, "brand_name" say, for documents of a plugin's own. NULL when it is not given. */
const char *pgmqd_brand(struct pgmqd_worker *w, const char *name);

#ifdef __cplusplus
}
#endif
#endif
