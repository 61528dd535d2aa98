/* mask.c: hides what is of one message alone. */
#include "config.h"

#include "cmd/replay/mask.h"

#include "base/xalloc.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MIN 3          /* a shorter text is found in words that have nothing to do with it */
#define NUMBER_MIN 7        /* digits of a telephone number or an account */
#define TOKEN_MIN 16        /* hex digits of a random token */
#define OPEN "\xe2\x80\xb9" /* these quotation marks are in no address and no markup */
#define CLOSE "\xe2\x80\xba"

/* A text of the message, and where it stands. */
struct own {
	char *text, *name;
};

struct mask {
	char *message;
	struct own *own;
	size_t n;
	bool begins[256]; /* with this byte one of them begins */
};

struct text {
	char *p;
	size_t len, room;
};

/* Appends bytes. */
static void add(struct text *t, const char *p, size_t len)
{
	if (t->len + len + 1 > t->room) {
		t->room = (t->len + len + 1) * 2;
		t->p = xrealloc(t->p, t->room, 1);
	}
	memcpy(t->p + t->len, p, len);
	t->len += len;
	t->p[t->len] = '\0';
}

/* Appends a name in place of what it stands for. */
static void add_name(struct text *t, const char *name)
{
	add(t, OPEN, strlen(OPEN));
	add(t, name, strlen(name));
	add(t, CLOSE, strlen(CLOSE));
}

/* Keeps one text. */
static void keep(struct mask *m, char *text, const char *name)
{
	m->begins[(unsigned char)*text] = true;
	m->own = xrealloc(m->own, m->n + 1, sizeof(*m->own));
	m->own[m->n++] = (struct own){ .text = text, .name = xstrdup(name) };
}

/* A text as HTML has it; malloc'd. */
static char *escape(const char *text)
{
	struct text t = { 0 };

	for (; *text; text++) {
		const char *as = *text == '&'    ? "&amp;"
		                 : *text == '<'  ? "&lt;"
		                 : *text == '>'  ? "&gt;"
		                 : *text == '"'  ? "&quot;"
		                 : *text == '\'' ? "&#39;"
		                                 : NULL;

		add(&t, as ? as : text, as ? strlen(as) : 1);
	}
	return t.p;
}

/* Whether the texts under this name are no personal data: words of the program. */
static bool is_word(const char *name)
{
	static const char *const words[] = { "template", "lang", "type", "action", "kind", "event", "priority",
		"status" };

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strcmp(name, words[i]) == 0)
			return true;
	return false;
}

/* Collects the texts of an object. */
static void collect(struct mask *m, const cJSON *item, const char *name)
{
	const cJSON *child;

	if (cJSON_IsString(item) && strlen(item->valuestring) >= TEXT_MIN && !is_word(name)) {
		keep(m, xstrdup(item->valuestring), name);
		if (strpbrk(item->valuestring, "&<>\"'"))
			keep(m, escape(item->valuestring), name);
	}
	cJSON_ArrayForEach(child, item) collect(m, child, child->string ? child->string : name);
}

/* Longer texts first: a shorter one may be within them. */
static int compare(const void *a, const void *b)
{
	size_t x = strlen(((const struct own *)a)->text), y = strlen(((const struct own *)b)->text);

	return x < y ? 1 : x > y ? -1 : strcmp(((const struct own *)a)->text, ((const struct own *)b)->text);
}

struct mask *mask_new(const char *message)
{
	struct mask *m = xcalloc(1, sizeof(*m));
	cJSON *object = cJSON_Parse(message);

	m->message = xstrdup(message);
	collect(m, object, "message");
	cJSON_Delete(object);
	if (m->n)
		qsort(m->own, m->n, sizeof(*m->own), compare);
	return m;
}

void mask_free(struct mask *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->own[i].text);
		free(m->own[i].name);
	}
	free(m->own);
	free(m->message);
	free(m);
}

/* Whether a character can be in a mail address. */
static bool is_mail(unsigned char c)
{
	return isalnum(c) || c >= 0x80 || (c && strchr(".!#$%&*+-/=?^_`{|}~", c));
}

/* The length of the mail address at `p`, or 0. */
static size_t address_length(const char *p)
{
	size_t local = 0, domain = 0, dots = 0;

	while (is_mail((unsigned char)p[local]) && p[local] != '=' && p[local] != '/' && p[local] != '&')
		local++;
	if (!local || p[local] != '@')
		return 0;
	for (const char *q = p + local + 1; isalnum((unsigned char)q[domain]) || q[domain] == '-' || q[domain] == '.';
		domain++)
		dots += q[domain] == '.';
	return dots && domain > 3 ? local + 1 + domain : 0;
}

/* The length of the telephone or account number at `p`, or 0: digits, and a blank or a bracket or two between them. */
static size_t number_length(const char *p)
{
	size_t len = *p == '+', digits = 0, gap;

	while (isdigit((unsigned char)p[len])) {
		for (; isdigit((unsigned char)p[len]); len++)
			digits++;
		gap = strspn(p + len, " -()");
		if (gap > 2 || !isdigit((unsigned char)p[len + gap]))
			break;
		len += gap;
	}
	return digits >= NUMBER_MIN ? len : 0;
}

/* The message's own text at `p`, or NULL. */
static const struct own *own_at(const struct mask *m, const char *p)
{
	for (size_t i = 0; m->begins[(unsigned char)*p] && i < m->n; i++)
		if (m->own[i].text[0] == *p && strncmp(p, m->own[i].text, strlen(m->own[i].text)) == 0)
			return &m->own[i];
	return NULL;
}

char *mask_personal(const struct mask *m, const char *text)
{
	struct text t = { 0 };
	bool in_word = false;

	add(&t, "", 0);
	while (*text) {
		const struct own *own = own_at(m, text);
		size_t len = own ? strlen(own->text) : in_word ? 0 : address_length(text);
		const char *name = own ? own->name : "mail";

		if (!len && !in_word) {
			len = number_length(text);
			name = "number";
		}
		if (len) {
			add_name(&t, name);
			text += len;
			in_word = false;
			continue;
		}
		in_word = is_mail((unsigned char)*text);
		add(&t, text++, 1);
	}
	return t.p;
}

void mask_personal_in(const struct mask *m, cJSON *object)
{
	cJSON *child;

	if (cJSON_IsString(object)) {
		char *masked = mask_personal(m, object->valuestring);

		free(object->valuestring);
		object->valuestring = masked;
	}
	cJSON_ArrayForEach(child, object) mask_personal_in(m, child);
}

/* The length of the pattern at `p`, or 0: x a hex digit, 9 a digit, others stand for themselves. */
static size_t match(const char *p, const char *pattern)
{
	size_t i;

	for (i = 0; pattern[i]; i++)
		if (pattern[i] == 'x'       ? !isxdigit((unsigned char)p[i])
			: pattern[i] == '9' ? !isdigit((unsigned char)p[i])
					    : p[i] != pattern[i])
			return 0;
	return i;
}

/* The length of what differs in each run at `p`, or 0. */
static size_t random_length(const char *p, const char **name)
{
	static const char uuid[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	static const char *const times[] = { "9999-99-99T99:99:99", "9999-99-99 99:99:99", "9999-99-99T99:99",
		"99999999T999999" };
	size_t len = match(p, uuid);

	*name = "uuid";
	if (len)
		return len;
	*name = "time";
	for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++)
		if ((len = match(p, times[i])) != 0) {
			len += strspn(p + len, ".0123456789Z");
			return len;
		}
	*name = "token";
	while (isxdigit((unsigned char)p[len]))
		len++;
	return len >= TOKEN_MIN ? len : 0;
}

char *mask_random(const struct mask *m, const char *text)
{
	struct text t = { 0 };
	bool in_word = false;

	add(&t, "", 0);
	while (*text) {
		const char *name = NULL;
		size_t len = in_word || !isxdigit((unsigned char)*text) ? 0 : random_length(text, &name);
		char *token = len ? xstrndup(text, len) : NULL;

		if (len && !strstr(m->message, token))
			add_name(&t, name);
		else
			add(&t, text, len ? len : 1);
		in_word = !len && isalnum((unsigned char)*text);
		text += len ? len : 1;
		free(token);
	}
	return t.p;
}
