/* conninfo.c: looks at a connection string before anybody connects with it: platforms and other drivers write strings
 * that libpq does not take, a transaction pooler does not pass notifications on, and libpq's defaults encrypt nothing.
 */
#include "config.h"

#include "pg/conninfo.h"

#include "base/xalloc.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define POOLER_PORT "6543" /* of Supabase's transaction pooler */

/* Parameters of other drivers that libpq does not have. */
static const struct {
	const char *name, *remedy;
} foreign[] = {
	{ "pgbouncer", "remove it, and connect to the server itself or to a pooler in session mode" },
	{ "schema", "remove it" },
	{ "connection_limit", "remove it; max_in_flight and processes limit what pgmqd does at once" },
	{ "pool_timeout", "remove it" },
	{ "pool_size", "remove it" },
	{ "statement_cache_size", "remove it" },
	{ "ssl", "write sslmode=require or sslmode=verify-full instead" },
	{ "sslaccept", "write sslmode=require or sslmode=verify-full instead" },
	{ "currentSchema", "remove it" },
	{ "serverVersion", "remove it" },
	{ "charset", "remove it" },
	{ "supa", "remove it" },
};

static const char *const ssl_modes[] = { "disable", "allow", "prefer", "require", "verify-ca", "verify-full" };

/* Parameters whose values libpq looks at only when it connects, so that a wrong one would be tried again for ever;
 * without words: whole numbers. */
static const struct {
	const char *name, *words;
} valued[] = {
	{ "connect_timeout", NULL },
	{ "tcp_user_timeout", NULL },
	{ "keepalives", NULL },
	{ "keepalives_idle", NULL },
	{ "keepalives_interval", NULL },
	{ "keepalives_count", NULL },
	{ "target_session_attrs", "any read-write read-only primary standby prefer-standby" },
	{ "channel_binding", "disable prefer require" },
	{ "gssencmode", "disable prefer require" },
	{ "ssl_min_protocol_version", "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3" },
	{ "ssl_max_protocol_version", "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3" },
};

/* The value of a parameter; NULL when it is not given, or empty. */
static const char *value_of(const PQconninfoOption *options, const char *key)
{
	for (; options && options->keyword; options++)
		if (strcmp(options->keyword, key) == 0)
			return options->val && *options->val ? options->val : NULL;
	return NULL;
}

/* The way to treat a parameter that libpq does not know. */
static const char *remedy_of(const char *name)
{
	for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++)
		if (strcmp(name, foreign[i].name) == 0)
			return foreign[i].remedy;
	return "remove it, or correct its name";
}

/* The name of the first parameter that libpq does not know, out of its message; malloc'd, NULL when it is about
 * something else. */
static char *unknown_parameter(const char *conninfo, const char *message)
{
	const char *quote = message ? strchr(message, '"') : NULL, *end = quote ? strchr(quote + 1, '"') : NULL;
	PQconninfoOption *known = PQconndefaults();
	char *name = end ? xasprintf("%.*s", (int)(end - quote - 1), quote + 1) : NULL;
	size_t len = name ? strlen(name) : 0;
	bool is_parameter = false;

	/* the quoted word is a parameter when it stands in the string as NAME= */
	for (const char *p = len ? strstr(conninfo, name) : NULL; p && !is_parameter; p = strstr(p + 1, name))
		is_parameter = p[len + strspn(p + len, " ")] == '=' && (p == conninfo || strchr("?& ", p[-1]));
	for (PQconninfoOption *o = known; is_parameter && o && o->keyword; o++)
		is_parameter = strcmp(o->keyword, name) != 0;
	PQconninfoFree(known);
	if (is_parameter)
		return name;
	free(name);
	return NULL;
}

/* The fault of a string that libpq does not take. Its own message may quote a part of the password, so it is
 * printed only where it is about a parameter. */
static char *explain(const char *conninfo, const char *message)
{
	char *name = message ? unknown_parameter(conninfo, message) : NULL, *error;

	if (name)
		error = xasprintf("libpq has no parameter \"%s\": %s", name, remedy_of(name));
	else if (strstr(conninfo, "://"))
		error = xstrdup(
			"it is not a URI of the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in a password "
			"the characters : / ? # [ ] @ % and blanks must be written as %3A %2F %3F %23 %5B %5D %40 "
			"%25 and %20");
	else
		error = xstrdup(
			"it is neither a URI such as postgresql://USER@HOST/DATABASE nor a list such as host=HOST "
			"dbname=DATABASE user=USER");
	free(name);
	return error;
}

/* The fault in the beginning of a URI; NULL when it has none. */
static char *check_scheme(const char *conninfo)
{
	size_t len = strcspn(conninfo, ":=' ");
	const char *rest = conninfo + len;

	if (strncmp(rest, "://", 3) != 0)
		return NULL;
	if ((len == 10 && strncmp(conninfo, "postgresql", 10) == 0) ||
		(len == 8 && strncmp(conninfo, "postgres", 8) == 0))
		return NULL;
	return xasprintf(
		"it begins with %.*s://, which is another driver's way to write it: write postgresql:// instead",
		len > 40 ? 40 : (int)len, conninfo);
}

/* Whether a password that is not encoded has torn a URI apart: then what follows its / is taken for the database, and
 * what follows its @ for the host. */
static bool is_torn(const char *conninfo, const char *host, const char *dbname)
{
	if (!strstr(conninfo, "://"))
		return false;
	return (dbname && strchr(dbname, '@')) ||
	       (host && *host != '/' && strchr(host, '@') && !strstr(conninfo, "%40"));
}

/* Whether ports are numbers; if not, one is a part of a password that is not encoded. */
static bool ports_are_numbers(const char *port)
{
	return !port || port[strspn(port, "0123456789,")] == '\0';
}

/* The fault of a list of ports; NULL when it has none. */
static char *check_ports(const char *port)
{
	for (const char *p = port; p && *p; p += strspn(p, ",")) {
		char *end;
		unsigned long n = strtoul(p, &end, 10);

		if (end != p && (n < 1 || n > 65535))
			return xasprintf("port %.*s is none: a port is a number from 1 to 65535",
				end - p > 20 ? 20 : (int)(end - p), p);
		p = end + (end == p && *p != ',');
	}
	return NULL;
}

/* Whether a value is one of some words with blanks between them, or a whole number where there are none. */
static bool is_one_of(const char *value, const char *words)
{
	size_t len = strlen(value);

	if (!words)
		return len > 0 && len < 10 && value[*value == '-'] &&
		       strspn(value + (*value == '-'), "0123456789") == len - (*value == '-');
	for (; *words; words += strcspn(words, " "), words += strspn(words, " "))
		if (strcspn(words, " ") == len && strncasecmp(words, value, len) == 0)
			return true;
	return false;
}

/* The fault of a value that libpq would find when it connects; NULL when it has none. */
static char *check_values(const PQconninfoOption *options)
{
	const char *roots = value_of(options, "sslrootcert"), *mode = value_of(options, "sslmode"), *value;
	size_t i;

	for (i = 0; i < sizeof(valued) / sizeof(*valued); i++) {
		value = value_of(options, valued[i].name);
		if (value && !is_one_of(value, valued[i].words))
			return xasprintf("%s=%.20s is %s%s", valued[i].name, value,
				valued[i].words ? "none of " : "no whole number",
				valued[i].words ? valued[i].words : "");
	}
	if (roots && mode && strncmp(mode, "verify-", 7) == 0 && strcmp(roots, "system") != 0 &&
		access(roots, F_OK) != 0)
		return xasprintf("sslrootcert=%.200s: %s", roots, strerror(errno));
	return NULL;
}

/* Whether a password is what a page shows in its place: [YOUR-PASSWORD], <password>. */
static bool is_placeholder(const char *password)
{
	size_t len = strlen(password);

	return len > 9 &&
	       ((*password == '[' && password[len - 1] == ']') || (*password == '<' && password[len - 1] == '>')) &&
	       strcasestr(password, "password");
}

/* Whether a URI has white space at one of its ends, as a file read by a shell leaves it: libpq takes it for a part of
 * the database's name. */
static bool is_padded(const char *conninfo)
{
	static const char blanks[] = " \t\r\n";

	return strstr(conninfo, "://") && (strchr(blanks, *conninfo) || strchr(blanks, conninfo[strlen(conninfo) - 1]));
}

char *conninfo_check(const char *conninfo)
{
	PQconninfoOption *options;
	const char *mode, *password;
	char *message = NULL, *error = NULL;
	bool known = false;

	if (!*conninfo)
		return NULL;
	if (*conninfo == '"' || *conninfo == '\'')
		return xstrdup("it is in quotes, and they are part of the value here: write it without");
	if (is_padded(conninfo))
		return xstrdup(
			"it begins or ends with a blank or a line end, which is part of the value here: remove it");
	if (strncmp(conninfo, "jdbc:", 5) == 0)
		return xstrdup("it begins with jdbc:, which is another driver's way to write it: remove jdbc:");
	if ((error = check_scheme(conninfo)) != NULL)
		return error;
	options = PQconninfoParse(conninfo, &message);
	if (!options) {
		error = explain(conninfo, message);
		PQfreemem(message);
		return error;
	}
	mode = value_of(options, "sslmode");
	password = value_of(options, "password");
	for (size_t i = 0; mode && i < sizeof(ssl_modes) / sizeof(*ssl_modes); i++)
		known = known || strcmp(mode, ssl_modes[i]) == 0;
	if (mode && !known)
		error = xasprintf(
			"sslmode=%.20s is none of libpq's modes: write sslmode=require (encrypted, the server is not "
			"checked) or sslmode=verify-full with sslrootcert=FILE",
			mode);
	else if (!ports_are_numbers(value_of(options, "port")) ||
		 is_torn(conninfo, value_of(options, "host"), value_of(options, "dbname")))
		error = explain(conninfo, NULL);
	else if (password && is_placeholder(password))
		error = xasprintf("%.40s stands in it still: replace it by the password", password);
	else if ((error = check_ports(value_of(options, "port"))) == NULL)
		error = check_values(options);
	PQconninfoFree(options);
	return error;
}

/* libpq's defaults, with those of a service, which it takes from the environment only. */
static PQconninfoOption *defaults_of(const char *service)
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
static bool is_local(const char *host, size_t len)
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
static const char *find_remote(const char *list, size_t *len)
{
	for (;; list += *len + 1) {
		*len = strcspn(list, ",");
		if (!is_local(list, *len))
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

#define EITHER(key) (value_of(given, key) ? value_of(given, key) : value_of(defaults, key))
	host = EITHER("hostaddr");
	if (!host)
		host = EITHER("host");
	mode = EITHER("sslmode");
	roots = EITHER("sslrootcert");
#undef EITHER
	host = host ? find_remote(host, &len) : NULL;
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

char *conninfo_check_tls(const char *conninfo, bool allow_insecure)
{
	char *problem = conninfo_check(conninfo);
	PQconninfoOption *given, *defaults;

	if (problem)
		return problem;
	given = PQconninfoParse(*conninfo ? conninfo : "dbname=postgres", NULL);
	defaults = defaults_of(value_of(given, "service"));
	problem = allow_insecure ? NULL : check_tls(given, defaults);
	PQconninfoFree(given);
	PQconninfoFree(defaults);
	return problem;
}

char *conninfo_pooler(const char *conninfo)
{
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	const char *host = value_of(options, "host"), *port = value_of(options, "port");
	char *warning = NULL;

	if (port && (strcmp(port, "6432") == 0 || strcmp(port, "25061") == 0))
		warning = xasprintf(
			"port %s is usually a pooler (PgBouncer, Odyssey): where that is a transaction pooler, "
			"notifications do not come through it and queues would only be polled: then use the "
			"port of the server itself, or a pool in session mode",
			port);
	else if (port && strcmp(port, POOLER_PORT) == 0)
		warning = xstrdup("port " POOLER_PORT
				  " is usually a transaction pooler, through which notifications do not come, "
				  "so queues would only be polled: use port 5432 (the server, or Supabase's pooler in "
				  "session mode)");
	else if (host && strstr(host, "-pooler.") && !strstr(host, ".pooler.supabase."))
		warning = xasprintf(
			"the host %.80s is usually a transaction pooler, through which notifications do not come, so "
			"queues would only be polled: use the host of the server itself (without -pooler)",
			host);
	PQconninfoFree(options);
	return warning;
}
