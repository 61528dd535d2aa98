/* network.c: lists of networks. An IPv4 address is kept as the IPv6 one that stands for it, so both are one kind. */
#include "config.h"

#include "base/network.h"

#include "base/xalloc.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NETWORK_SEPARATORS ", \t"

struct network {
	uint8_t net[16];
	unsigned bits;
};

/* An address by itself; false for what is none. `bits` are those that it has. */
static bool network_address(const char *text, uint8_t net[16], unsigned *bits)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	*bits = 128;
	if (inet_pton(AF_INET6, text, net) == 1)
		return true;
	*bits = 32;
	memcpy(net, mapped, sizeof mapped);
	return inet_pton(AF_INET, text, net + sizeof mapped) == 1;
}

/* One network out of `len` bytes; false for what is none. */
static bool network_parse(const char *text, size_t len, struct network *n)
{
	char copy[INET6_ADDRSTRLEN + 4], *slash, *end;
	unsigned most;
	unsigned long bits;

	if (len >= sizeof copy)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if ((slash = strchr(copy, '/')) != NULL)
		*slash = '\0';
	if (!network_address(copy, n->net, &most))
		return false;
	bits = most;
	if (slash != NULL) {
		if (slash[1] < '0' || slash[1] > '9')
			return false;
		bits = strtoul(slash + 1, &end, 10);
		if (*end != '\0' || bits > most)
			return false;
	}
	n->bits = 128 - most + (unsigned)bits;
	return true;
}

/* Whether the first bits are the same. */
static bool network_has(const struct network *n, const uint8_t address[16])
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	return memcmp(address, n->net, whole) == 0 &&
	       (rest == 0 || ((address[whole] ^ n->net[whole]) >> (8 - rest)) == 0);
}

/* The next part of a list, and its length; NULL behind the last one. */
static const char *network_next(const char *list, size_t *len)
{
	list += strspn(list, NETWORK_SEPARATORS);
	*len = strcspn(list, NETWORK_SEPARATORS);
	return *len > 0 ? list : NULL;
}

char *network_list_problem(const char *list)
{
	struct network n;
	size_t len;

	for (; (list = network_next(list, &len)) != NULL; list += len)
		if (!network_parse(list, len, &n))
			return xasprintf(
				"\"%.*s\" is no address and no network such as 203.0.113.0/24", (int)len, list);
	return NULL;
}

bool network_list_has(const char *list, const char *ip)
{
	uint8_t address[16];
	struct network n;
	unsigned bits;
	size_t len;

	if (!network_address(ip, address, &bits))
		return false;
	for (; (list = network_next(list, &len)) != NULL; list += len)
		if (network_parse(list, len, &n) && network_has(&n, address))
			return true;
	return false;
}
