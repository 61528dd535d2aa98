/* lines.h: texts of several lines, such as the errors of a settings file. */
#ifndef LINES_H
#define LINES_H

#include <stdbool.h>

/* Cuts the next line that is not empty off `*rest`, which may be NULL; NULL when there is none. */
char *lines_next(char **rest);
bool lines_has(const char *text, const char *line); /* `text` may be NULL */
/* Adds a line to `*text`, which is NULL or malloc'd; a line that is there already is not repeated. */
void lines_add(char **text, const char *line);

/* Cuts the next name off `*rest`, where commas and blanks part them; NULL when there is none. */
char *words_next(char **rest);

#endif
