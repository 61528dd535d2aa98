/* test.h: `pgmqd plugin test`. */
#ifndef PLUGIN_TEST_H
#define PLUGIN_TEST_H

/* argv[0] is what usage errors begin with; returns the exit status. */
int test_main(int argc, char **argv);

#endif
