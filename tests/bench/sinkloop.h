/* sinkloop.h: the loop of a server that takes bytes and answers at once: the other side of a benchmark. */
#ifndef BENCH_SINKLOOP_H
#define BENCH_SINKLOOP_H

#include <stdbool.h>

#define SINK_CONNECTIONS 1024 /* descriptors are below that */

struct sink {
	/* A new connection. False: it cannot be served, and is closed. */
	bool (*greet)(int fd);
	/* Something has come. False: the connection is over, and is closed. */
	bool (*serve)(int fd);
};

/* Listens on a port of the loopback, prints it, and serves until the standard input ends. Ends the program when the
 * system refuses something. */
void sinkloop_run(const struct sink *s);

#endif
