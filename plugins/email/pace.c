/* pace.c: lets a mail go when the limits allow it: at once, after a short wait here, or after a longer one in its
 * queue.
 *
 * A mail that waits here keeps a place of max_in_flight, so bulk never does: it goes back to the queue and leaves the
 * place to the others.
 */
#include "config.h"

#include "pace.h"

#include "quota.h"
#include "route.h"

#include <string.h>

#define HERE_MS 1000
#define AWAY_MAX_MS (60 * 60 * 1000)
#define DAY_US ((gint64)24 * 3600 * G_USEC_PER_SEC)

/* Whether mails of this kind give way to others. */
static bool is_bulk(const struct sending *s)
{
	return s->kind != MAIL_TRANSACTIONAL;
}

static void ask(struct sending *s);

/* The wait here is over. */
static void on_again(void *arg)
{
	ask(arg);
}

/* The token that was taken is there; the provider may have gone away meanwhile. */
static void on_token(void *arg)
{
	struct sending *s = arg;
	int64_t wait;

	if (s->way->state == WAY_CLOSED || route_may(s->way, &wait) || s->way->probing)
		s->paced(s);
	else
		s->away(s, wait);
}

/* Not yet. */
static void put_off(struct sending *s, int64_t wait_ms, const char *why)
{
	route_forget(s->way);
	if (wait_ms <= HERE_MS && !is_bulk(s) && pgmqd_msg_timer(s->msg, wait_ms, on_again, s) != NULL)
		return;
	sending_stop(s, END_LATER, NULL, MIN(wait_ms, AWAY_MAX_MS), "%s: %s", s->way->provider->name, why);
}

/* The day is over for this provider: the next one may have some of its day left. */
static void capped(struct sending *s, int64_t wait_ms)
{
	struct email *h = s->email;
	struct way *next = NULL;
	int64_t wait;

	if (!s->pinned) {
		s->tried |= route_bit(&h->routes, s->way);
		next = route_choose(&h->routes, &h->route[s->kind], s->tried, &wait);
	}
	if (next == NULL) {
		put_off(s, wait_ms, "the limit of the day is reached");
		return;
	}
	route_forget(s->way);
	s->way = next;
	ask(s);
}

/* The database's answer. */
static void on_cluster(void *arg, const struct pgmqd_result *r)
{
	struct sending *s = arg;
	const char *value = pgmqd_result_error(r) == NULL ? pgmqd_result_value(r, 0, 0) : NULL;
	int64_t wait = value != NULL ? g_ascii_strtoll(value, NULL, 10) : 0;

	if (pgmqd_result_error(r) != NULL && pgmqd_result_sqlstate(r)[0] == '\0')
		put_off(s, HERE_MS, "the shared limits cannot be asked now");
	else if (pgmqd_result_error(r) != NULL)
		put_off(s, 30000, pgmqd_result_error(r));
	else if (wait < 0)
		capped(s, -wait);
	else if (wait > 0)
		/* The others that are sent away now should not all be back at the same moment. */
		put_off(s, wait + g_random_int_range(0, (gint32)MIN(wait, AWAY_MAX_MS) + 1),
			"the limit of the rate is reached");
	else
		s->paced(s);
}

/* Adds a name to a list in the database's own form; an address may have quotes. */
static void add_name(GString *list, const char *name)
{
	g_string_append(list, list->len > 1 ? ",\"" : "\"");
	for (const char *p = name; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			g_string_append_c(list, '\\');
		g_string_append_c(list, *p);
	}
	g_string_append_c(list, '"');
}

/* Asks the database for tokens of what is limited by the settings. False: nothing is. */
static bool ask_cluster(struct sending *s, const char *domain, char *const *recipients)
{
	GPtrArray *names = g_ptr_array_new();
	GString *list = g_string_new("{"), *rates = g_string_new("{"), *caps = g_string_new("{");
	char number[G_ASCII_DTOSTR_BUF_SIZE];
	bool any = false;

	g_ptr_array_add(names, (gpointer)s->way->provider->name);
	g_ptr_array_add(names, (gpointer)domain);
	for (; *recipients != NULL; recipients++)
		g_ptr_array_add(names, *recipients);
	for (guint i = 0; i < names->len; i++) {
		double rate;
		uint64_t cap;

		limits_of(&s->email->limits, names->pdata[i], &rate, &cap);
		if (rate <= 0 && cap == 0 && i > 0)
			continue;
		any = any || rate > 0 || cap > 0;
		add_name(list, names->pdata[i]);
		g_string_append_printf(rates, "%s%s", i > 0 ? "," : "", g_ascii_dtostr(number, sizeof(number), rate));
		g_string_append_printf(caps, "%s%" G_GUINT64_FORMAT, i > 0 ? "," : "", (guint64)cap);
	}
	g_ptr_array_free(names, TRUE);
	g_string_append_c(list, '}');
	g_string_append_c(rates, '}');
	g_string_append_c(caps, '}');
	if (any) {
		const char *const params[] = { list->str, rates->str, caps->str, is_bulk(s) ? "t" : "f" };

		pgmqd_query(s->msg,
			"SELECT pgmqd.mail_limit_take($1::text[], $2::double precision[], $3::bigint[], $4::boolean)",
			G_N_ELEMENTS(params), params, on_cluster, s);
	}
	g_string_free(list, TRUE);
	g_string_free(rates, TRUE);
	g_string_free(caps, TRUE);
	return any;
}

/* The same in this process: from the buckets of the provider, of the first recipient's domain, and of each recipient.
 */
static int64_t ask_here(struct sending *s, const char *domain, char *const *recipients, bool *over)
{
	struct limits *l = &s->email->limits;
	gint64 now = g_get_monotonic_time(), real = g_get_real_time(), day = real / DAY_US;
	int64_t to_midnight = (DAY_US - real % DAY_US) / 1000 + 1, wait;

	for (char *const *r = recipients + 1; *r != NULL; r++)
		if (!limits_recipient_may(l, *r, is_bulk(s), now, day))
			return to_midnight;
	wait = limits_take(l, s->way->provider->name, domain, recipients[0], is_bulk(s), now, day, to_midnight, over);
	for (char *const *r = recipients + 1; *r != NULL && wait <= 0; r++)
		limits_recipient_count(l, *r, now, day);
	return wait;
}

/* Asks for a token. */
static void ask(struct sending *s)
{
	char *all = recipients_join(&s->parsed.rcpt), *small = g_ascii_strdown(all, -1),
	     **recipients = g_strsplit(small, ",", -1);
	const char *domain = strrchr(recipients[0], '@') + 1;
	bool over = false, asked = false;
	int64_t wait = 0;

	route_begin(s->way);
	if (s->email->limits_shared)
		asked = ask_cluster(s, domain, recipients);
	else
		wait = ask_here(s, domain, recipients, &over);
	g_strfreev(recipients);
	g_free(small);
	g_free(all);
	if (asked)
		return;
	if (over)
		capped(s, wait);
	else if (wait > 0)
		put_off(s, wait, "the limit of the rate is reached");
	else if (wait == 0 || pgmqd_msg_timer(s->msg, -wait, on_token, s) == NULL)
		s->paced(s);
}

void pace_ask(struct sending *s, void (*go)(struct sending *s), void (*away)(struct sending *s, int64_t wait_ms))
{
	s->state = SENDING_PACED;
	s->paced = go;
	s->away = away;
	s->email->limits.here_ms = HERE_MS;
	ask(s);
}

int64_t pace_slower(struct sending *s)
{
	const char *name = s->way->provider->name;
	const char *const params[] = { name };
	gint64 now = g_get_monotonic_time();
	bool news;
	double left;

	if (s->email->limits_shared) {
		pgmqd_query(s->msg, "SELECT pgmqd.mail_limit_halve($1)", 1, params, NULL, NULL);
		return -1;
	}
	left = limits_slower(&s->email->limits, name, now, &news);
	if (news)
		pgmqd_log(PGMQD_WARN, "provider %s: too fast, going on with %.3g mails a second at most", name, left);
	return limits_wait(&s->email->limits, name, is_bulk(s), now);
}
