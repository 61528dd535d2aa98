/* message.h: the message of a mail queue, checked and taken apart. */
#ifndef EMAIL_MESSAGE_H
#define EMAIL_MESSAGE_H

#include "attachment.h"
#include "recipients.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cJSON;

/* A mail to send. Strings are owned, g_malloc'd; NULL where the message says nothing. */
struct email_message {
	struct recipients rcpt;
	struct mailbox from, reply_to;
	struct pairs headers, tags, metadata;
	char *subject;  /* NULL: the template's */
	char *template; /* or else text, html or both */
	char *text, *html;
	char *lang;                    /* message.lang, else variables.lang */
	char *kind;                    /* "transactional" or "reminder"; NULL: by the template */
	int64_t expires_at;            /* seconds since 1970; 0: not by itself */
	char *key;                     /* the caller's own identity of the mail */
	const struct cJSON *variables; /* inside the JSON that was parsed; NULL: none */
	struct email_attachment *attachments;
	size_t nattachments;
};

/* Fills *m from `json` (NULL: the message is not JSON) and `raw`, the same as text. Attachments may decode to
 * `max_bytes` in all. NULL, or a sentence for people that names the key and what is wrong with it (g_malloc'd); it
 * never repeats a value. Keys that are not known are left alone, unless they are nearly one that is, or `strict` is
 * set. Either way message_clear() frees what *m holds. */
char *message_parse(const struct cJSON *json, const char *raw, size_t max_bytes, bool strict, struct email_message *m);
void message_clear(struct email_message *m);

#endif
