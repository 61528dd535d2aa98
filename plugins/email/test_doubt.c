/* test_doubt.c: which refusals are of one mail, and which of every mail. */
#include "config.h"

#include "doubt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* One refusal: what it comes to. */
static enum mail_class refused(struct doubt *d, enum mail_class as, const char *to, const char *text)
{
	struct mail_result r = { .is = as, .text = g_strdup(text) };

	doubt_judge(d, to, to, &r);
	g_free(r.text);
	return r.is;
}

static void everybody_is_refused(void **state)
{
	struct doubt d = { 0 };

	(void)state;
	assert_int_equal(refused(&d, MAIL_POLICY, "a", "554 Relay access denied (id 4x1)"), MAIL_LATER);
	assert_int_equal(refused(&d, MAIL_POLICY, "b", "554 Relay access denied (id 4x2)"), MAIL_LATER);
	assert_int_equal(refused(&d, MAIL_POLICY, "b", "554 Relay access denied (id 4x3)"), MAIL_LATER);
	assert_int_equal(refused(&d, MAIL_POLICY, "c", "554 Relay access denied (id 4x4)"), MAIL_POLICY);
	/* a trial that is refused goes on with it, whoever it is for */
	assert_int_equal(refused(&d, MAIL_POLICY, "a", "554 Relay access denied (id 4x5)"), MAIL_POLICY);
	doubt_clear(&d);
}

static void one_is_refused(void **state)
{
	struct doubt d = { 0 };

	(void)state;
	assert_int_equal(refused(&d, MAIL_POLICY, "a", "554 Relay access denied"), MAIL_LATER);
	assert_int_equal(refused(&d, MAIL_POLICY, "a", "554 Relay access denied"), MAIL_LATER);
	doubt_taken(&d);
	/* it is remembered that another mail went through since, and then forgotten */
	assert_int_equal(refused(&d, MAIL_POLICY, "a", "554 Relay access denied"), MAIL_PERMANENT);
	assert_int_equal(refused(&d, MAIL_POLICY, "a", "554 Relay access denied"), MAIL_LATER);
	doubt_clear(&d);
}

/* Mails that are taken in between, and other words, begin the row anew. */
static void a_row_ends(void **state)
{
	struct doubt d = { 0 };

	(void)state;
	assert_int_equal(refused(&d, MAIL_POLICY, "a", "one"), MAIL_LATER);
	assert_int_equal(refused(&d, MAIL_POLICY, "b", "one"), MAIL_LATER);
	doubt_taken(&d);
	assert_int_equal(refused(&d, MAIL_POLICY, "c", "one"), MAIL_LATER);
	doubt_clear(&d);
	assert_int_equal(refused(&d, MAIL_POLICY, "a", "one"), MAIL_LATER);
	assert_int_equal(refused(&d, MAIL_POLICY, "b", "one"), MAIL_LATER);
	assert_int_equal(refused(&d, MAIL_POLICY, "c", "two"), MAIL_LATER);
	doubt_clear(&d);
}

/* Words that tell nothing cost the first mail, as they always did, and no more. */
static void vague_words(void **state)
{
	struct doubt d = { 0 };

	(void)state;
	assert_int_equal(refused(&d, MAIL_POLICY_VAGUE, "a", "550 5.7.1 no"), MAIL_PERMANENT);
	assert_int_equal(refused(&d, MAIL_POLICY_VAGUE, "a", "550 5.7.1 no"), MAIL_PERMANENT);
	assert_int_equal(refused(&d, MAIL_POLICY_VAGUE, "b", "550 5.7.1 no"), MAIL_LATER);
	assert_int_equal(refused(&d, MAIL_POLICY_VAGUE, "c", "550 5.7.1 no"), MAIL_POLICY);
	doubt_taken(&d);
	assert_int_equal(refused(&d, MAIL_POLICY_VAGUE, "b", "550 5.7.1 no"), MAIL_PERMANENT);
	doubt_clear(&d);
}

/* However many there are, no more than a bounded number is remembered. */
static void many(void **state)
{
	struct doubt d = { 0 };

	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		char *to = g_strdup_printf("p%u", i);

		refused(&d, MAIL_POLICY, to, "relay");
		g_free(to);
	}
	assert_true(g_hash_table_size(d.mails) <= 1000);
	doubt_clear(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everybody_is_refused),
		cmocka_unit_test(one_is_refused),
		cmocka_unit_test(a_row_ends),
		cmocka_unit_test(vague_words),
		cmocka_unit_test(many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
