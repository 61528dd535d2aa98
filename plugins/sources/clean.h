/* clean.h: JSON of others, made fit for jsonb. */
#ifndef SOURCES_CLEAN_H
#define SOURCES_CLEAN_H

/* Replaces, in place, the escapes that JSON allows and PostgreSQL does not store, \u0000 and halves of surrogate pairs,
 * by \ufffd. */
void clean_escapes(char *json);

#endif
