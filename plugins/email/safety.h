/* safety.h: what keeps a test run's mails from people. */
#ifndef EMAIL_SAFETY_H
#define EMAIL_SAFETY_H

#include <stdbool.h>

struct email;
struct sending;

/* Whether mails may go to that address, by allow_domains. */
bool safety_allows(const struct email *h, const char *address);
/* redirect_all_to: another recipient, whoever was meant. */
void safety_redirect(struct sending *s);
/* The subject, marked when the recipient is another one; g_malloc'd. */
char *safety_subject(const struct sending *s, const char *subject);
/* dry_run: the mail as a file. NULL, or what went wrong (g_malloc'd). */
char *safety_write(const struct sending *s);
/* Whether a list separated by commas or blanks has the word, in whatever case. */
bool safety_listed(const char *list, const char *word);

#endif
