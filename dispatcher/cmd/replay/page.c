/* page.c: the findings of a replay as one page without anything from elsewhere: page.html with the findings in it.
 * Mails are shown in frames that run no script and load nothing.
 */
#include "config.h"

#include "cmd/replay/page.h"

#include "base/xalloc.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define MARK "@DATA@"

#include "cmd/replay/page.inc"

/* Writes JSON so that no text in it ends the element that it stands in. */
static void write_json(FILE *f, const char *json)
{
	for (; *json; json++)
		if (*json == '<')
			fputs("\\u003c", f);
		else
			putc(*json, f);
}

char *page_write(const char *dir, cJSON *summary, cJSON *samples, bool show)
{
	const char *mark = strstr(page_text, MARK);
	char *path = xasprintf("%s/index.html", dir), *error = NULL, *json;
	cJSON *data = cJSON_CreateObject();
	FILE *f;

	cJSON_AddItemToObject(data, "summary", summary);
	cJSON_AddItemToObject(data, "samples", samples);
	cJSON_AddBoolToObject(data, "show", show);
	cJSON_AddNumberToObject(data, "at", (double)time(NULL));
	json = cJSON_PrintUnformatted(data);
	(void)mkdir(dir, 0700);
	f = fopen(path, "we");
	if (f) {
		fwrite(page_text, 1, (size_t)(mark - page_text), f);
		write_json(f, json);
		fputs(mark + strlen(MARK), f);
	}
	if (!f || fclose(f) != 0)
		error = xasprintf("cannot write %s: %s", path, strerror(errno));
	free(json);
	free(path);
	cJSON_Delete(data);
	return error;
}
