/* doubt.h: whether a refusal that does not name the recipient is of this mail, or of every mail. */
#ifndef EMAIL_DOUBT_H
#define EMAIL_DOUBT_H

#include "verdict.h"

#include <glib.h>

#define DOUBT_RECIPIENTS 3 /* so many different ones in a row are not the recipients' fault */

/* The refusals of one provider. All zero is a fresh one. */
struct doubt {
	char *alike;                        /* the last refusal, without what differs from mail to mail */
	guint recipients[DOUBT_RECIPIENTS]; /* hashes of those who got it in a row */
	unsigned n;
	guint64 taken;     /* mails that the provider took */
	GHashTable *mails; /* key of a mail that was put off: `taken` at that time */
};

/* The provider has taken a mail: a row of refusals ends. */
void doubt_taken(struct doubt *d);
/* Decides about a refusal of class MAIL_POLICY or MAIL_POLICY_VAGUE: changes result->is to MAIL_PERMANENT (others
 * went through meanwhile), MAIL_LATER (nothing is known yet) or MAIL_POLICY (no mail would be taken). */
void doubt_judge(struct doubt *d, const char *key, const char *recipient, struct mail_result *result);
/* Forgets all, and frees what it holds. */
void doubt_clear(struct doubt *d);

#endif
