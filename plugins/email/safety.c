/* safety.c: what keeps a test run's mails from people: all to one address, only to some domains, or into files. */
#include "config.h"

#include "safety.h"

#include "sending.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ORIGINAL_MAX 900 /* of a header's line */

/* Whether a list separated by commas or blanks has the word. */
bool safety_listed(const char *list, const char *word)
{
	char **words = g_strsplit_set(list, ", \t", -1);
	bool found = false;

	for (char **w = words; *w != NULL && !found; w++)
		found = **w != '\0' && g_ascii_strcasecmp(*w, word) == 0;
	g_strfreev(words);
	return found;
}

bool safety_allows(const struct email *h, const char *address)
{
	const char *list = h->allow_domains;

	return list == NULL || list[0] == '\0' || safety_listed(list, strchr(address, '@') + 1);
}

void safety_redirect(struct sending *s)
{
	if (s->email->redirect_address == NULL)
		return;
	s->original_to = recipients_join(&s->parsed.rcpt);
	if (strlen(s->original_to) > ORIGINAL_MAX)
		s->original_to[ORIGINAL_MAX] = '\0';
	recipients_redirect(&s->parsed.rcpt, s->email->redirect_address);
}

char *safety_subject(const struct sending *s, const char *subject)
{
	return g_strdup_printf("%s%s", s->original_to != NULL ? "[TEST] " : "", subject);
}

/* Written beside and renamed, so that whoever watches the directory sees whole mails only. */
char *safety_write(const struct sending *s)
{
	const char *dir = s->email->dry_run;
	char *name = g_strdup_printf("%s/%.32s.eml", dir, s->key),
	     *temp = g_strdup_printf("%s.%d", name, (int)getpid()), *reason = NULL;
	FILE *f = fopen(temp, "wxe");

	if (f == NULL || fwrite(s->bytes, 1, s->len, f) != s->len || fflush(f) != 0)
		reason = g_strdup_printf("dry_run: cannot write into %s: %s", dir, g_strerror(errno));
	if (f != NULL && fclose(f) != 0 && reason == NULL)
		reason = g_strdup_printf("dry_run: cannot write into %s: %s", dir, g_strerror(errno));
	if (reason == NULL && rename(temp, name) != 0)
		reason = g_strdup_printf("dry_run: cannot write into %s: %s", dir, g_strerror(errno));
	if (reason != NULL)
		unlink(temp);
	g_free(name);
	g_free(temp);
	return reason;
}
