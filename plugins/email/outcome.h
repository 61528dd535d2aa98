/* outcome.h: what becomes of a message when its mail has come to an end. */
#ifndef EMAIL_OUTCOME_H
#define EMAIL_OUTCOME_H

#include "sending.h"

/* The outcome of a mail by a provider's result, when no other provider can take it over. */
struct sending_outcome outcome_of_result(const struct sending *s, const struct mail_result *result);
/* The outcome of a mail that must not go out, by the ledger's answer. */
struct sending_outcome outcome_of_ledger(enum ledger_answer is, const char *why);

#endif
