/* findings.c: what a replay has found, over all messages. */
#include "config.h"

#include "cmd/replay/findings.h"

#include "base/xalloc.h"
#include "cmd/replay/mask.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_MAX 500 /* then those of a kind are taken together */

/* Counts one under a name. */
static struct findings_count *count(struct findings_counts *c, const char *name)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		if (strcmp(c->list[i].name, name) == 0)
			break;
	if (i == c->n) {
		c->list = xrealloc(c->list, c->n + 1, sizeof(*c->list));
		c->list[c->n++] = (struct findings_count){ .name = xstrdup(name) };
	}
	c->list[i].n++;
	return &c->list[i];
}

/* Where differences of a message go. */
struct taking {
	struct findings *f;
	size_t place;
	bool found;
};

/* A difference. */
static void take_change(void *arg, const struct compare_change *c)
{
	struct taking *t = arg;
	struct findings *f = t->f;
	char *sign = f->ngroups < GROUPS_MAX ? xasprintf("%s > %s", c->sign_from, c->sign_to) : xstrdup("more");

	t->found = true;
	for (size_t i = 0; i < f->ngroups; i++)
		if (strcmp(f->groups[i].kind, c->kind) == 0 && strcmp(f->groups[i].sign, sign) == 0) {
			f->groups[i].n++;
			free(sign);
			return;
		}
	f->groups = xrealloc(f->groups, f->ngroups + 1, sizeof(*f->groups));
	f->groups[f->ngroups++] = (struct findings_group){ .kind = xstrdup(c->kind),
		.sign = sign,
		.from = xstrdup(c->from),
		.to = xstrdup(c->to),
		.n = 1,
		.message = t->place };
}

/* The outcome's name. */
static const char *outcome_of(const cJSON *record)
{
	const char *name = cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(record, "outcome"), "outcome"));

	return name ? name : "none";
}

/* Whether the message's work is done. */
static bool is_done(const char *outcome)
{
	return strcmp(outcome, "done") == 0 || strcmp(outcome, "done_with") == 0 || strcmp(outcome, "replace") == 0;
}

/* Counts a record's outcome and effects. */
static void take_side(struct findings *f, struct findings_side *s, const cJSON *record)
{
	const cJSON *ms = cJSON_GetObjectItemCaseSensitive(record, "ms"), *e;

	count(&s->outcomes, outcome_of(record));
	if (cJSON_IsNumber(ms)) {
		if ((s->nms & (s->nms - 1)) == 0)
			s->ms = xrealloc(s->ms, s->nms ? s->nms * 2 : 1, sizeof(*s->ms));
		s->ms[s->nms++] = ms->valuedouble;
	}
	cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(record, "effects"))
	{
		const char *answer = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(e, "answer"));

		count(&s->effects, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(e, "kind")));
		if (s == &f->sides[0] && answer && strcmp(answer, "not run: it writes") == 0)
			f->unwritten++;
	}
}

void findings_take(struct findings *f, const struct replay_message *m, size_t place, bool dead, bool show,
	const cJSON *new, const cJSON *old)
{
	const char *outcome = outcome_of(new);
	bool done = is_done(outcome);
	struct mask *mask;

	take_side(f, &f->sides[0], new);
	f->bad += strcmp(outcome, "crash") == 0 || strcmp(outcome, "none") == 0;
	f->worse += !done;
	if (dead) {
		char *reason;

		mask = mask_new(m->text);
		reason = mask_personal(mask, m->reason ? m->reason : m->class ? m->class : "unknown");
		count(&f->reasons, reason)->good += done;
		free(reason);
		mask_free(mask);
		if (done) {
			f->good = xrealloc(f->good, f->ngood + 1, sizeof(*f->good));
			f->good[f->ngood++] = place;
		}
	}
	if (old) {
		struct taking t = { .f = f, .place = place };

		take_side(f, &f->sides[1], old);
		mask = mask_new(m->text);
		compare_records(mask, show, new, old, take_change, &t);
		mask_free(mask);
		f->different += t.found;
	}
}

/* Groups of a kind together, the largest first. */
static int compare_groups(const void *a, const void *b)
{
	const struct findings_group *x = a, *y = b;
	int kind = strcmp(x->kind, y->kind);

	if (kind == 0)
		return x->n < y->n ? 1 : x->n > y->n ? -1 : 0;
	if ((strcmp(x->kind, "outcome") == 0) != (strcmp(y->kind, "outcome") == 0))
		return strcmp(x->kind, "outcome") == 0 ? -1 : 1;
	return kind;
}

/* Most first. */
static int compare_counts(const void *a, const void *b)
{
	const struct findings_count *x = a, *y = b;

	return x->n < y->n ? 1 : x->n > y->n ? -1 : strcmp(x->name, y->name);
}

/* By size. */
static int compare_numbers(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

void findings_sort(struct findings *f)
{
	if (f->ngroups)
		qsort(f->groups, f->ngroups, sizeof(*f->groups), compare_groups);
	if (f->reasons.n)
		qsort(f->reasons.list, f->reasons.n, sizeof(*f->reasons.list), compare_counts);
	for (int i = 0; i < 2; i++) {
		struct findings_side *s = &f->sides[i];

		if (s->outcomes.n)
			qsort(s->outcomes.list, s->outcomes.n, sizeof(*s->outcomes.list), compare_counts);
		if (s->nms)
			qsort(s->ms, s->nms, sizeof(*s->ms), compare_numbers);
	}
}

double findings_median(const struct findings_side *s)
{
	return s->nms ? s->ms[s->nms / 2] : 0;
}

/* Frees counts. */
static void counts_free(struct findings_counts *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->list[i].name);
	free(c->list);
}

void findings_free(struct findings *f)
{
	for (size_t i = 0; i < f->ngroups; i++) {
		free(f->groups[i].kind);
		free(f->groups[i].sign);
		free(f->groups[i].from);
		free(f->groups[i].to);
	}
	free(f->groups);
	for (int i = 0; i < 2; i++) {
		counts_free(&f->sides[i].outcomes);
		counts_free(&f->sides[i].effects);
		free(f->sides[i].ms);
	}
	counts_free(&f->reasons);
	free(f->good);
}
