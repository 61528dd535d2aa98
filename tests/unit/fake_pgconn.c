/* fake_pgconn.c: connections that keep their statements until the test answers them. */
#include "config.h"

#include "fake_pgconn.h"

#include "base/xalloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct pgconn *made;
unsigned connects;

struct pgconn *pgconn_new(struct event_base *base, const char *conninfo, const char *application_name, bool pipeline,
	const struct pgconn_events *events, void *arg)
{
	(void)base;
	assert_string_equal(conninfo, "dbname=test");
	assert_string_equal(application_name, "second");
	assert_true(pipeline);
	assert_null(made);
	made = xcalloc(1, sizeof(*made));
	made->events = events;
	made->arg = arg;
	connects++;
	return made;
}

void pgconn_start(struct pgconn *c)
{
	assert_ptr_equal(c, made);
}

void answer(struct pgconn *c, PGresult *res, const char *error, const char *sqlstate)
{
	struct pgresult r = { .res = res, .error = error, .sqlstate = sqlstate };
	struct asked a = c->asked[0];

	assert_true(c->n > 0);
	memmove(c->asked, c->asked + 1, --c->n * sizeof(a));
	if (a.cb)
		a.cb(a.arg, &r);
	free(a.text);
	PQclear(res);
}

void pgconn_hang_up(struct pgconn *c)
{
	c->up = false;
	while (c->n)
		answer(c, NULL, "connection lost", "");
}

void pgconn_free(struct pgconn *c)
{
	if (c == made)
		made = NULL;
	while (c->n)
		free(c->asked[--c->n].text);
	free(c);
}

/* Keeps a statement. */
static void ask(struct pgconn *c, const char *text, bool prepare, pgconn_result_cb cb, void *arg)
{
	assert_true(c->n < sizeof(c->asked) / sizeof(c->asked[0]));
	c->asked[c->n++] = (struct asked){ .text = xstrdup(text), .prepare = prepare, .cb = cb, .arg = arg };
}

char wanted[16];

void pgconn_query(struct pgconn *c, const char *name, const char *sql, int nparams, const char *const *params,
	pgconn_result_cb cb, void *arg)
{
	snprintf(wanted, sizeof(wanted), "%s", nparams ? params[0] : "");
	ask(c, name ? name : sql, false, cb, arg);
}

void pgconn_prepare(struct pgconn *c, const char *name, const char *sql, pgconn_result_cb cb, void *arg)
{
	(void)sql;
	ask(c, name, true, cb, arg);
}

void pgconn_group_begin(struct pgconn *c)
{
	(void)c;
}

void pgconn_group_end(struct pgconn *c)
{
	(void)c;
}

void pgconn_restart(struct pgconn *c, const char *reason)
{
	(void)c, (void)reason;
}

bool pgconn_is_up(const struct pgconn *c)
{
	return c->up;
}

bool pgconn_is_pooled(const struct pgconn *c)
{
	return c->pooled;
}

bool pgconn_is_near(const struct pgconn *c)
{
	return c->near;
}

unsigned pgconn_session(const struct pgconn *c)
{
	(void)c;
	return 1;
}
