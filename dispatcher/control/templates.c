/* templates.c: previews of the mail templates with their sample data: GET /api/templates, and one of them rendered. */
#include "config.h"

#include "control/templates.h"

#include "base/xalloc.h"
#include "control/context.h"
#include "template/template.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPLATES_SAMPLE_MAX 65536

/* A search in the list of templates. */
struct templates_search {
	const char *name, *lang;
	bool found;
	cJSON *list;
};

/* Loads what is on the disk now, so that a preview shows what was just edited. NULL: the request was answered. */
static struct template_set *templates_load(struct http_request *req)
{
	const struct settings *s = control_of(req)->env->settings;
	char *error = NULL;
	cJSON *brand = settings_brand(s);
	struct template_set *set = template_load(&(struct template_source){ .dir = s->template_dir,
							 .below = template_shipped(),
							 .default_lang = s->default_lang,
							 .brand = brand },
		&error);

	cJSON_Delete(brand);
	if (set == NULL)
		http_request_error(req, 500, "bad_template", "%s", error);
	free(error);
	return set;
}

/* One more template and language of the list. */
static void templates_each(void *arg, const char *name, const char *lang)
{
	struct templates_search *s = arg;
	cJSON *json, *last = s->list != NULL ? cJSON_GetArrayItem(s->list, cJSON_GetArraySize(s->list) - 1) : NULL;

	if (s->list == NULL) {
		s->found = s->found || (strcmp(name, s->name) == 0 && strcmp(lang, s->lang) == 0);
		return;
	}
	if (last == NULL || strcmp(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(last, "name")), name) != 0) {
		json = cJSON_CreateObject();
		cJSON_AddStringToObject(json, "name", name);
		cJSON_AddArrayToObject(json, "langs");
		cJSON_AddItemToArray(s->list, json);
		last = json;
	}
	cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(last, "langs"), cJSON_CreateString(lang));
}

/* GET /api/templates. */
void templates_list(struct http_request *req)
{
	struct templates_search search = { 0 };
	struct template_set *set = templates_load(req);
	cJSON *json;

	if (set == NULL)
		return;
	json = cJSON_CreateObject();
	search.list = cJSON_AddArrayToObject(json, "templates");
	template_each(set, templates_each, &search);
	template_free(set);
	http_request_json(req, 200, json);
}

/* The sample data of a template: samples/NAME.LANG.json, else samples/NAME.json, else nothing. Both names were found
 * among the templates, so no path can leave the directory. */
static cJSON *templates_sample(const char *dir, const char *name, const char *lang)
{
	char *text = xcalloc(1, TEMPLATES_SAMPLE_MAX + 1), *path;
	ssize_t n = -1;
	cJSON *json;

	for (int i = 0; i < 2 && n < 0; i++) {
		path = i == 0 ? xasprintf("%s/samples/%s.%s.json", dir, name, lang)
		              : xasprintf("%s/samples/%s.json", dir, name);
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

		if (fd != -1) {
			n = read(fd, text, TEMPLATES_SAMPLE_MAX);
			close(fd);
		}
		free(path);
	}
	json = n >= 0 ? cJSON_Parse(text) : NULL;
	free(text);
	return json != NULL ? json : cJSON_CreateObject();
}

/* Makes the part of a page that is for a dark or a light screen hold always or never, since a preview cannot choose its
 * screen. */
static char *templates_scheme(char *html, const char *scheme)
{
	static const char query[] = "(prefers-color-scheme: dark)";
	const char *with = strcmp(scheme, "dark") == 0 ? "all" : "not all";
	char *at, *next;

	while ((at = strstr(html, query)) != NULL) {
		next = xasprintf("%.*s%s%s", (int)(at - html), html, with, at + sizeof query - 1);
		free(html);
		html = next;
	}
	return html;
}

/* GET /api/templates/NAME/LANG: ?part=html (else), subject or txt; ?scheme=dark or light. */
void templates_show(struct http_request *req)
{
	static const char *const parts[TEMPLATE_NPARTS] = { "subject", "txt", "html" };
	const char *dir = control_of(req)->env->settings->template_dir;
	const char *part = http_request_query(req, "part"), *scheme = http_request_query(req, "scheme");
	struct templates_search search = { .name = req->param[0], .lang = req->param[1] };
	struct template_set *set = templates_load(req);
	struct template_result r = { 0 };
	struct evbuffer *body;
	cJSON *data;
	int which = TEMPLATE_HTML, status;

	if (set == NULL)
		return;
	template_each(set, templates_each, &search);
	for (int i = 0; part != NULL && i < TEMPLATE_NPARTS; i++)
		if (strcmp(parts[i], part) == 0)
			which = i;
	if (!search.found) {
		template_free(set);
		http_request_error(
			req, 404, "not_found", "there is no such template in that language; /api/templates lists them");
		return;
	}
	data = templates_sample(dir, search.name, search.lang);
	status = template_render(set, search.name, search.lang, data, &r);
	cJSON_Delete(data);
	template_free(set);
	if (status != 0) {
		http_request_error(req, 500, "bad_sample", "%s", r.error);
		template_result_free(&r);
		return;
	}
	if (which == TEMPLATE_HTML && scheme != NULL)
		r.part[which] = templates_scheme(r.part[which], scheme);
	body = http_request_buffer();
	evbuffer_add(body, r.part[which], strlen(r.part[which]));
	template_result_free(&r);
	/* a mail has its style inside and shows pictures from anywhere; it runs no script that may be in it */
	http_request_add_header(req, "Content-Security-Policy",
		"sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src https: data:; "
		"frame-ancestors 'self'");
	http_request_send(
		req, 200, which == TEMPLATE_HTML ? "text/html; charset=utf-8" : "text/plain; charset=utf-8", body);
}
