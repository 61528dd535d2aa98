/* option.c: parses, prints and compares the values of option tables, by their rows' types. */
#include "config.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "settings/option.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OPTION_DURATION_MAX                                                                                            \
	(INT64_C(36500) * 86400 * 1000) /* 100 years: far from any overflow in the arithmetic on top */
#define GUESS_MAX 64                    /* longer names are not guessed at */

/* A unit behind a number. */
struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first, for printing. */
static const struct unit duration_units[] = { { "d", 86400000 }, { "h", 3600000 }, { "min", 60000 }, { "s", 1000 },
	{ "ms", 1 }, { NULL, 0 } };
static const struct unit bytes_units[] = { { "TB", 1ULL << 40 }, { "GB", 1 << 30 }, { "MB", 1 << 20 },
	{ "kB", 1 << 10 }, { "B", 1 }, { NULL, 0 } };

uint32_t option_type(const struct pgmqd_option *row)
{
	return row->type & OPTION_TYPE_MASK;
}

/* Whether the row's field is a string. */
static bool option_is_string(const struct pgmqd_option *row)
{
	uint32_t type = option_type(row);

	return type == PGMQD_STRING || type == PGMQD_SECRET || type == PGMQD_URL || type == PGMQD_ENUM;
}

/* Digits at the front of *text, which moves behind them. False: none, or more than 64 bits. */
static bool parse_digits(const char **text, uint64_t *value)
{
	const char *s = *text;
	uint64_t v = 0;

	if (!isdigit((unsigned char)*s))
		return false;
	for (; isdigit((unsigned char)*s); s++) {
		unsigned digit = (unsigned)(*s - '0');

		if (v > (UINT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*value = v;
	*text = s;
	return true;
}

/* A number with a unit, or with none and then counted in `bare`. */
static bool parse_with_unit(
	const char *text, const struct unit *units, uint64_t bare, bool any_case, uint64_t max, uint64_t *value)
{
	uint64_t factor = bare, n;

	if (!parse_digits(&text, &n))
		return false;
	while (*text == ' ')
		text++;
	if (*text) {
		const struct unit *u = units;

		while (u->name && (any_case ? strcasecmp(u->name, text) : strcmp(u->name, text)) != 0)
			u++;
		if (!u->name)
			return false;
		factor = u->factor;
	}
	if (n > max / factor)
		return false;
	*value = n * factor;
	return true;
}

/* yes/no and its kin. */
static bool parse_bool(const char *text, int *value)
{
	static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasecmp(words[i], text) == 0) {
			*value = (int)(i & 1);
			return true;
		}
	return false;
}

/* Whether no part of a host's name is empty, but for one dot at its end. */
static bool check_labels(const char *host, const char *end)
{
	for (const char *s = host; s < end; s++)
		if (*s == '.' && (s == host || s[-1] == '.'))
			return false;
	return host < end;
}

/* Whether it is an http or https URL with a host, and with nothing in it that could not stand in a request line. */
static bool check_url(const char *text)
{
	const char *host, *end, *at, *port;

	if (strncasecmp(text, "http://", 7) == 0)
		host = text + 7;
	else if (strncasecmp(text, "https://", 8) == 0)
		host = text + 8;
	else
		return false;
	for (const unsigned char *s = (const unsigned char *)text; *s; s++)
		if (*s <= 0x20 || *s == 0x7F || *s == '"' || *s == '<' || *s == '>' || *s == '\\')
			return false;
	end = host + strcspn(host, "/?#");
	at = memchr(host, '@', (size_t)(end - host));
	if (at)
		host = at + 1;
	if (*host == '[') {
		const char *close = memchr(host, ']', (size_t)(end - host));

		if (!close || close == host + 1)
			return false;
		port = close + 1;
	} else {
		port = host + strcspn(host, ":/?#");
		if (!check_labels(host, port))
			return false;
	}
	if (port == end)
		return true;
	if (*port++ != ':')
		return false;
	for (uint64_t n = 0;; port++) {
		if (port == end)
			return n > 0;
		if (!isdigit((unsigned char)*port))
			return false;
		n = n * 10 + (uint64_t)(*port - '0');
		if (n > 65535)
			return false;
	}
}

/* The place among the choices of the one that `text` names in any case; -1: none. Its own spelling is word[0..len). */
static int find_choice(const char *choices, const char *text, const char **word, size_t *len)
{
	int place = 0;

	for (const char *c = choices; *c; c += *len + (c[*len] == '|'), place++) {
		*word = c;
		*len = strcspn(c, "|");
		if (*len == strlen(text) && *len > 0 && strncasecmp(c, text, *len) == 0)
			return place;
	}
	return -1;
}

/* "a|b|c" as "a, b or c". */
static char *list_choices(const char *choices)
{
	char *out = xstrdup("");
	size_t n;

	for (const char *c = choices; *c; c += n + (c[n] == '|')) {
		char *longer;

		n = strcspn(c, "|");
		longer = xasprintf("%s%s%.*s", out, !*out ? "" : c[n] ? ", " : " or ", (int)n, c);
		free(out);
		out = longer;
	}
	return out;
}

/* The sentence about a value that was refused. A secret is never quoted, nor a URL that holds one. */
static char *option_refuse(const struct pgmqd_option *row, const char *text, const char *what)
{
	if (!*text)
		return xasprintf("%s: the value is empty, not %s", row->name, what);
	if (option_type(row) == PGMQD_SECRET || (option_type(row) == PGMQD_URL && strchr(text, '@')))
		return xasprintf("%s: the value is not %s", row->name, what);
	return xasprintf("%s: \"%.100s%s\" is not %s", row->name, text, strlen(text) > 100 ? "..." : "", what);
}

/* Puts a string into the row's field, which owns it from here. */
static void option_store(const struct pgmqd_option *row, void *base, char *value)
{
	char **field = (char **)(void *)((char *)base + row->offset);

	free(*field);
	*field = value;
}

/* Parses a word out of a few. */
static char *option_set_choice(const struct pgmqd_option *row, void *base, const char *text)
{
	const char *word;
	char *choices, *error;
	size_t len;
	int place = find_choice(row->choices, text, &word, &len);

	if (place >= 0) {
		if (option_type(row) == PGMQD_ENUM)
			option_store(row, base, xstrndup(word, len));
		else
			*(int *)(void *)((char *)base + row->offset) = place;
		return NULL;
	}
	choices = list_choices(row->choices);
	if (*text)
		error = xasprintf("%s: \"%.100s\" is none of the choices (write %s)", row->name, text, choices);
	else
		error = xasprintf("%s: the value is empty (write %s)", row->name, choices);
	free(choices);
	return error;
}

/* Parses a value into its field. */
char *option_set(const struct pgmqd_option *row, void *base, const char *text)
{
	void *field = (char *)base + row->offset;
	const char *rest = text;
	uint64_t n;

	switch (option_type(row)) {
	case PGMQD_STRING:
	case PGMQD_SECRET:
		option_store(row, base, xstrdup(text));
		return NULL;
	case PGMQD_URL:
		if (!check_url(text))
			return option_refuse(row, text, "a URL (write http://HOST... or https://HOST...)");
		option_store(row, base, xstrdup(text));
		return NULL;
	case PGMQD_ENUM:
	case OPTION_CHOICE:
		return option_set_choice(row, base, text);
	case PGMQD_BOOL:
		return parse_bool(text, field)
		               ? NULL
		               : option_refuse(
					 row, text, "a yes or no (write yes or no, true or false, on or off, 1 or 0)");
	case PGMQD_UINT:
		if (!parse_digits(&rest, &n) || *rest)
			return option_refuse(row, text, "a whole number from 0 up");
		*(uint64_t *)field = n;
		return NULL;
	case PGMQD_DURATION:
		if (!parse_with_unit(text, duration_units, 1000, false, OPTION_DURATION_MAX, &n))
			return option_refuse(row, text, "a duration (write 250ms, 30s, 5min, 3h or 7d)");
		*(int64_t *)field = (int64_t)n;
		return NULL;
	case PGMQD_BYTES:
		if (!parse_with_unit(text, bytes_units, 1, true, UINT64_MAX, &n))
			return option_refuse(row, text, "a size (write 512, 64kB, 5MB or 1GB)");
		*(uint64_t *)field = n;
		return NULL;
	default:
		return xasprintf("%s: the option is of a type (%u) that this pgmqd does not know", row->name,
			(unsigned)row->type);
	}
}

/* Fills the defaults in. */
void option_defaults(const struct pgmqd_option *table, void *base)
{
	for (const struct pgmqd_option *row = table; row && row->name; row++) {
		char *error = row->def ? option_set(row, base, row->def) : NULL;

		if (error) {
			log_error("the default of an option is wrong: %s", error);
			abort();
		}
	}
}

/* Frees the strings. */
void option_free(const struct pgmqd_option *table, void *base)
{
	for (const struct pgmqd_option *row = table; row && row->name; row++)
		if (option_is_string(row))
			option_store(row, base, NULL);
}

/* Compares the values of one row. */
bool option_equal(const struct pgmqd_option *row, const void *a, const void *b)
{
	const void *fa = (const char *)a + row->offset, *fb = (const char *)b + row->offset;

	if (option_is_string(row)) {
		const char *sa = *(const char *const *)fa, *sb = *(const char *const *)fb;

		return sa && sb ? strcmp(sa, sb) == 0 : sa == sb;
	}
	if (option_type(row) == PGMQD_BOOL || option_type(row) == OPTION_CHOICE)
		return *(const int *)fa == *(const int *)fb;
	return memcmp(fa, fb, sizeof(uint64_t)) == 0;
}

/* Finds a row. */
const struct pgmqd_option *option_find(const struct pgmqd_option *table, const char *name)
{
	for (const struct pgmqd_option *row = table; row && row->name; row++)
		if (strcmp(row->name, name) == 0)
			return row;
	return NULL;
}

/* One letter for comparing: case, dash and underscore make no difference to a guess. */
static char guess_fold(char c)
{
	return c == '-' ? '_' : (char)tolower((unsigned char)c);
}

/* Edit distance with swaps of neighbours counted as one; both names are shorter than GUESS_MAX. */
static unsigned guess_distance(const char *a, const char *b)
{
	unsigned rows[3][GUESS_MAX];
	size_t la = strlen(a), lb = strlen(b);

	for (size_t j = 0; j <= lb; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned *cur = rows[i % 3], *up = rows[(i + 2) % 3], *upup = rows[(i + 1) % 3];

		cur[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			char ca = guess_fold(a[i - 1]), cb = guess_fold(b[j - 1]);
			unsigned best = up[j - 1] + (ca != cb);

			if (up[j] + 1 < best)
				best = up[j] + 1;
			if (cur[j - 1] + 1 < best)
				best = cur[j - 1] + 1;
			if (i > 1 && j > 1 && ca == guess_fold(b[j - 2]) && guess_fold(a[i - 2]) == cb &&
				upup[j - 2] + 1 < best)
				best = upup[j - 2] + 1;
			cur[j] = best;
		}
	}
	return rows[la % 3][lb];
}

/* Considers one word. */
void option_guess_word(struct option_guess *g, const char *candidate, const char *name)
{
	size_t len = strlen(name);
	unsigned distance, limit = len <= 3 ? 1 : len <= 7 ? 2 : 3;

	if (len == 0 || len >= GUESS_MAX || strlen(candidate) >= GUESS_MAX)
		return;
	distance = guess_distance(name, candidate);
	if (distance <= limit && distance < strlen(candidate) && (!g->name || distance < g->distance)) {
		g->name = candidate;
		g->distance = distance;
	}
}

/* Considers the names of a table. */
void option_guess(struct option_guess *g, const struct pgmqd_option *table, const char *name)
{
	for (const struct pgmqd_option *row = table; row && row->name; row++)
		option_guess_word(g, row->name, name);
}

/* A number with the largest unit that divides it. */
static char *print_with_unit(uint64_t n, const struct unit *units)
{
	const struct unit *u = units;

	if (n == 0)
		return xstrdup("0");
	while (n % u->factor)
		u++;
	return xasprintf("%" PRIu64 "%s", n / u->factor, u->factor == 1 && units == bytes_units ? "" : u->name);
}

/* The word at a place among the choices. */
static char *print_choice(const char *choices, int place)
{
	while (place-- > 0)
		choices += strcspn(choices, "|") + 1;
	return xstrndup(choices, strcspn(choices, "|"));
}

/* Prints a value. */
char *option_print(const struct pgmqd_option *row, const void *base)
{
	const void *field = (const char *)base + row->offset;
	const char *s = option_is_string(row) ? *(const char *const *)field : NULL;

	switch (option_type(row)) {
	case OPTION_CHOICE:
		return print_choice(row->choices, *(const int *)field);
	case PGMQD_SECRET:
		return xstrdup(s && *s ? "(set)" : "");
	case PGMQD_BOOL:
		return xstrdup(*(const int *)field ? "yes" : "no");
	case PGMQD_UINT:
		return xasprintf("%" PRIu64, *(const uint64_t *)field);
	case PGMQD_DURATION:
		return print_with_unit((uint64_t) * (const int64_t *)field, duration_units);
	case PGMQD_BYTES:
		return print_with_unit(*(const uint64_t *)field, bytes_units);
	default:
		return xstrdup(s ? s : "");
	}
}

/* Names a row's type. */
const char *option_type_name(const struct pgmqd_option *row)
{
	static const char *const names[] = { "unknown", "string", "secret", "yes/no", "number", "duration", "size",
		"URL", "choice" };

	if (option_type(row) == OPTION_CHOICE)
		return names[PGMQD_ENUM];
	return names[option_type(row) < sizeof(names) / sizeof(names[0]) ? option_type(row) : 0];
}
