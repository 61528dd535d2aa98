/* lines.c: texts of several lines, such as the errors of a settings file. */
#include "config.h"

#include "base/lines.h"

#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

char *lines_next(char **rest)
{
	char *line;

	while ((line = strsep(rest, "\n")) != NULL && *line == '\0')
		;
	return line;
}

char *words_next(char **rest)
{
	char *word;

	while ((word = strsep(rest, ", \t")) != NULL && *word == '\0')
		;
	return word;
}

bool lines_has(const char *text, const char *line)
{
	size_t len = strlen(line);

	for (const char *s = text; s && *s; s += strcspn(s, "\n"), s += *s == '\n')
		if (strncmp(s, line, len) == 0 && (s[len] == '\n' || !s[len]))
			return true;
	return false;
}

void lines_add(char **text, const char *line)
{
	char *all;

	if (lines_has(*text, line))
		return;
	all = *text ? xasprintf("%s\n%s", *text, line) : xstrdup(line);
	free(*text);
	*text = all;
}
