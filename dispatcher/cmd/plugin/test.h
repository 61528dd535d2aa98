/* test.h: `pgmqd plugin test`. */
#ifndef PLUGIN_TEST_H
#define PLUGIN_TEST_H

#include <stdbool.h>
#include <stdint.h>

/* The options of `plugin test`; --valgrind is plugin.c's. */
struct test_options {
	const char *answers, *log, *plugin_dir, *template_dir; /* NULL: not given; log has a default */
	int64_t attempts;
	bool headers, json, skip_time, valgrind;
};

/* Tests the plugin argv[0] with the options KEY=VALUE behind it; returns the exit status. */
int test_main(const struct test_options *o, int argc, char **argv);

#endif
