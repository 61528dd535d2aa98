/* ledger.c: the mail ledger (table pgmqd.mail_log): asks before a mail goes out whether it did before, and writes down
 * how it went.
 *
 * A ledger that is missing, or that may not be written, must not keep mails from going out: that is said once, and
 * tried again now and then. A connection that is lost is waited for, since without it the message could not be settled
 * either.
 */
#include "config.h"

#include "ledger.h"

#include <event2/event.h>
#include <string.h>
#include <unistd.h>

#define OFF_US (60 * G_USEC_PER_SEC) /* between looks for a ledger that was not there */
#define AGAIN_MS 250                 /* between tries while the database is away */

#define SENT_MAX 10000 /* keys of mails that are remembered */
#define BATCH_MAX 50   /* no more at once, since all of them are handed on in one turn of the loop */

/* Mails that are asked about in one statement: one commit for all of them. */
struct ledger_batch {
	struct ledger *ledger;
	struct ledger_entry
		*owner;     /* whose message carries the query; when that goes, the others have to be asked again */
	GPtrArray *entries; /* NULL where one has gone */
};

static void on_flush(evutil_socket_t fd, short what, void *arg);

void ledger_start(struct ledger *l, struct pgmqd_worker *w)
{
	l->worker = w;
	g_queue_init(&l->waiting);
	g_queue_init(&l->sent_order);
	l->sent = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	l->flush = event_new(pgmqd_event_base(w), -1, 0, on_flush, l);
	if (l->flush == NULL)
		g_error("event_new: out of memory");
}

void ledger_stop(struct ledger *l)
{
	g_hash_table_destroy(l->sent);
	g_queue_clear(&l->sent_order);
	pgmqd_timer_cancel(l->again);
	event_free(l->flush);
	g_clear_pointer(&l->secret, g_free);
	l->again = NULL;
	l->flush = NULL;
}

/* Which mail it is, by the beginning of its key, and that the token is ours: all but the secret stands in the mail. */
char *ledger_bounce_token(const struct ledger *l, const char *key)
{
	char *mac, *token;

	if (l->secret == NULL)
		return NULL;
	mac = g_compute_hmac_for_string(G_CHECKSUM_SHA256, (const guchar *)l->secret, strlen(l->secret), key, -1);
	token = g_strdup_printf("%.12s%.20s", key, mac);
	g_free(mac);
	return token;
}

void ledger_entry_init(struct ledger_entry *e, struct ledger *l, struct pgmqd_msg *m, const char *key,
	const char *template, const char *message_id, const char *to)
{
	e->ledger = l;
	e->msg = m;
	e->key = g_strdup(key);
	e->template = g_strdup(template);
	e->message_id = g_strdup(message_id);
	e->to = g_strdup(to);
	e->resend = l->resend;
	/* Another one for each delivery of each process of each machine. */
	e->token = g_strdup_printf(
		"%d.%u.%" G_GINT64_FORMAT ".%08x", (int)getpid(), l->serial++, g_get_real_time(), g_random_int());
}

bool ledger_is_absence(const char *sqlstate)
{
	static const char *const codes[] = { "42P01", "42883", "3F000", "42501", "42703", "42704", "25006" };

	for (size_t i = 0; i < G_N_ELEMENTS(codes); i++)
		if (strcmp(sqlstate, codes[i]) == 0)
			return true;
	return false;
}

/* Has the question sent soon: those that come in the same turn of the loop go together. */
static void kick(struct ledger *l)
{
	event_active(l->flush, EV_TIMEOUT, 1);
}

/* Puts an entry in line. */
static void wait_in_line(struct ledger_entry *e, bool first)
{
	e->link = (GList){ .data = e };
	e->batch = NULL;
	e->is_waiting = true;
	if (first)
		g_queue_push_head_link(&e->ledger->waiting, &e->link);
	else
		g_queue_push_tail_link(&e->ledger->waiting, &e->link);
}

/* Frees a batch; with `again`, what is left of it is asked once more: the token tells that it is the same delivery. */
static void batch_free(struct ledger_batch *b, bool again, bool alone)
{
	for (guint i = b->entries->len; i > 0; i--) {
		struct ledger_entry *e = g_ptr_array_index(b->entries, i - 1);

		if (e == NULL)
			continue;
		e->batch = NULL;
		e->alone = e->alone || alone;
		if (again)
			wait_in_line(e, true);
	}
	g_ptr_array_free(b->entries, TRUE);
	g_free(b);
}

void ledger_clear(struct ledger_entry *e)
{
	struct ledger_batch *b = e->batch;

	if (e->is_waiting)
		g_queue_unlink(&e->ledger->waiting, &e->link);
	if (b != NULL) {
		g_ptr_array_index(b->entries, e->slot) = NULL;
		/* Its message takes the answer with it. */
		if (b->owner == e && b->ledger->flight == b) {
			b->ledger->flight = NULL;
			kick(b->ledger);
			batch_free(b, true, false);
		}
	}
	g_free(e->key);
	g_free(e->token);
	g_free(e->template);
	g_free(e->message_id);
	g_free(e->to);
	g_free(e->unsubscribe);
	memset(e, 0, sizeof(*e));
}

/* The database may be back. */
static void on_again(void *arg)
{
	struct ledger *l = arg;

	l->again = NULL;
	on_flush(-1, 0, l);
}

/* Tells one entry its answer. */
static void tell(struct ledger_entry *e, const char *value)
{
	enum ledger_answer is = LEDGER_GO;

	e->batch = NULL;
	e->answered = e->usable = true;
	if (g_str_has_prefix(value, "suppressed ")) {
		e->answer(e->arg, LEDGER_SUPPRESSED, NULL, value + strlen("suppressed "));
		return;
	}
	if (strcmp(value, "sent") == 0)
		is = LEDGER_SENT;
	else if (strcmp(value, "unknown") == 0)
		is = LEDGER_UNKNOWN;
	else if (strcmp(value, "busy") == 0)
		is = LEDGER_BUSY;
	else if (g_str_has_prefix(value, "again"))
		is = LEDGER_AGAIN;
	if (is == LEDGER_AGAIN)
		pgmqd_msg_log(e->msg, PGMQD_WARN,
			"the mail may have been sent before: sending it again with the same Message-ID");
	/* "again resend": the provider that may have it */
	e->answer(e->arg, is, is == LEDGER_AGAIN && value[5] == ' ' ? value + 6 : e->provider, NULL);
}

/* Tells all of a batch that there is no ledger, or that it cannot be written. */
static void tell_all(struct ledger_batch *b, enum ledger_answer is, const char *why)
{
	for (guint i = 0; i < b->entries->len; i++) {
		struct ledger_entry *e = g_ptr_array_index(b->entries, i);

		if (e == NULL)
			continue;
		/* Out of it first: the answer may end the entry. */
		g_ptr_array_index(b->entries, i) = NULL;
		e->batch = NULL;
		e->answered = true;
		e->answer(e->arg, is, e->provider, why);
	}
}

/* The question has failed. Takes the batch. */
static void on_error(struct ledger_batch *b, const char *error, const char *sqlstate)
{
	struct ledger *l = b->ledger;

	if (sqlstate[0] == '\0') {
		batch_free(b, true, false);
		l->again = pgmqd_timer(l->worker, AGAIN_MS, on_again, l);
	} else if (ledger_is_absence(sqlstate)) {
		if (!l->warned)
			pgmqd_log(PGMQD_WARN,
				"the mail ledger cannot be used, going on without (a mail may go out twice after a "
				"crash): %s; run pgmqd migrate, "
				"or set ledger = no",
				error);
		l->warned = true;
		l->off_until = g_get_monotonic_time() + OFF_US;
		tell_all(b, LEDGER_GO, NULL);
		batch_free(b, false, false);
	} else if (b->entries->len > 1) {
		/* One of them may be at fault: then only that one. */
		batch_free(b, true, true);
		kick(l);
	} else {
		tell_all(b, LEDGER_FAILED, error);
		batch_free(b, false, false);
	}
}

/* The answers to mail_begin. */
static void on_begin(void *arg, const struct pgmqd_result *r)
{
	struct ledger_batch *b = arg;
	struct ledger *l = b->ledger;

	l->flight = NULL;
	if (pgmqd_result_error(r) != NULL) {
		on_error(b, pgmqd_result_error(r), pgmqd_result_sqlstate(r));
		return;
	}
	l->warned = false;
	kick(l);
	if (l->wants_secret && l->secret == NULL && pgmqd_result_rows(r) > 0)
		l->secret = g_strdup(pgmqd_result_value(r, 0, 2));
	for (int row = 0; row < pgmqd_result_rows(r); row++) {
		guint64 nth = g_ascii_strtoull(pgmqd_result_value(r, row, 0), NULL, 10);
		struct ledger_entry *e = nth > 0 && nth <= b->entries->len ? g_ptr_array_index(b->entries, nth - 1)
		                                                           : NULL;

		/* An answer may have ended another one of them meanwhile, and may end its own. */
		if (e == NULL)
			continue;
		g_ptr_array_index(b->entries, nth - 1) = NULL;
		tell(e, pgmqd_result_value(r, row, 1));
	}
	batch_free(b, false, false);
}

void ledger_append(GString *list, const char *value)
{
	g_string_append_c(list, list->len == 0 ? '{' : ',');
	if (value == NULL) {
		g_string_append(list, "NULL");
		return;
	}
	g_string_append_c(list, '"');
	for (; *value != '\0'; value++) {
		if (*value == '"' || *value == '\\')
			g_string_append_c(list, '\\');
		g_string_append_c(list, *value);
	}
	g_string_append_c(list, '"');
}

/* Sends the question of a batch. */
static void send_batch(struct ledger_batch *b)
{
	enum { KEY, TOKEN, ID, TEMPLATE, MESSAGE_ID, TO, ATTEMPT, RESEND, PROVIDER, OPTIONAL, UNSUBSCRIBE, N };
	GString *lists[N];
	const char *params[N + 3];
	char number[32];

	for (int i = 0; i < N; i++)
		lists[i] = g_string_new(NULL);
	for (guint i = 0; i < b->entries->len; i++) {
		const struct ledger_entry *e = g_ptr_array_index(b->entries, i);

		ledger_append(lists[KEY], e->key);
		ledger_append(lists[TOKEN], e->token);
		g_snprintf(number, sizeof(number), "%" G_GINT64_FORMAT, pgmqd_msg_id(e->msg));
		ledger_append(lists[ID], number);
		ledger_append(lists[TEMPLATE], e->template);
		ledger_append(lists[MESSAGE_ID], e->message_id);
		ledger_append(lists[TO], e->to);
		g_snprintf(number, sizeof(number), "%u", pgmqd_msg_attempt(e->msg));
		ledger_append(lists[ATTEMPT], number);
		ledger_append(lists[RESEND], e->resend ? "t" : "f");
		ledger_append(lists[PROVIDER], e->provider);
		ledger_append(lists[OPTIONAL], e->optional ? "t" : "f");
		ledger_append(lists[UNSUBSCRIBE], e->unsubscribe);
	}
	for (int i = 0; i < N; i++)
		params[i] = g_string_append_c(lists[i], '}')->str;
	params[N] = pgmqd_msg_queue(b->owner->msg);
	params[N + 1] = b->ledger->safe;
	params[N + 2] = b->ledger->wants_secret && b->ledger->secret == NULL ? "t" : "f";
	pgmqd_query(b->owner->msg,
		"SELECT nth, answer, CASE WHEN $14::boolean THEN pgmqd.bounce_secret() END FROM "
		"pgmqd.mail_begin_many($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], "
		"$7::integer[], $8::boolean[], $9::text[], $10::boolean[], $11::text[], $12, $13)",
		N + 3, params, on_begin, b);
	for (int i = 0; i < N; i++)
		g_string_free(lists[i], TRUE);
}

/* Takes what waits into a question, unless one is under way. */
static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct ledger *l = arg;
	struct ledger_batch *b;
	struct ledger_entry *e;

	(void)fd;
	(void)what;
	if (l->flight != NULL || l->again != NULL || l->waiting.length == 0)
		return;
	b = g_new0(struct ledger_batch, 1);
	b->ledger = l;
	b->entries = g_ptr_array_new();
	while (l->waiting.length > 0 && b->entries->len < BATCH_MAX) {
		e = g_queue_peek_head(&l->waiting);
		if (e->alone && b->entries->len > 0)
			break;
		g_queue_unlink(&l->waiting, &e->link);
		e->is_waiting = false;
		e->asked = true;
		e->batch = b;
		e->slot = b->entries->len;
		g_ptr_array_add(b->entries, e);
		if (e->alone)
			break;
	}
	b->owner = g_ptr_array_index(b->entries, 0);
	l->flight = b;
	send_batch(b);
}

void ledger_begin(struct ledger_entry *e, const char *provider)
{
	e->provider = provider;
	if (g_get_monotonic_time() < e->ledger->off_until) {
		e->answered = true;
		e->answer(e->arg, LEDGER_GO, provider, NULL);
	} else {
		e->answered = false;
		wait_in_line(e, false);
		kick(e->ledger);
	}
}

#define SENT_SQL "SELECT pgmqd.mail_sent($1::text[], $2::text[], $3::text[], $4::text[])"

/* The names under which the ledger remembers the mail: its message, too, because the ledger may have forgotten the key
 * when another one comes with it. */
static char *name_of(const struct ledger_entry *e)
{
	return g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %s", (gint64)pgmqd_msg_id(e->msg),
		(gint64)pgmqd_msg_enqueued_us(e->msg), e->key);
}

/* Keeps in mind that a mail was sent, until the message is known to be settled; nobody says when that is. */
static void remember(struct ledger_entry *e)
{
	struct ledger *l = e->ledger;
	char *name = name_of(e);

	if (g_hash_table_contains(l->sent, name)) {
		g_free(name);
		return;
	}
	if (l->sent_order.length >= SENT_MAX)
		g_hash_table_remove(l->sent, g_queue_pop_head(&l->sent_order));
	g_hash_table_insert(l->sent, name, g_strdup(e->usable ? e->token : ""));
	g_queue_push_tail(&l->sent_order, name);
}

bool ledger_knows(struct ledger_entry *e)
{
	char *name = name_of(e);
	const char *token = g_hash_table_lookup(e->ledger->sent, name);
	const char *const values[] = { e->key, token, "250 (its message could not be settled then)", NULL };
	const char *params[G_N_ELEMENTS(values)];
	char *arrays[G_N_ELEMENTS(values)];

	g_free(name);
	if (token == NULL)
		return false;
	for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
		GString *s = g_string_new(NULL);

		ledger_append(s, values[i]);
		g_string_append_c(s, '}');
		params[i] = arrays[i] = g_string_free(s, FALSE);
	}
	if (token[0] != '\0')
		pgmqd_query(e->msg, SENT_SQL, G_N_ELEMENTS(params), params, NULL, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(arrays); i++)
		g_free(arrays[i]);
	return true;
}

void ledger_sent(struct ledger_entry *e, const char *reply, const char *id)
{
	const char *const params[] = { e->key, e->token, reply, id };

	if (e->ledger != NULL)
		remember(e);
	/* Together with others that are settled now: one statement closes all their rows. */
	if (e->usable)
		pgmqd_done_batch(e->msg, SENT_SQL, G_N_ELEMENTS(params), params);
	else
		pgmqd_done(e->msg);
}

void ledger_end(struct ledger_entry *e, enum ledger_end end, const char *reply)
{
	const char *const params[] = { e->key, e->token, end == LEDGER_MAYBE_SENT ? "unknown" : "failed", reply,
		end == LEDGER_REFUSED ? "t" : "f" };

	/* An entry whose answer was lost may be in the ledger already; statements of one connection keep their order.
	 */
	if (e->usable || (e->asked && !e->answered))
		pgmqd_query(e->msg, "SELECT pgmqd.mail_end($1, $2, $3, $4, $5::boolean)", G_N_ELEMENTS(params), params,
			NULL, NULL);
}
