/* batch.c: messages that are worked on together: the JSON that goes out, and the array of outcomes that comes back. */
#include "config.h"

#include "batch/batch.h"

#include "batch/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define QUOTED 80 /* bytes of an outcome that is none, in a reason */

struct batch *batch_new(struct pgmqd_msg *const *msgs, size_t n, void *data)
{
	struct batch *b = need(calloc(1, sizeof(*b) + n * sizeof(b->msgs[0])));

	b->n = b->left = n;
	for (size_t i = 0; i < n; i++) {
		b->msgs[i] = msgs[i];
		pgmqd_msg_data_set(msgs[i], data);
	}
	return b;
}

bool batch_drop(struct batch *b, const struct pgmqd_msg *m)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->msgs[i] == m) {
			b->msgs[i] = NULL;
			b->left--;
		}
	return b->left > 0;
}

/* ---- what goes out ---- */

char *batch_message(struct pgmqd_msg *m)
{
	const char *headers = pgmqd_msg_headers(m);
	char *text = format("{\"id\":%" PRId64 ",\"attempt\":%u,\"queue\":\"%s\",\"enqueued_us\":%" PRId64
			    ",\"headers\":%s,\"message\":%s}",
		pgmqd_msg_id(m), pgmqd_msg_attempt(m), pgmqd_msg_queue(m), pgmqd_msg_enqueued_us(m),
		headers ? headers : "null", pgmqd_msg_text(m, NULL));

	for (char *p = text; *p; p++)
		if (*p == '\n' || *p == '\r') /* in JSON they are blanks, here they would end the line */
			*p = ' ';
	return text;
}

char *batch_array(const struct batch *b)
{
	struct text t = { 0 };

	for (size_t i = 0; i < b->n; i++) {
		char *one = b->msgs[i] ? batch_message(b->msgs[i]) : NULL;

		if (one) {
			text_add(&t, t.len ? "," : "[", 1);
			text_add(&t, one, strlen(one));
		}
		free(one);
	}
	text_add(&t, "]", 1);
	return t.buf;
}

/* ---- what comes back ---- */

void batch_settle(struct batch *b, const struct answer *a)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->msgs[i])
			answer_settle(a, b->msgs[i]);
	memset(b->msgs, 0, b->n * sizeof(b->msgs[0]));
	b->left = 0;
}

void batch_retry(struct batch *b, int64_t delay_ms, const char *reason)
{
	batch_settle(b, &(struct answer){ .kind = ANSWER_RETRY, .delay_ms = delay_ms, .reason = reason });
}

void batch_failed(struct batch *b, const struct answer *a)
{
	if (b->n == 1) {
		batch_settle(b, a);
		return;
	}
	for (size_t i = 0; i < b->n; i++)
		if (b->msgs[i])
			pgmqd_apart(b->msgs[i], "the call for %zu messages failed: %s", b->n, a->reason);
	memset(b->msgs, 0, b->n * sizeof(b->msgs[0]));
	b->left = 0;
}

/* Where the message of that number is; n when it is not there, or has its outcome. Answers mostly come in order. */
static size_t batch_find(const struct batch *b, double id, size_t from)
{
	for (size_t tried = 0; tried < b->n; tried++) {
		size_t at = (from + tried) % b->n;

		if (b->msgs[at] && (double)pgmqd_msg_id(b->msgs[at]) == id)
			return at;
	}
	return b->n;
}

/* Settles the message that one element of the array names. False: it names none that has no outcome. */
static bool batch_element(struct batch *b, const char *text, unsigned kinds, size_t *from)
{
	struct answer a;
	bool good = answer_parse(text, &a) && (kinds & answer_bits(&a)) == answer_bits(&a);
	size_t at = batch_find(b, a.id, *from);

	if (at < b->n && good) {
		answer_settle(&a, b->msgs[at]);
	} else if (at < b->n) {
		pgmqd_retry(b->msgs[at], 0, "no outcome: \"%.*s\"", QUOTED, text);
	}
	answer_free(&a);
	if (at == b->n)
		return false;
	b->msgs[at] = NULL;
	b->left--;
	*from = at + 1;
	return true;
}

bool batch_answer(struct batch *b, const char *text, unsigned kinds)
{
	size_t from = 0, strange = 0;
	struct answers all;
	char *one;

	if (!answers_open(&all, text))
		return false;
	while ((one = answers_next(&all)) != NULL) {
		strange += !batch_element(b, one, kinds, &from);
		free(one);
	}
	if (strange)
		pgmqd_log(PGMQD_WARN, "%zu outcomes of a batch are ignored: they name no message that waits for one",
			strange);
	batch_retry(b, 0, "the answer to the batch has no outcome for this message");
	return true;
}
