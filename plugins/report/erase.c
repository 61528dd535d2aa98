/* erase.c: deletes a report's file and its object in Storage, as a row of pgmqd.files_to_erase says, and then the row.
 */
#include "config.h"

#include "erase.h"

#include "file.h"
#include "storage.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <string.h>

/* One row on its way. */
struct erasure {
	struct report *report;
	struct pgmqd_msg *msg;
	char id[24], *path, *object;
	struct storage_call *call;
};

void erase_free(void *p)
{
	struct erasure *e = p;

	storage_call_free(e->call);
	g_free(e->path);
	g_free(e->object);
	g_free(e);
}

bool erase_wanted(const cJSON *json)
{
	const cJSON *action = cJSON_GetObjectItemCaseSensitive(json, "action");

	return cJSON_IsString(action) && strcmp(action->valuestring, "erase") == 0;
}

/* Frees the erasure of a message that is settled. */
static void erase_end(struct erasure *e)
{
	g_hash_table_remove(e->report->erasures, e->msg);
}

/* Both are gone; the row goes with the message. */
static void erase_finish(struct erasure *e)
{
	const char *params[] = { e->id };

	pgmqd_msg_log(e->msg, PGMQD_INFO, "a report was erased");
	pgmqd_done_with(e->msg, "DELETE FROM pgmqd.files_to_erase WHERE id = $1::bigint", 1, params);
	erase_end(e);
}

/* Whether Storage has deleted it, or never had it. */
static void on_erased(void *arg, struct storage_end end)
{
	struct erasure *e = arg;

	if (end.result == STORAGE_OK) {
		g_free(end.text);
		erase_finish(e);
		return;
	}
	if (end.result == STORAGE_LATER)
		pgmqd_retry(e->msg, end.retry_after_ms, "%s", end.text);
	else if (end.result == STORAGE_SETTINGS)
		pgmqd_config_error(e->msg, "%s", end.text);
	else
		pgmqd_fail(e->msg, "%s", end.text);
	g_free(end.text);
	erase_end(e);
}

/* Deletes the file. False: the message was settled otherwise. */
static bool erase_file(struct erasure *e)
{
	const char *dir = report_given(e->report->report_dir);
	char *parent = g_path_get_dirname(e->path), *name = g_path_get_basename(e->path),
	     *ours = dir ? g_strdup(dir) : NULL;
	size_t n = ours ? strlen(ours) : 0;
	int error;

	while (n > 1 && ours[n - 1] == '/')
		ours[--n] = '\0';
	/* the row may have been written by somebody who is not allowed to delete this daemon's other files */
	if (!ours || strcmp(parent, ours) != 0 || !g_str_has_suffix(name, ".pdf")) {
		pgmqd_fail(e->msg, "the file to erase is no report in report_dir%s%s",
			ours ? " " : ", which is not set", ours ? ours : "");
		error = -1;
	} else if ((error = file_remove(dir, name)) != 0) {
		pgmqd_config_error(e->msg, "report_dir: cannot delete a report from %s: %s", dir, g_strerror(error));
	}
	g_free(parent);
	g_free(name);
	g_free(ours);
	return error == 0;
}

/* The files to delete. */
static void on_row(void *arg, const struct pgmqd_result *r)
{
	struct erasure *e = arg;
	const char *error = pgmqd_result_error(r);

	if (error != NULL) {
		pgmqd_retry(e->msg, 0, "pgmqd.files_to_erase cannot be read: %s", error);
		erase_end(e);
		return;
	}
	if (pgmqd_result_rows(r) == 0) { /* done before */
		pgmqd_done(e->msg);
		erase_end(e);
		return;
	}
	e->path = g_strdup(pgmqd_result_value(r, 0, 0));
	e->object = g_strdup(pgmqd_result_value(r, 0, 1));
	if (e->path && !erase_file(e)) {
		erase_end(e);
	} else if (!e->object) {
		erase_finish(e);
	} else if (!report_given(e->report->supabase_url) || !report_given(e->report->service_key)) {
		pgmqd_fail(e->msg, "the report to erase is in Storage, and supabase_url and service_key are not set");
		erase_end(e);
	} else if ((e->call = storage_erase(e->report, e->msg, e->object, on_erased, e)) == NULL) {
		pgmqd_retry(e->msg, 0, "storage: the request could not be made");
		erase_end(e);
	}
}

void erase_deliver(struct report *h, struct pgmqd_msg *m, const cJSON *json)
{
	const cJSON *file = cJSON_GetObjectItemCaseSensitive(json, "file");
	struct erasure *e;
	const char *params[1];

	if (!cJSON_IsNumber(file) || file->valuedouble < 1 || file->valuedouble > 9007199254740991.0) {
		pgmqd_fail(m, "file: it must be the id of a row of pgmqd.files_to_erase");
		return;
	}
	e = g_new0(struct erasure, 1);
	e->report = h;
	e->msg = m;
	g_snprintf(e->id, sizeof(e->id), "%.0f", file->valuedouble);
	g_hash_table_insert(h->erasures, m, e);
	params[0] = e->id;
	if (pgmqd_query(m, "SELECT path, object FROM pgmqd.files_to_erase WHERE id = $1::bigint", 1, params, on_row,
		    e) != 0)
		erase_end(e);
}
