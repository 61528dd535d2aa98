/* log.h: one line an event, as text or JSON, with process, queue, plugin and message on it. */
#ifndef LOG_H
#define LOG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR = 0, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT = 0, LOG_FORMAT_JSON };

/* A typed value beside the text; in the text format it is printed as key=value behind it. */
struct log_field {
	const char *key; /* NULL ends a list */
	enum { LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_MS } type;
	const char *str;
	int64_t num;
	double ms; /* printed with three decimals */
};
#define LOG_STR(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_STR, .str = (v) })
#define LOG_INT(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_INT, .num = (int64_t)(v) })
#define LOG_MS(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_MS, .ms = (v) })
#define LOG_END ((struct log_field){ .key = 0 })

/* The context that each line of this process carries until it is set anew; NULL leaves a part out. The strings must
 * outlive it. */
struct log_context {
	const char *process; /* "supervisor", "listener", "worker", "control", or a command's name */
	const char *queue, *plugin;
	int64_t msg_id;       /* 0: none */
	const char *trace_id; /* of the message, by W3C Trace Context; NULL or "": none */
};

extern enum log_level log_threshold; /* read by the macros, so that debug lines cost a comparison */

void log_setup(enum log_level level,
	enum log_format format);       /* writes to stderr; "<N>" prefixes under journald ($JOURNAL_STREAM) */
int log_level_parse(const char *text); /* -1: unknown */
struct log_context log_context_set(struct log_context c); /* returns the former one, to be set back */
void log_write(enum log_level level, const struct log_field *fields, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void log_vwrite(enum log_level level, const struct log_field *fields, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
/* "ivan@example.test" -> "i***@e***.test": every address that reaches a log above debug goes through here. `buf` is
 * returned. */
const char *log_redact_address(const char *address, char *buf, size_t size);

/* Text of any origin as the log writes it: control characters, invisible marks and broken UTF-8 in a harmless form.
 * malloc'd. */
char *log_escape(const char *text);
/* The same of a JSON text, which stays one, and stays equal. */
char *log_escape_json(const char *json);

#define log_error(...) log_write(LOG_LEVEL_ERROR, 0, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, 0, __VA_ARGS__)
#define log_info(...)                                                                                                  \
	do {                                                                                                           \
		if (log_threshold >= LOG_LEVEL_INFO)                                                                   \
			log_write(LOG_LEVEL_INFO, 0, __VA_ARGS__);                                                     \
	} while (0)
#define log_debug(...)                                                                                                 \
	do {                                                                                                           \
		if (log_threshold >= LOG_LEVEL_DEBUG)                                                                  \
			log_write(LOG_LEVEL_DEBUG, 0, __VA_ARGS__);                                                    \
	} while (0)

#endif
