/* compose.c: makes the mail out of the message: its name, its texts, its headers, its bytes. */
#include "config.h"

#include "compose.h"

#include "address.h"
#include "keys.h"
#include "safety.h"
#include "signature.h"

#include <cjson/cJSON.h>
#include <string.h>

#define GIST_BYTES 65536

#define STRANGE_MAX 100 /* keys that are told of */

/* Learns from the headers whether the message has been among the dead letters, and what it was then. */
static void read_history(struct sending *s)
{
	const char *text = pgmqd_msg_headers(s->msg);
	cJSON *headers = text != NULL && strstr(text, "\"pgmqd_history\"") != NULL ? cJSON_Parse(text) : NULL;
	const cJSON *history = cJSON_GetObjectItemCaseSensitive(headers, "pgmqd_history"), *first, *last;
	const cJSON *id, *enqueued, *kind;

	s->due = pgmqd_msg_due_us(s->msg);
	s->root_id = pgmqd_msg_id(s->msg);
	s->root_enqueued = pgmqd_msg_enqueued_us(s->msg);
	if (cJSON_IsArray(history) && cJSON_GetArraySize(history) > 0) {
		first = cJSON_GetArrayItem(history, 0);
		last = cJSON_GetArrayItem(history, cJSON_GetArraySize(history) - 1);
		id = cJSON_GetObjectItemCaseSensitive(first, "msg_id");
		enqueued = cJSON_GetObjectItemCaseSensitive(first, "enqueued_us");
		kind = cJSON_GetObjectItemCaseSensitive(last, "class");
		if (cJSON_IsNumber(id) && cJSON_IsNumber(enqueued)) {
			s->root_id = (gint64)id->valuedouble;
			s->root_enqueued = (gint64)enqueued->valuedouble;
		}
		s->was_held = cJSON_IsString(kind) && strcmp(kind->valuestring, "unknown") == 0;
		s->repeated = true;
	}
	cJSON_Delete(headers);
}

/* What a message says, to tell it from others: of a long one its ends and its length. Its number and its time stand
 * beside that, and a digest of an attachment's 16 MB would hold up all other mails. */
static char *gist_of(const struct sending *s)
{
	size_t len;
	const char *text = pgmqd_msg_text(s->msg, &len);
	GString *gist;

	if (len <= 2 * GIST_BYTES)
		return g_strdup(text);
	gist = g_string_new_len(text, GIST_BYTES);
	g_string_append_printf(gist, " %zu ", len);
	g_string_append_len(gist, text + len - GIST_BYTES, GIST_BYTES);
	return g_string_free(gist, FALSE);
}

/* The name that all copies of this mail share. */
static void identify(struct sending *s)
{
	struct pgmqd_msg *m = s->msg;
	char *gist = s->parsed.key == NULL ? gist_of(s) : NULL;
	char *id = g_strdup_printf("%" G_GINT64_FORMAT, s->root_id);
	char *enqueued = g_strdup_printf("%" G_GINT64_FORMAT, s->root_enqueued);
	char *to = recipients_join(&s->parsed.rcpt);
	const char *const keyed[] = { pgmqd_msg_queue(m), s->parsed.key, to };
	const char *const unkeyed[] = { pgmqd_msg_queue(m), id, enqueued, gist };

	s->key = s->parsed.key != NULL ? mime_digest(keyed, G_N_ELEMENTS(keyed))
	                               : mime_digest(unkeyed, G_N_ELEMENTS(unkeyed));
	s->message_id = g_strdup_printf("%.32s@%s", s->key, s->email->domain);
	g_free(gist);
	g_free(to);
	g_free(id);
	g_free(enqueued);
}

/* Whether the message may name this sender: the settings' own, or one of allow_from, which has addresses and @domains.
 */
static bool sender_allowed(const struct email *h, const char *address)
{
	const char *list = h->allow_from;

	if (g_ascii_strcasecmp(address, h->from_address) == 0)
		return true;
	return list != NULL && (safety_listed(list, address) || safety_listed(list, strchr(address, '@')));
}

void compose_warn_once(struct sending *s, const char *name, const char *what)
{
	GHashTable *told = s->email->strange_keys;

	if (g_hash_table_contains(told, name) || g_hash_table_size(told) > STRANGE_MAX)
		return;
	g_hash_table_add(told, g_strdup(name));
	if (pgmqd_first(s->email->worker, name))
		pgmqd_msg_log(s->msg, PGMQD_WARN, "%s: %s", what, name);
}

/* Warns of a key that is none of ours. */
static void warn_of_key(void *arg, const char *name)
{
	compose_warn_once(arg, name, "messages have a key that is not known, and nothing is done with it");
}

/* The kind of a mail. */
static enum mail_kind kind_of(const struct sending *s)
{
	const struct email_message *m = &s->parsed;
	const char *list = s->email->reminder_templates;

	if (m->kind != NULL)
		return strcmp(m->kind, "reminder") == 0 ? MAIL_REMINDER : MAIL_TRANSACTIONAL;
	return m->template != NULL && list != NULL && safety_listed(list, m->template) ? MAIL_REMINDER
	                                                                               : MAIL_TRANSACTIONAL;
}

int64_t compose_time_left(const struct sending *s)
{
	int64_t ttl = s->kind == MAIL_REMINDER ? s->email->ttl_reminder : s->email->ttl;
	gint64 now = g_get_real_time(), end = G_MAXINT64;

	/* A reminder counts from its first time on, also when it was requeued since. */
	if (ttl > 0)
		end = (s->kind == MAIL_REMINDER && s->root_id != pgmqd_msg_id(s->msg) ? s->root_enqueued : s->due) +
		      ttl * 1000;
	if (s->parsed.expires_at > 0)
		end = MIN(end, s->parsed.expires_at * G_USEC_PER_SEC);
	return end == G_MAXINT64 ? end : (end - now) / 1000;
}

char *compose_begin(struct sending *s)
{
	char *reason = message_parse(pgmqd_msg_json(s->msg), pgmqd_msg_text(s->msg, NULL), s->email->max_message_bytes,
		s->email->strict_keys, &s->parsed);

	if (reason != NULL)
		return reason;
	if (s->parsed.from.address != NULL && !sender_allowed(s->email, s->parsed.from.address))
		return g_strdup("from: this sender is not among allow_from");
	keys_unknown(pgmqd_msg_json(s->msg), warn_of_key, s);
	read_history(s);
	s->kind = kind_of(s);
	if (compose_time_left(s) <= 0) {
		s->fail_class = "expired";
		return g_strdup("it is too late for this mail");
	}
	safety_redirect(s);
	identify(s);
	s->repeated = s->repeated || s->parsed.key != NULL;
	return NULL;
}

/* Adds a header that is ASCII as it is, unless the message has its own. */
static void add_header(struct mime_mail *mail, const char *name, const char *value)
{
	if (value == NULL || mail->nextra == MIME_EXTRA_MAX || field_pairs_have(mail->headers, name))
		return;
	mail->extra[mail->nextra].name = name;
	mail->extra[mail->nextra++].value = value;
}

/* The link by which the recipient unsubscribes; g_malloc'd. */
static char *unsubscribe_link(const struct sending *s)
{
	const char *base = s->email->unsubscribe_url;
	size_t n = strlen(base);

	return g_strdup_printf("%.*s/%s", (int)(base[n - 1] == '/' ? n - 1 : n), base, s->entry.unsubscribe);
}

/* The template's variables: those of the message, and unsubscribe_url where the mail has a link. */
static const cJSON *variables_of(struct sending *s)
{
	char *link;

	if (s->entry.unsubscribe == NULL || cJSON_HasObjectItem(s->parsed.variables, "unsubscribe_url"))
		return s->parsed.variables;
	link = unsubscribe_link(s);
	s->variables = s->parsed.variables != NULL ? cJSON_Duplicate(s->parsed.variables, 1) : cJSON_CreateObject();
	cJSON_AddStringToObject(s->variables, "unsubscribe_url", link);
	g_free(link);
	return s->variables;
}

/* Puts the parts together. */
static void assemble(struct sending *s)
{
	const struct email *h = s->email;
	const struct email_message *msg = &s->parsed;
	const struct pgmqd_rendered *r = &s->rendered;
	struct mime_mail *mail = &s->parts;

	mail->from = msg->from.address != NULL ? msg->from.address : h->from_address;
	mail->from_name = msg->from.name != NULL ? msg->from.name : h->from_display;
	mail->rcpt = &msg->rcpt;
	mail->reply_to = msg->reply_to.address != NULL ? msg->reply_to.address : h->reply_address;
	mail->reply_name = msg->reply_to.address != NULL ? msg->reply_to.name : h->reply_display;
	mail->headers = &msg->headers;
	mail->tags = &msg->tags;
	mail->metadata = &msg->metadata;
	mail->subject = msg->subject != NULL ? msg->subject : r->subject;
	if (s->original_to != NULL && mail->subject != NULL)
		mail->subject = s->subject = safety_subject(s, mail->subject);
	mail->text = msg->template != NULL ? r->text : msg->text;
	mail->html = msg->template != NULL ? r->html : msg->html;
	mail->date = s->due / G_USEC_PER_SEC;
	mail->attachments = msg->attachments;
	mail->nattachments = msg->nattachments;
	mail->message_id = s->message_id;
	add_header(mail, "Content-Language", r->lang != NULL ? r->lang : msg->lang);
	add_header(mail, "Auto-Submitted", "auto-generated");
	add_header(mail, "X-Auto-Response-Suppress", "DR, RN, NRN, OOF, AutoReply");
	if (s->entry.unsubscribe != NULL) {
		char *link = unsubscribe_link(s);

		s->list_unsubscribe = g_strdup_printf("<%s>", link);
		g_free(link);
		add_header(mail, "List-Unsubscribe", s->list_unsubscribe);
		add_header(mail, "List-Unsubscribe-Post", "List-Unsubscribe=One-Click");
	}
	if (h->feedback_id != NULL && h->feedback_id[0] != '\0') {
		s->feedback_id = g_strdup_printf("%s:%s:%s:%s", msg->template != NULL ? msg->template : "-",
			s->kind == MAIL_REMINDER ? "reminder" : "transactional", r->lang != NULL ? r->lang : "-",
			h->feedback_id);
		add_header(mail, "Feedback-ID", s->feedback_id);
	}
	add_header(mail, "X-Original-To", s->original_to);
}

char *compose_unsubscribe_token(const struct sending *s)
{
	/* Of the whole message too, so that nobody can guess it who knows the key. */
	char *enqueued = g_strdup_printf("%" G_GINT64_FORMAT, s->root_enqueued), *gist = gist_of(s);
	const char *const parts[] = { "unsubscribe", s->key, enqueued, gist };
	char *digest = mime_digest(parts, G_N_ELEMENTS(parts));

	g_free(gist);
	g_free(enqueued);
	digest[40] = '\0';
	return digest;
}

/* A text of the variables, as queue_email_task() puts it there; NULL when it is none. */
static char *text_of_variables(const struct email_message *m, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(m->variables, name));

	return text != NULL && text[0] != '\0' ? g_strdup(text) : NULL;
}

/* A template that does not exist, beside a text or HTML of the message's own: that is the mail then. */
static bool use_own_text(struct sending *s)
{
	struct email_message *m = &s->parsed;

	if (pgmqd_has_template(s->email->worker, m->template))
		return false;
	if (m->text == NULL && m->html == NULL) {
		m->text = text_of_variables(m, "text");
		m->html = text_of_variables(m, "html");
	}
	if (m->text == NULL && m->html == NULL)
		return false;
	pgmqd_msg_log(s->msg, PGMQD_DEBUG, "no such template: the message's own text is sent");
	pgmqd_rendered_free(&s->rendered);
	g_clear_pointer(&m->template, g_free);
	return true;
}

/* What the boundaries are made of: of the message too, so that no text of it can hold them. Without a key of its own
 * its name is made of all that already. */
static char *boundary_of(const struct sending *s)
{
	char *gist = s->parsed.key != NULL ? gist_of(s) : NULL;
	char *when = g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT, s->root_id, s->root_enqueued);
	const char *const named[] = { "boundary", s->key, gist, when };
	char *seed = mime_digest(named, G_N_ELEMENTS(named));

	g_free(when);
	g_free(gist);
	return seed;
}

char *compose_end(struct sending *s, bool *config)
{
	struct email *h = s->email;
	struct mime_mail *mail = &s->parts;
	const char *wrong;

	if (s->parsed.template != NULL) {
		int rc = pgmqd_render(h->worker, s->parsed.template, s->parsed.lang, variables_of(s), &s->rendered);

		*config = rc == -2;
		if (rc != 0 && (rc == -2 || !use_own_text(s)))
			return g_strdup(
				s->rendered.error != NULL ? s->rendered.error : "the template cannot be rendered");
	}
	assemble(s);
	if (mail->subject == NULL)
		return g_strdup("subject: it is empty");
	if ((wrong = address_header_check(mail->subject)) != NULL)
		return g_strdup_printf("subject: %s", wrong);
	if (mail->subject[0] == '\0')
		return g_strdup("subject: it is empty");
	mail->seed = s->seed = boundary_of(s);
	s->bytes = mime_compose(mail, &s->len, &wrong);
	if (s->bytes == NULL)
		return g_strdup(wrong);
	if (s->len > h->max_message_bytes)
		return g_strdup_printf("the mail has %zu bytes, max_message_bytes is %" G_GUINT64_FORMAT, s->len,
			(guint64)h->max_message_bytes);
	/* Mail services sign by themselves, after changing headers. */
	if (h->signer != NULL && h->pool != NULL)
		s->signing = signing_new(h->signer, s->bytes, s->len, mail->date);
	return NULL;
}

bool compose_sign(struct sending *s, char **reason)
{
	*reason = NULL;
	if (s->signing == NULL)
		return true;
	if (!signing_step(s->signing, &s->signed_bytes, &s->signed_len, reason))
		return false;
	signing_free(s->signing);
	s->signing = NULL;
	return true;
}
