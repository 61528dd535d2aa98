/* conncheck.c: whether a connection string can be used, before anybody connects with it. */
#include "config.h"

#include "base/xalloc.h"
#include "pg/conncheck.h"
#include "pg/conninfo.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A parameter's value in what the connection string says; NULL when it is not in there, or empty. */
static const char *conninfo_value(const PQconninfoOption *options, const char *key)
{
	for (; options && options->keyword; options++)
		if (strcmp(options->keyword, key) == 0)
			return options->val && *options->val ? options->val : NULL;
	return NULL;
}

/* libpq's defaults, with those of a service, which it takes from the environment only. */
static PQconninfoOption *conninfo_defaults(const char *service)
{
	const char *env = getenv("PGSERVICE");
	char *old = env ? xstrdup(env) : NULL;
	PQconninfoOption *defaults;

	if (service)
		setenv("PGSERVICE", service, 1);
	defaults = PQconndefaults();
	if (service && old)
		setenv("PGSERVICE", old, 1);
	else if (service)
		unsetenv("PGSERVICE");
	free(old);
	return defaults;
}

/* Whether one host of a list, `len` bytes of it, is this machine: a socket's directory, or an address of the loopback.
 */
static bool host_is_local(const char *host, size_t len)
{
	static const char localhost[] = "localhost";
	size_t n = sizeof(localhost) - 1;

	if (len == 0 || *host == '/' || *host == '@')
		return true;
	if (len >= n && strncasecmp(host + len - n, localhost, n) == 0 && (len == n || host[len - n - 1] == '.'))
		return true;
	return (len == 3 && strncmp(host, "::1", 3) == 0) ||
	       (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") >= len);
}

/* The first host of a list that is not this machine, with its length; NULL when all are. */
static const char *host_find_remote(const char *list, size_t *len)
{
	for (;; list += *len + 1) {
		*len = strcspn(list, ",");
		if (!host_is_local(list, *len))
			return list;
		if (!list[*len])
			return NULL;
	}
}

/* The database is elsewhere: then its certificate is checked, unless that was waived. libpq's own default asks for no
 * encryption at all. */
static char *check_tls(const PQconninfoOption *given, const PQconninfoOption *defaults)
{
	const char *host, *mode, *roots;
	size_t len;

#define EITHER(key) (conninfo_value(given, key) ? conninfo_value(given, key) : conninfo_value(defaults, key))
	host = EITHER("hostaddr");
	if (!host)
		host = EITHER("host");
	mode = EITHER("sslmode");
	roots = EITHER("sslrootcert");
#undef EITHER
	host = host ? host_find_remote(host, &len) : NULL;
	if (!host || (mode && strcmp(mode, "verify-full") == 0) ||
		(roots && strcmp(roots, "system") == 0 && PQlibVersion() >= 160000))
		return NULL;
	return xasprintf(
		"the database is on another machine (%.*s), and with sslmode=%s passwords and messages could be read "
		"or "
		"taken on the way: add sslmode=verify-full and sslrootcert=FILE to the connection string, or write "
		"allow_insecure = yes",
		(int)len, host, mode ? mode : "prefer");
}

char *conncheck(const char *conninfo, bool allow_insecure)
{
	char *problem = conninfo_check(conninfo);
	PQconninfoOption *given, *defaults;

	if (problem)
		return problem;
	given = PQconninfoParse(*conninfo ? conninfo : "dbname=postgres", NULL);
	defaults = conninfo_defaults(conninfo_value(given, "service"));
	problem = allow_insecure ? NULL : check_tls(given, defaults);
	PQconninfoFree(given);
	PQconninfoFree(defaults);
	return problem;
}
