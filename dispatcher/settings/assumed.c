/* assumed.c: the settings that pgmqd assumes where there is no settings file, so that the environment of the old worker
 * is enough to run it. */
#include "config.h"

#include "settings/assumed.h"

#include "base/xalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASSUMED_BUCKET "reports" /* of Supabase Storage, where no directory is named */

const struct assumed_queue assumed_queues[] = {
	{ "email_queue", "email", { "SMTP_FROM" }, false, NULL },
	{ "report_generation_queue", "report", { "REPORT_DIR", "SUPABASE_URL" }, true, NULL },
	{ "payment_processing_queue", "payment", { "YOOKASSA_SHOP_ID", "YOOKASSA_SECRET_KEY" }, false, NULL },
	{ "analytics_queue", "analytics", { NULL }, false, NULL },
	{ "professional_report_queue", "sources", { "SOURCES" }, false, "professional-report" },
	{ 0 },
};

/* Whether the environment has a variable, or names a file with its value. */
static bool is_set(const char *name)
{
	char *file = xasprintf("%s_FILE", name), *credential;
	const char *value = getenv(name), *path = getenv(file), *dir = getenv("CREDENTIALS_DIRECTORY");
	bool set = (value && *value) || (path && *path);

	if (!set && dir && *dir) {
		credential = xasprintf("%s/%s", dir, name);
		set = access(credential, R_OK) == 0;
		free(credential);
	}
	free(file);
	return set;
}

/* Whether the plugin of a queue is installed. */
static bool is_installed(const struct assumed_queue *q)
{
	const char *dir = getenv("PGMQD_PLUGIN_DIR");
	char *path = xasprintf("%s/pgmqd-%s-plugin.so", dir && *dir ? dir : PGMQD_PLUGINDIR, q->plugin);
	bool there = access(path, R_OK) == 0;

	free(path);
	return there;
}

char *assumed_missing(const struct assumed_queue *q)
{
	char *missing = NULL, *more;

	for (int i = 0; i < 3 && q->needs[i]; i++) {
		if (is_set(q->needs[i])) {
			if (!q->any)
				continue;
			free(missing);
			return NULL;
		}
		more = xasprintf("%s%s%s", missing ? missing : "",
			!missing ? ""
			: q->any ? " or "
				 : " and ",
			q->needs[i]);
		free(missing);
		missing = more;
	}
	return missing;
}

/* Appends a line to a text that it owns. */
static void add_line(char **text, char *line)
{
	char *more = xasprintf("%s%s%s", *text ? *text : "", *text ? "\n" : "", line);

	free(*text);
	free(line);
	*text = more;
}

char *assumed_options(const struct assumed_queue *q)
{
	if (q->job)
		return xasprintf("\nsources = %s\n\n[job %s]\nqueue = %s", is_set("SOURCES") ? getenv("SOURCES") : "",
			q->job, q->name);
	if (strcmp(q->plugin, "report") == 0 && !is_set("REPORT_DIR"))
		return xstrdup("\nbucket = " ASSUMED_BUCKET);
	return xstrdup("");
}

/* Whether the environment names a database. */
static bool has_database(void)
{
	return is_set("DATABASE_URL") || is_set("PGHOST") || is_set("PGDATABASE") || is_set("PGSERVICE");
}

char *assumed_settings(const char *path, char **report)
{
	char *text = NULL;

	*report = NULL;
	if (!has_database())
		return NULL;
	add_line(&text, xstrdup("[pgmqd]"));
	for (const struct assumed_queue *q = assumed_queues; q->name; q++) {
		char *missing = assumed_missing(q);

		if (!is_installed(q)) {
			add_line(report,
				xasprintf("%s is not served: the plugin %s is not installed", q->name, q->plugin));
		} else if (missing && !q->job) {
			add_line(report,
				xasprintf("%s is not served: its plugin %s needs %s", q->name, q->plugin, missing));
		} else if (!missing) {
			char *more = assumed_options(q);

			add_line(&text, xasprintf("[queue %s]\nplugin = %s%s", q->name, q->plugin, more));
			free(more);
			add_line(report, xasprintf("%s is served by the plugin %s", q->name, q->plugin));
		}
		free(missing);
	}
	add_line(&text, xstrdup(""));
	add_line(report,
		xasprintf("there is no settings file %s, so these settings are assumed; `pgmqd init` writes them down",
			path));
	return text;
}
