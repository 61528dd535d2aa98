/* transfer.h: one curl multi on the event loop, for transfers of plugins. */
#ifndef HTTP_H
#define HTTP_H

#include <curl/curl.h>
#include <event2/event.h>

struct http;

typedef void (*http_done_cb)(void *arg, CURL *easy, CURLcode code);

struct http *http_new(struct event_base *base);
void http_free(struct http *h);

/* Adds an easy handle (CURLOPT_PRIVATE becomes ours); `cb` runs once when libcurl is done with it, after which the
 * handle is still in the multi until http_remove(). 0 or -1. http_remove() gives `arg` back when the callback has not
 * run. */
int http_add(struct http *h, CURL *easy, http_done_cb cb, void *arg);
void *http_remove(struct http *h, CURL *easy);

#endif
