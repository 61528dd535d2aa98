/* netguard.h: which addresses are on the public Internet. */
#ifndef NETGUARD_H
#define NETGUARD_H

#include <stdbool.h>
#include <sys/socket.h>

/* False for loopback, private, link-local, multicast and reserved addresses, for those that embed an IPv4 address, and
 * for what is neither IPv4 nor IPv6. */
bool netguard_is_public(const struct sockaddr *sa);
bool netguard_text_is_public(const char *ip);    /* as inet_ntop() writes it, perhaps with a %zone */
bool netguard_text_is_private(const char *text); /* false, too, for what is no address */

#endif
