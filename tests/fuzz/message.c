/* message.c: fuzz target: a line that is a JSON Pointer, then a message's body; read by all that the plugin interface
 * has for it. */
#include "config.h"

#include "worker/api.h"
#include "base/xalloc.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads a message; what was found must be in the parsed body, and the body as it came. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct stats_slot slot;
	static struct messages all;
	const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
	size_t first = newline ? (size_t)(newline - data) : 0, len;
	char *pointer = xstrndup((const char *)data, first);
	struct pgmqd_msg *m;
	const struct cJSON *json;
	const char *found, *text;

	messages_init(&all, &slot);
	m = message_new(&all, NULL);
	m->text = xstrndup(newline ? (const char *)newline + 1 : (const char *)data, newline ? size - first - 1 : size);
	m->text_len = strlen(m->text); /* PostgreSQL's texts have no NUL */
	message_move(m, MSG_RUNNING);
	found = pgmqd_msg_str(m, pointer);
	json = pgmqd_msg_json(m);
	if (found && (!json || strlen(found) > m->text_len))
		abort();
	if (*pointer == '\0' && (found != NULL) != (cJSON_IsString(json) != 0))
		abort();
	text = pgmqd_msg_text(m, &len);
	if (len != m->text_len || text[len] != '\0' || pgmqd_msg_headers(m) || pgmqd_msg_id(m) != 0)
		abort();
	message_forget(m);
	free(pointer);
	return 0;
}
