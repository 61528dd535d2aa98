/* old.c: a plugin compiled against the frozen header of API 1: it must load and run in every later pgmqd 1.x. */
#include "pgmqd-plugin.h"

struct old {
	const char *word;
};

static const struct pgmqd_option old_options[] = {
	{ "word", PGMQD_STRING, 1, offsetof(struct old, word), NULL, "A word.", NULL, NULL },
	{ NULL, 0, 0, 0, NULL, NULL, NULL, NULL },
};

/* Done, with the word as its effect in the database. */
static void old_deliver(void *h, struct pgmqd_msg *m)
{
	const char *params[1];

	params[0] = ((struct old *)h)->word;
	if (pgmqd_msg_str(m, "/skip"))
		pgmqd_done(m);
	else
		pgmqd_done_with(m, "select $1", 1, params);
}

static struct pgmqd_plugin old_plugin = {
	.name = "old", .version = "1", .options = old_options, .handle_size = sizeof(struct old), .deliver = old_deliver
};

PGMQD_REGISTER_PLUGIN(old_plugin);
