/* network.h: lists of networks, "203.0.113.0/24, 2001:db8::/32, 198.51.100.7", and whether an address is in one. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdbool.h>

/* NULL, or what is wrong with the list, malloc'd. */
char *network_list_problem(const char *list);
/* Whether one of the list's networks has the address, as inet_ntop() writes it; false for what is no address. */
bool network_list_has(const char *list, const char *ip);

#endif
