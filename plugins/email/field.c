/* field.c: reads a message's fields out of its JSON, and refuses what cannot be used. */
#include "config.h"

#include "field.h"

#include "address.h"

#include <cjson/cJSON.h>
#include <glib.h>
#include <string.h>

#define HEADERS_MAX 30
#define LABELS_MAX 10
#define LABEL_NAME_MAX 64
#define LABEL_VALUE_MAX 256

static const char name_bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
static const char label_bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

const cJSON *field_member(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return item == NULL || cJSON_IsNull(item) ? NULL : item;
}

char *field_string(const cJSON *object, const char *key, char **out)
{
	const cJSON *item = field_member(object, key);

	if (item == NULL)
		return NULL;
	if (!cJSON_IsString(item))
		return g_strdup_printf("%s: it must be a string", key);
	if (!g_utf8_validate(item->valuestring, -1, NULL))
		return g_strdup_printf("%s: it is not valid UTF-8", key);
	if (item->valuestring[0] != '\0')
		*out = g_strdup(item->valuestring);
	return NULL;
}

char *field_header(const cJSON *object, const char *key, char **out)
{
	char *reason = field_string(object, key, out);
	const char *wrong;

	if (reason == NULL && *out != NULL && (wrong = address_header_check(*out)) != NULL)
		reason = g_strdup_printf("%s: %s", key, wrong);
	return reason;
}

char *field_mailbox(const cJSON *object, const char *key, struct mailbox *out)
{
	char *text = NULL, *reason = field_string(object, key, &text);
	const char *wrong;

	if (reason == NULL && text != NULL && (wrong = address_mailbox(text, &out->name, &out->address)) != NULL)
		reason = g_strdup_printf("%s: %s", key, wrong);
	g_free(text);
	return reason;
}

/* Adds a pair. */
static void pairs_add(struct pairs *p, const char *name, const char *value)
{
	p->list = g_renew(struct pair, p->list, p->n + 1);
	p->list[p->n++] = (struct pair){ g_strdup(name), g_strdup(value) };
}

/* Whether it can be the name of a header, and so be told in a reason. */
static gboolean is_header_name(const char *name)
{
	return name[0] != '\0' && strlen(name) <= LABEL_NAME_MAX && strspn(name, name_bytes) == strlen(name);
}

/* Whether a message may set this header: X-..., and the standard ones that say something of its own. The others are
 * made by us, name recipients, or steer a mail service. */
static gboolean header_allowed(const char *name)
{
	static const char *const allowed[] = { "Auto-Submitted", "Comments", "Feedback-ID", "Importance", "In-Reply-To",
		"Keywords", "List-Archive", "List-Help", "List-ID", "List-Owner", "List-Post", "List-Subscribe",
		"List-Unsubscribe", "List-Unsubscribe-Post", "Organization", "Precedence", "Priority", "References",
		"Sensitivity", "Thread-Index", "Thread-Topic" };
	static const char *const steering[] = { "X-SMTPAPI", "X-MC-", "X-Mailgun-Recipient", "X-Original-To", "X-PM-",
		"X-Entity-Ref-ID" };

	for (size_t i = 0; i < G_N_ELEMENTS(steering); i++)
		if (g_ascii_strncasecmp(name, steering[i], strlen(steering[i])) == 0)
			return FALSE;
	for (size_t i = 0; i < G_N_ELEMENTS(allowed); i++)
		if (g_ascii_strcasecmp(name, allowed[i]) == 0)
			return TRUE;
	return g_ascii_strncasecmp(name, "X-", 2) == 0 && name[2] != '\0';
}

char *field_headers(const cJSON *object, struct pairs *out)
{
	const cJSON *all = field_member(object, "headers"), *item;
	const char *wrong;

	if (all == NULL)
		return NULL;
	if (!cJSON_IsObject(all))
		return g_strdup("headers: it must be an object of names and texts");
	cJSON_ArrayForEach(item, all)
	{
		if (!is_header_name(item->string))
			return g_strdup_printf(
				"headers: a name must have 1 to %d letters, digits and -", LABEL_NAME_MAX);
		if (!header_allowed(item->string))
			return g_strdup_printf("headers.%s: it is none that a message may set; X-... and a few others "
					       "are (pgmqd-email(7))",
				item->string);
		if (!cJSON_IsString(item))
			return g_strdup_printf("headers.%s: it must be a string", item->string);
		if ((wrong = address_header_check(item->valuestring)) != NULL)
			return g_strdup_printf("headers.%s: %s", item->string, wrong);
		if (g_ascii_strncasecmp(item->string, "X-", 2) != 0 && !g_str_is_ascii(item->valuestring))
			return g_strdup_printf("headers.%s: it must be plain ASCII", item->string);
		if (field_pairs_have(out, item->string))
			return g_strdup_printf("headers.%s: it is there twice", item->string);
		if (out->n == HEADERS_MAX)
			return g_strdup_printf("headers: more than %d", HEADERS_MAX);
		if (item->valuestring[0] != '\0')
			pairs_add(out, item->string, item->valuestring);
	}
	return NULL;
}

/* Whether a word can be a label at every mail service. */
static gboolean label_ok(const char *s)
{
	return s[0] != '\0' && strlen(s) <= LABEL_NAME_MAX && strspn(s, label_bytes) == strlen(s);
}

char *field_tags(const cJSON *object, struct pairs *out)
{
	const cJSON *all = field_member(object, "tags"), *item;

	if (all == NULL)
		return NULL;
	if (!cJSON_IsArray(all) || cJSON_GetArraySize(all) > LABELS_MAX)
		return g_strdup_printf("tags: it must be a list of up to %d words", LABELS_MAX);
	cJSON_ArrayForEach(item, all)
	{
		if (!cJSON_IsString(item) || !label_ok(item->valuestring))
			return g_strdup_printf(
				"tags: each must be a word of up to %d letters, digits, _ and -", LABEL_NAME_MAX);
		pairs_add(out, item->valuestring, NULL);
	}
	return NULL;
}

char *field_metadata(const cJSON *object, struct pairs *out)
{
	const cJSON *all = field_member(object, "metadata"), *item;

	if (all == NULL)
		return NULL;
	if (!cJSON_IsObject(all) || cJSON_GetArraySize(all) > LABELS_MAX)
		return g_strdup_printf("metadata: it must be an object of up to %d names and texts", LABELS_MAX);
	cJSON_ArrayForEach(item, all)
	{
		if (!label_ok(item->string) || g_ascii_strncasecmp(item->string, "pgmqd", 5) == 0)
			return g_strdup_printf(
				"metadata: a name must be up to %d letters, digits, _ and -, and not pgmqd...",
				LABEL_NAME_MAX);
		if (!cJSON_IsString(item) || strlen(item->valuestring) > LABEL_VALUE_MAX ||
			address_header_check(item->valuestring) != NULL)
			return g_strdup_printf("metadata.%s: it must be a text of up to %d bytes in one line",
				item->string, LABEL_VALUE_MAX);
		pairs_add(out, item->string, item->valuestring);
	}
	return NULL;
}

void field_mailbox_clear(struct mailbox *m)
{
	g_clear_pointer(&m->name, g_free);
	g_clear_pointer(&m->address, g_free);
}

void field_pairs_clear(struct pairs *p)
{
	for (size_t i = 0; i < p->n; i++) {
		g_free(p->list[i].name);
		g_free(p->list[i].value);
	}
	g_free(p->list);
	memset(p, 0, sizeof(*p));
}

int field_pairs_have(const struct pairs *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (g_ascii_strcasecmp(p->list[i].name, name) == 0)
			return 1;
	return 0;
}

char *field_at(char *reason, const char *where, ...)
{
	va_list ap;
	char *at, *whole;

	if (reason == NULL)
		return NULL;
	va_start(ap, where);
	at = g_strdup_vprintf(where, ap);
	va_end(ap);
	whole = g_strconcat(at, reason, NULL);
	g_free(at);
	g_free(reason);
	return whole;
}
