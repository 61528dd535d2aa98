/* mail.h: a recorded mail taken apart, so that it can be compared and shown. */
#ifndef REPLAY_MAIL_H
#define REPLAY_MAIL_H

#include <stddef.h>

struct cJSON;

/* {"subject", "text", "html", "headers": ["Name: value"], "parts": [{"type", "name", "size", "hash"}]}; a part keeps
 * its content as "content_base64" where it is a PDF. Headers that differ in each run (dates, numbers, signatures) keep
 * their names alone. The caller deletes it. */
struct cJSON *mail_read(const char *data, size_t len);

#endif
