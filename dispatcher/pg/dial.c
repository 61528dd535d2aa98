/* dial.c: the places that a connection string names, tried one after the other, each for a limited time.
 *
 * libpq can do that only while it blocks: begun asynchronously, it waits for the first silent host for ever, and it
 * looks names up within the call. So each attempt names one place: the host as written (TLS and .pgpass compare it), an
 * address of it, and a port.
 */
#include "config.h"

#include "pg/dial.h"

#include "base/backoff.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/pgstart.h"
#include "pg/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ONE_PLACE_MS 10000 /* for the only place there is */
#define ALL_PLACES_MS 9000 /* for all but the last, in a first round */
#define PLACE_MIN_MS 1000  /* in a first round; each failed round doubles it */
#define PLACE_MAX_MS 3000
#define ROUNDS_MAX 3

struct dial {
	struct event_base *base;
	char *conninfo, *application_name;
	struct pgtarget target;
	struct pgplace *places;
	size_t nplaces, at; /* at: the next one */
	unsigned rounds;    /* that failed */
	struct resolve *resolve;
	struct event *later;
	char *where, *resolve_error;
	struct pgplace avoided; /* comes last in the next round; no host, no address: none */
	bool with_session;
	struct session session;
	dial_cb cb;
	void *arg;
};

/* Frees what a place has. */
static void place_clear(struct pgplace *p)
{
	free(p->host);
	free(p->hostaddr);
	free(p->port);
	memset(p, 0, sizeof(*p));
}

/* Frees the places. */
static void dial_forget(struct dial *d)
{
	for (size_t i = 0; i < d->nplaces; i++)
		place_clear(&d->places[i]);
	free(d->places);
	d->places = NULL;
	d->nplaces = d->at = 0;
	pgtarget_free(&d->target);
}

/* Element `i` of a list with commas; NULL when it is empty or not there. */
static char *list_element(const char *list, size_t i)
{
	for (; list && i > 0; i--)
		list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL;
	return list && strcspn(list, ",") ? xstrndup(list, strcspn(list, ",")) : NULL;
}

/* How many elements a list has. */
static size_t list_length(const char *list)
{
	size_t n = list != NULL;

	for (; list && (list = strchr(list, ',')) != NULL; list++)
		n++;
	return n;
}

/* Mixes the places, for load_balance_hosts=random. */
static void dial_shuffle(struct dial *d)
{
	for (size_t i = d->nplaces; i > 1; i--) {
		size_t k = backoff_random() % i;
		struct pgplace p = d->places[k];

		d->places[k] = d->places[i - 1];
		d->places[i - 1] = p;
	}
}

void dial_restart(struct dial *d)
{
	const struct pgtarget *t = &d->target;
	size_t hosts, addresses, ports;

	dial_forget(d);
	pgtarget_read(&d->target, d->conninfo);
	hosts = list_length(t->host);
	addresses = list_length(t->hostaddr);
	ports = list_length(t->port);
	d->nplaces = hosts > addresses ? hosts : addresses;
	/* lists that do not fit together, or none at all: libpq takes the string as it is, or says what is wrong with
	 * it */
	if ((hosts && addresses && hosts != addresses) || (ports > 1 && ports != d->nplaces))
		d->nplaces = 0;
	d->places = xcalloc(d->nplaces ? d->nplaces : 1, sizeof(*d->places));
	for (size_t i = 0; i < d->nplaces; i++)
		d->places[i] = (struct pgplace){ .host = list_element(t->host, i),
			.hostaddr = list_element(t->hostaddr, i),
			.port = list_element(t->port, ports > 1 ? i : 0) };
	if (d->nplaces == 0)
		d->nplaces = 1;
	if (t->load_balance && strcmp(t->load_balance, "random") == 0)
		dial_shuffle(d);
}

/* Whether a place's host has to be looked up. */
static bool place_is_name(const struct pgplace *p)
{
	unsigned char buf[sizeof(struct in6_addr)];

	return p->host && !p->hostaddr && *p->host != '/' && *p->host != '@' && !strchr(p->host, '%') &&
	       inet_pton(AF_INET, p->host, buf) != 1 && inet_pton(AF_INET6, p->host, buf) != 1;
}

/* Puts one place for each address where the name was. */
static void dial_expand(struct dial *d, const char *addresses)
{
	struct pgplace name = d->places[d->at];
	size_t n = 0, k = d->at;

	for (const char *s = addresses; *s; s += strcspn(s, "\n"), s += *s == '\n')
		n++;
	d->places = xrealloc(d->places, d->nplaces + n, sizeof(*d->places));
	memmove(d->places + d->at + n, d->places + d->at + 1, (d->nplaces - d->at - 1) * sizeof(*d->places));
	d->nplaces += n - 1;
	for (const char *s = addresses; *s; s += strcspn(s, "\n"), s += *s == '\n')
		d->places[k++] = (struct pgplace){ .host = xstrdup(name.host),
			.hostaddr = xstrndup(s, strcspn(s, "\n")),
			.port = xstrdup(name.port) };
	free(name.host);
	free(name.port);
}

/* The answer of a look-up. */
static void dial_resolved(void *arg, char *addresses, const char *error)
{
	struct dial *d = arg;

	d->resolve = NULL;
	if (addresses)
		dial_expand(d, addresses);
	else
		d->resolve_error = xasprintf("the name %s is not found: %s", d->places[d->at].host, error);
	event_active(d->later, 0, 0);
}

/* Looks the next place's name up, if it has one, and then begins. */
static void dial_lookup(struct dial *d)
{
	if (place_is_name(&d->places[d->at])) {
		d->resolve = resolve_start(d->base, d->places[d->at].host, dial_resolved, d);
		if (d->resolve)
			return;
		d->resolve_error = xasprintf("the name %s cannot be looked up: no process can be made: %s",
			d->places[d->at].host, strerror(errno));
	}
	event_active(d->later, 0, 0);
}

/* Whether two texts, which may be NULL, are the same. */
static bool text_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Puts the next place behind the others when it is the one that is avoided; once. */
static bool dial_postpones(struct dial *d)
{
	struct pgplace p = d->places[d->at];

	if (d->at + 1 >= d->nplaces || d->resolve_error || !(d->avoided.host || d->avoided.hostaddr) ||
		!text_equal(p.host, d->avoided.host) || !text_equal(p.hostaddr, d->avoided.hostaddr) ||
		!text_equal(p.port, d->avoided.port))
		return false;
	place_clear(&d->avoided);
	memmove(d->places + d->at, d->places + d->at + 1, (d->nplaces - d->at - 1) * sizeof(*d->places));
	d->places[d->nplaces - 1] = p;
	return true;
}

/* Begins the connect, or says why it cannot. */
static void dial_begin(evutil_socket_t fd, short what, void *arg)
{
	struct dial *d = arg;
	const struct pgplace *p = &d->places[d->at];
	char *error = d->resolve_error;
	PGconn *pg = NULL;

	(void)fd, (void)what;
	if (dial_postpones(d)) {
		dial_lookup(d);
		return;
	}
	d->resolve_error = NULL;
	d->at++;
	free(d->where);
	d->where = p->host || p->hostaddr
	                   ? xasprintf("%s%s%s%s%s%s", p->host ? p->host : p->hostaddr,
				     p->host && p->hostaddr ? " (" : "", p->host && p->hostaddr ? p->hostaddr : "",
				     p->host && p->hostaddr ? ")" : "", p->port ? " port " : "", p->port ? p->port : "")
	                   : NULL;
	if (!error) {
		errno = 0;
		pg = pgstart(d->conninfo, d->application_name, &d->target, p, d->with_session ? &d->session : NULL);
		if (!pg || PQstatus(pg) == CONNECTION_BAD) {
			error = pgstart_error(pg);
			PQfinish(pg);
			pg = NULL;
		}
	}
	d->cb(d->arg, pg, error);
	free(error);
}

bool dial_next(struct dial *d, const struct session *session, dial_cb cb, void *arg)
{
	if (d->at >= d->nplaces) {
		d->rounds += d->rounds < ROUNDS_MAX;
		return false;
	}
	d->with_session = session != NULL;
	if (session)
		d->session = *session;
	d->cb = cb;
	d->arg = arg;
	dial_lookup(d);
	return true;
}

bool dial_again(struct dial *d, const struct session *session, dial_cb cb, void *arg)
{
	d->at -= d->at > 0;
	return dial_next(d, session, cb, arg);
}

void dial_cancel(struct dial *d)
{
	if (d->resolve)
		d->at++; /* this place has had its time */
	resolve_cancel(d->resolve);
	d->resolve = NULL;
	free(d->resolve_error);
	d->resolve_error = NULL;
	event_del(d->later);
}

int64_t dial_timeout_ms(const struct dial *d)
{
	int64_t ms;

	if (d->target.connect_timeout_s)
		return (int64_t)d->target.connect_timeout_s * 1000;
	if (d->nplaces <= 1)
		return ONE_PLACE_MS;
	ms = ALL_PLACES_MS / (int64_t)(d->nplaces - 1);
	ms = ms < PLACE_MIN_MS ? PLACE_MIN_MS : ms > PLACE_MAX_MS ? PLACE_MAX_MS : ms;
	ms <<= d->rounds;
	return ms > ONE_PLACE_MS ? ONE_PLACE_MS : ms;
}

const char *dial_where(const struct dial *d)
{
	return dial_has_others(d) ? d->where : NULL;
}

bool dial_has_others(const struct dial *d)
{
	return d->nplaces > 1;
}

PGconn *dial_beside(const struct dial *d, const struct session *session)
{
	return pgstart(d->conninfo, "pgmqd check", &d->target, &d->places[d->at - 1], session);
}

void dial_avoid(struct dial *d)
{
	const struct pgplace *p = &d->places[d->at - 1];

	place_clear(&d->avoided);
	d->avoided = (struct pgplace){
		.host = xstrdup(p->host), .hostaddr = xstrdup(p->hostaddr), .port = xstrdup(p->port)
	};
}

void dial_succeeded(struct dial *d)
{
	d->rounds = 0;
	place_clear(&d->avoided);
}

struct dial *dial_new(struct event_base *base, const char *conninfo, const char *application_name)
{
	struct dial *d = xcalloc(1, sizeof(*d));

	d->base = base;
	d->conninfo = xstrdup(conninfo ? conninfo : "");
	d->application_name = xstrdup(application_name);
	d->later = loop_event(base, -1, 0, dial_begin, d);
	return d;
}

void dial_free(struct dial *d)
{
	if (!d)
		return;
	dial_cancel(d);
	dial_forget(d);
	place_clear(&d->avoided);
	event_free(d->later);
	free(d->where);
	free(d->conninfo);
	free(d->application_name);
	free(d);
}
