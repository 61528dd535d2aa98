/* list.c: the sources that a job gathers from, out of the text of the option `sources`. */
#include "config.h"

#include "list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LIST_BLANKS " \t"
#define LIST_RETRIES_MAX 10
#define LIST_TIMEOUT_MAX_MS 3600000

/* A sentence about a source. */
static char *list_error(const char *name, const char *text, const char *what)
{
	char *s = NULL;

	if (asprintf(&s, "%s: \"%.100s\" %s", name, text, what) == -1)
		abort();
	return s;
}

/* Reads 250ms, 20s or 5min. */
static bool list_duration(const char *text, int64_t *ms)
{
	static const struct {
		const char *unit;
		int64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "min", 60000 } };
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || n <= 0 || n > LIST_TIMEOUT_MAX_MS)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(end, units[i].unit) == 0) {
			*ms = n * units[i].ms;
			return *ms <= LIST_TIMEOUT_MAX_MS;
		}
	return false;
}

/* Takes one word behind name and URL. */
static char *list_word(struct source *s, const char *word)
{
	char *end;
	long n;

	if (strcmp(word, "required") == 0) {
		s->required = true;
	} else if (strcmp(word, "get") == 0) {
		s->get = true;
	} else if (strncmp(word, "timeout=", 8) == 0) {
		if (!list_duration(word + 8, &s->timeout_ms))
			return list_error(s->name, word, "is not a time-out (write timeout=250ms, 20s or 5min)");
	} else if (strncmp(word, "retries=", 8) == 0) {
		n = strtol(word + 8, &end, 10);
		if (word[8] == '\0' || *end != '\0' || n < 0 || n > LIST_RETRIES_MAX)
			return list_error(s->name, word, "is not a number of retries (from 0 to 10)");
		s->retries = (unsigned)n;
	} else {
		return list_error(s->name, word, "is none of required, get, timeout=TIME and retries=N");
	}
	return NULL;
}

/* Whether the name is one that a result can have. */
static bool list_name_is_good(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= 63 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

/* Takes one source. */
static char *list_source(struct source_list *l, char *text, int64_t timeout_ms, unsigned retries)
{
	char *save = NULL, *name = strtok_r(text, LIST_BLANKS, &save), *url = strtok_r(NULL, LIST_BLANKS, &save), *word,
	     *error = NULL;
	struct source *s;

	if (name == NULL || !list_name_is_good(name))
		return list_error(
			"sources", name != NULL ? name : "", "is not a name (letters, digits, - and _, at most 63)");
	if (url == NULL || (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0))
		return list_error(name, url != NULL ? url : "", "is not a URL of http or https (write NAME URL ...)");
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->sources[i].name, name) == 0)
			return list_error("sources", name, "stands there twice");
	if (l->n == LIST_MAX)
		return list_error("sources", name, "is one too many: 64 are the most");
	s = &l->sources[l->n++];
	s->name = name;
	s->url = url;
	s->timeout_ms = timeout_ms;
	s->retries = retries;
	while (error == NULL && (word = strtok_r(NULL, LIST_BLANKS, &save)) != NULL)
		error = list_word(s, word);
	return error;
}

char *source_list_parse(struct source_list *l, const char *text, int64_t timeout_ms, unsigned retries)
{
	char *rest, *one, *error = NULL;

	l->n = 0;
	l->text = rest = strdup(text);
	l->sources = calloc(LIST_MAX, sizeof(*l->sources));
	if (l->text == NULL || l->sources == NULL)
		abort();
	while (error == NULL && (one = strsep(&rest, "|")) != NULL)
		error = list_source(l, one, timeout_ms, retries);
	return error;
}

void source_list_free(struct source_list *l)
{
	free(l->sources);
	free(l->text);
	l->sources = NULL;
	l->text = NULL;
	l->n = 0;
}
