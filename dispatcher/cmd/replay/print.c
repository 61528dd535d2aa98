/* print.c: what a replay has found, for people and for programs. */
#include "config.h"

#include "cmd/replay/print.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/replay/mask.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Takes the keys of services out of a request's headers. */
static void hide_keys(cJSON *effect)
{
	static const char *const names[] = {
		"authorization:", "apikey:", "api-key:", "x-api-key:", "cookie:", "x-pgmqd-signature:"
	};
	cJSON *headers = cJSON_GetObjectItemCaseSensitive(effect, "headers"), *line;

	cJSON_ArrayForEach(line, headers) for (size_t i = 0; i < sizeof(names) / sizeof(*names);
					       i++) if (cJSON_IsString(line) &&
							strncasecmp(line->valuestring, names[i], strlen(names[i])) == 0)
	{
		free(line->valuestring);
		line->valuestring = xasprintf("%s *", names[i]);
	}
}

/* A mail's effect, taken apart. */
static void take_apart(cJSON *effect, bool show)
{
	cJSON *mail = compare_mail(effect), *part;

	if (!mail)
		return;
	if (!show) {
		cJSON_DeleteItemFromObject(effect, "data");
		cJSON_DeleteItemFromObject(effect, "data_base64");
		cJSON_ArrayForEach(part, cJSON_GetObjectItemCaseSensitive(mail, "parts"))
			cJSON_DeleteItemFromObject(part, "content_base64");
	}
	while (mail->child) {
		part = cJSON_DetachItemViaPointer(mail, mail->child);
		cJSON_AddItemToObject(effect, part->string, part);
	}
	cJSON_Delete(mail);
}

cJSON *print_record(const struct replay_message *m, bool show, const cJSON *record)
{
	struct mask *mask = mask_new(m->text);
	cJSON *shown = cJSON_Duplicate(record, true), *e;

	cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(shown, "effects"))
	{
		take_apart(e, show);
		hide_keys(e);
		cJSON_DeleteItemFromObject(e, "kept");
		if (!show)
			cJSON_DeleteItemFromObject(e, "body_base64");
	}
	if (!show)
		mask_personal_in(mask, shown);
	mask_free(mask);
	return shown;
}

void print_replayed(const struct replay_message *m, bool show, const cJSON *new, const cJSON *old)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddStringToObject(o, "type", "message");
	cJSON_AddNumberToObject(o, "message", (double)m->id);
	cJSON_AddItemToObject(o, "new", print_record(m, show, new));
	if (old)
		cJSON_AddItemToObject(o, "old", print_record(m, show, old));
	cJSON_DeleteItemFromObject(cJSON_GetObjectItemCaseSensitive(o, "new"), "message");
	cJSON_DeleteItemFromObject(cJSON_GetObjectItemCaseSensitive(o, "old"), "message");
	cmd_print_json(o, false);
}

/* Counts as an object. */
static cJSON *counts_object(const struct findings_counts *c)
{
	cJSON *o = cJSON_CreateObject();

	for (size_t i = 0; i < c->n; i++)
		cJSON_AddNumberToObject(o, c->list[i].name, (double)c->list[i].n);
	return o;
}

/* One version as an object. */
static cJSON *side_object(const struct findings_side *s)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddItemToObject(o, "outcomes", counts_object(&s->outcomes));
	cJSON_AddItemToObject(o, "effects", counts_object(&s->effects));
	cJSON_AddNumberToObject(o, "median_ms", findings_median(s));
	return o;
}

cJSON *print_summary(const struct print_request *q, const struct findings *f, const struct replay_messages *m)
{
	cJSON *o = cJSON_CreateObject(), *list, *item;

	cJSON_AddStringToObject(o, "type", "summary");
	cJSON_AddStringToObject(o, "queue", q->queue);
	cJSON_AddBoolToObject(o, "dead", q->dead);
	cJSON_AddNumberToObject(o, "messages", (double)q->messages);
	cJSON_AddNumberToObject(o, "seconds", f->seconds);
	cJSON_AddItemToObject(o, "new", side_object(&f->sides[0]));
	cJSON_AddNumberToObject(o, "not_done", (double)f->worse);
	cJSON_AddNumberToObject(o, "writes_not_run", (double)f->unwritten);
	if (q->compared) {
		cJSON_AddItemToObject(o, "old", side_object(&f->sides[1]));
		cJSON_AddNumberToObject(o, "different", (double)f->different);
		list = cJSON_AddArrayToObject(o, "changes");
		for (size_t i = 0; i < f->ngroups; i++) {
			const struct findings_group *g = &f->groups[i];

			item = cJSON_CreateObject();
			cJSON_AddStringToObject(item, "kind", g->kind);
			cJSON_AddNumberToObject(item, "messages", (double)g->n);
			cJSON_AddNumberToObject(item, "sample", (double)m->list[g->message].id);
			cJSON_AddStringToObject(item, "from", g->from);
			cJSON_AddStringToObject(item, "to", g->to);
			cJSON_AddItemToArray(list, item);
		}
	}
	if (q->dead) {
		list = cJSON_AddArrayToObject(o, "reasons");
		for (size_t i = 0; i < f->reasons.n; i++) {
			item = cJSON_CreateObject();
			cJSON_AddStringToObject(item, "reason", f->reasons.list[i].name);
			cJSON_AddNumberToObject(item, "dead_letters", (double)f->reasons.list[i].n);
			cJSON_AddNumberToObject(item, "would_go_through", (double)f->reasons.list[i].good);
			cJSON_AddItemToArray(list, item);
		}
	}
	return o;
}

/* ---- for people ---- */

/* "done 990, fail 10" */
static void print_counts(const struct findings_counts *c)
{
	for (size_t i = 0; i < c->n; i++)
		printf("%s%zu %s", i ? ", " : "", c->list[i].n, c->list[i].name);
}

/* One version. */
static void print_side(const char *name, const struct findings_side *s)
{
	printf("%s version: ", name);
	print_counts(&s->outcomes);
	if (s->effects.n) {
		fputs("; recorded: ", stdout);
		print_counts(&s->effects);
	}
	printf("; median %.1f ms\n", findings_median(s));
}

/* The dead letters by their reason. */
static void print_reasons(const struct findings *f)
{
	printf("%zu of the dead letters would go through now\n", f->ngood);
	for (size_t i = 0; i < f->reasons.n; i++) {
		printf("  %6zu of %-6zu ", f->reasons.list[i].good, f->reasons.list[i].n);
		cmd_print(stdout, f->reasons.list[i].name);
		putchar('\n');
	}
}

/* The differences by their kind. */
static void print_groups(const struct findings *f, const struct replay_messages *m)
{
	printf(f->different ? "%zu messages differ\n" : "no message differs\n", f->different);
	for (size_t i = 0; i < f->ngroups; i++) {
		const struct findings_group *g = &f->groups[i];

		printf("  %6zu %s (message %" PRId64 "): ", g->n, g->kind, m->list[g->message].id);
		cmd_print(stdout, *g->from ? g->from : "(nothing)");
		fputs(" -> ", stdout);
		cmd_print(stdout, *g->to ? g->to : "(nothing)");
		putchar('\n');
	}
}

void print_findings(const struct print_request *q, const struct findings *f, const struct replay_messages *m)
{
	printf("%s: %zu %s in %.1f s\n", q->queue, q->messages, q->dead ? "dead letters" : "archived messages",
		f->seconds);
	print_side("new", &f->sides[0]);
	if (q->compared)
		print_side("old", &f->sides[1]);
	if (f->unwritten)
		printf("%zu statements write and were not run: --writes runs them in a copy of the database, and "
		       "--answers says what they would answer\n",
			f->unwritten);
	if (q->dead)
		print_reasons(f);
	if (q->compared)
		print_groups(f, m);
}
