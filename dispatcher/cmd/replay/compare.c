/* compare.c: what differs between two runs of one message: its outcome, and its effects, those of a kind in pairs in
 * their order.
 */
#include "config.h"

#include "cmd/replay/compare.h"

#include "base/xalloc.h"
#include "cmd/replay/base64.h"
#include "cmd/replay/mail.h"
#include "cmd/replay/mask.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AROUND 1000   /* bytes round a difference that are looked at to mask it */
#define SHOWN_MAX 160 /* of either side */
#define KIND_MAX 80

struct compare {
	const struct mask *mask;
	bool show;
	compare_cb found;
	void *arg;
};

/* Where two texts differ: from `begin` on, `a` and `b` bytes long. */
struct gap {
	size_t begin, a, b;
};

/* Whether a word may be cut before this byte. */
static bool is_edge(char c)
{
	return c && strchr(" \t\r\n<>\"'();,", c);
}

/* Finds it, by whole words. */
static struct gap find_gap(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), begin = 0, end = 0;

	while (a[begin] && a[begin] == b[begin])
		begin++;
	while (end < la - begin && end < lb - begin && a[la - 1 - end] == b[lb - 1 - end])
		end++;
	while (begin > 0 && !is_edge(a[begin - 1]))
		begin--;
	while (end > 0 && !is_edge(a[la - end]))
		end--;
	return (struct gap){ begin, la - end - begin, lb - end - begin };
}

/* A piece of a text with what is round it; malloc'd. */
static char *around(const char *text, size_t begin, size_t len)
{
	size_t from = begin > AROUND ? begin - AROUND : 0, all = strlen(text),
	       to = begin + len + AROUND < all ? begin + len + AROUND : all;

	while (from < begin && !is_edge(text[from]))
		from++;
	return xstrndup(text + from, to - from);
}

/* A text that is short enough to be shown, as one line; malloc'd. */
static char *shorten(const char *text, size_t len)
{
	char *piece = xstrndup(text, len), *line = xoneline(piece);

	free(piece);
	if (strlen(line) > SHOWN_MAX) {
		size_t end = SHOWN_MAX;

		while (end && ((unsigned char)line[end] & 0xc0) == 0x80)
			end--;
		strcpy(line + end, "\xe2\x80\xa6");
	}
	return line;
}

/* A text by which changes are told apart: numbers are all the same. */
static void blur(char *text)
{
	char *to = text;

	for (const char *p = text; *p; p++)
		if (!isdigit((unsigned char)*p))
			*to++ = *p;
		else if (to == text || to[-1] != '0')
			*to++ = '0';
	*to = '\0';
}

/* Tells a change between two texts that are not equal. */
static void tell(const struct compare *c, const char *kind, const char *from, const char *to)
{
	struct gap g = find_gap(from, to), m;
	char *raw[2] = { around(from, g.begin, g.a), around(to, g.begin, g.b) };
	char *masked[2] = { mask_personal(c->mask, raw[0]), mask_personal(c->mask, raw[1]) };
	char *shown[2], *sign[2];
	struct compare_change change = { .kind = kind };

	m = find_gap(masked[0], masked[1]);
	sign[0] = shorten(masked[0] + m.begin, m.a);
	sign[1] = shorten(masked[1] + m.begin, m.b);
	shown[0] = c->show ? shorten(from + g.begin, g.a) : xstrdup(sign[0]);
	shown[1] = c->show ? shorten(to + g.begin, g.b) : xstrdup(sign[1]);
	blur(sign[0]);
	blur(sign[1]);
	change.from = shown[0];
	change.to = shown[1];
	change.sign_from = sign[0];
	change.sign_to = sign[1];
	c->found(c->arg, &change);
	for (int i = 0; i < 2; i++) {
		free(raw[i]);
		free(masked[i]);
		free(shown[i]);
		free(sign[i]);
	}
}

/* Compares two texts; NULL is an empty one. */
static void compare_texts(const struct compare *c, const char *kind, const char *from, const char *to)
{
	char *a, *b;

	from = from ? from : "";
	to = to ? to : "";
	if (strcmp(from, to) == 0)
		return;
	a = mask_random(c->mask, from);
	b = mask_random(c->mask, to);
	if (strcmp(a, b) != 0)
		tell(c, kind, a, b);
	free(a);
	free(b);
}

/* A string of an object, or NULL. */
static const char *text_of(const cJSON *o, const char *name)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

/* The members of two objects. */
static void compare_members(
	const struct compare *c, const char *kind, const cJSON *from, const cJSON *to, const char *const *names)
{
	for (; *names; names++) {
		char full[KIND_MAX];

		snprintf(full, sizeof(full), "%s %s", kind, *names);
		compare_texts(c, full, text_of(from, *names), text_of(to, *names));
	}
}

/* Two values as JSON; objects and arrays member by member. */
static void compare_values(const struct compare *c, const char *kind, const cJSON *from, const cJSON *to)
{
	const cJSON *child;
	char full[KIND_MAX], *a, *b;

	if (cJSON_IsObject(from) && cJSON_IsObject(to)) {
		cJSON_ArrayForEach(child, from)
		{
			snprintf(full, sizeof(full), "%s %s", kind, child->string);
			compare_values(c, full, child, cJSON_GetObjectItemCaseSensitive(to, child->string));
		}
		cJSON_ArrayForEach(child, to) if (!cJSON_GetObjectItemCaseSensitive(from, child->string))
		{
			snprintf(full, sizeof(full), "%s %s", kind, child->string);
			compare_values(c, full, NULL, child);
		}
		return;
	}
	a = cJSON_IsString(from) ? xstrdup(from->valuestring) : from ? cJSON_PrintUnformatted(from) : NULL;
	b = cJSON_IsString(to) ? xstrdup(to->valuestring) : to ? cJSON_PrintUnformatted(to) : NULL;
	compare_texts(c, kind, a, b);
	free(a);
	free(b);
}

/* A list of texts as one, a line each; malloc'd. */
static char *join(const cJSON *list)
{
	char *all = xstrdup("");
	const cJSON *item;

	cJSON_ArrayForEach(item, list)
	{
		char *text = cJSON_IsString(item) ? xstrdup(item->valuestring) : cJSON_PrintUnformatted(item),
		     *more = xasprintf("%s%s\n", all, text);

		free(text);
		free(all);
		all = more;
	}
	return all;
}

/* Two lists of texts. */
static void compare_lists(
	const struct compare *c, const char *kind, const cJSON *from, const cJSON *to, const char *name)
{
	char *a = join(cJSON_GetObjectItemCaseSensitive(from, name)),
	     *b = join(cJSON_GetObjectItemCaseSensitive(to, name));

	compare_texts(c, kind, a, b);
	free(a);
	free(b);
}

cJSON *compare_mail(const cJSON *effect)
{
	const char *data = text_of(effect, "data"), *coded = text_of(effect, "data_base64");
	size_t len = data ? strlen(data) : 0;
	char *decoded = coded ? base64_decode(coded, strlen(coded), &len) : NULL;
	cJSON *mail = data || coded ? mail_read(data ? data : decoded, len) : NULL;

	free(decoded);
	return mail;
}

/* Without the contents, which the hashes stand for. */
static void drop_contents(cJSON *mail)
{
	cJSON *part;

	cJSON_ArrayForEach(part, cJSON_GetObjectItemCaseSensitive(mail, "parts"))
		cJSON_DeleteItemFromObject(part, "content_base64");
}

/* Two mails. */
static void compare_mails(const struct compare *c, const cJSON *from, const cJSON *to)
{
	static const char *const names[] = { "subject", "text", "html", NULL };
	cJSON *a = compare_mail(from), *b = compare_mail(to);

	drop_contents(a);
	drop_contents(b);
	compare_texts(c, "mail sender", text_of(from, "from"), text_of(to, "from"));
	compare_lists(c, "mail recipients", from, to, "to");
	compare_members(c, "mail", a, b, names);
	compare_lists(c, "mail headers", a, b, "headers");
	compare_lists(c, "mail attachments", a, b, "parts");
	cJSON_Delete(a);
	cJSON_Delete(b);
}

/* Two requests. */
static void compare_requests(const struct compare *c, const cJSON *from, const cJSON *to)
{
	static const char *const names[] = { "method", "url", "body_base64", NULL };
	cJSON *a = cJSON_Parse(text_of(from, "body")), *b = cJSON_Parse(text_of(to, "body"));

	compare_members(c, "request", from, to, names);
	compare_lists(c, "request headers", from, to, "headers");
	if (a && b)
		compare_values(c, "request", a, b);
	else
		compare_texts(c, "request body", text_of(from, "body"), text_of(to, "body"));
	cJSON_Delete(a);
	cJSON_Delete(b);
}

/* Two statements. */
static void compare_statements(const struct compare *c, const cJSON *from, const cJSON *to)
{
	static const char *const names[] = { "sql", "answer", NULL };

	compare_members(c, "statement", from, to, names);
	compare_lists(c, "statement parameters", from, to, "params");
}

/* Two files. */
static void compare_files(const struct compare *c, const cJSON *from, const cJSON *to)
{
	static const char *const names[] = { "name", "hash", NULL };

	compare_members(c, "file", from, to, names);
}

/* Two messages that a plugin sends along with its outcome. */
static void compare_messages(const struct compare *c, const cJSON *from, const cJSON *to)
{
	compare_texts(c, "message", text_of(from, "queue"), text_of(to, "queue"));
	compare_values(c, "message", cJSON_GetObjectItemCaseSensitive(from, "message"),
		cJSON_GetObjectItemCaseSensitive(to, "message"));
}

static const struct {
	const char *kind, *many;
	void (*compare)(const struct compare *c, const cJSON *from, const cJSON *to);
} effects[] = {
	{ "mail", "mails", compare_mails },
	{ "http", "requests", compare_requests },
	{ "statement", "statements", compare_statements },
	{ "file", "files", compare_files },
	{ "message", "messages", compare_messages },
};

/* The next effect of a kind from `e` on. */
static const cJSON *next_of(const cJSON *e, const char *kind)
{
	while (e && strcmp(text_of(e, "kind"), kind) != 0)
		e = e->next;
	return e;
}

/* The effects of one kind, in pairs. */
static void compare_effects(const struct compare *c, size_t i, const cJSON *new, const cJSON *old)
{
	const cJSON *a = next_of(cJSON_GetObjectItemCaseSensitive(old, "effects")->child, effects[i].kind),
		    *b = next_of(cJSON_GetObjectItemCaseSensitive(new, "effects")->child, effects[i].kind);
	unsigned na = 0, nb = 0;

	while (a || b) {
		if (a && b)
			effects[i].compare(c, a, b);
		na += a != NULL;
		nb += b != NULL;
		a = a ? next_of(a->next, effects[i].kind) : NULL;
		b = b ? next_of(b->next, effects[i].kind) : NULL;
	}
	if (na != nb) {
		char from[12], to[12];
		struct compare_change change = { effects[i].many, from, to, from, to };

		snprintf(from, sizeof(from), "%u", na);
		snprintf(to, sizeof(to), "%u", nb);
		c->found(c->arg, &change);
	}
}

/* An outcome and its reason as one text; malloc'd. */
static char *outcome_text(const cJSON *record)
{
	const cJSON *o = cJSON_GetObjectItemCaseSensitive(record, "outcome");
	const char *reason = text_of(o, "reason"), *name = text_of(o, "outcome");

	return xasprintf("%s%s%s", name ? name : "none", reason ? ": " : "", reason ? reason : "");
}

void compare_records(
	const struct mask *mask, bool show, const cJSON *new, const cJSON *old, compare_cb found, void *arg)
{
	const struct compare c = { .mask = mask, .show = show, .found = found, .arg = arg };
	char *from = outcome_text(old), *to = outcome_text(new);
	bool crash = strncmp(from, "crash", 5) == 0 || strncmp(to, "crash", 5) == 0;

	if (strcmp(from, to) != 0) {
		char *shown[2] = { show ? xstrdup(from) : mask_personal(mask, from),
			show ? xstrdup(to) : mask_personal(mask, to) };
		char *sign[2] = { mask_personal(mask, from), mask_personal(mask, to) };
		struct compare_change change = { "outcome", shown[0], shown[1], sign[0], sign[1] };

		blur(sign[0]);
		blur(sign[1]);
		if (strcmp(sign[0], sign[1]) != 0)
			found(arg, &change);
		for (int i = 0; i < 2; i++) {
			free(shown[i]);
			free(sign[i]);
		}
	}
	free(from);
	free(to);
	for (size_t i = 0; !crash && i < sizeof(effects) / sizeof(*effects); i++)
		compare_effects(&c, i, new, old);
	if (!crash) {
		static const char *const names[] = { "message", NULL };

		compare_members(&c, "outcome", cJSON_GetObjectItemCaseSensitive(old, "outcome"),
			cJSON_GetObjectItemCaseSensitive(new, "outcome"), names);
	}
}
