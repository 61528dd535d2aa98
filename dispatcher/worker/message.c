/* message.c: one claimed message: its memory, its lazily parsed JSON, and what a plugin started for it. */
#include "config.h"

#include "worker/message.h"

#include "base/xalloc.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* How many freed messages rest before one is used again: a plugin that keeps a pointer too long meets a free message.
 */
#define REST 1024

static struct msg_list pool = TAILQ_HEAD_INITIALIZER(pool);
static unsigned pooled;

struct pgmqd_msg *message_new(void)
{
	struct pgmqd_msg *m;

	if (pooled > REST) {
		m = TAILQ_FIRST(&pool);
		TAILQ_REMOVE(&pool, m, link);
		pooled--;
		memset(m, 0, sizeof(*m));
	} else {
		m = xcalloc(1, sizeof(*m));
	}
	TAILQ_INIT(&m->resources);
	return m;
}

void message_end_resources(struct pgmqd_msg *m)
{
	struct msg_resource *r;

	while ((r = TAILQ_FIRST(&m->resources)) != NULL)
		r->end(r); /* unlinks itself */
}

void message_free(struct pgmqd_msg *m)
{
	message_end_resources(m);
	free(m->text);
	free(m->headers);
	cJSON_Delete(m->json);
	free(m->reason);
	free(m->sql);
	for (int i = 0; i < m->nparams; i++)
		free(m->params[i]);
	free(m->params);
	m->text = m->headers = m->reason = m->sql = NULL;
	m->json = NULL;
	m->params = NULL;
	m->nparams = 0;
	m->state = MSG_FREE; /* id and flow stay, for a report of misuse */
	TAILQ_INSERT_TAIL(&pool, m, link);
	pooled++;
}

/* The body as cJSON, parsed at the first call; trailing text is an error, unlike in cJSON_Parse. */
const struct cJSON *message_json(struct pgmqd_msg *m)
{
	if (!m->json_tried && m->text) {
		const char *end = NULL;

		m->json = cJSON_ParseWithLengthOpts(m->text, m->text_len + 1, &end, 1);
	}
	m->json_tried = true;
	return m->json;
}

/* An outcome's name in logs, metrics and dead letters. */
const char *outcome_name(enum msg_outcome o)
{
	static const char *const names[OUT_NOUTCOMES] = {
		[OUT_NONE] = "none",
		[OUT_DONE] = "done",
		[OUT_RETRY] = "retry",
		[OUT_FAIL] = "fail",
		[OUT_REPLACE] = "replace",
		[OUT_DONE_WITH] = "done",
		[OUT_CONFIG] = "config",
		[OUT_RELEASE] = "release",
	};

	return names[o];
}
