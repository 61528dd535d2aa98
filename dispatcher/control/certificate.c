/* certificate.c: certificates by which events of mail services are verified, fetched once from where they are.
 *
 * A short-lived child process fetches with a blocking libcurl. Fetches are rare, so the control process needs no
 * HTTP client in its own loop.
 */
#include "config.h"

#include "control/certificate.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "process/proc.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CERTIFICATES_MAX 16
#define CERTIFICATE_SIZE_MAX 32768
#define CERTIFICATE_WAIT_MS 5000L

struct certificates {
	struct event_base *base;
	struct {
		char *url, *pem;
	} known[CERTIFICATES_MAX];
	size_t next; /* that is replaced */
	/* of the one on its way; url NULL: none */
	char *url;
	struct event *readable;
	int fd;
	pid_t pid;
	char text[CERTIFICATE_SIZE_MAX + 1];
	size_t len;
	void (*done)(void *arg);
	void *arg;
};

struct certificates *certificates_new(struct event_base *base)
{
	struct certificates *c = xcalloc(1, sizeof *c);

	c->base = base;
	return c;
}

/* Forgets the fetch under way; its child process ends by itself. */
static void certificates_forget(struct certificates *c)
{
	if (c->url == NULL)
		return;
	event_free(c->readable);
	close(c->fd);
	free(c->url);
	c->url = NULL;
}

void certificates_free(struct certificates *c)
{
	if (c == NULL)
		return;
	certificates_forget(c);
	for (size_t i = 0; i < CERTIFICATES_MAX; i++) {
		free(c->known[i].url);
		free(c->known[i].pem);
	}
	free(c);
}

const char *certificates_find(const struct certificates *c, const char *url)
{
	for (size_t i = 0; i < CERTIFICATES_MAX; i++)
		if (c->known[i].url != NULL && strcmp(c->known[i].url, url) == 0)
			return c->known[i].pem;
	return NULL;
}

/* libcurl: some of the answer, into the pipe. */
static size_t certificate_data(char *data, size_t size, size_t n, void *arg)
{
	ssize_t written = write(*(const int *)arg, data, size * n);

	return written < 0 ? 0 : (size_t)written;
}

/* The child: fetches, and says by its exit status whether all of it is in the pipe. */
static void __attribute__((noreturn)) certificate_child(const char *url, int fd)
{
	CURL *e = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;
	bool good = e != NULL && curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK &&
	            curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, certificate_data) == CURLE_OK &&
	            curl_easy_setopt(e, CURLOPT_WRITEDATA, &fd) == CURLE_OK &&
	            curl_easy_setopt(e, CURLOPT_FAILONERROR, 1L) == CURLE_OK &&
	            curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, CERTIFICATE_WAIT_MS) == CURLE_OK &&
	            curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK && curl_easy_perform(e) == CURLE_OK;

	_exit(good ? 0 : 1);
}

/* The child has ended: what came is kept, if it is a certificate. */
static void certificate_end(struct certificates *c)
{
	void (*done)(void *arg) = c->done;
	void *arg = c->arg;
	int status = -1;

	while (waitpid(c->pid, &status, 0) == -1 && errno == EINTR)
		continue;
	c->text[c->len] = '\0';
	if (status == 0 && strstr(c->text, "-----BEGIN CERTIFICATE-----") != NULL) {
		free(c->known[c->next].url);
		free(c->known[c->next].pem);
		c->known[c->next].url = xstrdup(c->url);
		c->known[c->next].pem = xstrdup(c->text);
		c->next = (c->next + 1) % CERTIFICATES_MAX;
	} else {
		log_warn("the certificate at %s cannot be fetched", c->url);
	}
	certificates_forget(c);
	done(arg);
}

/* The child has sent something, or has ended. */
static void certificate_readable(evutil_socket_t fd, short what, void *arg)
{
	struct certificates *c = arg;
	ssize_t n = read(fd, c->text + c->len, CERTIFICATE_SIZE_MAX - c->len);

	(void)what;
	if (n > 0)
		c->len += (size_t)n;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || c->len == CERTIFICATE_SIZE_MAX)
		certificate_end(c);
}

bool certificates_fetch(struct certificates *c, const char *url, void (*done)(void *arg), void *arg)
{
	int fds[2];

	if (c->url != NULL || pipe2(fds, O_CLOEXEC) == -1)
		return false;
	c->pid = proc_fork(&fds[1], 1);
	if (c->pid == 0)
		certificate_child(url, fds[1]);
	close(fds[1]);
	if (c->pid == -1) {
		close(fds[0]);
		return false;
	}
	c->fd = fds[0];
	c->url = xstrdup(url);
	c->len = 0;
	c->done = done;
	c->arg = arg;
	c->readable = loop_event(c->base, c->fd, EV_READ | EV_PERSIST, certificate_readable, c);
	loop_add(c->readable, NULL);
	return true;
}
