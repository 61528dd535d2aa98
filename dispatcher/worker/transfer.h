/* transfer.h: one curl multi on the event loop, for transfers of plugins. */
#ifndef TRANSFER_H
#define TRANSFER_H

#include <curl/curl.h>
#include <event2/event.h>
#include <stdbool.h>

struct transfers;

typedef void (*transfer_done_cb)(void *arg, CURL *easy, CURLcode code);

struct transfers *transfer_new(struct event_base *base);
void transfer_free(struct transfers *h);

/* Has each handle prepared before it is added: for a host whose transfers must not leave it. False: not added. */
typedef bool (*transfer_prepare_cb)(void *arg, CURL *easy);
void transfer_divert(struct transfers *h, transfer_prepare_cb prepare, void *arg);

/* Adds an easy handle (CURLOPT_PRIVATE becomes ours); `cb` runs once when libcurl is done with it, after which the
 * handle is still in the multi until transfer_remove(). 0 or -1. transfer_remove() gives `arg` back when the callback
 * has not run. */
int transfer_add(struct transfers *h, CURL *easy, transfer_done_cb cb, void *arg);
void *transfer_remove(struct transfers *h, CURL *easy);

#endif
