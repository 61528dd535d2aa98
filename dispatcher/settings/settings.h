/* settings.h: pgmqd's settings: one immutable structure per load, from the file (INI), the environment and the
 * defaults. What the file says wins over the environment, and the environment over the default (libpq's own rule). */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "base/log.h"
#include "base/people.h"
#include "settings/option.h"

#include <stdbool.h>
#include <stdint.h>

/* key = value of a [queue] section that is none of the host's options: the plugin's. */
struct settings_pair {
	char *key, *value;
	unsigned line; /* in settings.path; 0: from the environment */
};

/* The settings file that is read when none is named. */
#define SETTINGS_USUAL_PATH PGMQD_SYSCONFDIR "/pgmqd.conf"

#define SETTINGS_ROWS_MAX 64 /* more than either table has */

/* Choices, in the order of their words in the tables. */
enum on_done { ON_DONE_ARCHIVE, ON_DONE_DELETE };
enum ordered { ORDERED_NO, ORDERED_GROUP };
enum rate_scope { RATE_CLUSTER, RATE_PROCESS };
enum notify_mode { NOTIFY_ADAPTIVE, NOTIFY_PLAIN, NOTIFY_OFF };

/* One [queue NAME] section. */
struct queue_settings {
	char *name;
	unsigned line;
	const char *plugin; /* name, or an absolute path of a .so */
	const char *group;  /* queues of one group share a process and a connection; NULL: a process of its own */
	uint64_t processes, nice;
	int64_t visibility_timeout, deadline, backoff_min, backoff_max, config_retry; /* ms */
	uint64_t max_in_flight, prefetch, max_attempts, batch;
	int64_t batch_wait; /* ms */
	enum on_done on_done;
	enum ordered ordered;
	const char *then; /* queues that the headers then and else of its messages may name */
	const char *rate, *rate_key, *concurrency_key, *fair_by; /* limits.c reads them */
	uint64_t rate_burst, max_in_flight_cluster, concurrency;
	enum rate_scope rate_scope;
	int allow_unlogged;
	enum notify_mode notify;
	int64_t fallback_poll; /* ms; 0: the global one */
	struct settings_pair *pairs;
	size_t npairs;
	unsigned lines[SETTINGS_ROWS_MAX]; /* where the file gives each row of the table; 0: it does not */
	uint64_t files; /* stands for the files that values may come from, as they were; see settings_env_files() */
};

/* One [job TYPE] section. */
struct job_settings {
	char *name;
	unsigned line;
	const char *queue;
	int open;
	unsigned lines[SETTINGS_ROWS_MAX]; /* as in a queue */
};

/* Those who may look without a token. */
enum http_guests { HTTP_GUESTS_LOCAL, HTTP_GUESTS_ALL, HTTP_GUESTS_NONE };

struct settings {
	char *path;          /* of the file that was read */
	char *assumed;       /* its text, where there is no such file; else NULL */
	bool world_readable; /* the file's mode lets everybody read it */
	/* [pgmqd] */
	int require_notify, schedules, allow_insecure, core_dumps;
	const char *database; /* conninfo or URI; "" leaves everything to PG* variables */
	const char *channel;  /* NOTIFY channel */
	enum log_level log_level;
	enum log_format log_format;
	const char *plugin_dir, *template_dir, *default_lang, *sql_dir;
	const char *brand_name, *brand_team, *brand_about, *brand_logo_url, *brand_colour, *brand_app_url,
		*brand_support_email;             /* "": not given */
	const char *http_listen;                  /* HOST:PORT, unix:/path, or "off" */
	const char *otlp_endpoint, *otlp_headers; /* "": no spans are sent */
	const char *http_token, *http_people, *http_hosts;
	const char *payment_networks; /* whose notifications are taken; empty: all */
	enum http_guests http_guests;
	int64_t fallback_poll, poll_when_deaf, shared_poll, drain_timeout, watchdog; /* ms */
	struct queue_settings *queues;
	size_t nqueues;
	struct job_settings *jobs;
	size_t njobs;
	unsigned lines[SETTINGS_ROWS_MAX]; /* as in a queue */
};

extern const struct pgmqd_option settings_global_options[]; /* the one table: [pgmqd] */
extern const struct pgmqd_option settings_queue_options[];  /* the one table: [queue NAME] */
extern const struct pgmqd_option settings_job_options[];    /* the one table: [job TYPE] */

void settings_free(struct settings *s);

/* The brand_* settings that are given, as an object; the caller deletes it. */
struct cJSON *settings_brand(const struct settings *s);
/* One of them; NULL when it is not given, or is no brand_* setting. */
const char *settings_brand_value(const struct settings *s, const char *name);

/* Whether two queue sections ask for the same worker (a reload leaves it alone then). */
bool settings_queue_equal(const struct queue_settings *a, const struct queue_settings *b);

/* The file of a plugin: `plugin` itself when it is a path, else pgmqd-NAME-plugin.so in plugin_dir. Malloc'd. */
char *settings_plugin_path(const struct settings *s, const char *plugin);
/* The NAME of a file called pgmqd-NAME-plugin.so, without its directory. False: it is not called so. */
bool settings_plugin_name(const char *file, char *buf, size_t size);

/* Prints the sample file out of the tables, every option commented out at its default under its doc line. */
void settings_print_sample(void);

/* Fills in those who have a token, for people_free(). NULL, or what is wrong with http_people, malloc'd. */
char *settings_people(const struct settings *s, struct people *p);
/* A connection string or URI that can be shown: its passwords are replaced by ***. Malloc'd. */
char *settings_redact_conninfo(const char *conninfo);

/* Between the files of this folder: adds a line to *errors, unless it is there already. */
void settings_error(char **errors, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
