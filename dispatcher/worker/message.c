/* message.c: one claimed message: its memory, its state, its lazily parsed JSON, and the resources of its plugin. */
#include "config.h"

#include "worker/message.h"

#include "base/clock.h"
#include "base/sqltext.h"
#include "base/xalloc.h"
#include "process/stats.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* How many freed messages rest before one is used again: a plugin that keeps a pointer too long meets a free message.
 */
#define REST 1024

static struct msg_list pool = TAILQ_HEAD_INITIALIZER(pool);
static unsigned pooled;

void messages_init(struct messages *all, struct stats_slot *slot)
{
	*all = (struct messages){ .slot = slot };
	for (int i = 0; i < MSG_NSTATES; i++)
		TAILQ_INIT(&all->list[i]);
}

unsigned messages_in_hand(const struct messages *all)
{
	return all->count[MSG_WAITING] + all->count[MSG_RUNNING];
}

bool messages_are_none(const struct messages *all)
{
	return !messages_in_hand(all) && !all->count[MSG_SETTLED] && !all->count[MSG_SENT];
}

struct pgmqd_msg *message_new(struct messages *all, struct pgmqd_worker *worker)
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
	m->all = all;
	m->worker = worker;
	return m;
}

/* Puts a message into a list: behind those of the same or a higher priority where it waits, else at the end. */
static void message_insert(struct msg_list *list, struct pgmqd_msg *m, bool by_priority)
{
	struct pgmqd_msg *before = TAILQ_LAST(list, msg_list);

	while (by_priority && before && before->priority < m->priority)
		before = TAILQ_PREV(before, msg_list, link);
	if (before)
		TAILQ_INSERT_AFTER(list, before, m, link);
	else
		TAILQ_INSERT_HEAD(list, m, link);
}

/* Whether a message of that state would be suspected if the process died now. */
static bool is_in_hand(enum msg_state s)
{
	return s == MSG_WAITING || s == MSG_RUNNING;
}

void message_call(struct pgmqd_msg *const *msgs, size_t n)
{
	unsigned *call = xcalloc(1, sizeof(*call));

	*call = (unsigned)n;
	msgs[0]->all->calls++;
	for (size_t i = 0; i < n; i++) {
		msgs[i]->call = call;
		msgs[i]->together = n > 1;
	}
}

/* The plugin has this message of a batch no more. */
static void message_leave_call(struct pgmqd_msg *m)
{
	if (--*m->call == 0) {
		m->all->calls--;
		free(m->call);
	}
	m->call = NULL;
}

/* Moves a message to the list of its new state: the only place where a state changes. */
void message_move(struct pgmqd_msg *m, enum msg_state to)
{
	struct messages *all = m->all;
	bool was_in_hand = is_in_hand(m->state);

	if (m->state != MSG_FREE) {
		TAILQ_REMOVE(&all->list[m->state], m, link);
		all->count[m->state]--;
	}
	if (m->call)
		message_leave_call(m);
	m->state = to;
	if (to != MSG_FREE) {
		message_insert(&all->list[to], m, to == MSG_WAITING);
		all->count[to]++;
	}
	if (is_in_hand(to) && !was_in_hand)
		m->hand = hand_add(&all->slot->hand, m->id);
	else if (was_in_hand && !is_in_hand(to))
		hand_remove(&all->slot->hand, m->hand);
	stats_gauge(all->slot, GAUGE_RUNNING, all->count[MSG_RUNNING]);
	stats_gauge(all->slot, GAUGE_WAITING, all->count[MSG_WAITING]);
}

void message_end_resources(struct pgmqd_msg *m)
{
	struct msg_resource *r;

	while ((r = TAILQ_FIRST(&m->resources)) != NULL)
		r->end(r); /* unlinks itself */
}

struct pgmqd_msg *message_find(struct messages *all, int64_t id, int64_t born_us)
{
	struct pgmqd_msg *m;

	for (int s = MSG_WAITING; s < MSG_NSTATES; s++)
		TAILQ_FOREACH(m, &all->list[s], link)
		{
			if (m->id == id && m->born_us == born_us)
				return m;
		}
	return NULL;
}

bool message_number_in(struct message_numbers *numbers, struct pgmqd_msg *const *msgs, size_t n, int64_t id)
{
	uint64_t bit = (uint64_t)1 << ((uint64_t)id % 64), *word = &numbers->seen[(uint64_t)id / 64 % MESSAGE_NUMBERS];
	bool maybe = *word & bit;

	*word |= bit;
	for (size_t i = 0; maybe && i < n; i++)
		if (msgs[i]->id == id)
			return true;
	return false;
}

void message_adopt(struct pgmqd_msg *m, const struct pgmqd_msg *other)
{
	m->read_ct = other->read_ct;
	m->nonce = other->nonce;
	m->attempt = other->attempt;
	m->adopted = m->state == MSG_SENT;
}

void message_forget(struct pgmqd_msg *m)
{
	message_move(m, MSG_FREE);
	message_end_resources(m);
	free(m->text);
	free(m->unreadable);
	free(m->headers);
	cJSON_Delete(m->json);
	free(m->reason);
	free(m->sql);
	free(m->result);
	free(m->sends);
	for (int i = 0; i < m->nparams; i++)
		free(m->params[i]);
	free(m->params);
	m->text = m->headers = m->reason = m->sql = m->result = m->sends = NULL;
	m->json = NULL;
	m->params = NULL;
	m->nparams = 0; /* id and worker stay, for a report of misuse */
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

char *message_param(struct pgmqd_msg *const *msgs, size_t count, int n)
{
	struct sqltext array = { 0 };
	char *text;

	for (size_t i = 0; msgs[0]->shared && i < count; i++)
		sqltext_str(&array, msgs[i]->params[n]);
	text = xstrdup(msgs[0]->shared ? sqltext_end(&array) : msgs[0]->params[n]);
	sqltext_free(&array);
	return text;
}

int64_t message_first_due(const struct pgmqd_msg *m)
{
	const char *at = m->headers ? strstr(m->headers, "\"" MESSAGE_DUE "\"") : NULL;
	int64_t due;

	at = at ? strchr(at, ':') : NULL;
	due = at ? strtoll(at + 1, NULL, 10) : 0;
	if (due > clock_realtime_us()) /* an enqueuer may write it, too */
		due = 0;
	if (m->read_ct == 1 && due < m->due_us)
		due = m->due_us;
	return due > m->enqueued_us ? due : m->enqueued_us;
}

const char *message_why_over(const struct pgmqd_msg *m)
{
	if (m->state == MSG_FREE)
		return "is gone";
	if (m->cancelling)
		return "is being cancelled";
	return m->cancelled ? "was cancelled before" : "was settled before";
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
		[OUT_CANCEL] = "cancelled",
	};

	return names[o];
}
