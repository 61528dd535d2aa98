/* report.c: the plugin itself: a message names a check-up; its PDF is made, stored and recorded, and the person gets a
 * mail. */
#include "config.h"

#include "colours.h"
#include "data.h"
#include "document.h"
#include "erase.h"
#include "file.h"
#include "options.h"
#include "storage.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/statvfs.h>

#define NOT_COMPLETED_MS 60000
#define LETTERS "Отчёт, report 0123 –—·№…" /* that reports are made of */

/* A message's report on its way. */
struct job {
	struct report *report;
	struct pgmqd_msg *msg;
	char *assessment, *user, *type; /* out of the message, checked */
	struct report_data data;
	GByteArray *pdf;
	unsigned pages;
	char *file, *object; /* names: in report_dir, in the bucket */
	char *link;          /* signed; NULL: the application's own */
	struct storage_call *call;
};

/* Frees a job. */
static void job_free(gpointer p)
{
	struct job *j = p;

	storage_call_free(j->call);
	data_clear(&j->data);
	if (j->pdf)
		g_byte_array_unref(j->pdf);
	g_free(j->assessment);
	g_free(j->user);
	g_free(j->type);
	g_free(j->file);
	g_free(j->object);
	g_free(j->link);
	g_free(j);
}

/* Frees the job of a message that is settled. */
static void job_end(struct job *j)
{
	g_hash_table_remove(j->report->jobs, j->msg);
}

/* ---- the life of the plugin ---- */

/* Cross-checks of the options. */
static int report_config_complete(void *handle)
{
	char *reason = report_options_check(handle);

	if (reason == NULL)
		return 0;
	pgmqd_log(PGMQD_ERROR, "%s", reason);
	g_free(reason);
	return -1;
}

/* Finds the fonts. */
static int report_start(void *handle, struct pgmqd_worker *w)
{
	struct report *h = handle;

	h->shown_brand = report_given(h->brand) ? h->brand : pgmqd_brand(w, "brand_name");
	if (h->shown_brand == NULL)
		h->shown_brand = "";
	colours_set(pgmqd_brand(w, "brand_colour"));
	h->fonts = fonts_new(h->font);
	if (!fonts_can_show(h->fonts, LETTERS)) {
		pgmqd_log(PGMQD_ERROR, "font: no font with Latin and Cyrillic letters is installed; install "
				       "fonts-paratype or fonts-dejavu-core");
		fonts_free(h->fonts);
		h->fonts = NULL;
		return -1;
	}
	if (report_given(h->report_dir))
		file_sweep(h->report_dir);
	h->jobs = g_hash_table_new_full(NULL, NULL, NULL, job_free);
	h->erasures = g_hash_table_new_full(NULL, NULL, NULL, erase_free);
	return 0;
}

/* Ends everything; there are no messages any more. */
static void report_stop(void *handle)
{
	struct report *h = handle;

	g_hash_table_destroy(h->jobs);
	g_hash_table_destroy(h->erasures);
	fonts_free(h->fonts);
}

/* Drops a message whose time is up. */
static void report_cancel(void *handle, struct pgmqd_msg *m)
{
	struct report *h = handle;

	if (!g_hash_table_remove(h->jobs, m))
		g_hash_table_remove(h->erasures, m);
}

/* ---- the end: the record and the mail, in one transaction with the archive ---- */

/* Whether the mail carries the PDF. */
static bool attached(const struct job *j)
{
	return j->report->attach && j->pdf->len <= j->report->attach_max;
}

/* Hands over to the database. */
static void finish(struct job *j)
{
	struct report *h = j->report;
	char *sha256 = g_compute_checksum_for_data(G_CHECKSUM_SHA256, j->pdf->data, j->pdf->len), bytes[24], pages[24];
	char *path = report_given(h->report_dir) ? g_build_filename(h->report_dir, j->file, NULL) : NULL;
	char *object = j->object ? g_strconcat(h->bucket, "/", j->object, NULL) : NULL;
	char *content = attached(j) ? g_base64_encode(j->pdf->data, j->pdf->len) : NULL;
	char *brand = g_ascii_strdown(h->shown_brand, -1), *filename;
	const char *params[13];

	for (char *p = brand; *p != '\0';
		p++) /* other letters in names of attachments are more than some mail programs can read */
		if (!g_ascii_isalnum(*p))
			*p = '-';
	filename = g_strdup_printf("%s%sreport-%.10s.pdf", brand, *brand != '\0' ? "-" : "", j->data.completed_utc);
	g_snprintf(bytes, sizeof(bytes), "%u", j->pdf->len);
	g_snprintf(pages, sizeof(pages), "%u", j->pages);
	params[0] = j->data.id;
	params[1] = j->assessment;
	params[2] = j->user;
	params[3] = j->type;
	params[4] = j->data.completed_at;
	params[5] = path;
	params[6] = object;
	params[7] = bytes;
	params[8] = pages;
	params[9] = sha256;
	params[10] = j->link;
	params[11] = filename;
	params[12] = content;
	pgmqd_msg_log(j->msg, PGMQD_INFO, "report %s: %u pages, %u bytes, %s", j->data.id, j->pages, j->pdf->len,
		content ? "attached" : "linked");
	pgmqd_done_with(j->msg,
		"SELECT pgmqd.finish_report($1::uuid, $2, $3, $4, $5::timestamptz, $6, $7, $8::integer, $9::integer, "
		"$10, $11, $12, $13)",
		13, params);
	g_free(sha256);
	g_free(path);
	g_free(object);
	g_free(content);
	g_free(brand);
	g_free(filename);
	job_end(j);
}

/* ---- storing ---- */

/* Settles a message whose request to Storage failed. */
static void storage_failed(struct job *j, struct storage_end end)
{
	if (end.result == STORAGE_LATER)
		pgmqd_retry(j->msg, end.retry_after_ms, "%s", end.text);
	else if (end.result == STORAGE_SETTINGS)
		pgmqd_config_error(j->msg, "%s", end.text);
	else
		pgmqd_fail(j->msg, "%s", end.text);
	g_free(end.text);
	job_end(j);
}

/* The link is there, or not. */
static void on_signed(void *arg, struct storage_end end)
{
	struct job *j = arg;

	if (end.result != STORAGE_OK) {
		storage_failed(j, end);
		return;
	}
	j->link = end.text;
	finish(j);
}

/* A request could not even begin. */
static void storage_unable(struct job *j)
{
	pgmqd_retry(j->msg, 0, "storage: the request could not be made");
	job_end(j);
}

/* The PDF is in the bucket, or not. */
static void on_uploaded(void *arg, struct storage_end end)
{
	struct job *j = arg;

	if (end.result != STORAGE_OK) {
		storage_failed(j, end);
		return;
	}
	if (attached(j)) {
		finish(j);
		return;
	}
	storage_call_free(j->call);
	j->call = storage_sign(j->report, j->msg, j->object, on_signed, j);
	if (j->call == NULL)
		storage_unable(j);
}

/* Puts the PDF where it is wanted. */
static void store(struct job *j)
{
	struct report *h = j->report;
	const char *dir = report_given(h->report_dir);
	int error = dir ? file_write(dir, j->file, j->pdf->data, j->pdf->len) : 0;

	if (error) {
		pgmqd_config_error(j->msg, "report_dir: cannot write to %s: %s", dir, g_strerror(error));
		job_end(j);
		return;
	}
	if (j->object == NULL) {
		finish(j);
		return;
	}
	j->call = storage_upload(h, j->msg, j->object, j->pdf->data, j->pdf->len, on_uploaded, j);
	if (j->call == NULL)
		storage_unable(j);
}

/* ---- from the message to the PDF ---- */

/* A text of an object, or "". */
static const char *text_in(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsString(item) ? item->valuestring : "";
}

/* Whether this very report is recorded, and stored wherever it is wanted now. */
static bool made_before(const struct job *j, const cJSON *source)
{
	const cJSON *made = cJSON_GetObjectItemCaseSensitive(source, "made"),
		    *bytes = cJSON_GetObjectItemCaseSensitive(made, "bytes");
	const char *dir = report_given(j->report->report_dir);

	if (!cJSON_IsNumber(bytes))
		return false;
	if (dir) {
		char *path = g_build_filename(dir, j->file, NULL);
		bool there = strcmp(text_in(made, "path"), path) == 0 &&
		             file_size(dir, j->file) == (long long)bytes->valuedouble;

		g_free(path);
		if (!there)
			return false;
	}
	if (j->object) {
		char *object = g_strconcat(j->report->bucket, "/", j->object, NULL);
		bool there = strcmp(text_in(made, "object"), object) == 0;

		g_free(object);
		if (!there)
			return false;
	}
	return true;
}

/* Settles a message whose check-up gives no report. */
static void refuse(struct job *j, const char *problem)
{
	if (strcmp(problem, "not_completed") == 0)
		pgmqd_retry(j->msg, NOT_COMPLETED_MS, "the assessment is not completed yet");
	else if (strcmp(problem, "unknown") == 0)
		pgmqd_fail(j->msg, "there is no such assessment");
	else if (strcmp(problem, "other_user") == 0)
		pgmqd_fail(j->msg, "the assessment belongs to another user");
	else if (strcmp(problem, "abandoned") == 0)
		pgmqd_fail(j->msg, "the assessment was abandoned");
	else if (strcmp(problem, "no_date") == 0)
		pgmqd_fail(j->msg, "the assessment has no completed_at");
	else
		pgmqd_fail(j->msg, "pgmqd.report_source() answered with a problem that the plugin does not know");
	job_end(j);
}

/* Makes the report from the database's answer. */
static void make(struct job *j, const cJSON *source)
{
	char *reason = data_parse(source, &j->data), *missing;
	const char *why = NULL;

	if (reason != NULL) {
		pgmqd_fail(j->msg, "%s", reason);
		g_free(reason);
		job_end(j);
		return;
	}
	j->file = g_strconcat(j->data.id, ".pdf", NULL);
	if (report_given(j->report->bucket))
		j->object = g_strconcat(j->user, "/", j->file, NULL);
	if (made_before(j, source)) {
		pgmqd_msg_log(j->msg, PGMQD_INFO, "report %s: made before", j->data.id);
		pgmqd_done(j->msg);
		job_end(j);
		return;
	}
	j->pdf = document_make(&j->data, j->report->fonts, j->report->shown_brand, &j->pages, &why);
	if ((missing = fonts_take_missing(j->report->fonts)) != NULL)
		pgmqd_msg_log(j->msg, PGMQD_WARN,
			"no installed font has %s: shown as code points; install fonts-dejavu-core, "
			"fonts-noto-core or fonts-noto-cjk",
			missing);
	g_free(missing);
	if (j->pdf == NULL) {
		pgmqd_retry(j->msg, 0, "the PDF could not be made: %s", why);
		job_end(j);
		return;
	}
	if (why != NULL)
		pgmqd_msg_log(j->msg, PGMQD_ERROR, "%s", why);
	store(j);
}

/* The database has answered with the check-up. */
static void on_source(void *arg, const struct pgmqd_result *r)
{
	struct job *j = arg;
	const char *error = pgmqd_result_error(r), *state = pgmqd_result_sqlstate(r),
		   *text = pgmqd_result_value(r, 0, 0);
	cJSON *source;

	if (error != NULL) {
		/* 22: an id that the column cannot take; 42: tables, functions or rights that are not there */
		if (strncmp(state, "22", 2) == 0)
			pgmqd_fail(j->msg, "assessment_id or user_id cannot be one of this application (%s)", state);
		else if (strncmp(state, "42", 2) == 0 || strncmp(state, "3F", 2) == 0)
			pgmqd_config_error(j->msg, "the assessment cannot be read: %s", error);
		else
			pgmqd_retry(j->msg, 0, "the assessment cannot be read: %s", error);
		job_end(j);
		return;
	}
	source = text ? cJSON_Parse(text) : NULL;
	if (!cJSON_IsObject(source)) {
		pgmqd_fail(j->msg, "pgmqd.report_source() gave no object");
		job_end(j);
	} else if (cJSON_GetObjectItemCaseSensitive(source, "problem")) {
		refuse(j, text_in(source, "problem"));
	} else {
		make(j, source);
	}
	cJSON_Delete(source);
}

/* Takes one id or name of the message; NULL when it is none. It becomes part of a file's name, so nothing else will do.
 */
static char *take_id(const cJSON *json, const char *key, const char *def)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
	const char *text = def;
	char number[32];

	if (cJSON_IsString(item)) {
		text = item->valuestring;
	} else if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 9007199254740992.0) {
		g_snprintf(number, sizeof(number), "%.0f", item->valuedouble);
		text = number;
	}
	if (text == NULL || text[0] == '\0' || strlen(text) > 64)
		return NULL;
	for (const char *p = text; *p != '\0'; p++)
		if (!g_ascii_isalnum(*p) && *p != '-' && *p != '_')
			return NULL;
	return g_strdup(text);
}

/* Takes a message. */
static void report_deliver(void *handle, struct pgmqd_msg *m)
{
	struct report *h = handle;
	const cJSON *json = pgmqd_msg_json(m);
	struct job *j;
	const char *params[3];

	if (!cJSON_IsObject(json)) {
		pgmqd_fail(m, "the message must be a JSON object with assessment_id and user_id");
		return;
	}
	if (erase_wanted(json)) {
		erase_deliver(h, m, json);
		return;
	}
	j = g_new0(struct job, 1);
	j->report = h;
	j->msg = m;
	g_hash_table_insert(h->jobs, m, j);
	j->assessment = take_id(json, "assessment_id", NULL);
	j->user = take_id(json, "user_id", NULL);
	j->type = take_id(json, "report_type", "checkup");
	if (!j->assessment || !j->user || !j->type) {
		pgmqd_fail(m, "%s: it must be an id of 1 to 64 letters, digits, - and _",
			!j->assessment ? "assessment_id"
			: !j->user     ? "user_id"
				       : "report_type");
		job_end(j);
		return;
	}
	params[0] = j->assessment;
	params[1] = j->user;
	params[2] = j->type;
	if (pgmqd_query(m, "SELECT pgmqd.report_source($1, $2, $3)", 3, params, on_source, j) != 0)
		job_end(j);
}

/* For pgmqd doctor: can reports be drawn, and put where they go? */
static void report_check(void *handle, struct pgmqd_check *c)
{
	struct statvfs fs;
	struct report *h = handle;
	struct fonts *fonts = fonts_new(h->font);
	const char *dir = report_given(h->report_dir);
	static const char room[] = "free some space there, or set report_dir (REPORT_DIR) to another directory";
	int error;

	if (!fonts_can_show(fonts, LETTERS))
		pgmqd_check_tell(c, PGMQD_CHECK_FAIL, "apt-get install fonts-paratype",
			"no font with Latin and Cyrillic letters is installed");
	else
		pgmqd_check_tell(c, PGMQD_CHECK_OK, NULL, "a font with Latin and Cyrillic letters is there");
	fonts_free(fonts);
	if (dir == NULL)
		return;
	error = file_try(dir);
	if (error != 0)
		pgmqd_check_tell(c, PGMQD_CHECK_FAIL,
			error == ENOSPC || error == EDQUOT ? room
			: error == ENOENT ? "make the directory for the user that pgmqd runs as (install -d -m 700 -o "
					    "USER), or set report_dir to another one"
					  : "give the directory to the user that pgmqd runs as (chown), or set "
					    "report_dir (REPORT_DIR) to another one",
			"report_dir %s: no file can be written there: %s", dir, strerror(error));
	else if (statvfs(dir, &fs) == 0 && (fs.f_bavail < fs.f_blocks / 50 || (fs.f_files > 0 && fs.f_favail < 100)))
		pgmqd_check_tell(c, PGMQD_CHECK_WARN, room, "report_dir %s is nearly full: %lu MB are free", dir,
			(unsigned long)(fs.f_bavail / 1024 * fs.f_frsize / 1024));
	else
		pgmqd_check_tell(c, PGMQD_CHECK_OK, NULL, "report_dir %s can be written to", dir);
}

static struct pgmqd_plugin plugin = {
	.name = "report",
	.version = PACKAGE_VERSION,
	.summary = "makes PDF reports of completed check-ups",
	.options = report_options,
	.handle_size = sizeof(struct report),
	.config_complete = report_config_complete,
	.start = report_start,
	.deliver = report_deliver,
	.cancel = report_cancel,
	.stop = report_stop,
	.check = report_check,
};

PGMQD_REGISTER_PLUGIN(plugin);
