/* answer.c: an outcome that a program or a receiver answers: a JSON object; and an array of them. Values that go on to
 * the database are taken from the line as they stand there, since a JSON printer would change large numbers. */
#include "config.h"

#include "batch/answer.h"

#include "batch/text.h"

#include <stdlib.h>
#include <string.h>

#define DELAY_MAX_S 31536000.0

/* Skips blanks. */
static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* The end of the string that begins at p. */
static const char *string_end(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

/* The end of the value that begins at p, in JSON that was parsed before. */
static const char *value_end(const char *p)
{
	unsigned depth = 0;

	do {
		if (*p == '"') {
			p = string_end(p);
			continue;
		}
		depth += *p == '{' || *p == '[';
		depth -= (*p == '}' || *p == ']') && depth > 0;
		p++;
	} while (*p && (depth > 0 || !strchr(",]} \t\r\n", *p)));
	return p;
}

/* A copy of the text between two places. */
static char *copy_span(const char *from, const char *to)
{
	char *copy = need(malloc((size_t)(to - from) + 1));

	memcpy(copy, from, (size_t)(to - from));
	copy[to - from] = 0;
	return copy;
}

/* Where the value of a member of the line's object begins; NULL when there is none. */
static const char *member_text(const char *line, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = skip_blanks(skip_blanks(line) + 1); *p == '"';) {
		const char *key = p + 1, *end = string_end(p), *value = skip_blanks(skip_blanks(end) + 1);

		if ((size_t)(end - 1 - key) == n && memcmp(key, name, n) == 0)
			return value;
		p = skip_blanks(value_end(value));
		p = *p == ',' ? skip_blanks(p + 1) : p;
	}
	return NULL;
}

/* Takes the parameters of done_with: a text without its quotes, anything else as it stands. False: it is no list. */
static bool take_params(struct answer *a, const char *line)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(a->json, "params"), *item;
	const char *p = member_text(line, "params");

	if (!list)
		return true;
	if (!cJSON_IsArray(list) || !p)
		return false;
	a->params = need(calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(*a->params)));
	p = skip_blanks(p + 1);
	cJSON_ArrayForEach(item, list)
	{
		const char *end = value_end(p);

		if (cJSON_IsString(item))
			a->params[a->nparams] = copy_span(
				item->valuestring, item->valuestring + strlen(item->valuestring));
		else if (!cJSON_IsNull(item))
			a->params[a->nparams] = copy_span(p, end);
		a->nparams++;
		end = skip_blanks(end);
		p = *end == ',' ? skip_blanks(end + 1) : end;
	}
	return true;
}

/* Whether each of the messages that are to be sent has a queue and a message. */
static bool sends_are_good(const struct answer *a)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(a->json, "send"), *one;

	cJSON_ArrayForEach(one, list)
	{
		if (!cJSON_IsString(cJSON_GetObjectItemCaseSensitive(one, "queue")) ||
			!cJSON_GetObjectItemCaseSensitive(one, "message"))
			return false;
	}
	return cJSON_IsArray(list);
}

/* Takes the result, and the messages that are to be sent. False: they are none. */
static bool take_next(struct answer *a, const char *line)
{
	const char *result = member_text(line, "result"), *sends = member_text(line, "send");

	if (result)
		a->result = copy_span(result, value_end(result));
	if (sends)
		a->sends = copy_span(sends, value_end(sends));
	return !sends || sends_are_good(a);
}

/* Takes what an outcome needs besides a reason and a delay. False: it is missing. */
static bool take_more(struct answer *a, const char *line)
{
	const char *text;

	if (a->kind == ANSWER_REPLACE) {
		if ((text = member_text(line, "message")) != NULL)
			a->message = copy_span(text, value_end(text));
		return a->message != NULL;
	}
	if (a->kind == ANSWER_DONE_WITH) {
		a->sql = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(a->json, "sql"));
		return a->sql != NULL && take_params(a, line) && take_next(a, line);
	}
	return a->kind != ANSWER_DONE || take_next(a, line);
}

bool answer_parse(const char *line, struct answer *a)
{
	static const char *const names[ANSWER_KINDS] = { "done", "retry", "fail", "postpone", "replace", "config",
		"done_with", "retry_key" };
	const cJSON *number, *delay;
	const char *outcome;
	int kind = 0;

	*a = (struct answer){ .id = -1, .json = cJSON_ParseWithOpts(line, NULL, 1) };
	number = cJSON_GetObjectItemCaseSensitive(a->json, "id");
	delay = cJSON_GetObjectItemCaseSensitive(a->json, "delay");
	outcome = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(a->json, "outcome"));
	if (cJSON_IsNumber(number))
		a->id = number->valuedouble;
	if (!cJSON_IsObject(a->json) || !outcome || !cJSON_IsNumber(number))
		return false;
	while (kind < ANSWER_KINDS && strcmp(names[kind], outcome) != 0)
		kind++;
	if (kind == ANSWER_KINDS)
		return false;
	a->kind = (enum answer_kind)kind;
	a->reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(a->json, "reason"));
	if (!a->reason)
		a->reason = "the program gave no reason";
	if (cJSON_IsNumber(delay) && delay->valuedouble > 0)
		a->delay_ms = (int64_t)((delay->valuedouble < DELAY_MAX_S ? delay->valuedouble : DELAY_MAX_S) * 1000);
	return take_more(a, line);
}

void answer_free(struct answer *a)
{
	for (int i = 0; i < a->nparams; i++)
		free(a->params[i]);
	free(a->params);
	free(a->message);
	free(a->result);
	free(a->sends);
	cJSON_Delete(a->json);
}

bool answers_open(struct answers *all, const char *text)
{
	cJSON *json = cJSON_ParseWithOpts(text, NULL, 1);
	bool good = cJSON_IsArray(json);

	cJSON_Delete(json);
	all->at = good ? skip_blanks(skip_blanks(text) + 1) : "]";
	return good;
}

char *answers_next(struct answers *all)
{
	const char *end;
	char *one;

	if (*all->at == ']')
		return NULL;
	end = value_end(all->at);
	one = copy_span(all->at, end);
	end = skip_blanks(end);
	all->at = *end == ',' ? skip_blanks(end + 1) : end;
	return one;
}

unsigned answer_bits(const struct answer *a)
{
	return ANSWER_BIT(a->kind) | (a->sends ? ANSWER_SENDS : 0);
}

/* Sends the messages that go with the outcome. */
static void answer_send(const struct answer *a, struct pgmqd_msg *m)
{
	struct answers all = { .at = "]" };
	char *one;

	if (a->sends)
		(void)answers_open(&all, a->sends);
	while ((one = answers_next(&all)) != NULL) {
		cJSON *json = cJSON_Parse(one);
		const cJSON *delay = cJSON_GetObjectItemCaseSensitive(json, "delay");
		const char *message = member_text(one, "message"), *headers = member_text(one, "headers");
		char *text = copy_span(message, value_end(message));
		char *more = headers ? copy_span(headers, value_end(headers)) : NULL;

		pgmqd_send(m, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "queue")), text, more,
			cJSON_IsNumber(delay) && delay->valuedouble > 0
				? (int64_t)((delay->valuedouble < DELAY_MAX_S ? delay->valuedouble : DELAY_MAX_S) *
					    1000)
				: 0);
		free(text);
		free(more);
		cJSON_Delete(json);
		free(one);
	}
}

void answer_settle(const struct answer *a, struct pgmqd_msg *m)
{
	answer_send(a, m);
	switch (a->kind) {
	case ANSWER_RETRY:
		pgmqd_retry(m, a->delay_ms, "%s", a->reason);
		break;
	case ANSWER_FAIL:
		pgmqd_fail(m, "%s", a->reason);
		break;
	case ANSWER_POSTPONE:
		pgmqd_postpone(m, a->delay_ms > 0 ? a->delay_ms : -1, "%s", a->reason);
		break;
	case ANSWER_REPLACE:
		pgmqd_replace(m, a->message, a->delay_ms);
		break;
	case ANSWER_CONFIG:
		pgmqd_config_error(m, "%s", a->reason);
		break;
	case ANSWER_RETRY_KEY:
		pgmqd_retry_key(m, a->delay_ms, "%s", a->reason);
		break;
	case ANSWER_DONE_WITH:
		pgmqd_done_with(m, a->sql, a->nparams, (const char *const *)(const void *)a->params);
		break;
	default:
		if (a->result)
			pgmqd_done_result(m, a->result);
		else
			pgmqd_done(m);
		break;
	}
}
