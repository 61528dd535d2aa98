/* events.c: reads the events of four mail services. */
#include "config.h"

#include "events.h"

#include <glib.h>
#include <string.h>

const char *events_text(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

/* A member that is an object or a list; NULL else. */
static const cJSON *inside(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* Adds a string, if there is one. */
static void put(cJSON *event, const char *name, const char *value)
{
	if (value[0] != '\0')
		cJSON_AddStringToObject(event, name, value);
}

/* Adds one event to the list. Details are without addresses, as far as they can be told. */
static void add(cJSON *list, const char *provider, const char *id, const char *kind, const char *address,
	const char *key, const char *provider_id, const char *detail, double at)
{
	cJSON *event = cJSON_CreateObject();
	char **words = g_strsplit(detail, " ", -1), *clean;

	for (char **w = words; *w != NULL; w++)
		if (strchr(*w, '@') != NULL) {
			g_free(*w);
			*w = g_strdup("[address]");
		}
	clean = g_strjoinv(" ", words);
	cJSON_AddStringToObject(event, "provider", provider);
	cJSON_AddStringToObject(event, "event_id", id);
	cJSON_AddStringToObject(event, "kind", kind);
	put(event, "address", address);
	put(event, "key", key);
	put(event, "provider_id", provider_id);
	put(event, "detail", clean);
	if (at > 0)
		cJSON_AddNumberToObject(event, "at", at);
	cJSON_AddItemToArray(list, event);
	g_free(clean);
	g_strfreev(words);
}

/* A word's kind by a table of pairs that ends with NULL. */
static const char *kind_of(const char *const *pairs, const char *word)
{
	for (; *pairs != NULL; pairs += 2)
		if (strcmp(pairs[0], word) == 0)
			return pairs[1];
	return "other";
}

cJSON *events_of_resend(const cJSON *body, const char *id)
{
	static const char *const kinds[] = { "email.delivered", "delivered", "email.bounced", "bounce",
		"email.complained", "complaint", "email.delivery_delayed", "soft_bounce", NULL };
	const cJSON *data = inside(body, "data"), *bounce = inside(data, "bounce"), *to = inside(data, "to");
	const char *kind = kind_of(kinds, events_text(body, "type"));
	cJSON *list = cJSON_CreateArray(), *first = cJSON_GetArrayItem(to, 0);

	if (strcmp(kind, "bounce") == 0)
		kind = g_ascii_strcasecmp(events_text(bounce, "type"), "permanent") == 0 ? "hard_bounce"
		                                                                         : "soft_bounce";
	add(list, "resend", id, kind, cJSON_IsString(first) ? first->valuestring : events_text(data, "to"), "",
		events_text(data, "email_id"), events_text(bounce, "message"), 0);
	return list;
}

cJSON *events_of_sendgrid(const cJSON *body)
{
	static const char *const kinds[] = { "delivered", "delivered", "bounce", "bounce", "deferred", "soft_bounce",
		"spamreport", "complaint", "unsubscribe", "unsubscribed", "group_unsubscribe", "unsubscribed", NULL };
	cJSON *list = cJSON_CreateArray();
	const cJSON *item;

	cJSON_ArrayForEach(item, body)
	{
		const char *kind = kind_of(kinds, events_text(item, "event")), *id = events_text(item, "sg_event_id");
		const cJSON *at = inside(item, "timestamp");

		/* "blocked" is this mail's or the sender's misfortune, not the address's. */
		if (strcmp(kind, "bounce") == 0)
			kind = strcmp(events_text(item, "type"), "blocked") == 0 ? "soft_bounce" : "hard_bounce";
		if (id[0] != '\0')
			add(list, "sendgrid", id, kind, events_text(item, "email"), events_text(item, "pgmqd_key"), "",
				events_text(item, "reason"), cJSON_IsNumber(at) ? at->valuedouble : 0);
	}
	return list;
}

cJSON *events_of_mailgun(const cJSON *body)
{
	static const char *const kinds[] = { "delivered", "delivered", "failed", "bounce", "complained", "complaint",
		"unsubscribed", "unsubscribed", NULL };
	const cJSON *data = inside(body, "event-data"), *at = inside(data, "timestamp"),
		    *status = inside(data, "delivery-status");
	const char *kind = kind_of(kinds, events_text(data, "event")), *reason = events_text(data, "reason");
	cJSON *list = cJSON_CreateArray();

	if (strcmp(kind, "bounce") == 0)
		kind = strcmp(events_text(data, "severity"), "permanent") == 0 &&
		                       (strcmp(reason, "bounce") == 0 || strcmp(reason, "suppress-bounce") == 0)
		               ? "hard_bounce"
		               : "soft_bounce";
	if (events_text(data, "id")[0] != '\0')
		add(list, "mailgun", events_text(data, "id"), kind, events_text(data, "recipient"),
			events_text(inside(data, "user-variables"), "pgmqd_key"),
			events_text(inside(inside(data, "message"), "headers"), "message-id"),
			events_text(status, "message"), cJSON_IsNumber(at) ? at->valuedouble : 0);
	return list;
}

cJSON *events_of_ses(const cJSON *body, const char *id)
{
	static const char *const kinds[] = { "Delivery", "delivered", "Bounce", "bounce", "Complaint", "complaint",
		"DeliveryDelay", "soft_bounce", NULL };
	const char *type = events_text(body, "notificationType"), *kind;
	const cJSON *mail = inside(body, "mail"), *bounce = inside(body, "bounce"), *people, *item;
	const cJSON *key = cJSON_GetArrayItem(inside(inside(mail, "tags"), "pgmqd_key"), 0);
	cJSON *list = cJSON_CreateArray();
	unsigned n = 0;

	kind = kind_of(kinds, type[0] != '\0' ? type : events_text(body, "eventType"));
	if (strcmp(kind, "bounce") == 0)
		kind = strcmp(events_text(bounce, "bounceType"), "Permanent") == 0 ? "hard_bounce" : "soft_bounce";
	people = bounce != NULL ? inside(bounce, "bouncedRecipients")
	                        : inside(inside(body, "complaint"), "complainedRecipients");
	cJSON_ArrayForEach(item, people)
	{
		char *one = g_strdup_printf("%s %u", id, n++);

		add(list, "ses", one, kind, events_text(item, "emailAddress"),
			cJSON_IsString(key) ? key->valuestring : "", events_text(mail, "messageId"),
			events_text(item, "diagnosticCode"), 0);
		g_free(one);
	}
	if (n == 0)
		add(list, "ses", id, kind, "", cJSON_IsString(key) ? key->valuestring : "",
			events_text(mail, "messageId"), "", 0);
	return list;
}
