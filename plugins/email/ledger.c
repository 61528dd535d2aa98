/* ledger.c: the mail ledger (table pgmqd.mail_log): asks before a mail goes out whether it did before, and writes down how it went.
 *
 * A ledger that is missing, or that may not be written, must not keep mails from going out: that is said once, and tried again now and then. A
 * connection that is lost is waited for, since without it the message could not be settled either.
 */
#include "config.h"

#include "ledger.h"

#include <string.h>
#include <unistd.h>

#define OFF_US (60 * G_USEC_PER_SEC) /* between looks for a ledger that was not there */
#define AGAIN_MS 250                  /* between tries while the database is away */

static void ask(struct ledger_entry *e);

void ledger_entry_init(struct ledger_entry *e, struct ledger *l, struct pgmqd_msg *m, const char *key, const char *template,
	const char *message_id, const char *to)
{
	e->ledger = l;
	e->msg = m;
	e->key = g_strdup(key);
	e->template = g_strdup(template);
	e->message_id = g_strdup(message_id);
	e->to = g_strdup(to);
	e->resend = l->resend;
	/* Another one for each delivery of each process of each machine. */
	e->token = g_strdup_printf("%d.%u.%" G_GINT64_FORMAT ".%08x", (int)getpid(), l->serial++, g_get_real_time(), g_random_int());
}

void ledger_clear(struct ledger_entry *e)
{
	pgmqd_timer_cancel(e->again);
	g_free(e->key);
	g_free(e->token);
	g_free(e->template);
	g_free(e->message_id);
	g_free(e->to);
	g_free(e->unsubscribe);
	memset(e, 0, sizeof(*e));
}

/* Whether the error means that there is no ledger for us: no table, function or schema, or no right to them. */
static bool is_absence(const char *sqlstate)
{
	static const char *const codes[] = { "42P01", "42883", "3F000", "42501", "42703", "42704", "25006" };

	for (size_t i = 0; i < G_N_ELEMENTS(codes); i++)
		if (strcmp(sqlstate, codes[i]) == 0)
			return true;
	return false;
}

/* Time to ask again. */
static void on_again(void *arg)
{
	struct ledger_entry *e = arg;

	e->again = NULL;
	ask(e);
}

/* The answer to mail_begin. */
static void on_begin(void *arg, const struct pgmqd_result *r)
{
	struct ledger_entry *e = arg;
	struct ledger *l = e->ledger;
	const char *error = pgmqd_result_error(r), *value;
	enum ledger_answer is = LEDGER_GO;

	if (error != NULL && pgmqd_result_sqlstate(r)[0] == '\0') {
		e->again = pgmqd_timer(l->worker, AGAIN_MS, on_again, e);
		return;
	}
	e->answered = true;
	if (error != NULL && is_absence(pgmqd_result_sqlstate(r))) {
		if (!l->warned)
			pgmqd_log(PGMQD_WARN,
				"the mail ledger cannot be used, going on without (a mail may go out twice after a crash): %s; run pgmqd migrate, "
				"or set ledger = no",
				error);
		l->warned = true;
		l->off_until = g_get_monotonic_time() + OFF_US;
		e->answer(e->arg, LEDGER_GO, NULL, NULL);
		return;
	}
	if (error != NULL) {
		e->answer(e->arg, LEDGER_FAILED, NULL, error);
		return;
	}
	e->usable = true;
	l->warned = false;
	value = pgmqd_result_value(r, 0, 0);
	if (g_strcmp0(value, "sent") == 0)
		is = LEDGER_SENT;
	else if (g_strcmp0(value, "unknown") == 0)
		is = LEDGER_UNKNOWN;
	else if (g_strcmp0(value, "busy") == 0)
		is = LEDGER_BUSY;
	else if (value != NULL && g_str_has_prefix(value, "suppressed ")) {
		e->answer(e->arg, LEDGER_SUPPRESSED, NULL, value + strlen("suppressed "));
		return;
	} else if (value != NULL && g_str_has_prefix(value, "again"))
		is = LEDGER_AGAIN;
	if (is == LEDGER_AGAIN)
		pgmqd_msg_log(e->msg, PGMQD_WARN, "the mail may have been sent before: sending it again with the same Message-ID");
	/* "again resend": the provider that may have it */
	e->answer(e->arg, is, is == LEDGER_AGAIN && value[5] == ' ' ? value + 6 : e->provider, NULL);
}

/* Sends mail_begin. */
static void ask(struct ledger_entry *e)
{
	char *id = g_strdup_printf("%" G_GINT64_FORMAT, pgmqd_msg_id(e->msg));
	char *attempt = g_strdup_printf("%u", pgmqd_msg_attempt(e->msg));
	const char *const params[] = { e->key, e->token, pgmqd_msg_queue(e->msg), id, e->template, e->message_id, e->to, attempt,
		e->resend ? "t" : "f", e->provider, e->ledger->safe,
		e->optional ? "t" : "f", e->unsubscribe };

	e->asked = true;
	pgmqd_query(e->msg, "SELECT pgmqd.mail_begin($1, $2, $3, $4::bigint, $5, $6, $7, $8::integer, $9::boolean, $10, $11, $12::boolean, $13)",
		G_N_ELEMENTS(params), params, on_begin, e);
	g_free(attempt);
	g_free(id);
}

void ledger_begin(struct ledger_entry *e, const char *provider)
{
	e->provider = provider;
	if (g_get_monotonic_time() < e->ledger->off_until) {
		e->answered = true;
		e->answer(e->arg, LEDGER_GO, provider, NULL);
	} else {
		e->answered = false;
		ask(e);
	}
}

void ledger_sent(struct ledger_entry *e, const char *reply, const char *id)
{
	const char *const params[] = { e->key, e->token, reply, id };

	/* Together with others that are settled now: one statement closes all their rows. */
	if (e->usable)
		pgmqd_done_batch(e->msg, "SELECT pgmqd.mail_sent($1::text[], $2::text[], $3::text[], $4::text[])", G_N_ELEMENTS(params), params);
	else
		pgmqd_done(e->msg);
}

void ledger_end(struct ledger_entry *e, enum ledger_end end, const char *reply)
{
	const char *const params[] = { e->key, e->token, end == LEDGER_MAYBE_SENT ? "unknown" : "failed", reply,
		end == LEDGER_NO_MAILBOX ? "t" : "f" };

	/* What was asked and not answered may be in the ledger already; statements of one connection keep their order. */
	if (e->usable || (e->asked && !e->answered))
		pgmqd_query(e->msg, "SELECT pgmqd.mail_end($1, $2, $3, $4, $5::boolean)", G_N_ELEMENTS(params), params, NULL, NULL);
}
