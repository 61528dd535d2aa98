/* transfer.c: one curl multi on the event loop: libcurl says which sockets and which timeout it wants, libevent tells
 * it what happened. */
#include "config.h"

#include "worker/transfer.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>

#define IDLE_MAX                                                                                                       \
	128 /* connections that are kept open; by itself libcurl keeps four for each transfer of the moment            \
	     */

_Static_assert(LIBCURL_VERSION_NUM >= 0x075500, "libcurl 7.85 or newer");

/* A transfer under way, found through CURLOPT_PRIVATE. */
struct transfer {
	TAILQ_ENTRY(transfer) link;
	CURL *easy;
	transfer_done_cb cb; /* NULL once it was called */
	void *arg;
};

/* A socket that libcurl watches. */
struct sock {
	struct transfers *http;
	struct event *ev;
};

struct transfers {
	struct event_base *base;
	CURLM *multi;
	transfer_prepare_cb prepare;
	void *prepare_arg;
	struct event *timer;
	TAILQ_HEAD(, transfer) transfers;
};

/* Runs the callbacks of all transfers that are through. */
static void transfer_finish(struct transfers *h)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(h->multi, &left)) != NULL) {
		struct transfer *t = NULL;
		CURLcode code = msg->data.result;
		transfer_done_cb cb;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		if (!t || !t->cb)
			continue;
		cb = t->cb;
		t->cb = NULL;
		cb(t->arg, t->easy, code); /* may add and remove handles */
	}
}

/* Tells libcurl what happened on a socket, or that its time is up. */
static void transfer_action(struct transfers *h, curl_socket_t s, int what)
{
	int running;
	CURLMcode rc = curl_multi_socket_action(h->multi, s, what, &running);

	if (rc != CURLM_OK)
		log_error("libcurl: %s", curl_multi_strerror(rc));
	transfer_finish(h);
}

/* A socket is ready. */
static void transfer_ready(evutil_socket_t fd, short what, void *arg)
{
	struct sock *s = arg;

	transfer_action(
		s->http, fd, ((what & EV_READ) ? CURL_CSELECT_IN : 0) | ((what & EV_WRITE) ? CURL_CSELECT_OUT : 0));
}

/* libcurl's timeout is up. */
static void transfer_timeout(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	transfer_action(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* libcurl wants a socket watched, differently or no longer. */
static int transfer_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *mine)
{
	struct transfers *h = user;
	struct sock *s = mine;
	short events = (short)(EV_PERSIST | ((what & CURL_POLL_IN) ? EV_READ : 0) |
			       ((what & CURL_POLL_OUT) ? EV_WRITE : 0));

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s) {
			event_free(s->ev);
			free(s);
			curl_multi_assign(h->multi, fd, NULL);
		}
		return 0;
	}
	if (!s) {
		s = xcalloc(1, sizeof(*s));
		s->http = h;
		curl_multi_assign(h->multi, fd, s);
	} else {
		event_free(s->ev);
	}
	s->ev = loop_event(h->base, fd, events, transfer_ready, s);
	loop_add(s->ev, NULL);
	return 0;
}

/* libcurl wants to be called in `ms`. */
static int transfer_timer(CURLM *multi, long ms, void *user)
{
	struct transfers *h = user;
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 };

	(void)multi;
	if (ms < 0)
		evtimer_del(h->timer);
	else
		loop_add(h->timer, &tv);
	return 0;
}

/* Dies when an option is refused: only a libcurl that is too old does that. */
static void multi_set(CURLMcode rc, const char *option)
{
	if (rc != CURLM_OK) {
		log_error("libcurl refuses %s: %s", option, curl_multi_strerror(rc));
		abort();
	}
}
#define MULTI_SET(m, opt, value) multi_set(curl_multi_setopt(m, opt, value), #opt)

/* Transfers go where their URLs say. */
static bool transfer_as_it_is(void *arg, CURL *easy)
{
	(void)arg, (void)easy;
	return true;
}

void transfer_divert(struct transfers *h, transfer_prepare_cb prepare, void *arg)
{
	h->prepare = prepare;
	h->prepare_arg = arg;
}

struct transfers *transfer_new(struct event_base *base)
{
	struct transfers *h = xcalloc(1, sizeof(*h));

	h->base = base;
	h->prepare = transfer_as_it_is;
	TAILQ_INIT(&h->transfers);
	h->multi = curl_multi_init();
	h->timer = loop_timer_new(base, transfer_timeout, h);
	if (!h->multi)
		abort();
	MULTI_SET(h->multi, CURLMOPT_SOCKETFUNCTION, transfer_socket);
	MULTI_SET(h->multi, CURLMOPT_SOCKETDATA, h);
	MULTI_SET(h->multi, CURLMOPT_TIMERFUNCTION, transfer_timer);
	MULTI_SET(h->multi, CURLMOPT_TIMERDATA, h);
	MULTI_SET(h->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_MAX);
	return h;
}

int transfer_add(struct transfers *h, CURL *easy, transfer_done_cb cb, void *arg)
{
	struct transfer *t = xcalloc(1, sizeof(*t));

	t->easy = easy;
	t->cb = cb;
	t->arg = arg;
	if (curl_easy_setopt(easy, CURLOPT_PRIVATE, t) != CURLE_OK || !h->prepare(h->prepare_arg, easy) ||
		curl_multi_add_handle(h->multi, easy) != CURLM_OK) {
		log_error("libcurl refuses a transfer");
		free(t);
		return -1;
	}
	TAILQ_INSERT_TAIL(&h->transfers, t, link);
	return 0;
}

void *transfer_remove(struct transfers *h, CURL *easy)
{
	struct transfer *t = NULL;
	void *arg;

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
	if (!t)
		return NULL;
	curl_multi_remove_handle(h->multi, easy);
	(void)curl_easy_setopt(easy, CURLOPT_PRIVATE, NULL);
	TAILQ_REMOVE(&h->transfers, t, link);
	arg = t->cb ? t->arg : NULL;
	free(t);
	return arg;
}

void transfer_free(struct transfers *h)
{
	struct transfer *t;

	if (!h)
		return;
	while ((t = TAILQ_FIRST(&h->transfers)) != NULL) { /* plugins have let go of theirs before */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list has let go of the one before */
		curl_multi_remove_handle(h->multi, t->easy);
		TAILQ_REMOVE(&h->transfers, t, link);
		free(t);
	}
	curl_multi_cleanup(h->multi);
	event_free(h->timer);
	free(h);
}
