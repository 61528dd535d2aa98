/* report.c: prints what `pgmqd bench` has measured, as a table or as JSON. */
#include "config.h"

#include "cmd/bench/report.h"

#include "base/xalloc.h"
#include "cmd/bench/bench_private.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_add(struct bench_row *r, double value, int64_t messages)
{
	r->values = xrealloc(r->values, r->n + 1, sizeof(*r->values));
	r->values[r->n++] = value;
	r->messages += messages;
}

/* Order of numbers. */
static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The quantile q (0 to 1) of a row, between two values where it falls between them. */
static double quantile(const struct bench_row *r, double q)
{
	double *sorted = xcalloc(r->n ? r->n : 1, sizeof(*sorted)), at = q * (double)(r->n - 1), value;
	size_t i = (size_t)at;

	if (!r->n) {
		free(sorted);
		return 0;
	}
	memcpy(sorted, r->values, r->n * sizeof(*sorted));
	qsort(sorted, r->n, sizeof(*sorted), compare);
	value = sorted[i];
	if (i + 1 < r->n)
		value += (at - (double)i) * (sorted[i + 1] - value);
	free(sorted);
	return value;
}

/* One of a column's figures, and its name in JSON. */
struct column {
	const char *title, *key;
	double q;
};

/* Adds the ratios of every row to the base. */
static void add_ratios(
	cJSON *row, const struct column *columns, const struct bench_row *r, const struct bench_row *base)
{
	cJSON *ratio = cJSON_AddObjectToObject(row, "ratio");

	for (const struct column *c = columns; c->title; c++)
		cJSON_AddNumberToObject(
			ratio, c->key, quantile(base, c->q) > 0 ? quantile(r, c->q) / quantile(base, c->q) : 0);
}

/* All of it as one JSON object in one line. */
static void print_json(const struct bench *b, const char *unit, const struct column *columns,
	const struct bench_row *rows, size_t n, size_t base)
{
	cJSON *top = cJSON_CreateObject(), *list;
	char *text;

	cJSON_AddStringToObject(top, "bench", b->kind->name);
	cJSON_AddStringToObject(top, "pgmqd", PACKAGE_VERSION);
	cJSON_AddStringToObject(top, "postgresql", PQparameterStatus(b->db.conn, "server_version"));
	cJSON_AddStringToObject(top, "unit", unit);
	cJSON_AddStringToObject(top, "base", rows[base].name);
	list = cJSON_AddArrayToObject(top, "rows");
	for (size_t i = 0; i < n; i++) {
		cJSON *row = cJSON_CreateObject();

		cJSON_AddStringToObject(row, "name", rows[i].name);
		cJSON_AddNumberToObject(row, "messages", (double)rows[i].messages);
		for (const struct column *c = columns; c->title; c++)
			cJSON_AddNumberToObject(row, c->key, quantile(&rows[i], c->q));
		add_ratios(row, columns, &rows[i], &rows[base]);
		cJSON_AddItemToObject(row, "values", cJSON_CreateDoubleArray(rows[i].values, (int)rows[i].n));
		cJSON_AddItemToArray(list, row);
	}
	text = cJSON_PrintUnformatted(top);
	puts(text ? text : "{}");
	cJSON_free(text);
	cJSON_Delete(top);
}

/* A table for people; the last column is the first figure's ratio to the base's. */
static void print_table(
	const char *what, int digits, const struct column *columns, const struct bench_row *rows, size_t n, size_t base)
{
	double first = quantile(&rows[base], columns[0].q);

	printf("%-34s %9s", what, "messages");
	for (const struct column *c = columns; c->title; c++)
		printf(" %9s", c->title);
	printf(" %7s\n", "ratio");
	for (size_t i = 0; i < n; i++) {
		printf("%-34s %9lld", rows[i].name, (long long)rows[i].messages);
		for (const struct column *c = columns; c->title; c++)
			printf(" %9.*f", digits, quantile(&rows[i], c->q));
		printf(" %7.2f\n", first > 0 ? quantile(&rows[i], columns[0].q) / first : 0);
	}
}

void bench_print_latency(const struct bench *b, const char *what, const struct bench_row *rows, size_t n, size_t base)
{
	static const struct column columns[] = { { "p50", "p50", 0.5 }, { "p90", "p90", 0.9 }, { "p99", "p99", 0.99 },
		{ "most", "most", 1 }, { 0 } };

	if (b->json)
		print_json(b, "ms", columns, rows, n, base);
	else
		print_table(what, 3, columns, rows, n, base);
}

void bench_print_rates(const struct bench *b, const char *what, const struct bench_row *rows, size_t n, size_t base)
{
	static const struct column columns[] = { { "median", "median", 0.5 }, { "least", "least", 0 },
		{ "most", "most", 1 }, { 0 } };

	if (b->json)
		print_json(b, "messages/s", columns, rows, n, base);
	else
		print_table(what, 0, columns, rows, n, base);
}
