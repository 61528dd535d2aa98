/* login.c: the order in which mechanisms are tried: what most servers mean first, then what they offer beside it.
 *
 * libcurl alone would take the strongest mechanism that is offered and stay with it, whether it works there or not. */
#include "config.h"

#include "login.h"

#include "token.h"

#include <string.h>

/* LOGIN goes without a first answer, since servers have it that do not understand one; PLAIN with one, and without it
 * where that was a syntax error. */
static const struct conn_login steps[] = {
	{ "PLAIN", true, false },
	{ "LOGIN", false, false },
	{ "PLAIN", false, false },
	{ "CRAM-MD5", false, false },
	{ "OAUTHBEARER", true, true },
	{ "XOAUTH2", true, true },
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))
#define AFTER_SYNTAX_ERROR 2 /* the second PLAIN */

/* Whether the settings allow a step. */
static bool is_allowed(const struct login *l, unsigned step)
{
	if (steps[step].token != (l->token != NULL))
		return false;
	return strcmp(l->settings->auth, "auto") == 0 ||
	       g_ascii_strcasecmp(l->settings->auth, steps[step].mechanism) == 0;
}

const struct conn_login *login_now(struct login *l)
{
	if (l->settings->user == NULL)
		return NULL;
	while (l->step < STEPS - 1 && (!is_allowed(l, l->step) || (l->tried >> l->step & 1) != 0))
		l->step++;
	return &steps[l->step];
}

bool login_next(struct login *l, const struct conn *c)
{
	bool syntax = c->refusal.code >= 500 && c->refusal.code <= 504;

	if (!c->login_refused || l->settings->user == NULL)
		return false;
	if (c->refusal.code >= 400 && c->refusal.code < 500)
		return false; /* not now, by whatever mechanism */
	l->tried |= 1U << l->step;
	for (unsigned i = 0; i < STEPS; i++)
		if (is_allowed(l, i) && (l->tried >> i & 1) == 0 && conn_offers(c, steps[i].mechanism) &&
			(i != AFTER_SYNTAX_ERROR || syntax)) {
			l->step = i;
			return true;
		}
	return false;
}

void login_settled(struct login *l)
{
	/* Settings that worked stay where they are. */
	if (l->tried >> l->step & 1)
		l->step = 0;
	l->tried = 0;
}
