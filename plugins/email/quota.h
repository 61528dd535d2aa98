/* quota.h: how fast mails may go out: token buckets for providers and for recipients' domains, daily caps (of
 * recipients, too), and what an answer
 * such as 429 does to them. */
#ifndef EMAIL_QUOTA_H
#define EMAIL_QUOTA_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* One provider's or domain's allowance. Tokens come in at the pace, or else the rate, up to burst; a mail takes one.
 * Mails of a bulk class leave half of the burst, and a tenth of the day's cap, to the others. */
struct bucket {
	double rate;    /* as configured; 0: unlimited */
	double pace;    /* found out, after the other side said that it is too fast; 0: it has not */
	double ceiling; /* the pace at which it said so */
	double tokens;
	gint64 at;        /* when tokens were counted, µs */
	gint64 slowed_at; /* when it last said so */
	gint64 second; /* the last second in which mails were taken over, µs; and how many then, and in the one before
	                */
	unsigned accepted, accepted_before;
	uint64_t cap, used; /* a day; cap 0: none */
	int64_t day;        /* that `used` is of, days since 1970 (UTC) */
	gint64 slot[2];     /* when the next one that is sent away may come again; [1]: of bulk */
};

struct limits {
	GHashTable *buckets; /* name → struct bucket; a name with an @ is a recipient, one with a dot a recipient's
	                        domain */
	double each_domain;  /* rate of "*": of every domain that has none of its own; 0: unlimited */
	uint64_t each_recipient; /* cap of "recipient": a day, of every address; 0: none */
	int64_t here_ms;         /* a mail that is not bulk may take a token so long before it is there */
	int64_t recipients_day;  /* that the recipients in `buckets` are of */
};

/* Reads "smtp 20/s, smtp 5000/d, gmail.com 5/s, * 10/min, recipient 50/d". NULL, or what is wrong with it (g_malloc'd).
 */
char *limits_parse(struct limits *l, const char *text);
void limits_clear(struct limits *l);

/* Takes a token from the provider's bucket, and from those of the recipient's domain and of the recipient (small
 * letters; NULL: not of one), or from none. Returns 0; or below 0, in how many ms the token that was taken will be
 * there; or how many ms it will be until it is worth asking again, and in *capped whether the provider's day is over.
 * Times in µs. */
int64_t limits_take(struct limits *l, const char *provider, const char *domain, const char *recipient, bool bulk,
	gint64 now, int64_t day, int64_t to_midnight_ms, bool *capped);
/* Whether a further recipient of a mail may still have one today; and counts it. */
bool limits_recipient_may(struct limits *l, const char *recipient, bool bulk, gint64 now, int64_t day);
void limits_recipient_count(struct limits *l, const char *recipient, gint64 now, int64_t day);
/* The provider has taken a mail over. */
void limits_sent(struct limits *l, const char *provider, gint64 now);
/* The provider says that it was too fast: a pause of a second, and then less than what it has just taken over; more
 * again as long as it says nothing. Returns the pace that is left; *news: whether it is another one than before. */
double limits_slower(struct limits *l, const char *provider, gint64 now, bool *news);
/* How many ms it will be until it is worth asking for a token again. */
int64_t limits_wait(struct limits *l, const char *provider, bool bulk, gint64 now);

/* The configured rate and cap of a name; zeros: none. */
void limits_of(const struct limits *l, const char *name, double *rate, uint64_t *cap);

#endif
