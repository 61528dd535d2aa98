/* sending.c: makes and ends what the plugin knows of one mail; delivery.c moves it from state to state. */
#include "config.h"

#include "sending.h"

#include "fetch.h"
#include "httpmail.h"
#include "route.h"
#include "signature.h"

#include <cjson/cJSON.h>

struct sending *sending_new(struct email *h, struct pgmqd_msg *m)
{
	struct sending *s = g_new0(struct sending, 1);

	s->email = h;
	s->msg = s->entry.msg = m;
	s->started = g_get_monotonic_time();
	s->repeated = pgmqd_msg_attempt(m) > 1;
	g_hash_table_insert(h->sendings, m, s);
	return s;
}

struct sending *sending_find(struct email *h, struct pgmqd_msg *m)
{
	return g_hash_table_lookup(h->sendings, m);
}

/* Frees it; its mail must not be under way. */
static void sending_free(struct sending *s)
{
	httpmail_clear(&s->request);
	message_clear(&s->parsed);
	pgmqd_rendered_free(&s->rendered);
	g_free(s->original_to);
	g_free(s->subject);
	fetch_free(s->fetch);
	cJSON_Delete(s->variables);
	g_free(s->list_unsubscribe);
	g_free(s->feedback_id);
	g_free(s->envelope);
	g_free(s->key);
	g_free(s->message_id);
	g_free(s->seed);
	g_free(s->bytes);
	signing_free(s->signing);
	g_free(s->signed_bytes);
	g_free(s->stuffed);
	if (s->entry.ledger != NULL)
		ledger_clear(&s->entry);
	g_free(s);
}

/* Takes the mail back from its provider: its outcome is told no more. */
static void recall(struct sending *s)
{
	bool in_pool = s->state == SENDING_ANNOUNCED || s->state == SENDING_UNDER_WAY;

	if (s->way != NULL && s->state != SENDING_NEW)
		route_forget(s->way);
	if (in_pool && s->way->provider->request == NULL && s->mail.done != NULL)
		smtp_cancel(s->email->pool, &s->mail);
	s->mail.done = NULL;
	s->state = SENDING_NEW;
}

void sending_end(struct sending *s, const struct sending_outcome *o)
{
	struct pgmqd_msg *m = s->msg;
	const char *class = o->class != NULL ? o->class : "permanent";

	/* Out of the table first: settling may bring the next message in. */
	g_hash_table_steal(s->email->sendings, m);
	recall(s);
	if (s->entry.ledger != NULL && o->how != END_SENT && o->how != END_DONE)
		ledger_end(&s->entry, o->row, o->text);
	switch (o->how) {
	case END_SENT:
		ledger_sent(&s->entry, o->text, o->id);
		break;
	case END_DONE:
		pgmqd_msg_log(m, PGMQD_INFO, "%s message_id=<%s>", o->text, s->message_id);
		pgmqd_done(m);
		break;
	case END_FAILED:
		pgmqd_fail_as(m, class, "%s%s", o->text, o->row == LEDGER_MAYBE_SENT ? "; held" : "");
		break;
	case END_LATER:
		pgmqd_postpone(m, o->delay_ms, "%s", o->text);
		break;
	case END_AWAY:
		pgmqd_unavailable(m, o->delay_ms, "%s", o->text);
		break;
	case END_CONFIG:
		pgmqd_config_error(m, "%s", o->text);
		break;
	case END_RECALLED:
		break;
	}
	sending_free(s);
}

void sending_stop(struct sending *s, enum sending_end how, const char *class, int64_t delay_ms, const char *fmt, ...)
{
	struct sending_outcome o = { .how = how, .row = LEDGER_NOT_SENT, .class = class, .delay_ms = delay_ms };
	char *text;
	va_list ap;

	va_start(ap, fmt);
	o.text = text = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	sending_end(s, &o);
	g_free(text);
}
