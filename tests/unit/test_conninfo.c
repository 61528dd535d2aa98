/* test_conninfo.c: connection strings as platforms hand them out: what is taken, and what is said of the others. */
#include "config.h"

#include "pg/conninfo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The check takes a string. */
static void good(const char *conninfo)
{
	char *error = conninfo_check(conninfo);

	if (error)
		fail_msg("%s: %s", conninfo, error);
}

/* The check refuses a string in one line, with `part` in it and no password. */
static void bad(const char *conninfo, const char *part)
{
	char *error = conninfo_check(conninfo);

	if (!error)
		fail_msg("%s was taken", conninfo);
	if (!strstr(error, part) || strstr(error, "s3cret") || strchr(error, '\n'))
		fail_msg("%s: %s", conninfo, error);
	free(error);
}

static void test_good(void **state)
{
	(void)state;
	good("");
	good("host=/run/postgresql dbname=app");
	good("postgres://pgmqd:s3cret@db.example.test:5432/app?sslmode=verify-full");
	good("postgresql://pgmqd:p%40ss%2Fw%23rd@127.0.0.1/app");
	good("postgresql://u@a:5432,b:5433/app?target_session_attrs=read-write");
	good("postgresql:///app?host=/run/postgresql&connect_timeout=5");
	good("postgresql:///app?host=/cloudsql/project:region:instance&user=u");
	good("postgresql://u%40realm:s3cret@%2Frun%2Fpostgresql/app");
	good("postgresql://u:s3cret@[2001:db8::1]:5432/app?sslmode=require&channel_binding=require");
	good("postgresql://u@a,b/app?connect_timeout=-1&keepalives=1&ssl_min_protocol_version=TLSv1.2");
	good("postgresql://u:s3cret@h/app?sslmode=verify-full&sslrootcert=system");
}

static void test_other_drivers(void **state)
{
	(void)state;
	bad("postgresql://u:s3cret@h/app?pgbouncer=true&connection_limit=1", "no parameter \"pgbouncer\"");
	bad("postgresql://u:s3cret@h/app?schema=public", "no parameter \"schema\": remove it");
	bad("postgresql://u:s3cret@h/app?sslmode=no-verify", "sslmode=no-verify is none of libpq's modes");
	bad("host=h password=s3cret sslmode=true", "sslmode=true is none of");
	bad("postgresql://u:s3cret@h/app?uselibpqcompat=true", "no parameter \"uselibpqcompat\"");
	bad("postgresql+asyncpg://u:s3cret@h/app", "begins with postgresql+asyncpg://");
	bad("postgres+psycopg2://u:s3cret@h/app", "begins with postgres+psycopg2://");
	bad("prisma+postgres://h/?api_key=s3cret", "begins with prisma+postgres://");
	bad("mysql://u:s3cret@h/app", "begins with mysql://");
	bad("jdbc:postgresql://h/app?password=s3cret", "remove jdbc:");
	bad("postgresql://h/app\n", "a blank or a line end");
	bad(" postgresql://h/app?password=s3cret", "remove it");
	good(" host=h dbname=app\n");
	bad("\"postgresql://u:s3cret@h/app\"", "in quotes");
	bad("'postgresql://u:s3cret@h/app'", "in quotes");
	bad("postgresql://u:s3cret/x#1@h:5432/app", "must be written as");
	bad("postgresql://u:p@ss/s3cret:rd#1@127.0.0.1:5432/app", "must be written as");
	bad("postgresql://u:[YOUR-PASSWORD]@h/app", "");
	bad("dbname=app passwd=s3cret", "no parameter \"passwd\"");
	bad("s3cret", "neither a URI");
}

/* What libpq finds only when it connects is found here: it would be tried again for ever. */
static void test_values(void **state)
{
	(void)state;
	bad("postgresql://u:s3cret@h/app?connect_timeout=10s", "connect_timeout=10s is no whole number");
	bad("host=h password=s3cret keepalives=yes", "keepalives=yes is no whole number");
	bad("postgresql://u:s3cret@h:99999/app", "port 99999 is none");
	bad("postgresql://u:s3cret@a:5432,b:0/app", "port 0 is none");
	bad("postgresql://u:s3cret@h/app?target_session_attrs=writable",
		"target_session_attrs=writable is none of any");
	bad("postgresql://u:s3cret@h/app?channel_binding=true", "channel_binding=true is none of");
	bad("postgresql://u:s3cret@h/app?ssl_min_protocol_version=1.2", "TLSv1.2");
	bad("postgresql://u:s3cret@h/app?sslmode=verify-full&sslrootcert=/nonexistent/ca.pem", "No such file");
	bad("postgresql://u:p@@h/app", "must be written as");
	bad("postgresql://u:p@s3cret@h/app", "must be written as");
	bad("postgresql://u:<password>@h/app", "replace it by the password");
	bad("postgresql://u:<your-password>@h/app", "replace it by the password");
}

static void test_pooler(void **state)
{
	static const char *const poolers[] = {
		"postgresql://u:s3cret@aws-0-eu-central-1.pooler.supabase.com:6543/postgres", "host=db port=6543",
		"postgresql://u@rc1a-x.mdb.example.test:6432/app",
		"postgresql://u@ep-cool-1-pooler.eu-central-1.aws.neon.tech/app"
	};
	static const char *const others[] = { "postgresql://u@aws-0-eu-central-1.pooler.supabase.com:5432/postgres", "",
		"host=db port=5432", "postgresql://u@ep-cool-1.eu-central-1.aws.neon.tech/app" };

	(void)state;
	for (size_t i = 0; i < sizeof(poolers) / sizeof(*poolers); i++) {
		char *warning = conninfo_pooler(poolers[i]);

		if (!warning || !strstr(warning, "transaction pooler") || strstr(warning, "s3cret"))
			fail_msg("%s: %s", poolers[i], warning ? warning : "nothing");
		free(warning);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		assert_null(conninfo_pooler(others[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_good), cmocka_unit_test(test_other_drivers),
		cmocka_unit_test(test_values), cmocka_unit_test(test_pooler) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
