/* keys.c: tells keys that are known, nearly known and unknown apart. */
#include "config.h"

#include "keys.h"

#include <cjson/cJSON.h>
#include <glib.h>
#include <string.h>

#define SHOWN_MAX 40

/* priority is of queue_email_task(), and nothing here looks at it. */
static const char *const message_keys[] = { "to", "to_name", "cc", "bcc", "from", "reply_to", "headers", "key",
	"subject", "template", "text", "html", "variables", "lang", "attachments", "class", "expires_at", "priority",
	"tags", "metadata", NULL };
static const char *const attachment_keys[] = { "filename", "content", "content_type", "url", "path", "cid", NULL };

/* The key in small letters, without the signs that join words: replyTo, reply-to and reply_to are alike. */
static char *plain(const char *key)
{
	GString *s = g_string_new(NULL);

	for (; *key != '\0'; key++)
		if (*key != '_' && *key != '-' && *key != ' ')
			g_string_append_c(s, g_ascii_tolower(*key));
	return g_string_free(s, FALSE);
}

/* How many letters have to be put in, taken out, changed or swapped with the next one to make `b` of `a`; more than
 * `max` counts as max + 1. */
static size_t distance(const char *a, const char *b, size_t max)
{
	size_t la = strlen(a), lb = strlen(b), rows[3][SHOWN_MAX + 1];

	if (la > SHOWN_MAX || lb > SHOWN_MAX || la > lb + max || lb > la + max)
		return max + 1;
	for (size_t j = 0; j <= lb; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t *now = rows[i % 3], *before = rows[(i - 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			now[j] = MIN(MIN(before[j], now[j - 1]) + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = MIN(now[j], rows[(i - 2) % 3][j - 2] + 1);
		}
	}
	return rows[la % 3][lb];
}

/* The key that was probably meant; NULL: none of these. Short words differ by a letter without being meant. */
static const char *meant(const char *key, const char *const *known)
{
	char *mine = plain(key);
	const char *found = NULL;

	for (; *known != NULL && found == NULL; known++) {
		char *theirs = plain(*known);
		size_t longer = MAX(strlen(mine), strlen(theirs)), max = longer >= 8 ? 2 : longer >= 4 ? 1 : 0;

		if (distance(mine, theirs, max) <= max)
			found = *known;
		g_free(theirs);
	}
	g_free(mine);
	return found;
}

/* Whether it is one of them. */
static bool is_known(const char *key, const char *const *known)
{
	return g_strv_contains(known, key);
}

/* Whether a key's name can be repeated in a log or a reason. */
static bool can_be_shown(const char *key)
{
	return key[0] != '\0' && strlen(key) <= SHOWN_MAX &&
	       strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. ") == strlen(key);
}

/* The check of one object. */
static char *check_object(const cJSON *object, const char *const *known, bool strict)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, object)
	{
		const char *other;

		if (is_known(item->string, known))
			continue;
		if ((other = meant(item->string, known)) != NULL)
			return g_strdup_printf("%s: there is no such key; write %s",
				can_be_shown(item->string) ? item->string : "a key", other);
		if (strict) {
			char *all = g_strjoinv(", ", (char **)known);
			char *reason = g_strdup_printf(
				"there is a key that is not known, and strict_keys = yes; the keys are %s", all);

			g_free(all);
			return reason;
		}
	}
	return NULL;
}

char *keys_check(const cJSON *json, bool strict)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "attachments"), *item;
	char *reason = check_object(json, message_keys, strict);
	size_t i = 0;

	if (reason != NULL || !cJSON_IsArray(list))
		return reason;
	cJSON_ArrayForEach(item, list)
	{
		if ((reason = check_object(item, attachment_keys, strict)) != NULL) {
			char *where = g_strdup_printf("attachments[%zu]: %s", i, reason);

			g_free(reason);
			return where;
		}
		i++;
	}
	return NULL;
}

void keys_unknown(const cJSON *json, void (*tell)(void *arg, const char *name), void *arg)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "attachments"), *item, *key;

	cJSON_ArrayForEach(key, json)
	{
		if (!is_known(key->string, message_keys))
			tell(arg, can_be_shown(key->string) ? key->string : "(a name that cannot be shown)");
	}
	if (!cJSON_IsArray(list))
		return;
	cJSON_ArrayForEach(item, list)
	{
		cJSON_ArrayForEach(key, item)
		{
			char *name = g_strconcat("attachments.", can_be_shown(key->string) ? key->string : "?", NULL);

			if (!is_known(key->string, attachment_keys))
				tell(arg, name);
			g_free(name);
		}
	}
}
