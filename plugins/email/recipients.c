/* recipients.c: reads who gets a mail, and keeps the list. */
#include "config.h"

#include "recipients.h"

#include "address.h"

#include <cjson/cJSON.h>
#include <glib.h>
#include <string.h>

/* Whether the address is there already. */
static bool has(const struct recipients *r, const char *address)
{
	for (size_t i = 0; i < r->n; i++)
		if (g_ascii_strcasecmp(r->list[i].mailbox.address, address) == 0)
			return true;
	return false;
}

/* Adds one; who is there already gets no second copy. */
static char *take_one(const cJSON *item, enum recipient_kind kind, struct recipients *r)
{
	struct mailbox m = { NULL, NULL };
	const char *wrong;

	if (!cJSON_IsString(item))
		return g_strdup("it must be a string, or a list of strings");
	if (!g_utf8_validate(item->valuestring, -1, NULL))
		return g_strdup("it is not valid UTF-8");
	if ((wrong = address_mailbox(item->valuestring, &m.name, &m.address)) != NULL)
		return g_strdup(wrong);
	if (has(r, m.address)) {
		field_mailbox_clear(&m);
		return NULL;
	}
	if (r->n == RECIPIENTS_MAX) {
		field_mailbox_clear(&m);
		return g_strdup_printf("a mail has up to %d recipients", RECIPIENTS_MAX);
	}
	r->list = g_renew(struct recipient, r->list, r->n + 1);
	r->list[r->n++] = (struct recipient){ m, kind };
	return NULL;
}

/* Reads one key: a string, or a list of them. */
static char *take_kind(const cJSON *json, const char *key, enum recipient_kind kind, struct recipients *r)
{
	const cJSON *value = field_member(json, key), *item;
	size_t i = 0;

	if (value == NULL || (cJSON_IsString(value) && value->valuestring[0] == '\0'))
		return NULL;
	if (!cJSON_IsArray(value))
		return field_at(take_one(value, kind, r), "%s: ", key);
	cJSON_ArrayForEach(item, value)
	{
		char *reason = field_at(take_one(item, kind, r), "%s[%zu]: ", key, i++);

		if (reason != NULL)
			return reason;
	}
	return NULL;
}

char *recipients_take(const cJSON *json, struct recipients *r)
{
	static const char *const keys[RECIPIENT_KINDS] = { "to", "cc", "bcc" };
	char *name = NULL, *reason;

	for (unsigned kind = 0; kind < RECIPIENT_KINDS; kind++) {
		if ((reason = take_kind(json, keys[kind], kind, r)) != NULL)
			return reason;
		if (r->n == 0)
			return g_strdup("to: it is missing");
	}
	reason = field_header(json, "to_name", &name);
	if (reason == NULL && name != NULL && cJSON_IsArray(field_member(json, "to")))
		reason = g_strdup("to_name: with a list, write Name <address> in it");
	if (reason != NULL || name == NULL) {
		g_free(name);
		return reason;
	}
	g_free(r->list[0].mailbox.name);
	r->list[0].mailbox.name = name;
	return NULL;
}

void recipients_drop(struct recipients *r, size_t i)
{
	field_mailbox_clear(&r->list[i].mailbox);
	memmove(&r->list[i], &r->list[i + 1], (r->n - i - 1) * sizeof(*r->list));
	r->n--;
}

void recipients_redirect(struct recipients *r, const char *address)
{
	while (r->n > 1)
		recipients_drop(r, r->n - 1);
	g_free(r->list[0].mailbox.address);
	r->list[0].mailbox.address = g_strdup(address);
}

bool recipients_any_to(const struct recipients *r)
{
	return r->n > 0 && r->list[0].kind == RECIPIENT_TO;
}

char *recipients_join(const struct recipients *r)
{
	GString *s = g_string_new(NULL);

	for (size_t i = 0; i < r->n; i++)
		g_string_append_printf(s, "%s%s", i > 0 ? "," : "", r->list[i].mailbox.address);
	return g_string_free(s, FALSE);
}

void recipients_clear(struct recipients *r)
{
	for (size_t i = 0; i < r->n; i++)
		field_mailbox_clear(&r->list[i].mailbox);
	g_free(r->list);
	memset(r, 0, sizeof(*r));
}
