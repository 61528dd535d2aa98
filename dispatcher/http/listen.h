/* listen.h: the listening socket of the control process, out of the text of http_listen. */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

struct http_listen {
	int fd;
	bool local;     /* only this machine reaches it */
	char host[256]; /* as it was written, without brackets; "" for a Unix socket */
	char path[108]; /* of the Unix socket, to be unlinked at the end; "" for TCP */
};

/* Opens HOST:PORT, [V6]:PORT or unix:/path; others than loopback only when there is a `token` to be asked for. NULL, or
 * a malloc'd sentence that says what is wrong and what to do. */
char *http_listen_open(struct http_listen *l, const char *text, bool token);
void http_listen_unlink(const struct http_listen *l);

#endif
