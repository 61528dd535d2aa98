/* http.c: fuzz target: raw bytes for the listening server, as several clients send them in pieces; the first byte says
 * how. Whatever is sent, each answer begins with a status line and is whole, a handler sees only what the grammar
 * allows, and at the end no request and no connection is left. */
#include "config.h"

#include "base/utf8.h"
#include "base/xalloc.h"
#include "http/server.h"

#include <errno.h>
#include <event2/event.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PIECES_MAX 64
#define LATER_MAX 256

static struct event_base *base;
static struct http_server *server;
static struct http_listen listening;
static struct http_request *later[LATER_MAX]; /* requests that are answered from the loop */
static size_t nlater, nstreams, nread;

/* What a handler may rely on. */
static void check(const struct http_request *r)
{
	if (r->body == NULL || r->body[r->body_len] != '\0' || r->head.path[0] != '/')
		abort();
	for (size_t i = 0; i < r->head.nfields; i++)
		for (const char *p = r->head.field[i].value; *p != '\0'; p++)
			if ((*p >= 0 && *p < ' ' && *p != '\t') || *p == 0x7f)
				abort();
	for (size_t i = 0; i < HTTP_REQUEST_PARAMS; i++)
		if (!utf8_is_valid(r->param[i], strlen(r->param[i])))
			abort();
	for (size_t i = 0; i < r->nquery; i++)
		if (!utf8_is_valid(r->query[i].value, strlen(r->query[i].value)))
			abort();
}

/* Answers at once. */
static void answer_now(struct http_request *r)
{
	check(r);
	http_request_add_header(r, "X-Echo", http_request_header(r, "X") != NULL ? http_request_header(r, "X") : "");
	http_request_text(r, 200, "text/plain", http_request_query(r, "q") != NULL ? http_request_query(r, "q") : "?");
}

/* Answers from the loop. */
static void answer_later(struct http_request *r)
{
	check(r);
	if (nlater == LATER_MAX)
		http_request_error(r, 503, "busy", "too many");
	else
		later[nlater++] = r;
}

/* Takes an object. */
static void answer_object(struct http_request *r)
{
	cJSON *json;

	check(r);
	json = http_request_object(r);
	if (json != NULL)
		http_request_json(r, 202, json);
}

/* The client of a stream has left. */
static void stream_gone(struct http_request *r)
{
	nstreams--;
	http_request_stream_end(r);
}

/* Answers with a stream that ends with its client. */
static void answer_stream(struct http_request *r)
{
	check(r);
	nstreams++;
	r->gone = stream_gone;
	http_request_stream_begin(r, "text/event-stream");
	http_request_stream_write(r, ":\n\n", 3);
}

static const struct http_route routes[] = {
	{ HTTP_GET, "/now/{a}", 0, answer_now, 0 },
	{ HTTP_GET, "/later", HTTP_ROUTE_PROBE, answer_later, 0 },
	{ HTTP_POST, "/object", HTTP_ROUTE_BODY, answer_object, 0 },
	{ HTTP_POST, "/small/{a}", HTTP_ROUTE_PUBLIC, answer_later, 16 },
	{ HTTP_GET, "/stream", HTTP_ROUTE_OPEN, answer_stream, 0 },
	{ 0 },
};

/* Takes the socket file away. */
static void close_server(void)
{
	http_listen_unlink(&listening);
}

/* Opens the server, once. */
static void open_server(void)
{
	static struct people people;
	static const struct http_server_config config = {
		.listen = &listening, .routes = routes, .people = &people, .other_names = "evil.example", .guests = true
	};
	char *text = xasprintf("unix:/tmp/pgmqd-fuzz-http-%ld", (long)getpid()), *error;

	people_add(&people, "fuzzer", PEOPLE_ACT, "a-token-of-the-fuzzer");
	signal(SIGPIPE, SIG_IGN); /* as every process of the daemon */
	base = event_base_new();
	error = http_listen_open(&listening, text, true);
	if (base == NULL || error != NULL || (server = http_server_new(base, &config)) == NULL)
		abort();
	atexit(close_server);
	free(text);
}

/* A new client. */
static int connect_client(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memcpy(sun.sun_path, listening.path, sizeof sun.sun_path);
	if (fd == -1 || connect(fd, (struct sockaddr *)&sun, sizeof sun) == -1)
		abort();
	return fd;
}

/* Lets the loop do what there is to do, and answers what waits. */
static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
	while (nlater > 0)
		http_request_text(later[--nlater], 200, "text/plain", "later\n");
}

/* Reads what has come. True: the server has ended the connection. */
static bool drain(int fd, char *first, size_t *len)
{
	char buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof buf)) > 0) {
		nread += (size_t)n;
		for (ssize_t i = 0; i < n && *len < 12; i++)
			first[(*len)++] = buf[i];
	}
	return n == 0 || (errno != EAGAIN && errno != EINTR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char first[13] = "";
	size_t len = 0, piece, sent = 0, before;
	bool ended = false;
	uint8_t how;
	int fd;

	if (base == NULL)
		open_server();
	if (size < 2)
		return 0;
	how = data[0];
	data++;
	size--;
	piece = size / (1 + how % PIECES_MAX) + 1;
	fd = connect_client();
	for (; sent < size && !ended; sent += piece) {
		size_t n = size - sent < piece ? size - sent : piece;

		if (write(fd, data + sent, n) == -1 && errno != EAGAIN)
			break;
		turn();
		if (!(how & 0x40)) /* else a client that does not read */
			ended = drain(fd, first, &len);
	}
	if (!(how & 0x80))
		shutdown(fd, SHUT_WR);
	for (int idle = 0; idle < 16 && !ended; idle = nread == before ? idle + 1 : 0) {
		before = nread;
		turn();
		ended = drain(fd, first, &len);
	}
	if (len > 0 && (len < 12 || memcmp(first, "HTTP/1.1 ", 9) != 0))
		abort();
	if (!(how & 0x80) && !ended)
		abort(); /* all was sent: the server has to come to an end, too */
	close(fd);
	for (int i = 0; i < 4; i++)
		turn();
	if (nstreams != 0 || nlater != 0)
		abort();
	return 0;
}
