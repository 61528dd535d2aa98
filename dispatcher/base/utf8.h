/* utf8.h: text that others wrote, made fit for the database and the log. */
#ifndef UTF8_H
#define UTF8_H

/* Replaces, in place, each byte that is not part of valid UTF-8 by "?" and each control character by a blank, and cuts
 * the text at `max` bytes without splitting a character. */
void utf8_clean(char *text, unsigned long max);

#endif
