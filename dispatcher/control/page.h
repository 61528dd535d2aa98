/* page.h: the status page at /. */
#ifndef PAGE_H
#define PAGE_H

#include "http/request.h"

void page_get(struct http_request *req); /* GET / and its files */

#endif
