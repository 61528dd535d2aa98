/* mustache.c: fuzz target: a template, a line "---", and the JSON that it is rendered over, with itself as every
 * partial; a value never becomes a tag or, escaped, markup. */
#include "config.h"

#include "template/render.h"
#include "base/xalloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The only partial that there is. */
static const struct mustache *lookup(void *arg, const char *name)
{
	return strcmp(name, "none") == 0 ? NULL : arg;
}

static int see_partial(void *arg, const char *name, unsigned line)
{
	(void)arg;
	if (!*name || line == 0)
		abort();
	return 0;
}

static int see_comment(void *arg, const char *text, size_t len, unsigned line)
{
	(void)arg, (void)line;
	return len > 0 && text[0] == '!' && text[len - 1] == '\0';
}

/* Renders; the length and the bounds hold, and an error is one line that names the template. */
static void render(const struct mustache *m, const cJSON *json, enum render_escape escape, const char *from)
{
	char *error = NULL, *out;
	size_t len = 0;

	out = render_mustache(m, json, escape, lookup, (void *)(uintptr_t)m, &len, &error);
	if ((out == NULL) != (error != NULL) || (error && strncmp(error, "fuzz", 4) != 0))
		abort();
	if (out && (strlen(out) > len || len > RENDER_MAX_OUTPUT))
		abort();
	/* no < in the template: then none comes out of a value that is escaped */
	if (out && escape == RENDER_HTML && !strchr(from, '<') && !strstr(from, "{{{") && !strchr(from, '&') &&
		!strchr(from, '=') && strchr(out, '<'))
		abort();
	free(out);
	free(error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xstrndup((const char *)data, size), *error = NULL, *mark = strstr(text, "\n---\n");
	size_t len = mark ? (size_t)(mark - text) : size;
	struct mustache *m = mustache_parse((const char *)data, len, "fuzz", &error);
	cJSON *json = mark ? cJSON_Parse(mark + 5) : NULL;

	if ((m == NULL) != (error != NULL) || (error && strncmp(error, "fuzz:", 5) != 0))
		abort();
	if (m) {
		if (mark)
			*mark = '\0';
		mustache_each_partial(m, see_partial, NULL);
		mustache_each_comment(m, see_comment, NULL);
		render(m, json, RENDER_PLAIN, text);
		render(m, json, RENDER_HTML, text);
	}
	free(error);
	mustache_free(m);
	cJSON_Delete(json);
	free(text);
	return 0;
}
