/* versions.c: names the versions of pgmqd and of the libraries that it runs with. */
#include "config.h"

#include "cmd/versions.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <event2/event.h>
#include <libpq-fe.h>
#include <stdio.h>

/* One line; libinih has no version at run time, so that one is of the build. */
const char *versions_line(void)
{
	static char line[256];
	int pq = PQlibVersion();

	snprintf(line, sizeof(line), "pgmqd %s: libpq %d.%d, libevent %s, libcurl %s, cJSON %s, inih %s",
		PACKAGE_VERSION, pq / 10000, pq % 10000, event_get_version(),
		curl_version_info(CURLVERSION_NOW)->version, cJSON_Version(), INIH_VERSION);
	return line;
}
