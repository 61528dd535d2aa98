/* doubt.c: tells a refusal of one mail from a refusal of every mail, by what became of the mails to others.
 *
 * "Relay access denied" can be said to one recipient or to all of them. Mails that get such an answer are put off until
 * another mail tells: one that the server takes means that the refused mail is at fault, and different recipients who
 * are refused alike in a row mean that the login, the sender or the server's rules are. */
#include "config.h"

#include "doubt.h"

#include <string.h>

#define MAILS_MAX 1000 /* that are remembered; a forgotten one is put off once more */

/* The words of a refusal that have no digits: numbers, addresses of machines and identifiers differ from mail to mail.
 */
static char *words_of(const char *text)
{
	char **words = g_strsplit(text, " ", -1);
	GString *s = g_string_new(NULL);

	for (char **w = words; *w != NULL; w++)
		if (strpbrk(*w, "0123456789") == NULL)
			g_string_append_printf(s, "%s ", *w);
	g_strfreev(words);
	return g_string_free(s, FALSE);
}

/* Counts a recipient of the refusals in a row, once. */
static void count(struct doubt *d, const char *text, const char *recipient)
{
	char *alike = words_of(text);
	guint hash = g_str_hash(recipient);
	unsigned i = 0;

	if (g_strcmp0(alike, d->alike) != 0) {
		g_free(d->alike);
		d->alike = g_steal_pointer(&alike);
		d->n = 0;
	}
	g_free(alike);
	while (i < d->n && d->recipients[i] != hash)
		i++;
	if (i == d->n && d->n < DOUBT_RECIPIENTS)
		d->recipients[d->n++] = hash;
}

/* Whether the provider has taken others since the mail was put off; *before: whether it was. */
static bool others_taken(const struct doubt *d, const char *key, bool *before)
{
	gpointer then = NULL;

	*before = d->mails != NULL && g_hash_table_lookup_extended(d->mails, key, NULL, &then);
	return *before && GPOINTER_TO_SIZE(then) < d->taken;
}

/* Remembers that a mail was put off. */
static void remember(struct doubt *d, const char *key)
{
	if (d->mails == NULL)
		d->mails = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	if (g_hash_table_size(d->mails) >= MAILS_MAX)
		g_hash_table_remove_all(d->mails);
	if (!g_hash_table_contains(d->mails, key))
		g_hash_table_insert(d->mails, g_strdup(key), GSIZE_TO_POINTER((gsize)d->taken));
}

void doubt_taken(struct doubt *d)
{
	d->taken++;
	d->n = 0;
}

void doubt_judge(struct doubt *d, const char *key, const char *recipient, struct mail_result *result)
{
	bool vague = result->is == MAIL_POLICY_VAGUE, before;
	char *text;

	if (others_taken(d, key, &before)) {
		g_hash_table_remove(d->mails, key);
		result->is = MAIL_PERMANENT;
		return;
	}
	count(d, result->text, recipient);
	/* Words that tell nothing are believed of the first mail, and no more of the next. */
	if (vague && d->n < 2 && !before) {
		result->is = MAIL_PERMANENT;
		return;
	}
	remember(d, key);
	result->is = MAIL_LATER;
	if (d->n < DOUBT_RECIPIENTS)
		return;
	result->is = MAIL_POLICY;
	text = result->text;
	result->text = g_strdup_printf(
		"%u different recipients in a row were refused alike, so no mail is taken now; check the login, "
		"the sender and for whom the server relays: %s",
		d->n, text);
	g_free(text);
}

void doubt_clear(struct doubt *d)
{
	g_free(d->alike);
	if (d->mails != NULL)
		g_hash_table_destroy(d->mails);
	memset(d, 0, sizeof(*d));
}
