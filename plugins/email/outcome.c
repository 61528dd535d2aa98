/* outcome.c: what becomes of a message when its mail has come to an end, and which provider is asked next. */
#include "config.h"

#include "pace.h"
#include "route.h"
#include "sending.h"

#include <string.h>

#define BUSY_MS 5000
#define PINNED_MS 60000

/* Hands the mail to the next provider that has not refused it. False: there is none. */
static bool fail_over(struct sending *s, const struct mail_result *result)
{
	struct email *h = s->email;
	struct way *next;
	int64_t wait;

	if (s->pinned)
		return false;
	s->tried |= route_bit(&h->routes, s->way);
	if ((next = route_choose(&h->routes, &h->route[s->kind], s->tried, &wait)) == NULL)
		return false;
	pgmqd_msg_log(s->msg, PGMQD_WARN, "%s; going on with %s", result->text, next->provider->name);
	s->way = next;
	/* From the limits on: and the ledger has to know who may have the mail before that one gets it. */
	s->announced = s->granted = false;
	pace_begin(s);
	return true;
}

/* The settings are at fault and nobody else can take the mail. */
static void settle_config(struct sending *s, const struct mail_result *result)
{
	ledger_end(&s->entry, LEDGER_NOT_SENT, result->text);
	/* With other providers at work the queue goes on; only this mail has to wait for the one that may have it. */
	if (s->pinned && s->email->routes.n > 1)
		pgmqd_retry(s->msg, PINNED_MS, "%s", result->text);
	else
		pgmqd_config_error(s->msg, "%s", result->text);
}

/* It may have arrived or not. */
static void settle_unknown(struct sending *s, const struct mail_result *result)
{
	bool again = !result->hold && (s->email->ledger.resend || s->way->provider->idempotent);

	ledger_end(&s->entry, LEDGER_MAYBE_SENT, result->text);
	/* To the same provider, with the same Message-ID or key, by which a second copy can be told. */
	if (again)
		pgmqd_retry(s->msg, result->delay_ms, "%s", result->text);
	else
		pgmqd_fail_as(s->msg, "unknown", "%s; held", result->text);
}

void outcome_of(struct sending *s, const struct mail_result *result)
{
	struct email *h = s->email;
	struct pgmqd_msg *m = s->msg;
	int64_t wait;

	s->under_way = s->announced = false;
	route_end(&h->routes, s->way, result);
	if (result->throttled)
		pace_throttled(s);
	if ((result->is == MAIL_CONFIG || (result->is == MAIL_TRANSIENT && !route_may(s->way, &wait))) &&
		fail_over(s, result))
		return;
	/* Out of the table first: settling may bring the next message in. */
	g_hash_table_steal(h->sendings, m);
	switch (result->is) {
	case MAIL_SENT:
		pgmqd_msg_log(m, PGMQD_INFO,
			"sent template=%s provider=%s message_id=<%s> bytes=%zu ms=%" G_GINT64_FORMAT " reply=\"%s\"",
			s->parsed.template != NULL ? s->parsed.template : "-", s->way->provider->name, s->message_id,
			s->len, (g_get_monotonic_time() - s->started) / 1000, result->text);
		ledger_sent(&s->entry, result->text, result->id);
		break;
	case MAIL_UNKNOWN:
		settle_unknown(s, result);
		break;
	case MAIL_TRANSIENT:
		ledger_end(&s->entry, LEDGER_NOT_SENT, result->text);
		pgmqd_retry(m, result->delay_ms, "%s", result->text);
		break;
	case MAIL_PERMANENT:
		ledger_end(&s->entry, result->no_mailbox ? LEDGER_NO_MAILBOX : LEDGER_NOT_SENT, result->text);
		pgmqd_fail(m, "%s", result->text);
		break;
	case MAIL_CONFIG:
		settle_config(s, result);
		break;
	}
	sending_free(s);
}

/* The mail may be with that provider from before: it must be this one again. False: it cannot be had now, and the
 * message is settled. */
static bool pin(struct sending *s, const char *provider)
{
	struct email *h = s->email;
	struct way *way = route_find(&h->routes, provider);
	int64_t wait;

	s->pinned = true;
	if (way == s->way || way == NULL)
		return true;
	route_forget(s->way);
	s->way = way;
	if (route_may(way, &wait)) {
		route_begin(way);
		return true;
	}
	g_hash_table_steal(h->sendings, s->msg);
	ledger_end(&s->entry, LEDGER_MAYBE_SENT, "waits for the provider that may have it");
	pgmqd_postpone(s->msg, wait, "the mail may be with %s, which cannot be used now", provider);
	sending_free(s);
	return false;
}

void outcome_of_ledger(void *arg, enum ledger_answer is, const char *provider, const char *why)
{
	struct sending *s = arg;
	struct pgmqd_msg *m = s->msg;

	if (is == LEDGER_GO || is == LEDGER_AGAIN) {
		if (is == LEDGER_AGAIN && !pin(s, provider))
			return;
		s->granted = true;
		sending_go(s);
		return;
	}
	sending_recall(s);
	g_hash_table_steal(s->email->sendings, m);
	if (is == LEDGER_SENT) {
		pgmqd_msg_log(m, PGMQD_INFO, "sent before, by the mail ledger: not sent again message_id=<%s>",
			s->message_id);
		pgmqd_done(m);
	} else if (is == LEDGER_SUPPRESSED) {
		/* For the queue this is done: nothing would be better tomorrow. */
		pgmqd_msg_log(m, PGMQD_INFO, "suppressed (%s): not sent template=%s message_id=<%s>", why,
			s->parsed.template != NULL ? s->parsed.template : "-", s->message_id);
		pgmqd_done(m);
	} else if (is == LEDGER_UNKNOWN) {
		pgmqd_fail_as(m, "unknown", "the mail may have been sent before, by the mail ledger; held");
	} else if (is == LEDGER_BUSY) {
		pgmqd_retry(m, BUSY_MS, "another message is sending the mail of the same key and recipient");
	} else {
		pgmqd_retry(m, 0, "the mail ledger could not be written: %s", why);
	}
	sending_free(s);
}
