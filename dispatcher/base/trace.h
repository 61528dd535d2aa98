/* trace.h: a message's place in a trace, by W3C Trace Context: the header "traceparent" of the message, and of requests
 * made for it. */
#ifndef TRACE_H
#define TRACE_H

#include <stdint.h>

#define TRACE_PARENT_SIZE 56 /* version, trace, span and flags, with dashes and the NUL */

struct trace {
	char id[33]; /* 32 digits; "": the message has no trace */
	char flags[3];
	char parent[17]; /* the span of the header, 16 digits */
	uint64_t child;  /* the span that is given on; 0: a new number each time */
};

/* Reads it out of a message's headers, JSON text or NULL. One that is not as the standard says is none. */
void trace_read(struct trace *t, const char *headers);

/* Writes the traceparent of a span of the trace, for what is done for the message. */
void trace_child(const struct trace *t, char buf[TRACE_PARENT_SIZE]);

#endif
