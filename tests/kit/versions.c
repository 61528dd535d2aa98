/* versions.c: a plugin whose version the compiler is told, for tests of loading and reloading; also one of another API.
 */
#include <pgmqd-plugin.h>

#ifndef VERSION
#define VERSION "1"
#endif
#ifndef NAME
#define NAME "versions"
#endif

/* Done a moment later, so that there is always something in hand. */
static void later(void *m)
{
	pgmqd_done(m);
}

static void versions_deliver(void *h, struct pgmqd_msg *m)
{
	(void)h;
	(void)pgmqd_msg_timer(m, 5, later, m);
}

static struct pgmqd_plugin versions = {
	.name = NAME,
	.version = VERSION,
	.deliver = versions_deliver,
};

#ifdef API
struct pgmqd_plugin *pgmqd_plugin_init(void);
struct pgmqd_plugin *pgmqd_plugin_init(void)
{
	versions._struct_size = sizeof(versions);
	versions._api_version = API;
	versions._option_size = sizeof(struct pgmqd_option);
	return &versions;
}
#else
PGMQD_REGISTER_PLUGIN(versions);
#endif
