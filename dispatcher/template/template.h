/* template.h: the mail templates: found by name and language, compiled once, rendered many times. */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include <cjson/cJSON.h>

struct template_set; /* all templates of one directory */

enum template_part { TEMPLATE_SUBJECT = 0, TEMPLATE_TEXT, TEMPLATE_HTML, TEMPLATE_NPARTS };

struct template_result {
	char *part[TEMPLATE_NPARTS]; /* malloc'd; NULL after an error */
	char *lang;
	char *error; /* malloc'd sentence; NULL on success */
};

/* Scans and compiles DIR/LANG/NAME.{subject,txt,html}.mustache and DIR/LANG/partials/NAME.mustache, and what all
 * languages share in DIR/partials; nothing is read from disk later. Folders that are not named like a language are left
 * alone. A comment {{! required: a b.c }} in any part names variables that a message must bring. NULL and *error
 * (malloc'd, "FILE:LINE: ...") on the first file that is broken. default_lang may be NULL: then there is no falling
 * back to it. */
struct template_set *template_load(const char *dir, const char *default_lang, char **error);
void template_free(struct template_set *t);

/* 0, or -1 with result->error, which names the template and what is wrong; another try would end the same way. `lang`
 * may be NULL; ru-RU falls back to ru, then to the default. vars may be NULL. */
int template_render(
	struct template_set *t, const char *name, const char *lang, const cJSON *vars, struct template_result *result);
void template_result_free(struct template_result *r);

/* Calls cb(name, lang) for each template, sorted. */
void template_each(struct template_set *t, void (*cb)(void *arg, const char *name, const char *lang), void *arg);

#endif
