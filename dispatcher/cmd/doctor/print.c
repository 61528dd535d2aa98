/* print.c: the findings of `pgmqd doctor` as text and as JSON. */
#include "config.h"

#include "cmd/doctor/print.h"

#include "cmd/doctor/finding.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

static const char *const words[] = { "ok", "warn", "FAIL" };

/* A status as an index of words. */
static int known(int status)
{
	return status < PGMQD_CHECK_OK || status > PGMQD_CHECK_FAIL ? PGMQD_CHECK_FAIL : status;
}

int doctor_worst(const struct doctor *d)
{
	int worst = PGMQD_CHECK_OK;

	for (size_t i = 0; i < d->nfindings; i++)
		if (known(d->findings[i].status) > worst)
			worst = known(d->findings[i].status);
	return worst;
}

void doctor_print(const struct doctor *d, bool all)
{
	for (size_t i = 0; i < d->nfindings; i++) {
		const struct doctor_finding *f = &d->findings[i];

		if (!all && f->status == PGMQD_CHECK_OK)
			continue;
		printf("%-4s  %-14s  ", words[known(f->status)], f->check);
		cmd_print(stdout, f->subject);
		fputs(*f->subject ? ": " : "", stdout);
		cmd_print(stdout, f->seen);
		putchar('\n');
		if (f->status != PGMQD_CHECK_OK && f->remedy) {
			printf("      remedy%s: ", f->fix ? " (--fix does it)" : "");
			cmd_print(stdout, f->remedy);
			putchar('\n');
		}
	}
}

void doctor_print_fixes(const struct doctor *d)
{
	puts(d->nfixes ? "\nrepairs:" : "\nno fault can be repaired automatically");
	for (size_t i = 0; i < d->nfixes; i++)
		printf("%-6s  %s%s%s\n", d->fixes[i].error ? "failed" : "done", d->fixes[i].text,
			d->fixes[i].error ? "\n        " : "", d->fixes[i].error ? d->fixes[i].error : "");
	if (d->nfixes)
		puts("\nafter the repairs:");
}

/* How many findings are of a status; with `fixable` only those that --fix repairs. */
static size_t count(const struct doctor *d, int status, bool fixable)
{
	size_t n = 0;

	for (size_t i = 0; i < d->nfindings; i++)
		n += known(d->findings[i].status) == status && (!fixable || d->findings[i].fix);
	return n;
}

void doctor_print_summary(const struct doctor *d)
{
	size_t fixable = count(d, PGMQD_CHECK_WARN, true) + count(d, PGMQD_CHECK_FAIL, true);
	size_t warnings = count(d, PGMQD_CHECK_WARN, false);

	printf("\n%zu ok, %zu warning%s, %zu failed", count(d, PGMQD_CHECK_OK, false), warnings,
		warnings == 1 ? "" : "s", count(d, PGMQD_CHECK_FAIL, false));
	if (fixable && !d->fix)
		printf("; pgmqd doctor --fix repairs %zu of them", fixable);
	putchar('\n');
	if (d->nskipped) {
		printf("skipped because of the failures above:");
		for (size_t i = 0; i < d->nskipped; i++)
			printf("%s %s", i ? "," : "", d->skipped[i]);
		putchar('\n');
	}
	if (d->ndenied) {
		printf("not checked, since role %s may not look:", PQuser(d->db.conn));
		for (size_t i = 0; i < d->ndenied; i++)
			printf("%s %s", i ? "," : "", d->denied[i]);
		puts("; -d with the owner's connection, beside -c, checks all");
	}
}

/* Adds a text, or null. */
static void add(cJSON *o, const char *key, const char *text)
{
	if (text)
		cJSON_AddStringToObject(o, key, text);
	else
		cJSON_AddNullToObject(o, key);
}

void doctor_print_json(const struct doctor *d)
{
	static const char *const lower[] = { "ok", "warn", "fail" };
	cJSON *o = cJSON_CreateObject(), *list, *item;

	cJSON_AddStringToObject(o, "status", lower[doctor_worst(d)]);
	list = cJSON_AddArrayToObject(o, "checks");
	for (size_t i = 0; i < d->nfindings; i++) {
		const struct doctor_finding *f = &d->findings[i];

		item = cJSON_CreateObject();
		cJSON_AddStringToObject(item, "check", f->check);
		cJSON_AddStringToObject(item, "status", lower[known(f->status)]);
		cJSON_AddStringToObject(item, "subject", f->subject);
		cJSON_AddStringToObject(item, "seen", f->seen);
		add(item, "remedy", f->remedy);
		add(item, "fix", f->fix);
		cJSON_AddItemToArray(list, item);
	}
	list = cJSON_AddArrayToObject(o, "skipped");
	for (size_t i = 0; i < d->nskipped; i++)
		cJSON_AddItemToArray(list, cJSON_CreateString(d->skipped[i]));
	list = cJSON_AddArrayToObject(o, "not_permitted");
	for (size_t i = 0; i < d->ndenied; i++)
		cJSON_AddItemToArray(list, cJSON_CreateString(d->denied[i]));
	list = cJSON_AddArrayToObject(o, "fixed");
	for (size_t i = 0; i < d->nfixes; i++) {
		item = cJSON_CreateObject();
		cJSON_AddStringToObject(item, "fix", d->fixes[i].text);
		add(item, "error", d->fixes[i].error);
		cJSON_AddItemToArray(list, item);
	}
	cmd_print_json(o, true);
}
