/* test_second.c: the connections of a queue: when the second one is there, what goes by it, and what follows when it is
 * lost; and the statements of a claim.
 */
#include "config.h"

#include "fake_pgconn.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "pg/pgconn.h"
#include "worker/queue_private.h"
#include "worker/second.h"

#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the test's means ---- */

static struct event_base *base;
static struct pgconn *first;
static struct second *second;
static struct queue *queue;
static struct pgmqd_msg msg[2], *const msgs[2] = { &msg[0], &msg[1] };
static unsigned answered;
static char error[32];
static enum queue_fate fate[2];

static int setup(void **state)
{
	struct queue_rules rules = { .lease_ms = 30000, .max_attempts = 5, .archive = true };
	struct queue_pg *q;

	(void)state;
	connects = answered = 0;
	base = event_base_new();
	first = xcalloc(1, sizeof(*first));
	first->up = true;
	second = second_new(base, "dbname=test", "second", first);
	queue = queue_new(&(struct queue_conns){ .first = first, .second = second }, "work", &rules, "null", NULL);
	q = queue_pg(queue);
	q->oid = xstrdup("(1)");
	q->table = xstrdup("work");
	q->queue_table = xstrdup("pgmq.q_work");
	q->archive_table = xstrdup("pgmq.a_work");
	q->index = xstrdup("pgmq.no_index");
	q->more = true;
	for (int i = 0; i < 2; i++)
		msg[i] = (struct pgmqd_msg){ .id = i + 1, .read_ct = 1, .nonce = 5, .born_us = 7 };
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	second_hang_up(second);
	pgconn_hang_up(first);
	queue_free(queue);
	second_free(second);
	pgconn_free(first);
	event_base_free(base);
	return 0;
}

/* Keeps the timer, if there is one. */
static int timer(const struct event_base *b, const struct event *ev, void *arg)
{
	(void)b;
	*(const struct event **)arg = ev;
	return 0;
}

/* Moves the clock on; the timer, which is early now, looks what is due. */
static void advance(int64_t ms)
{
	const struct event *ev = NULL;

	clock_skip_ms(ms);
	event_base_foreach_event(base, timer, &ev);
	if (ev)
		event_active((struct event *)(uintptr_t)ev, EV_TIMEOUT, 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* A statement, answered at once. */
static struct pgconn *use(size_t n, bool more)
{
	struct pgconn *c = second_use(second, n, more);

	second_answered(second);
	return c;
}

/* A backlog: many full claims, one soon after the other. */
static void backlog(unsigned statements)
{
	for (unsigned i = 0; i < statements; i++)
		use(10, true);
}

/* The second connection is there. */
static void up(void)
{
	backlog(50);
	assert_non_null(made);
	made->up = true;
	made->events->up(made->arg);
}

static void settled(void *arg, const struct queue_settled *s)
{
	(void)arg;
	answered++;
	strcpy(error, s->error ? s->error : "");
	for (size_t i = 0; s->fate && i < s->n; i++)
		fate[i] = s->fate[i];
}

/* Settles both messages. */
static void settle(enum msg_outcome outcome, bool again)
{
	queue_settle(queue, outcome, msgs, 2, again, settled, NULL);
}

/* The answer to a settling: these messages are through. */
static PGresult *through(int n)
{
	PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	char id[] = "id", blocked[] = "locked", number[16], no[] = "f";
	PGresAttDesc columns[2] = { { .name = id }, { .name = blocked } };

	PQsetResultAttrs(res, 2, columns);
	for (int i = 0; i < n; i++) {
		number[0] = (char)('1' + i);
		PQsetvalue(res, i, 0, number, 1);
		PQsetvalue(res, i, 1, no, 1);
	}
	return res;
}

/* The statement on a connection that is answered next. */
static const char *next(const struct pgconn *c)
{
	assert_true(c->n > 0);
	return c->asked[0].text;
}

/* Answers what is there besides the settling: settings, and that it was prepared. */
static void prepared(struct pgconn *c)
{
	while (c->n > 1)
		answer(c, PQmakeEmptyPGresult(NULL, PGRES_COMMAND_OK), NULL, "00000");
}

/* ---- when it is there ---- */

/* Many small statements, claims that left nothing, or a pause between them are no backlog. */
static void test_opened_for_a_backlog(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++) {
		use(9, true);
		use(1000, false);
	}
	for (int i = 0; i < 100; i++) {
		use(499, true);
		advance(30);
	}
	assert_int_equal(connects, 0);
	backlog(50);
	assert_int_equal(connects, 1);
	assert_ptr_equal(use(1000, true), first); /* it is being made */
	made->up = true;
	made->events->up(made->arg);
	assert_ptr_equal(use(1, false), made);
}

/* Statements that take long, and one soon after the other, are one. */
static void test_slow_statements(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(connects, 0);
		second_use(second, 100, true);
		advance(10000);
		second_answered(second);
	}
	assert_int_equal(connects, 1);
}

/* It is closed when there has been no backlog for a while, and none of its statements is under way. */
static void test_closed_when_idle(void **state)
{
	(void)state;
	up();
	assert_ptr_equal(second_use(second, 10, true), made);
	advance(1000);
	assert_non_null(made);
	advance(5000);
	assert_non_null(made);
	second_answered(second);
	advance(5000);
	(void)use(1, false), (void)use(10, true);
	assert_null(made); /* what was counted before does not count again */
	up();
}

/* A server without a connection to spare, or a pooler: one carries everything, and it is long before the next try. */
static void test_refused(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		backlog(50);
		assert_int_equal(connects, i + 1);
		if (i == 0) {
			made->events->failed(made->arg, "sorry, too many clients already");
		} else {
			made->pooled = i == 1;
			made->up = true;
			made->events->up(made->arg);
			if (i == 2) {
				made->up = false;
				made->events->down(made->arg, "terminated");
			}
		}
		assert_ptr_equal(use(10, true), first);
		advance(0);
		assert_null(made);
		advance(59000);
		backlog(100);
		assert_int_equal(connects, i + 1);
		advance(2000);
	}
	first->pooled = true;
	backlog(100);
	assert_int_equal(connects, 3);
}

/* ---- what goes by it ---- */

/* What is done does, prepared once; all else may meet a claim on the first connection, and goes by that. */
static void test_lanes(void **state)
{
	(void)state;
	settle(OUT_DONE, false);
	assert_int_equal(first->n, 2);
	pgconn_hang_up(first);
	first->up = true;
	up();
	settle(OUT_DONE, false);
	assert_int_equal(first->n, 0);
	assert_int_equal(made->n, 3); /* the session's settings, and the statement is prepared */
	assert_true(made->asked[1].prepare);
	prepared(made);
	answer(made, through(2), NULL, "00000");
	assert_int_equal(fate[0], QUEUE_SETTLED);
	settle(OUT_DONE, false);
	assert_int_equal(made->n, 1);
	answer(made, through(2), NULL, "00000");
	settle(OUT_DONE, true);
	settle(OUT_RETRY, false);
	settle(OUT_RELEASE, false);
	queue_extend(queue, msgs, 2, settled, NULL);
	assert_int_equal(made->n, 0);
	pgconn_hang_up(first);
	first->up = true;
	queue_pg(queue)->rules.grouped = true;
	settle(OUT_DONE, false);
	assert_int_equal(made->n, 0);
}

/* The tables have changed: the statement is another one in both sessions. A new session knows nothing. */
static void test_prepared_anew(void **state)
{
	(void)state;
	up();
	settle(OUT_DONE, false);
	prepared(made);
	answer(made, through(2), NULL, "00000");
	queue_forget(queue_pg(queue));
	assert_non_null(strstr(next(made), "DEALLOCATE"));
	settle(OUT_DONE, false);
	assert_true(made->asked[1].prepare);
	prepared(made);
	answer(made, through(2), NULL, "00000");
	second_end(second);
	up();
	settle(OUT_DONE, false);
	assert_int_equal(made->n, 3);
}

/* ---- what can go wrong ---- */

/* A claim of this worker may have taken the message: that claim's answer is on its way by the first connection, and
 * the loss is told behind it, by the statement that says whether a trigger keeps the row. */
static void test_lost_behind_the_claims(void **state)
{
	(void)state;
	up();
	settle(OUT_DONE, false);
	prepared(made);
	answer(made, through(1), NULL, "00000");
	assert_int_equal(answered, 0);
	assert_non_null(strstr(first->asked[first->n - 1].text, "done_careful"));
	prepared(first);
	answer(first, PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK), NULL, "00000");
	assert_int_equal(answered, 1);
	assert_int_equal(fate[0], QUEUE_SETTLED);
	assert_int_equal(fate[1], QUEUE_LOST);
}

/* The same when the first connection is lost meanwhile: it is asked again. */
static void test_lost_with_the_first(void **state)
{
	(void)state;
	up();
	settle(OUT_DONE, false);
	prepared(made);
	answer(made, through(1), NULL, "00000");
	pgconn_hang_up(first);
	assert_int_equal(answered, 1);
	assert_string_equal(error, "");
	assert_int_equal(fate[0], QUEUE_SETTLED);
	assert_int_equal(fate[1], QUEUE_LOCKED);
}

/* A locked row, or a number that the archive has given away: the first connection goes round it. */
static void test_blocked(void **state)
{
	(void)state;
	up();
	settle(OUT_DONE, false);
	prepared(made);
	answer(made, NULL, "canceled due to lock timeout", "55P03");
	assert_int_equal(answered, 0);
	assert_non_null(strstr(first->asked[first->n - 1].text, "done_careful"));
	prepared(first);
	answer(first, through(1), NULL, "00000");
	assert_int_equal(answered, 1);
	assert_int_equal(fate[1], QUEUE_LOST);
}

/* The second connection dies, or the first one and with it the second: what was under way may be stored or not. */
static void test_under_way_when_it_ends(void **state)
{
	(void)state;
	up();
	settle(OUT_DONE, false);
	second_end(second);
	assert_null(made);
	assert_int_equal(answered, 1);
	assert_string_equal(error, "connection lost");
	settle(OUT_DONE, true);
	assert_non_null(strstr(first->asked[first->n - 1].text, "done_careful"));
	up(); /* nothing is wrong with the server */
}

/* ---- a message ahead of a claim ---- */

static unsigned ahead, claims;

static void claimed(void *arg, const struct queue_claim *claim)
{
	(void)arg;
	ahead += claim->ahead;
	claims += !claim->ahead;
}

/* Which statements a look sends. */
static const char *look(unsigned n, bool hurry)
{
	static char sent[256];
	struct queue_look l = { .n = n, .hurry = hurry };

	*sent = '\0';
	queue_claim(queue, &l, claimed, NULL);
	for (size_t i = 0; i < first->n; i++)
		if (!first->asked[i].prepare)
			strcat(strcat(sent, *sent ? " " : ""), first->asked[i].text);
	while (first->n)
		answer(first, NULL, "connection lost", "");
	return sent;
}

/* Only where the first by time is the one to take, and no row is at fault. A claim follows whatever becomes of it. */
static void test_ahead(void **state)
{
	struct queue_pg *q;
	char both[64], alone[64];

	(void)state;
	q = queue_pg(queue);
	snprintf(both, sizeof(both), "q%u_ahead q%u_claim", q->serial, q->serial);
	snprintf(alone, sizeof(alone), "q%u_claim", q->serial);
	ahead = claims = 0;
	assert_string_equal(look(3, true), both);
	assert_string_equal(wanted, "2");
	assert_int_equal(ahead, 0);
	assert_int_equal(claims, 1);
	assert_string_equal(look(1, true), alone);
	assert_string_equal(wanted, "1");
	assert_string_equal(look(2, false), alone);
	q->claim_max = 1;
	assert_string_equal(look(2, true), alone);
	q->claim_max = 0;
	q->priority = true;
	assert_string_equal(look(2, true), alone);
	q->priority = false;
	q->rules.limits.at_once = 3;
	assert_null(strstr(look(2, true), "ahead"));
}

/* A message as it comes ahead. */
static PGresult *came(void)
{
	PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc columns[14] = { 0 };
	char one[] = "1";

	PQsetResultAttrs(res, 14, columns);
	for (int i = 0; i < 14; i++)
		PQsetvalue(res, 0, i, one, 1);
	return res;
}

/* Of a server on this machine the claim is asked when the message is handed over, and also when there is none; it fails
 * with the connection. */
static void test_ahead_of_a_near_server(void **state)
{
	const struct {
		PGresult *res;
		const char *error, *sqlstate;
		unsigned ahead, claims;
	} answers[] = {
		{ came(), NULL, "00000", 1, 0 },
		{ PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK), NULL, "00000", 0, 0 },
		{ NULL, "canceled due to lock timeout", "55P03", 0, 0 },
		{ NULL, "connection lost", "", 0, 1 },
	};

	(void)state;
	first->near = true;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		ahead = claims = 0;
		queue_claim(queue, &(struct queue_look){ .n = 3, .hurry = true }, claimed, NULL);
		prepared(first);
		assert_non_null(strstr(next(first), "_ahead"));
		answer(first, answers[i].res, answers[i].error, answers[i].sqlstate);
		assert_int_equal(ahead, answers[i].ahead);
		assert_int_equal(claims, answers[i].claims);
		if (answers[i].claims) {
			assert_int_equal(first->n, 0);
			continue;
		}
		prepared(first);
		assert_non_null(strstr(next(first), "_claim"));
		assert_string_equal(wanted, "2");
		answer(first, NULL, "connection lost", "");
		assert_int_equal(claims, 1);
	}
}

/* The claim fails at a row. */
static void fails_at_a_row(void)
{
	prepared(first);
	assert_non_null(strstr(next(first), "_claim"));
	answer(first, NULL, "bad", "22003");
}

/* Answers which row it is. */
static void spotted(const char *id)
{
	PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc columns[4] = { 0 };

	prepared(first);
	assert_non_null(strstr(next(first), "_spot"));
	PQsetResultAttrs(res, 4, columns);
	for (int i = 0; i < 4; i++)
		PQsetvalue(res, 0, i, (char *)(uintptr_t)id, 1);
	answer(first, res, NULL, "00000");
}

/* A message that comes between the claim and the look for its row, and goes first, is not taken for the one at fault.
 */
static void test_spotted_twice(void **state)
{
	struct queue_pg *q = queue_pg(queue);

	(void)state;
	queue_claim(queue, &(struct queue_look){ .n = 1 }, claimed, NULL);
	fails_at_a_row();
	fails_at_a_row(); /* unread */
	spotted("7");
	fails_at_a_row();
	spotted("8");
	fails_at_a_row();
	assert_int_equal(q->nrefused, 0);
	spotted("8");
	assert_int_equal(q->nrefused, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_opened_for_a_backlog, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_statements, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closed_when_idle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lanes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prepared_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_behind_the_claims, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_with_the_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_blocked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_under_way_when_it_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ahead_of_a_near_server, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spotted_twice, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
