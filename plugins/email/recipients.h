/* recipients.h: who gets a mail: `to`, `cc` and `bcc` of a message. */
#ifndef EMAIL_RECIPIENTS_H
#define EMAIL_RECIPIENTS_H

#include "field.h"

#include <stdbool.h>

#define RECIPIENTS_MAX 50 /* what every mail service takes */

enum recipient_kind { RECIPIENT_TO = 0, RECIPIENT_CC, RECIPIENT_BCC, RECIPIENT_KINDS };

struct recipient {
	struct mailbox mailbox;
	enum recipient_kind kind;
};

/* The `to` ones first, and nobody twice. */
struct recipients {
	struct recipient *list;
	size_t n;
};

/* Reads to, to_name, cc and bcc. NULL, or what is wrong (g_malloc'd). */
char *recipients_take(const struct cJSON *json, struct recipients *r);
/* Takes one out. */
void recipients_drop(struct recipients *r, size_t i);
/* The address instead of all of them. */
void recipients_redirect(struct recipients *r, const char *address);
/* Whether anybody is left whom the mail is for, rather than one who gets a copy. */
bool recipients_any_to(const struct recipients *r);
/* All addresses, with a comma between; g_malloc'd. */
char *recipients_join(const struct recipients *r);
void recipients_clear(struct recipients *r);

#endif
