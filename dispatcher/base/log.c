/* log.c: formats log lines as text or JSON and writes each with one write(2) to stderr. */
#include "config.h"

#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "base/xalloc.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 8192                   /* with the newline */
#define LOG_TEXT_MAX (LOG_LINE_MAX / 4 * 3) /* of which the text may take this much, so that the fields find room */
#define LOG_FIELD_MAX 1024                  /* and one field's value this much */
#define LOG_TAIL 16                         /* kept free for an ellipsis and the closing of quotes and braces */

/* A line that is being put together. */
struct line {
	char buf[LOG_LINE_MAX];
	size_t len;
	size_t limit; /* only what closes the line goes beyond */
};

/* How a character is made harmless, by the place where it stands. QUOTE_MADE: a JSON text, whose strings are quoted
 * already. */
enum quoting { QUOTE_PLAIN, QUOTE_TEXT_FIELD, QUOTE_JSON, QUOTE_MADE };

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static const int level_priorities[] = { 3, 4, 6, 7 }; /* syslog's, for journald */

enum log_level log_threshold = LOG_LEVEL_INFO;
static enum log_format log_format = LOG_FORMAT_TEXT;
static bool log_to_journal;
static struct log_context context;

/* Whether stderr is the journal's own stream: a <N> in front would be noise anywhere else. */
static bool log_stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t dev, ino;
	struct stat st;
	char rest;

	if (!stream || sscanf(stream, "%ju:%ju%c", &dev, &ino, &rest) != 2 || fstat(STDERR_FILENO, &st) != 0)
		return false;
	return (uintmax_t)st.st_dev == dev && (uintmax_t)st.st_ino == ino;
}

/* Sets what is logged, and how. */
void log_setup(enum log_level level, enum log_format format)
{
	log_threshold = level;
	log_format = format;
	log_to_journal = log_stderr_is_journal();
}

/* The level of that name. */
int log_level_parse(const char *text)
{
	for (size_t i = 0; text && i < sizeof(level_names) / sizeof(level_names[0]); i++)
		if (strcasecmp(text, level_names[i]) == 0)
			return (int)i;
	return -1;
}

/* Sets what every line of this process carries. */
struct log_context log_context_set(struct log_context c)
{
	struct log_context former = context;

	context = c;
	return former;
}

/* The room that is left. */
static size_t line_room(const struct line *l)
{
	return l->limit > l->len ? l->limit - l->len : 0;
}

/* Appends bytes, all or nothing. */
static bool line_add(struct line *l, const char *s, size_t n)
{
	if (n > line_room(l))
		return false;
	memcpy(l->buf + l->len, s, n);
	l->len += n;
	return true;
}

/* Appends a string that is known to be harmless. */
static bool line_puts(struct line *l, const char *s)
{
	return line_add(l, s, strlen(s));
}

/* Appends what closes a value; the tail was kept free for it. */
static void line_close(struct line *l, const char *s)
{
	size_t n = strlen(s);

	if (n <= sizeof(l->buf) - l->len) {
		memcpy(l->buf + l->len, s, n);
		l->len += n;
	}
}

/* The code point of a well-formed sequence of n bytes. */
static unsigned code_point(const unsigned char *s, size_t n)
{
	unsigned c = n == 1 ? s[0] : s[0] & (0x7Fu >> n);

	for (size_t i = 1; i < n; i++)
		c = (c << 6) | (s[i] & 0x3Fu);
	return c;
}

/* Whether a character is a control, or is not seen but changes the order in which a terminal or a browser shows
 * others, ends a line there, or hides what a text is. */
static bool is_unseen(unsigned c)
{
	return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xAD || c == 0x61C || c == 0x180E ||
	       (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) ||
	       c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFB) || (c >= 0xE0000 && c <= 0xE007F);
}

/* Appends one character of `s` in its harmless form; *used says how many bytes of `s` it was. False: no room. */
static bool line_add_char(struct line *l, enum quoting q, const unsigned char *s, size_t *used)
{
	bool json = q == QUOTE_JSON || q == QUOTE_MADE;
	char esc[16];
	size_t n = utf8_length(s, 4); /* at most: it stops at the NUL */
	unsigned c = n ? code_point(s, n) : 0;

	*used = n ? n : 1;
	if (n == 0)
		return line_puts(l, "\xEF\xBF\xBD"); /* U+FFFD */
	if (is_unseen(c) && !(q == QUOTE_MADE && (c == '\n' || c == '\t'))) {
		if (c > 0xFFFF && json)
			snprintf(esc, sizeof(esc), "\\u%04X\\u%04X", 0xD800 + ((c - 0x10000) >> 10),
				0xDC00 + (c & 0x3FF));
		else
			snprintf(esc, sizeof(esc),
				c > 0xFFFF          ? "\\U%08X"
				: c < 0x80 && !json ? "\\x%02X"
						    : "\\u%04X",
				c);
		return line_puts(l, esc);
	}
	if ((q == QUOTE_TEXT_FIELD || q == QUOTE_JSON) && (c == '"' || c == '\\')) {
		esc[0] = '\\';
		esc[1] = (char)c;
		return line_add(l, esc, 2);
	}
	return line_add(l, (const char *)s, n);
}

/* Appends a string of any content, cut with an ellipsis where the room (at most `max` bytes) ends. */
static void line_add_text(struct line *l, enum quoting q, const char *text, size_t max)
{
	size_t limit = l->limit;

	if (max < line_room(l))
		l->limit = l->len + max;
	for (const unsigned char *s = (const unsigned char *)text; *s;) {
		size_t used;

		if (!line_add_char(l, q, s, &used)) {
			line_close(l, "\xE2\x80\xA6");
			break;
		}
		s += used;
	}
	l->limit = limit;
}

/* RFC 3339 in UTC with microseconds. */
static void line_add_time(struct line *l)
{
	struct timespec now;
	char buf[CLOCK_STAMP_SIZE];

	clock_gettime(CLOCK_REALTIME, &now);
	line_puts(l, clock_stamp((int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000, buf));
}

/* Whether a value can stand bare behind key= in the text format. */
static bool text_field_is_bare(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (*s == ' ' || *s == '"' || *s == '=' || *s == '\\' || (unsigned char)*s < 0x20 || *s == 0x7F)
			return false;
	return true;
}

/* The number of a field as it is printed. */
static void field_number(const struct log_field *f, char *buf, size_t size)
{
	if (f->type == LOG_FIELD_INT)
		snprintf(buf, size, "%" PRId64, f->num);
	else if (isfinite(f->ms))
		snprintf(buf, size, "%.3f", f->ms);
	else
		snprintf(buf, size, "null");
}

/* The line for people: time, level, process, queue/plugin, #message, text, key=value. */
static void line_format_text(struct line *l, enum log_level level, const struct log_field *fields, const char *text)
{
	char buf[400];

	line_add_time(l);
	snprintf(buf, sizeof(buf), " %-5s ", level_names[level]);
	line_puts(l, buf);
	if (context.process) {
		line_add_text(l, QUOTE_PLAIN, context.process, 64);
		line_puts(l, " ");
	}
	if (context.queue || context.plugin) {
		line_add_text(l, QUOTE_PLAIN, context.queue ? context.queue : "", 256);
		if (context.plugin) {
			line_puts(l, "/");
			line_add_text(l, QUOTE_PLAIN, context.plugin, 256);
		}
		line_puts(l, " ");
	}
	if (context.msg_id) {
		snprintf(buf, sizeof(buf), "#%" PRId64 " ", context.msg_id);
		line_puts(l, buf);
	}
	line_add_text(l, QUOTE_PLAIN, text, LOG_TEXT_MAX);
	if (context.trace_id && *context.trace_id) {
		snprintf(buf, sizeof(buf), " trace_id=%.64s", context.trace_id);
		line_puts(l, buf);
	}
	for (const struct log_field *f = fields; f && f->key; f++) {
		if (f->type == LOG_FIELD_STR && !f->str)
			continue;
		snprintf(buf, sizeof(buf), " %s=", f->key);
		if (!line_puts(l, buf))
			break;
		if (f->type != LOG_FIELD_STR) {
			field_number(f, buf, sizeof(buf));
			line_puts(l, buf);
		} else if (text_field_is_bare(f->str)) {
			line_add_text(l, QUOTE_TEXT_FIELD, f->str, LOG_FIELD_MAX);
		} else {
			line_puts(l, "\"");
			line_add_text(l, QUOTE_TEXT_FIELD, f->str, LOG_FIELD_MAX);
			line_close(l, "\"");
		}
	}
}

/* ,"key":"value", left out when it does not fit or there is no value. */
static void json_add_string(struct line *l, const char *key, const char *value, size_t max)
{
	char buf[100];

	if (!value)
		return;
	snprintf(buf, sizeof(buf), ",\"%s\":\"", key);
	if (!line_puts(l, buf))
		return;
	line_add_text(l, QUOTE_JSON, value, max);
	line_close(l, "\"");
}

/* The line for machines: one JSON object, whole even when it had to be cut. */
static void line_format_json(struct line *l, enum log_level level, const struct log_field *fields, const char *text)
{
	char num[400], buf[512];

	line_puts(l, "{\"ts\":\"");
	line_add_time(l);
	line_puts(l, "\"");
	json_add_string(l, "level", level_names[level], 64);
	json_add_string(l, "process", context.process, 64);
	json_add_string(l, "queue", context.queue, 256);
	json_add_string(l, "plugin", context.plugin, 256);
	if (context.msg_id) {
		snprintf(buf, sizeof(buf), ",\"msg_id\":%" PRId64, context.msg_id);
		line_puts(l, buf);
	}
	if (context.trace_id && *context.trace_id)
		json_add_string(l, "trace_id", context.trace_id, 64);
	json_add_string(l, "text", text, LOG_TEXT_MAX);
	for (const struct log_field *f = fields; f && f->key; f++) {
		if (f->type == LOG_FIELD_STR) {
			json_add_string(l, f->key, f->str, LOG_FIELD_MAX);
		} else {
			field_number(f, num, sizeof(num));
			snprintf(buf, sizeof(buf), ",\"%s\":%s", f->key, num);
			line_puts(l, buf);
		}
	}
	line_close(l, "}");
}

/* Usually one write; the rest of a short write follows. With a reader that is too slow the line is lost, so that the
 * process never waits. */
static void line_send(const struct line *l)
{
	size_t done = 0;
	bool waited = false;

	while (done < l->len) {
		ssize_t n = write(STDERR_FILENO, l->buf + done, l->len - done);

		if (n >= 0) {
			done += (size_t)n;
		} else if (errno == EAGAIN && !waited) {
			struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

			waited = true;
			poll(&p, 1, 100);
		} else if (errno != EINTR) {
			return;
		}
	}
}

/* Cuts an unfinished UTF-8 sequence off the end of a text that was cut by vsnprintf, and marks the cut. */
static void text_mark_cut(char *text, size_t size)
{
	size_t n = size - 4; /* room for the ellipsis and the NUL */

	while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
		n--;
	memcpy(text + n, "\xE2\x80\xA6", 4);
}

/* Writes a line. errno is kept, so that a caller may log first and look at it later. */
void log_write(enum log_level level, const struct log_field *fields, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vwrite(level, fields, fmt, ap);
	va_end(ap);
}

/* The same with a va_list. */
void log_vwrite(enum log_level level, const struct log_field *fields, const char *fmt, va_list ap)
{
	int saved = errno, n;
	char text[LOG_LINE_MAX];
	struct line l = { .limit = sizeof(l.buf) - LOG_TAIL };

	if (level > log_threshold)
		return;
	n = vsnprintf(text, sizeof(text), fmt, ap);
	if (n < 0)
		snprintf(text, sizeof(text), "a line that could not be formatted: %s", fmt);
	else if ((size_t)n >= sizeof(text))
		text_mark_cut(text, sizeof(text));
	if (log_to_journal) {
		char prefix[8];

		snprintf(prefix, sizeof(prefix), "<%d>", level_priorities[level]);
		line_puts(&l, prefix);
	}
	if (log_format == LOG_FORMAT_JSON)
		line_format_json(&l, level, fields, text);
	else
		line_format_text(&l, level, fields, text);
	line_close(&l, "\n");
	line_send(&l);
	errno = saved;
}

/* Keeps of an address what tells two apart at a glance, and no more: the first letters and the top-level domain. */
const char *log_redact_address(const char *address, char *buf, size_t size)
{
	const unsigned char *local = (const unsigned char *)(address ? address : "");
	const char *at = strrchr((const char *)local, '@');
	const unsigned char *domain = at ? (const unsigned char *)at + 1 : NULL;
	const char *dot = domain ? strrchr((const char *)domain, '.') : NULL;
	int local_len = *local && *local != '@' ? (int)utf8_length(local, 4) : 0;
	int domain_len = domain && *domain && *domain != '.' ? (int)utf8_length(domain, 4) : 0;

	if (size == 0)
		return buf;
	if (!at)
		snprintf(buf, size, "%.*s***", local_len, (const char *)local);
	else
		snprintf(buf, size, "%.*s***@%.*s***%s", local_len, (const char *)local, domain_len,
			(const char *)domain, dot ? dot : "");
	return buf;
}

/* A malloc'd copy in its harmless form. */
static char *escape(const char *text, enum quoting q)
{
	struct line l = { .limit = sizeof(l.buf) };
	size_t len = 0, room = strlen(text) + 64;
	char *out = xmalloc(room);

	for (const unsigned char *s = (const unsigned char *)text; *s;) {
		size_t used;

		l.len = 0;
		line_add_char(&l, q, s, &used);
		s += used;
		if (room - len <= l.len)
			out = xrealloc(out, room = room * 2 + l.len, 1);
		memcpy(out + len, l.buf, l.len);
		len += l.len;
	}
	out[len] = '\0';
	return out;
}

char *log_escape(const char *text)
{
	return escape(text, QUOTE_PLAIN);
}

char *log_escape_json(const char *json)
{
	return escape(json, QUOTE_MADE);
}
