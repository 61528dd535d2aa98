/* data.h: the contents of a report, taken from an assessment and its answers. */
#ifndef REPORT_DATA_H
#define REPORT_DATA_H

#include "words.h"

#include <glib.h>
#include <stdbool.h>

struct cJSON;

/* One answer or measurement; texts are never NULL. */
struct result {
	char *name, *value, *reference;
	enum level level;
};

/* One area of health. */
struct area {
	char *title;
	double score, order;
	bool has_score;
	GPtrArray *results;  /* struct result * */
	GString *unanswered; /* names of the questions without an answer, ", " between them */
};

struct advice {
	char *title, *text; /* the title may be empty */
	double order;
};

struct report_data {
	char *id;            /* of the report */
	char *name;          /* of the person; "" when it is not known */
	char *type;          /* of the check-up, for people; may be "" */
	char *date;          /* for people */
	char *completed_utc; /* RFC 3339 */
	char *completed_at;  /* as PostgreSQL prints it */
	char *summary;       /* the assessment's own, or "" */
	enum lang lang;
	double score;
	bool has_score;
	GPtrArray *areas;  /* struct area *, in order */
	GPtrArray *advice; /* struct advice *, in order */
	unsigned results, left_out;
};

/* Takes pgmqd.report_source()'s object apart. Returns NULL, or the fault (g_malloc'd); free *d either way. */
char *data_parse(const struct cJSON *source, struct report_data *d);
void data_clear(struct report_data *d);

/* Of a score between 0 and 100. */
enum level data_level(double score);

#endif
