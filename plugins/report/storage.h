/* storage.h: PDF files in Supabase Storage. */
#ifndef REPORT_STORAGE_H
#define REPORT_STORAGE_H

#include "options.h"

#include <stdbool.h>

/* How a request ended. */
enum storage_result { STORAGE_OK, STORAGE_LATER, STORAGE_NEVER, STORAGE_SETTINGS };
struct storage_end {
	enum storage_result result;
	char *text; /* what went wrong; of a signing that went well, the link. The callback's to g_free. */
	int64_t retry_after_ms;
};
typedef void (*storage_cb)(void *arg, struct storage_end end);

/* A request under way. Free it in its callback, or when its message is cancelled. */
struct storage_call;
void storage_call_free(struct storage_call *c);

/* Uploads `data`, which must stay, to bucket/path, over what is there: so the same again does no harm. */
struct storage_call *storage_upload(const struct report *h, struct pgmqd_msg *m, const char *path, const void *data,
	size_t len, storage_cb cb, void *arg);
/* Asks for a link to bucket/path that works for link_expires without a login. */
struct storage_call *storage_sign(
	const struct report *h, struct pgmqd_msg *m, const char *path, storage_cb cb, void *arg);

/* Deletes an object, BUCKET/PATH; it is no error that there is none. */
struct storage_call *storage_erase(
	const struct report *h, struct pgmqd_msg *m, const char *object, storage_cb cb, void *arg);

/* Judges an answer; `body` as text. For tests. */
enum storage_result storage_judge(int curl_code, long status, const char *body);

#endif
