/* quota.c: token buckets in this process; with limit_scope = cluster the same is kept in the database
 * (sql/041_mail_limits.sql). */
#include "config.h"

#include "quota.h"

#include <string.h>

#define PACE_MIN (1.0 / 60)
#define NEAR 0.95                        /* of the ceiling: up to there it goes fast, beyond that slowly */
#define FORGET_US (600 * G_USEC_PER_SEC) /* without a complaint: what was found out counts no more */
#define DOMAINS_MAX 10000

/* The bucket of a name, made when it is not there. */
static struct bucket *bucket_of(struct limits *l, const char *name)
{
	struct bucket *b;

	if (l->buckets == NULL)
		l->buckets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	if ((b = g_hash_table_lookup(l->buckets, name)) == NULL) {
		b = g_new0(struct bucket, 1);
		g_hash_table_insert(l->buckets, g_strdup(name), b);
	}
	return b;
}

/* At what rate tokens come in now. */
static double rate_of(const struct bucket *b)
{
	return b->pace > 0 ? b->pace : b->rate;
}

/* How many there can be. Two at least: one of them is never taken by bulk. A pace that was found out leaves no room for
 * bursts, which count with the other side. */
static double burst_of(const struct bucket *b)
{
	return MAX(b->pace > 0 ? b->pace / 10 : b->rate, 2.0);
}

/* Gives a bucket its rate, full at first. */
static void set_rate(struct bucket *b, double rate)
{
	b->rate = rate;
	b->tokens = burst_of(b);
}

/* Reads "20/s". False when it is none. */
static bool parse_rate(const char *text, double *per_second, uint64_t *per_day)
{
	static const struct {
		const char *unit;
		double seconds;
	} units[] = { { "s", 1 }, { "min", 60 }, { "h", 3600 }, { "d", 0 } };
	char *end;
	guint64 n = g_ascii_strtoull(text, &end, 10);

	if (!g_ascii_isdigit(text[0]) || n == 0 || n > 1000000000 || *end != '/')
		return false;
	for (size_t i = 0; i < G_N_ELEMENTS(units); i++)
		if (strcmp(end + 1, units[i].unit) == 0) {
			*per_second = units[i].seconds > 0 ? (double)n / units[i].seconds : 0;
			*per_day = units[i].seconds > 0 ? 0 : n;
			return true;
		}
	return false;
}

/* Whether a limit may stand under this name. */
static bool name_ok(const char *name)
{
	static const char *const providers[] = { "smtp", "resend", "sendgrid", "mailgun", "ses", "*", "recipient" };

	for (size_t i = 0; i < G_N_ELEMENTS(providers); i++)
		if (strcmp(name, providers[i]) == 0)
			return true;
	return strchr(name, '.') != NULL && strlen(name) <= 253 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == strlen(name);
}

char *limits_parse(struct limits *l, const char *text)
{
	char **entries = g_strsplit(text != NULL ? text : "", ",", -1), *reason = NULL;

	for (char **e = entries; *e != NULL && reason == NULL; e++) {
		char *entry = g_strstrip(*e), *gap = strpbrk(entry, " \t");
		double rate;
		uint64_t cap;

		if (*entry == '\0')
			continue;
		if (gap == NULL || !parse_rate(g_strchug(gap), &rate, &cap)) {
			reason = g_strdup_printf("\"%s\" is not like smtp 20/s (or /min, /h, /d)", entry);
			break;
		}
		*gap = '\0';
		g_strchomp(entry);
		entry[strcspn(entry, " \t")] = '\0';
		if (!name_ok(entry))
			reason = g_strdup_printf(
				"\"%s\" is no provider, no domain in small letters, not recipient, and not *", entry);
		else if (strcmp(entry, "*") == 0 && cap > 0)
			reason = g_strdup("* has no limit by the day");
		else if (strcmp(entry, "recipient") == 0 && cap == 0)
			reason = g_strdup("recipient has a limit by the day only");
		else if (strcmp(entry, "*") == 0)
			l->each_domain = rate;
		else if (strcmp(entry, "recipient") == 0)
			l->each_recipient = cap;
		else if (cap > 0)
			bucket_of(l, entry)->cap = cap;
		else
			set_rate(bucket_of(l, entry), rate);
	}
	g_strfreev(entries);
	return reason;
}

void limits_clear(struct limits *l)
{
	if (l->buckets != NULL)
		g_hash_table_destroy(l->buckets);
	memset(l, 0, sizeof(*l));
}

/* Lets a pace that was found out grow: in half a minute close to the ceiling, and from there by a hundredth in ten
 * seconds, so that what it costs to find a better one stays small. */
static void speed_up(struct bucket *b, gint64 now)
{
	double seconds = (double)(now - MAX(b->at, b->slowed_at)) / G_USEC_PER_SEC, near = b->ceiling * NEAR;

	if (b->pace <= 0 || seconds <= 0)
		return;
	if (b->pace < near) {
		double need = (near - b->pace) / (b->ceiling / 60);

		b->pace += MIN(seconds, need) * b->ceiling / 60;
		seconds -= need;
	}
	if (seconds > 0)
		b->pace *= 1 + MIN(seconds, 60.0) / 1000;
	if ((b->rate > 0 && b->pace >= b->rate) || now - b->slowed_at > FORGET_US)
		b->pace = 0;
}

/* Brings a bucket up to date. */
static void fill(struct bucket *b, gint64 now, int64_t day)
{
	if (b->day != day) {
		b->day = day;
		b->used = 0;
	}
	speed_up(b, now);
	if (rate_of(b) > 0 && now > b->at)
		b->tokens = MIN(burst_of(b), b->tokens + (double)(now - b->at) / G_USEC_PER_SEC * rate_of(b));
	b->at = MAX(b->at, now);
}

/* How long until a token can be had; 0: there is one. */
static int64_t wait_of(const struct bucket *b, bool bulk)
{
	double need = bulk ? burst_of(b) / 2 + 1 : 1;

	if (rate_of(b) <= 0 || b->tokens >= need)
		return 0;
	return (int64_t)((need - b->tokens) / rate_of(b) * 1000) + 1;
}

/* The same, one after the other: those that are sent away together do not come back together. */
static int64_t slot_of(struct bucket *b, bool bulk, gint64 now)
{
	int64_t wait = wait_of(b, bulk);
	gint64 at;

	if (wait == 0)
		return 0;
	at = MIN(MAX(now + wait * 1000, b->slot[bulk]), now + (gint64)3600 * G_USEC_PER_SEC);
	b->slot[bulk] = at + (gint64)(G_USEC_PER_SEC / rate_of(b));
	return (at - now) / 1000;
}

/* Whether the day's cap has been reached. */
static bool is_capped(const struct bucket *b, bool bulk)
{
	return b->cap > 0 && b->used >= (bulk ? b->cap - b->cap / 10 : b->cap);
}

/* Takes the token. */
static void take(struct bucket *b)
{
	if (rate_of(b) > 0)
		b->tokens -= 1;
	b->used++;
}

/* Drops domains whose buckets are full, which is all that a bucket knows. */
static gboolean is_idle(gpointer name, gpointer bucket, gpointer user)
{
	const struct bucket *b = bucket;

	(void)user;
	return strchr(name, '.') != NULL && strchr(name, '@') == NULL && b->cap == 0 && b->tokens >= burst_of(b) - 1;
}

/* A domain's bucket, NULL when its mails are not limited. */
static struct bucket *domain_bucket(struct limits *l, const char *domain)
{
	struct bucket *b = l->buckets != NULL ? g_hash_table_lookup(l->buckets, domain) : NULL;

	if (b == NULL && l->each_domain > 0) {
		if (l->buckets != NULL && g_hash_table_size(l->buckets) > DOMAINS_MAX)
			g_hash_table_foreach_remove(l->buckets, is_idle, NULL);
		b = bucket_of(l, domain);
		set_rate(b, l->each_domain);
	}
	return b;
}

/* Whether a bucket is a recipient's. */
static gboolean is_recipient(gpointer name, gpointer bucket, gpointer user)
{
	(void)bucket;
	(void)user;
	return strchr(name, '@') != NULL;
}

/* A recipient's bucket, NULL when recipients are not limited; those of another day are of no use any more. */
static struct bucket *recipient_bucket(struct limits *l, const char *recipient, int64_t day)
{
	struct bucket *b;

	if (l->each_recipient == 0)
		return NULL;
	if (l->recipients_day != day && l->buckets != NULL)
		g_hash_table_foreach_remove(l->buckets, is_recipient, NULL);
	l->recipients_day = day;
	b = bucket_of(l, recipient);
	b->cap = l->each_recipient;
	return b;
}

int64_t limits_take(struct limits *l, const char *provider, const char *domain, const char *recipient, bool bulk,
	gint64 now, int64_t day, int64_t to_midnight_ms, bool *capped)
{
	struct bucket *r = recipient != NULL ? recipient_bucket(l, recipient, day) : NULL;
	struct bucket *p = bucket_of(l, provider), *d = domain != NULL ? domain_bucket(l, domain) : NULL;
	int64_t wait;

	*capped = false;
	if (r != NULL) {
		fill(r, now, day);
		if (is_capped(r, bulk))
			return to_midnight_ms;
	}
	fill(p, now, day);
	*capped = is_capped(p, bulk);
	if (*capped)
		return to_midnight_ms;
	if (d != NULL)
		fill(d, now, day);
	wait = MAX(wait_of(p, bulk), d == NULL ? 0 : is_capped(d, bulk) ? to_midnight_ms : wait_of(d, bulk));
	if (wait > 0 && (bulk || wait > l->here_ms)) {
		wait = slot_of(p, bulk, now);
		return d == NULL ? wait : MAX(wait, is_capped(d, bulk) ? to_midnight_ms : slot_of(d, bulk, now));
	}
	take(p);
	if (d != NULL)
		take(d);
	if (r != NULL)
		take(r);
	return -wait;
}

bool limits_recipient_may(struct limits *l, const char *recipient, bool bulk, gint64 now, int64_t day)
{
	struct bucket *r = recipient_bucket(l, recipient, day);

	if (r == NULL)
		return true;
	fill(r, now, day);
	return !is_capped(r, bulk);
}

void limits_recipient_count(struct limits *l, const char *recipient, gint64 now, int64_t day)
{
	struct bucket *r = recipient_bucket(l, recipient, day);

	if (r == NULL)
		return;
	fill(r, now, day);
	take(r);
}

void limits_sent(struct limits *l, const char *provider, gint64 now)
{
	struct bucket *b = bucket_of(l, provider);

	if (now - b->second >= G_USEC_PER_SEC) {
		b->accepted_before = now - b->second < 2 * G_USEC_PER_SEC ? b->accepted : 0;
		b->accepted = 0;
		b->second = now;
	}
	b->accepted++;
}

/* How many the other side has taken over within a second of late. */
static double accepted_of(const struct bucket *b, gint64 now)
{
	return now - b->second < 2 * G_USEC_PER_SEC ? MAX(b->accepted, b->accepted_before) : 0;
}

double limits_slower(struct limits *l, const char *provider, gint64 now, bool *news)
{
	struct bucket *b = bucket_of(l, provider);
	double accepted = accepted_of(b, now), was;

	fill(b, now, b->day);
	was = rate_of(b);
	/* The answers to mails that were under way together count as one. */
	*news = b->slowed_at == 0 || now - b->slowed_at >= G_USEC_PER_SEC;
	if (!*news)
		return was;
	if (was <= 0)
		was = MAX(accepted, 1.0);
	b->ceiling = accepted > 0 ? MIN(was, accepted) : was;
	/* Where nothing was taken over of late, the limit is not one of seconds. */
	b->pace = MAX(accepted > 0 ? MAX(b->ceiling * 0.8, was / 4) : was / 2, PACE_MIN);
	b->slowed_at = b->at = now;
	b->tokens = -b->pace;
	b->slot[0] = b->slot[1] = 0;
	return b->pace;
}

int64_t limits_wait(struct limits *l, const char *provider, bool bulk, gint64 now)
{
	struct bucket *b = bucket_of(l, provider);

	fill(b, now, b->day);
	return slot_of(b, bulk, now);
}

void limits_of(const struct limits *l, const char *name, double *rate, uint64_t *cap)
{
	const struct bucket *b = l->buckets != NULL ? g_hash_table_lookup(l->buckets, name) : NULL;

	*rate = b != NULL ? b->rate : 0;
	*cap = b != NULL ? b->cap : 0;
	if (strchr(name, '@') != NULL)
		*cap = l->each_recipient;
	else if (b == NULL && strchr(name, '.') != NULL)
		*rate = l->each_domain;
}
