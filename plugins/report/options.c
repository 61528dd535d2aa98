/* options.c: the report plugin's options and their checks. */
#include "config.h"

#include "options.h"

#include <string.h>

#define AT(field) offsetof(struct report, field)

const struct pgmqd_option report_options[] = {
	{ "report_dir", PGMQD_STRING, 0, AT(report_dir), NULL, "Directory that the PDF files are written to.",
		"REPORT_DIR", NULL },
	{ "brand", PGMQD_STRING, 0, AT(brand), NULL,
		"Name at the top of each page, and author of the file; else brand_name.", NULL, NULL },
	{ "font", PGMQD_STRING, 0, AT(font), "PT Sans, DejaVu Sans", "Font families, the first one that is installed.",
		NULL, NULL },
	{ "attach", PGMQD_BOOL, 0, AT(attach), "yes", "Attach the PDF to the mail; no: only a link.", NULL, NULL },
	{ "attach_max", PGMQD_BYTES, 0, AT(attach_max), "5MB", "A larger PDF is not attached, only linked.", NULL,
		NULL },
	{ "bucket", PGMQD_STRING, 0, AT(bucket), NULL, "Bucket of Supabase Storage to upload to; none: no upload.",
		NULL, NULL },
	{ "supabase_url", PGMQD_URL, 0, AT(supabase_url), NULL, "Address of the Supabase project, for the upload.",
		"SUPABASE_URL", NULL },
	{ "service_key", PGMQD_SECRET, 0, AT(service_key), NULL, "Service key of the project, for the upload.",
		"SUPABASE_SERVICE_ROLE_KEY", NULL },
	{ "link_expires", PGMQD_DURATION, 0, AT(link_expires), "72h",
		"How long a signed link to an uploaded PDF that is not attached works.", NULL, NULL },
	{ NULL, 0, 0, 0, NULL, NULL, NULL, NULL },
};

const char *report_given(const char *s)
{
	return s != NULL && s[0] != '\0' ? s : NULL;
}

char *report_options_check(const struct report *h)
{
	const char *bucket = report_given(h->bucket), *dir = report_given(h->report_dir);

	if (dir == NULL && bucket == NULL)
		return g_strdup(
			"report_dir (REPORT_DIR): it is missing; give a directory, or a bucket of Supabase Storage");
	if (dir != NULL && dir[0] != '/')
		return g_strdup("report_dir (REPORT_DIR): it must be a full path, from / on");
	if (bucket != NULL && report_given(h->supabase_url) == NULL)
		return g_strdup("supabase_url (SUPABASE_URL): it is missing, and bucket asks for uploads");
	if (bucket != NULL && report_given(h->service_key) == NULL)
		return g_strdup("service_key (SUPABASE_SERVICE_ROLE_KEY): it is missing, and bucket asks for uploads");
	for (const char *p = bucket; p != NULL && *p != '\0'; p++)
		if (!g_ascii_isalnum(*p) && strchr("-_.", *p) == NULL)
			return g_strdup("bucket: it must be a name of letters, digits, -, _ and .");
	if (report_given(h->service_key) != NULL && strpbrk(h->service_key, "\r\n") != NULL)
		return g_strdup("service_key (SUPABASE_SERVICE_ROLE_KEY): it contains a line break");
	if (h->brand != NULL && strlen(h->brand) > 60)
		return g_strdup("brand: it must be a name of at most 60 bytes");
	if (report_given(h->font) == NULL)
		return g_strdup("font: it is empty");
	if (h->attach_max > (uint64_t)20 << 20)
		return g_strdup("attach_max: it must not be more than 20MB");
	if (h->link_expires < 60000 || h->link_expires > (int64_t)365 * 86400 * 1000)
		return g_strdup("link_expires: it must be between 1min and 365d");
	return NULL;
}
