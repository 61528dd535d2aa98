/* outcome.h: what becomes of a message when its mail has come to an end. */
#ifndef EMAIL_OUTCOME_H
#define EMAIL_OUTCOME_H

#include "sending.h"

/* What a provider's result means for a mail that no other provider can take over. */
struct sending_outcome outcome_of_result(const struct sending *s, const struct mail_result *result);
/* What the ledger's answer means for a mail that must not go out. */
struct sending_outcome outcome_of_ledger(enum ledger_answer is, const char *why);

#endif
