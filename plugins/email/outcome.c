/* outcome.c: the table from results to ends. Nothing here does anything. */
#include "config.h"

#include "outcome.h"

#define BUSY_MS 5000
#define PINNED_MS 60000

struct sending_outcome outcome_of_result(const struct sending *s, const struct mail_result *r)
{
	/* The delay is the provider's wish; without one it is the queue's backoff. */
	struct sending_outcome o = {
		.row = LEDGER_NOT_SENT, .text = r->text, .id = r->id, .delay_ms = r->delay_ms > 0 ? r->delay_ms : -1
	};
	bool elsewhere = s->email->routes.n > 1;

	switch (r->is) {
	case MAIL_SENT:
		o.how = END_SENT;
		break;
	case MAIL_LATER:
	case MAIL_SLOWER:
	case MAIL_AWAY:
	case MAIL_UNREACHED:
	case MAIL_QUOTA:
	case MAIL_POLICY: /* another mail is to try the provider next: this one may be at fault after all */
		o.how = END_LATER;
		break;
	case MAIL_PERMANENT:
	case MAIL_POLICY_VAGUE: /* doubt.c has decided before */
		o.how = END_FAILED;
		o.row = r->of_recipient ? LEDGER_REFUSED : LEDGER_NOT_SENT;
		break;
	case MAIL_CONFIG:
		/* With other providers at work the queue goes on; only this mail waits for the one that may have it. */
		o.how = s->pinned && elsewhere ? END_LATER : END_CONFIG;
		o.delay_ms = PINNED_MS;
		break;
	case MAIL_UNKNOWN:
		/* Again to the same provider, with the same Message-ID or key, by which a second copy can be told. */
		o.row = LEDGER_MAYBE_SENT;
		o.how = !r->hold && (s->email->ledger.resend || s->way->provider->idempotent) ? END_LATER : END_FAILED;
		o.class = "unknown";
		break;
	}
	return o;
}

struct sending_outcome outcome_of_ledger(enum ledger_answer is, const char *why)
{
	struct sending_outcome o = { .how = END_DONE, .row = LEDGER_NOT_SENT, .text = why, .delay_ms = -1 };

	switch (is) {
	case LEDGER_GO:
	case LEDGER_AGAIN:
		break;
	case LEDGER_SENT:
		o.text = "sent before, by the mail ledger: not sent again";
		break;
	case LEDGER_SUPPRESSED: /* for the queue this is done: nothing would be better tomorrow */
		break;
	case LEDGER_UNKNOWN:
		o.how = END_FAILED;
		o.class = "unknown";
		o.text = "the mail may have been sent before, by the mail ledger; held";
		break;
	case LEDGER_BUSY:
		o.how = END_LATER;
		o.delay_ms = BUSY_MS;
		o.text = "another message is sending the mail of the same key and recipient";
		break;
	case LEDGER_FAILED:
		o.how = END_LATER;
		break;
	}
	return o;
}
