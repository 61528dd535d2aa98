/* settle_record.c: what has happened, written down without the archive: a plugin's statement that runs alone. */
#include "config.h"

#include "worker/settle_record.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "worker/queue.h"

#include <stdlib.h>

/* The plugin's statement of these messages, under way alone. */
struct record {
	void (*kick)(void *arg);
	void *arg;
	size_t n;
	struct pgmqd_msg *msgs[];
};

/* It has run, or not. */
static void record_answered(void *arg, const struct pgresult *r)
{
	struct record *rec = arg;

	for (size_t i = 0; i < rec->n; i++) {
		rec->msgs[i]->recorded = !r->error;
		rec->msgs[i]->unheard--;
	}
	if (!r->error)
		log_warn("%zu messages have had their effect, which is stored, and wait for the archive", rec->n);
	rec->kick(rec->arg);
	free(rec);
}

void settle_record(struct pgmqd_worker *w, struct pgmqd_msg *const *msgs, size_t n, void (*kick)(void *arg), void *arg)
{
	struct record *rec = xcalloc(1, sizeof(*rec) + n * sizeof(rec->msgs[0]));
	const struct pgmqd_msg *first = msgs[0];
	char **params = xcalloc((size_t)first->nparams + 1, sizeof(*params));

	rec->kick = kick;
	rec->arg = arg;
	for (size_t i = 0; i < n; i++)
		if (!msgs[i]->recorded) {
			msgs[i]->unheard++;
			rec->msgs[rec->n++] = msgs[i];
		}
	for (int p = 0; rec->n && p < first->nparams; p++)
		params[p] = message_param(rec->msgs, rec->n, p);
	if (rec->n)
		queue_query(w->queue, first->sql, first->nparams, (const char *const *)(const void *)params,
			record_answered, rec);
	else
		free(rec);
	for (int p = 0; p < first->nparams; p++)
		free(params[p]);
	free(params);
}
