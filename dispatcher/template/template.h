/* template.h: the mail templates: found by name and language, compiled once, rendered many times. */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include <cjson/cJSON.h>
#include <stdbool.h>

struct template_set; /* all templates of one directory */

enum template_part { TEMPLATE_SUBJECT = 0, TEMPLATE_TEXT, TEMPLATE_HTML, TEMPLATE_NPARTS };

struct template_result {
	char *part[TEMPLATE_NPARTS]; /* malloc'd; NULL after an error */
	char *lang;
	char *error; /* malloc'd sentence; NULL on success */
};

/* Where templates come from. */
struct template_source {
	const char *dir;          /* the user's */
	const char *below;        /* pgmqd's own: used for each file that `dir` does not have; NULL: none */
	const char *default_lang; /* NULL: no falling back */
	const cJSON *brand;       /* brand_* of the settings, which a message may override; NULL: none */
};

/* The directory of the templates that came with pgmqd: $PGMQD_TEMPLATE_DIR, else the installation's. */
const char *template_shipped(void);

/* Reads and compiles DIR/LANG/NAME.{subject,txt,html}.mustache and DIR/LANG/partials/NAME.mustache, and DIR/partials,
 * which all languages share; nothing is read from disk later. Returns NULL and *error (malloc'd, "FILE:LINE: ...") for
 * the first file that is broken. pgmqd-templates(7) describes the files. */
struct template_set *template_load(const struct template_source *source, char **error);
void template_free(struct template_set *t);

/* Returns 0, or -1 with result->error, which names the template and the fault; a retry would fail in the same way.
 * `lang` may be NULL; ru-RU falls back to ru, then to the default. vars may be NULL. */
int template_render(
	struct template_set *t, const char *name, const char *lang, const cJSON *vars, struct template_result *result);
void template_result_free(struct template_result *r);

/* True when there is a template of that name, in any language. */
bool template_exists(const struct template_set *t, const char *name);

/* Calls cb(name, lang) for each template, sorted. */
void template_each(struct template_set *t, void (*cb)(void *arg, const char *name, const char *lang), void *arg);

#endif
