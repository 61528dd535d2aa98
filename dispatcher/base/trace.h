/* trace.h: a message's place in a trace, by W3C Trace Context: the header "traceparent" of the message, and of requests
 * made for it. */
#ifndef TRACE_H
#define TRACE_H

#define TRACE_PARENT_SIZE 56 /* version, trace, span and flags, with dashes and the NUL */

struct trace {
	char id[33]; /* 32 digits; "": the message has no trace */
	char flags[3];
};

/* Reads it out of a message's headers, JSON text or NULL. One that is not as the standard says is none. */
void trace_read(struct trace *t, const char *headers);

/* Writes the traceparent of a new span of the trace. */
void trace_child(const struct trace *t, char buf[TRACE_PARENT_SIZE]);

#endif
