/* api_check.c: what a plugin's check() tells `pgmqd doctor`. */
#include "config.h"

#include "base/xalloc.h"
#include "worker/api.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

PGMQD_EXPORT void pgmqd_check_tell(struct pgmqd_check *c, int status, const char *remedy, const char *fmt, ...)
{
	cJSON *line = cJSON_CreateObject();
	char *seen, *text;
	va_list ap;

	va_start(ap, fmt);
	seen = xvasprintf(fmt, ap);
	va_end(ap);
	cJSON_AddNumberToObject(line, "status", status);
	cJSON_AddStringToObject(line, "seen", seen);
	if (remedy)
		cJSON_AddStringToObject(line, "remedy", remedy);
	text = cJSON_PrintUnformatted(line);
	fprintf(c->out, "%s\n", text ? text : "");
	fflush(c->out); /* a crash after this one loses only what comes after it */
	cJSON_free(text);
	cJSON_Delete(line);
	free(seen);
}
