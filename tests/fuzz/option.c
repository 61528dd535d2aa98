/* option.c: fuzz target: the first byte picks a type of option, the rest is its text. What was taken prints as a text
 * that gives it again. */
#include "config.h"

#include "settings/option.h"
#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct values {
	const char *string, *secret, *url, *choice;
	int yes;
	uint64_t number, bytes;
	int64_t duration;
};

#define ROW(name, type, choices)                                                                                       \
	{                                                                                                              \
#name, type, 0, offsetof(struct values, name), NULL, NULL, NULL, choices                               \
	}
static const struct pgmqd_option table[] = {
	ROW(string, PGMQD_STRING, NULL),
	ROW(secret, PGMQD_SECRET, NULL),
	ROW(url, PGMQD_URL, NULL),
	ROW(choice, PGMQD_ENUM, "once|pool|never"),
	ROW(yes, PGMQD_BOOL, NULL),
	ROW(number, PGMQD_UINT, NULL),
	ROW(bytes, PGMQD_BYTES, NULL),
	ROW(duration, PGMQD_DURATION, NULL),
	{ NULL, 0, 0, 0, NULL, NULL, NULL, NULL },
};
#define NROWS (sizeof(table) / sizeof(*table) - 1)

/* Sets, prints, sets again; and guesses what the text may have meant as a name. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct values one = { 0 }, two = { 0 };
	struct option_guess guess = { 0 };
	const struct pgmqd_option *row;
	char *text, *error;

	if (size == 0)
		return 0;
	row = &table[data[0] % NROWS];
	text = xstrndup((const char *)data + 1, size - 1);
	error = option_set(row, &one, text);
	if (!error && row->type != PGMQD_SECRET) {
		char *printed = option_print(row, &one);

		error = option_set(row, &two, printed);
		if (error || !option_equal(row, &one, &two))
			abort();
		free(printed);
	}
	free(error);
	option_guess(&guess, table, text);
	(void)option_find(table, text);
	option_free(table, &one);
	option_free(table, &two);
	free(text);
	return 0;
}
