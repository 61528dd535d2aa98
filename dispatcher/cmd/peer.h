/* peer.h: whose process is at the other end of a connection within this machine. */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>

/* Whether the token may be shown there: it runs on this machine as root, as ourselves, or as the user pgmqd. The other
 * end must have sent something: until it accepts the connection, the kernel names no user. */
bool peer_is_known(int fd);

#endif
