/* delivery.c: moves a mail from state to state: paced, asked or announced, under way, ended.
 *
 * Everything that can be wrong with a message comes out before a provider is involved. The ledger is asked while the
 * SMTP server hears sender and recipients; only the mail itself waits for its answer. */
#include "config.h"

#include "delivery.h"

#include "compose.h"
#include "fetch.h"
#include "httpmail.h"
#include "outcome.h"
#include "pace.h"
#include "reply.h"
#include "route.h"
#include "safety.h"
#include "sending.h"

#include <string.h>

#define LAST_HOUR_MS (60 * 60 * 1000)
#define LAST_TRY_MS 30000
#define LARGE ((size_t)1 << 20) /* bytes of attachments */

static void on_paced(struct sending *s);

/* ---- the ends ---- */

/* Whether no kind of mail can go out now; *wait_ms: until the first can. */
static bool all_away(struct email *h, int64_t *wait_ms)
{
	int64_t least = G_MAXINT64;

	for (unsigned kind = 0; kind < MAIL_KINDS; kind++) {
		if (route_choose(&h->routes, &h->route[kind], 0, wait_ms) != NULL)
			return false;
		least = MIN(least, *wait_ms);
	}
	*wait_ms = least;
	return true;
}

/* No provider of this mail's route can be used for so long: the queue waits, or the mail alone where others can go. */
static void wait_for_provider(struct sending *s, struct way *way, int64_t wait_ms)
{
	char *text = route_describe(way);
	int64_t wait;

	if (all_away(s->email, &wait))
		sending_stop(s, END_AWAY, NULL, wait, "%s", text);
	else
		sending_stop(s, END_LATER, NULL, wait_ms, "%s", text);
	g_free(text);
}

/* The provider went away while the mail waited for its turn. */
static void on_away(struct sending *s, int64_t wait_ms)
{
	wait_for_provider(s, s->way, wait_ms);
}

/* Puts the mail off, unless there is no time left for another try. */
static void later(struct sending *s, struct sending_outcome *o)
{
	int64_t left = compose_time_left(s), age = (g_get_real_time() - s->due) / 1000, least = o->delay_ms;
	char *text = NULL;

	/* The queue's own delay could be longer than the time that is left: the server's last answer would be lost. */
	if (o->delay_ms < 0 && left <= MIN(age, LAST_HOUR_MS)) {
		o->delay_ms = left / 2;
		least = MIN(age / 10, LAST_TRY_MS);
	}
	if (left <= MAX(least, 0)) {
		o->how = END_FAILED;
		o->class = "expired";
		o->text = text = g_strdup_printf("%s; its time is up", o->text);
	}
	sending_end(s, o);
	g_free(text);
}

/* ---- the provider ---- */

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
	pace_ask(s, on_paced, on_away);
	return true;
}

/* Says in the log what has gone out. */
static void log_sent(const struct sending *s, const struct mail_result *result)
{
	pgmqd_msg_log(s->msg, PGMQD_INFO,
		"sent template=%s provider=%s message_id=<%s> bytes=%zu ms=%" G_GINT64_FORMAT " reply=\"%s\"",
		s->parsed.template != NULL ? s->parsed.template : "-", s->way->provider->name, s->message_id, s->len,
		(g_get_monotonic_time() - s->started) / 1000, result->text);
}

/* Of a mail to several, those who were refused for good: their addresses are kept from the log. */
static void tell_refused(struct sending *s)
{
	GString *addresses = g_string_new(NULL), *statuses = g_string_new(NULL);
	const char *params[2];

	for (size_t i = 0; s->recipients[i] != NULL; i++) {
		if (s->mail.refused[i][0] == '\0')
			continue;
		ledger_append(addresses, s->recipients[i]);
		ledger_append(statuses, s->mail.refused[i]);
	}
	params[0] = g_string_append_c(addresses, '}')->str;
	params[1] = g_string_append_c(statuses, '}')->str;
	if (statuses->len > 1)
		pgmqd_query(s->msg, "SELECT pgmqd.mail_refused($1::text[], $2::text[])", 2, params, NULL, NULL);
	g_string_free(addresses, TRUE);
	g_string_free(statuses, TRUE);
}

/* Ends the mail by the result of its provider, or hands it to the next one. */
static void judged(struct sending *s, const struct mail_result *result)
{
	struct email *h = s->email;
	struct way *way = s->way;
	struct sending_outcome o;
	int64_t wait = 0, slower = -1;
	bool closed;

	s->mail.done = NULL;
	s->state = SENDING_PACED;
	route_end(&h->routes, way, result);
	if (result->is == MAIL_SENT)
		limits_sent(&h->limits, way->provider->name, g_get_monotonic_time());
	else if (result->is == MAIL_SLOWER)
		slower = pace_slower(s);
	closed = !route_may(way, &wait) && result->is != MAIL_SENT && result->is != MAIL_PERMANENT;
	if ((result->is == MAIL_CONFIG || (closed && result->is != MAIL_UNKNOWN)) && fail_over(s, result))
		return;
	o = outcome_of_result(s, result);
	if (s->parsed.rcpt.n > 1 && way->provider->request == NULL && s->entry.ledger != NULL) {
		tell_refused(s);
		o.row = o.row == LEDGER_REFUSED ? LEDGER_NOT_SENT : o.row;
	}
	if (result->is == MAIL_SLOWER)
		o.delay_ms = MAX(o.delay_ms, slower);
	if (o.how == END_SENT)
		log_sent(s, result);
	if (o.how == END_LATER && closed && (result->is == MAIL_UNREACHED || result->is == MAIL_QUOTA))
		wait_for_provider(s, way, wait);
	else if (o.how == END_LATER)
		later(s, &o);
	else
		sending_end(s, &o);
}

/* The provider is through with the mail. A refusal by a rule of its own may concern every mail. */
static void on_result(void *arg, const struct mail_result *result)
{
	struct sending *s = arg;
	struct doubt *doubt = &s->way->doubt;
	struct mail_result r = *result;

	r.text = g_strdup(result->text);
	/* A sender that the message has chosen is the message's affair, until others are refused, too. */
	if (r.is == MAIL_CONFIG && r.of_sender && s->parsed.from.address != NULL)
		r.is = MAIL_POLICY;
	if (r.is == MAIL_SENT)
		doubt_taken(doubt);
	else if (r.is == MAIL_POLICY || r.is == MAIL_POLICY_VAGUE)
		doubt_judge(doubt, s->key, s->parsed.rcpt.list[0].mailbox.address, &r);
	judged(s, &r);
	g_free(r.text);
}

/* Puts the mail into the pool; `held`: no byte of it goes out yet. */
static void announce(struct sending *s, bool held)
{
	struct email *h = s->email;
	const char *bytes = s->signed_bytes != NULL ? s->signed_bytes : s->bytes;

	if (s->parsed.tags.n + s->parsed.metadata.n > 0)
		compose_warn_once(s, "tags, metadata", "a mail server takes no labels, mail services do; left out");
	if (s->stuffed == NULL)
		s->stuffed = reply_stuff_dots(bytes, s->signed_bytes != NULL ? s->signed_len : s->len, &s->mail.len);
	s->mail.from = s->parts.from;
	if (h->bounce_checked != NULL) {
		const char *at = strchr(h->bounce_checked, '@');
		char *token = ledger_bounce_token(&h->ledger, s->key);

		/* Without a ledger nobody could tell whose bounce it is. */
		g_free(s->envelope);
		s->mail.from = s->envelope = g_strdup_printf("%.*s%s%s%s", (int)(at - h->bounce_checked),
			h->bounce_checked, token != NULL ? "+" : "", token != NULL ? token : "", at);
		g_free(token);
	}
	for (size_t i = 0; i < s->parsed.rcpt.n; i++)
		s->recipients[i] = s->parsed.rcpt.list[i].mailbox.address;
	s->recipients[s->parsed.rcpt.n] = NULL;
	memset(s->mail.refused, 0, sizeof(s->mail.refused));
	/* When half of its time is over, those who take it get it without the others. */
	s->mail.partial = s->parsed.rcpt.n > 1 && compose_time_left(s) <= (g_get_real_time() - s->due) / 1000;
	s->mail.to = s->recipients;
	s->mail.data = s->stuffed;
	s->mail.done = on_result;
	s->mail.arg = s;
	s->mail.held = held;
	s->mail.bulk = s->kind != MAIL_TRANSACTIONAL;
	smtp_send(h->pool, &s->mail);
}

/* Gives the mail to its provider. */
static void hand_over(struct sending *s)
{
	struct provider_mail mail = { .parts = &s->parts, .bytes = s->bytes, .len = s->len, .key = s->key };
	bool announced = s->state == SENDING_ANNOUNCED;

	s->state = SENDING_UNDER_WAY;
	if (s->way->provider->request != NULL)
		httpmail_send(s->email, s->msg, s->way->provider, &mail, &s->request, on_result, s);
	else if (announced)
		smtp_release(&s->mail);
	else
		announce(s, false);
}

/* ---- the ledger ---- */

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
	s->state = SENDING_NEW;
	wait_for_provider(s, way, wait);
	return false;
}

/* The ledger has answered. */
static void on_ledger(void *arg, enum ledger_answer is, const char *provider, const char *why)
{
	struct sending *s = arg;
	struct sending_outcome o;
	char *text = NULL;

	if (is == LEDGER_GO || is == LEDGER_AGAIN) {
		if (is == LEDGER_GO || pin(s, provider))
			hand_over(s);
		return;
	}
	if (is == LEDGER_SUPPRESSED)
		text = g_strdup_printf("suppressed (%s): not sent template=%s", why,
			s->parsed.template != NULL ? s->parsed.template : "-");
	else if (is == LEDGER_FAILED)
		text = g_strdup_printf("the mail ledger could not be written: %s", why);
	o = outcome_of_ledger(is, text);
	sending_end(s, &o);
	g_free(text);
}

/* Gets the ledger's row ready. */
static void prepare_entry(struct sending *s)
{
	struct email *h = s->email;

	ledger_entry_init(&s->entry, &h->ledger, s->msg, s->key, s->parsed.template, s->message_id,
		s->parsed.rcpt.list[0].mailbox.address);
	s->entry.answer = on_ledger;
	s->entry.arg = s;
	s->entry.resend = s->entry.resend || s->was_held;
	s->entry.optional = s->kind == MAIL_REMINDER;
	if (s->entry.optional && h->unsubscribe_url != NULL && h->unsubscribe_url[0] != '\0')
		s->entry.unsubscribe = compose_unsubscribe_token(s);
}

/* ---- the way ---- */

/* The mail is made, and signed: the ledger is asked. */
static void on_made(struct sending *s, bool first)
{
	bool mail_server = s->way->provider->request == NULL;

	s->state = SENDING_ASKED;
	if (s->entry.ledger == NULL) {
		hand_over(s);
		return;
	}
	/* The sender has to be known by then. */
	if (mail_server && first && !s->repeated &&
		(s->email->bounce_checked == NULL || s->email->ledger.secret != NULL)) {
		announce(s, true);
		s->state = SENDING_ANNOUNCED;
	}
	ledger_begin(&s->entry, s->way->provider->name);
}

/* Whether the mail is so large that others have their turn between the steps in which it is made. */
static bool is_large(const struct sending *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->parsed.nattachments; i++)
		n += s->parsed.attachments[i].len;
	return n > LARGE;
}

/* Goes on with the mail, at once or in a turn of its own. */
static void go_on(struct sending *s, void (*step)(void *arg))
{
	if (is_large(s))
		(void)pgmqd_msg_timer(s->msg, 1, step, s);
	else
		step(s);
}

/* Signs the mail, a large one a piece at a time. */
static void sign(void *arg)
{
	struct sending *s = arg;
	char *reason;

	if (!compose_sign(s, &reason)) {
		(void)pgmqd_msg_timer(s->msg, 1, sign, s);
	} else if (reason != NULL) {
		sending_stop(s, END_CONFIG, NULL, 0, "%s", reason);
		g_free(reason);
	} else {
		on_made(s, true);
	}
}

/* Makes the mail. */
static void make(void *arg)
{
	struct sending *s = arg;
	bool config = false;
	char *reason = compose_end(s, &config);

	if (reason != NULL) {
		sending_stop(s, config ? END_CONFIG : END_FAILED, s->fail_class, 0, "%s", reason);
		g_free(reason);
	} else {
		go_on(s, sign);
	}
}

/* The limits allow it. */
static void on_paced(struct sending *s)
{
	if (s->bytes == NULL)
		go_on(s, make);
	else
		on_made(s, false);
}

/* Writes the mail into a file instead of sending it; the ledger does not hear of it. */
static void dry_run(struct sending *s)
{
	bool config = false;
	char *reason = compose_end(s, &config);

	if (reason == NULL) {
		while (!compose_sign(s, &reason))
			;
		config = reason != NULL;
	}
	if (reason == NULL && (reason = safety_write(s)) != NULL)
		config = true;
	if (reason != NULL)
		sending_stop(s, config ? END_CONFIG : END_FAILED, s->fail_class, 0, "%s", reason);
	else
		sending_stop(s, END_DONE, NULL, 0, "dry run: written, not sent");
	g_free(reason);
}

/* Everything is there: the mail may go to a provider. */
static void on_fetched(struct sending *s)
{
	struct email *h = s->email;
	int64_t wait;

	if (h->dry_run != NULL && h->dry_run[0] != '\0')
		dry_run(s);
	else if ((s->way = route_choose(&h->routes, &h->route[s->kind], 0, &wait)) == NULL)
		wait_for_provider(s, h->route[s->kind].ways[0], wait);
	else
		pace_ask(s, on_paced, on_away);
}

/* The database's verdict on each of several recipients: those who get no such mail are taken out. */
static void on_recipients(void *arg, const struct pgmqd_result *r)
{
	struct sending *s = arg;
	const char *error = pgmqd_result_error(r);
	char *why = NULL;

	if (error != NULL && !ledger_is_absence(pgmqd_result_sqlstate(r))) {
		sending_stop(s, END_LATER, NULL, -1, "the recipients cannot be looked up: %s", error);
		return;
	}
	for (int row = error == NULL ? pgmqd_result_rows(r) : 0; row-- > 0;) {
		const char *reason = pgmqd_result_value(r, row, 0);

		if (reason == NULL)
			continue;
		pgmqd_msg_log(s->msg, PGMQD_INFO, "suppressed (%s): one of the recipients gets no mail", reason);
		g_free(why);
		why = g_strdup(reason);
		recipients_drop(&s->parsed.rcpt, (size_t)row);
	}
	if (recipients_any_to(&s->parsed.rcpt)) {
		g_free(s->entry.to);
		s->entry.to = g_strdup(s->parsed.rcpt.list[0].mailbox.address);
		fetch_begin(s, on_fetched);
	} else {
		sending_stop(s, END_DONE, NULL, 0, "suppressed (%s): not sent", why);
	}
	g_free(why);
}

/* Asks the database about several recipients. */
static void look_up(struct sending *s)
{
	GString *list = g_string_new(NULL);
	const char *params[3] = { s->key, NULL, s->entry.optional ? "t" : "f" };

	for (size_t i = 0; i < s->parsed.rcpt.n; i++)
		ledger_append(list, s->parsed.rcpt.list[i].mailbox.address);
	params[1] = g_string_append_c(list, '}')->str;
	pgmqd_query(s->msg,
		"SELECT reason FROM unnest(pgmqd.mail_to_several($1, $2::text[], $3::boolean)) WITH ORDINALITY "
		"u (reason, n) ORDER BY n",
		3, params, on_recipients, s);
	g_string_free(list, TRUE);
}

/* Takes out the recipients whom the settings do not allow. False: nobody is left, and the message is settled. */
static bool keep_allowed(struct sending *s)
{
	for (size_t i = s->parsed.rcpt.n; i-- > 0;)
		if (!safety_allows(s->email, s->parsed.rcpt.list[i].mailbox.address))
			recipients_drop(&s->parsed.rcpt, i);
	if (recipients_any_to(&s->parsed.rcpt))
		return true;
	sending_stop(s, END_DONE, NULL, 0, "not sent: the recipient's domain is not among allow_domains");
	return false;
}

void delivery_begin(struct email *h, struct pgmqd_msg *m)
{
	struct sending *s = sending_new(h, m);
	char *reason;

	if ((reason = compose_begin(s)) != NULL) {
		sending_stop(s, END_FAILED, s->fail_class, 0, "%s", reason);
		g_free(reason);
		return;
	}
	if (!keep_allowed(s))
		return;
	if (h->use_ledger && (h->dry_run == NULL || h->dry_run[0] == '\0')) {
		prepare_entry(s);
		if (ledger_knows(&s->entry))
			sending_stop(s, END_DONE, NULL, 0, "sent before, by this worker: not sent again");
		else if (s->parsed.rcpt.n > 1)
			look_up(s);
		else
			fetch_begin(s, on_fetched);
		return;
	}
	fetch_begin(s, on_fetched);
}

void delivery_cancel(struct email *h, struct pgmqd_msg *m)
{
	struct sending_outcome o = {
		.how = END_RECALLED, .row = LEDGER_NOT_SENT, .text = "taken back before the answer"
	};
	struct sending *s = sending_find(h, m);

	if (s == NULL)
		return;
	if (s->state == SENDING_UNDER_WAY && (s->way->provider->request != NULL || smtp_may_have_arrived(&s->mail)))
		o.row = LEDGER_MAYBE_SENT;
	sending_end(s, &o);
}
