/* ses.c: the provider Amazon SES v2: POST /v2/email/outbound-emails, the whole mail in base64, signed by libcurl. */
#include "config.h"

#include "options.h"
#include "provider.h"

#include <cjson/cJSON.h>
#include <string.h>

/* Whether `s` is a region's name, which becomes part of a host's name. */
static bool region_ok(const char *s)
{
	if (s == NULL || s[0] == '\0' || strlen(s) > 40)
		return false;
	for (; *s != '\0'; s++)
		if (!g_ascii_islower(*s) && !g_ascii_isdigit(*s) && *s != '-')
			return false;
	return true;
}

/* A region and a pair of keys. */
static char *ses_check(const struct email *h)
{
	char *reason = provider_check_url("ses_url", h->ses_url);

	if (reason != NULL)
		return reason;
	if (!region_ok(h->ses_region))
		return g_strdup("ses_region (AWS_REGION): it must be a region like eu-central-1");
	if (h->ses_access_key == NULL || h->ses_access_key[0] == '\0')
		return g_strdup("ses_access_key_id (AWS_ACCESS_KEY_ID) is missing");
	if (h->ses_secret_key == NULL || h->ses_secret_key[0] == '\0')
		return g_strdup("ses_secret_access_key (AWS_SECRET_ACCESS_KEY) is missing");
	return NULL;
}

/* The parts that all requests have: the address, and the signature. */
static void address_and_sign(const struct email *h, const char *path, struct provider_request *q)
{
	if (h->ses_url != NULL && h->ses_url[0] != '\0')
		provider_url(q, h->ses_url);
	else
		g_string_printf(q->url, "https://email.%s.amazonaws.com", h->ses_region);
	g_string_append(q->url, path);
	if (h->ses_session_token != NULL && h->ses_session_token[0] != '\0')
		provider_add_header(q, "X-Amz-Security-Token", h->ses_session_token);
	q->user = h->ses_access_key;
	q->pass = h->ses_secret_key;
	/* The service is "ses", though the host says "email". */
	q->sigv4 = g_strdup_printf("aws:amz:%s:ses", h->ses_region);
}

/* GET BASE/v2/email/account: the account's state. */
static void ses_probe(const struct email *h, struct provider_request *q)
{
	address_and_sign(h, "/v2/email/account", q);
}

/* Whom it goes to; who is shown stands in the mail. */
static void add_recipients(cJSON *json, const struct recipients *r)
{
	static const char *const keys[RECIPIENT_KINDS] = { "ToAddresses", "CcAddresses", "BccAddresses" };
	cJSON *destination = cJSON_AddObjectToObject(json, "Destination"), *lists[RECIPIENT_KINDS] = { NULL };

	for (size_t i = 0; i < r->n; i++) {
		enum recipient_kind kind = r->list[i].kind;

		if (lists[kind] == NULL)
			lists[kind] = cJSON_AddArrayToObject(destination, keys[kind]);
		cJSON_AddItemToArray(lists[kind], cJSON_CreateString(r->list[i].mailbox.address));
	}
}

/* A tag is a name with a value here. */
static void add_tag(cJSON *list, const char *name, const char *value)
{
	cJSON *tag = cJSON_CreateObject();

	cJSON_AddStringToObject(tag, "Name", name);
	cJSON_AddStringToObject(tag, "Value", value);
	cJSON_AddItemToArray(list, tag);
}

/* POST BASE/v2/email/outbound-emails. */
static void ses_request(const struct email *h, const struct provider_mail *mail, struct provider_request *q)
{
	const struct pairs *tags = mail->parts->tags, *metadata = mail->parts->metadata;
	cJSON *json = cJSON_CreateObject(), *list, *content;
	char *data = provider_base64(mail->bytes, mail->len), *text;

	cJSON_AddStringToObject(json, "FromEmailAddress", mail->parts->from);
	add_recipients(json, mail->parts->rcpt);
	content = cJSON_AddObjectToObject(json, "Content");
	cJSON_AddStringToObject(cJSON_AddObjectToObject(content, "Raw"), "Data", data);
	list = cJSON_AddArrayToObject(json, "EmailTags");
	add_tag(list, "pgmqd_key", mail->key);
	for (size_t i = 0; tags != NULL && i < tags->n; i++)
		add_tag(list, tags->list[i].name, "true");
	for (size_t i = 0; metadata != NULL && i < metadata->n; i++)
		add_tag(list, metadata->list[i].name, metadata->list[i].value);
	if (h->ses_configuration_set != NULL && h->ses_configuration_set[0] != '\0')
		cJSON_AddStringToObject(json, "ConfigurationSetName", h->ses_configuration_set);
	text = cJSON_PrintUnformatted(json);
	g_string_assign(q->body, text);
	cJSON_free(text);
	cJSON_Delete(json);
	g_free(data);
	provider_add_header(q, "Content-Type", "application/json");
	address_and_sign(h, "/v2/email/outbound-emails", q);
}

/* The error's name is in a header, "TooManyRequestsException:http://...". */
static void ses_judge(const struct provider_reply *reply, struct mail_result *result)
{
	static const struct provider_error errors[] = {
		{ "TooManyRequestsException", MAIL_SLOWER }, { "ThrottlingException", MAIL_SLOWER },
		{ "LimitExceededException", MAIL_SLOWER }, { "RequestTimeTooSkewed", MAIL_CONFIG },
		{ "SendingPausedException", MAIL_CONFIG }, { "AccountSuspendedException", MAIL_CONFIG },
		{ "MailFromDomainNotVerifiedException", MAIL_CONFIG },
		{ "SignatureDoesNotMatchException", MAIL_CONFIG }, { "UnrecognizedClientException", MAIL_CONFIG },
		{ "AccessDeniedException", MAIL_CONFIG }, { "MessageRejected", MAIL_PERMANENT },
		{ "BadRequestException", MAIL_PERMANENT },
		{ "NotFoundException", MAIL_CONFIG }, /* the configuration set's name is wrong */
	};
	const char *type = provider_header(reply, "x-amzn-ErrorType"), *id = provider_text(reply->json, "MessageId");
	const char *message = provider_text(reply->json, "message");
	char *name;

	if (result->is == MAIL_SENT) {
		result->id = id[0] != '\0' ? g_strdup(id) : NULL;
		return;
	}
	name = g_strndup(type, strcspn(type, ":"));
	provider_by_name(errors, G_N_ELEMENTS(errors), name, result);
	g_free(name);
	/* Also told as a rejected message: the sender is not verified, which is so for every mail. */
	if (strstr(message, "Email address is not verified") != NULL)
		result->is = MAIL_CONFIG;
}

const struct provider provider_ses = {
	.name = "ses",
	.check = ses_check,
	.request = ses_request,
	.judge = ses_judge,
	.probe = ses_probe,
};
