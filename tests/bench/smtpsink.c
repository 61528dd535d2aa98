/* smtpsink.c: an SMTP server that takes every mail at once and notes when: "RECIPIENT REALTIME" (nanoseconds) as it
 * writes the 250 that ends a mail.
 *
 * It prints its port first, and ends when its standard input does. PIPELINING, no TLS.
 */
#include "config.h"

#include "sinkloop.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROOM 262144

/* A conversation: what has come and is not answered yet, and the last recipient. */
struct talk {
	size_t len;
	bool data;
	char recipient[128], in[ROOM];
};
static struct talk *talks[SINK_CONNECTIONS];

/* Nanoseconds of the wall clock. */
static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The answer to one line. */
static const char *answer(struct talk *t, const char *line)
{
	if (strncasecmp(line, "EHLO", 4) == 0)
		return "250-sink.example.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
	if (strncasecmp(line, "RCPT TO:<", 9) == 0)
		sscanf(line + 9, "%127[^>]", t->recipient);
	if (strncasecmp(line, "DATA", 4) == 0) {
		t->data = true;
		return "354 go on\r\n";
	}
	return strncasecmp(line, "QUIT", 4) == 0 ? "221 bye\r\n" : "250 ok\r\n";
}

/* Takes the first line, or the whole mail, off what has come; the answer, or NULL when it is not all there. */
static const char *take(struct talk *t)
{
	const char *mark = t->data ? "\r\n.\r\n" : "\r\n", *said = "250 taken\r\n";
	char *end = memmem(t->in, t->len, mark, strlen(mark));

	if (!end)
		return NULL;
	*end = '\0';
	if (t->data) {
		printf("%s %lld\n", t->recipient, now_ns());
		t->data = false;
	} else {
		said = answer(t, t->in);
	}
	end += strlen(mark);
	t->len -= (size_t)(end - t->in);
	memmove(t->in, end, t->len);
	return said;
}

/* Answers what is there on a connection, in one piece. */
static bool serve(int fd)
{
	struct talk *t = talks[fd];
	char out[4096];
	size_t len = 0;
	ssize_t n = read(fd, t->in + t->len, sizeof(t->in) - t->len);
	const char *said;

	if (n <= 0)
		return false;
	t->len += (size_t)n;
	while ((said = take(t)) && len + strlen(said) < sizeof(out)) {
		memcpy(out + len, said, strlen(said));
		len += strlen(said);
	}
	return len == 0 || write(fd, out, len) >= 0;
}

/* Greets a new connection. */
static bool greet(int fd)
{
	static const char greeting[] = "220 sink.example.test\r\n";

	if (!talks[fd] && !(talks[fd] = malloc(sizeof(**talks))))
		return false;
	talks[fd]->len = 0;
	talks[fd]->data = false;
	return write(fd, greeting, sizeof(greeting) - 1) >= 0;
}

int main(void)
{
	sinkloop_run(&(struct sink){ .greet = greet, .serve = serve });
	return 0; /* which writes out what was noted */
}
