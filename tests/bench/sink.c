/* sink.c: an HTTP server that answers every request with 204 at once, as fast as one process can: the other side for
 * webhooks.
 *
 * It prints its port, and how many requests it has answered when its standard input ends.
 */
#include "config.h"

#include "sinkloop.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM 65536

static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
static unsigned long answered;

/* What has come of a request so far. */
static struct {
	char data[ROOM];
	size_t len;
} * inbox[SINK_CONNECTIONS];

/* How long the first request in the buffer is; 0 when it is not all there. */
static size_t request_length(const char *data, size_t len)
{
	const char *end = memmem(data, len, "\r\n\r\n", 4), *length;
	size_t total;

	if (!end)
		return 0;
	length = strcasestr(data, "\r\nContent-Length:");
	total = (size_t)(end - data) + 4 + (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
	return total <= len ? total : 0;
}

/* A new connection: nothing has come yet. */
static bool greet(int fd)
{
	if (!inbox[fd] && !(inbox[fd] = malloc(sizeof(*inbox[fd]))))
		return false;
	inbox[fd]->len = 0;
	return true;
}

/* Answers what is there. */
static bool serve(int fd)
{
	ssize_t n = read(fd, inbox[fd]->data + inbox[fd]->len, ROOM - 1 - inbox[fd]->len);
	size_t one;

	if (n <= 0)
		return false;
	inbox[fd]->len += (size_t)n;
	inbox[fd]->data[inbox[fd]->len] = 0;
	while ((one = request_length(inbox[fd]->data, inbox[fd]->len)) != 0) {
		inbox[fd]->len -= one;
		memmove(inbox[fd]->data, inbox[fd]->data + one, inbox[fd]->len + 1);
		if (write(fd, answer, sizeof(answer) - 1) < 0)
			return false;
		answered++;
	}
	return true;
}

int main(void)
{
	sinkloop_run(&(struct sink){ .greet = greet, .serve = serve });
	printf("%lu\n", answered);
	return 0;
}
