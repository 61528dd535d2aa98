/* netguard.c: which addresses are on the public Internet: a list of those that are not. */
#include "config.h"

#include "base/netguard.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

/* Prefixes of IPv4 that no public server lives under. */
static const struct {
	uint32_t net;
	unsigned bits;
} closed4[] = {
	{ 0x00000000, 8 },  /* this network */
	{ 0x0a000000, 8 },  /* private */
	{ 0x64400000, 10 }, /* carriers' own */
	{ 0x7f000000, 8 },  /* loopback */
	{ 0xa9fe0000, 16 }, /* link-local, and the metadata services of clouds */
	{ 0xac100000, 12 }, /* private */
	{ 0xc0000000, 24 }, /* protocol assignments */
	{ 0xc0000200, 24 }, /* documentation */
	{ 0xc0586300, 24 }, /* 6to4 relays */
	{ 0xc0a80000, 16 }, /* private */
	{ 0xc6120000, 15 }, /* benchmarks */
	{ 0xc6336400, 24 }, /* documentation */
	{ 0xcb007100, 24 }, /* documentation */
	{ 0xe0000000, 3 },  /* multicast, reserved, broadcast */
};

/* Public IPv6 is 2000::/3 without these. */
static const struct {
	uint8_t net[6];
	unsigned bits;
} closed6[] = {
	{ { 0x20, 0x01, 0x00, 0x00 }, 23 }, /* protocol assignments, Teredo (holds an IPv4 address) */
	{ { 0x20, 0x01, 0x0d, 0xb8 }, 32 }, /* documentation */
	{ { 0x20, 0x02 }, 16 },             /* 6to4: holds an IPv4 address */
	{ { 0x3f, 0xff, 0x00 }, 20 },       /* documentation */
};

/* Whether the first bits are the same. */
static bool prefix_is(const uint8_t *a, const uint8_t *net, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	return memcmp(a, net, whole) == 0 && (!rest || ((a[whole] ^ net[whole]) >> (8 - rest)) == 0);
}

/* An IPv4 address in host order. */
static bool is_public4(uint32_t a)
{
	for (size_t i = 0; i < sizeof(closed4) / sizeof(*closed4); i++)
		if (((a ^ closed4[i].net) >> (32 - closed4[i].bits)) == 0)
			return false;
	return true;
}

/* An IPv6 address. One of NAT64's well-known prefix leads to the IPv4 address inside. */
static bool is_public6(const uint8_t a[16])
{
	static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };

	if (memcmp(a, nat64, sizeof(nat64)) == 0)
		return is_public4((uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15]);
	if ((a[0] & 0xe0) != 0x20)
		return false;
	for (size_t i = 0; i < sizeof(closed6) / sizeof(*closed6); i++)
		if (prefix_is(a, closed6[i].net, closed6[i].bits))
			return false;
	return true;
}

bool netguard_is_public(const struct sockaddr *sa)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (sa->sa_family == AF_INET) {
		memcpy(&in, sa, sizeof(in));
		return is_public4(ntohl(in.sin_addr.s_addr));
	}
	if (sa->sa_family == AF_INET6) {
		memcpy(&in6, sa, sizeof(in6));
		return is_public6(in6.sin6_addr.s6_addr);
	}
	return false;
}

/* Reads an address out of a text, without its %zone. */
static bool parse_text(const char *ip, struct sockaddr_storage *to)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	size_t len = strcspn(ip, "%");
	char bare[64];

	if (len >= sizeof(bare))
		return false;
	memcpy(bare, ip, len);
	bare[len] = 0;
	if (inet_pton(AF_INET, bare, &in.sin_addr) == 1)
		memcpy(to, &in, sizeof(in));
	else if (inet_pton(AF_INET6, bare, &in6.sin6_addr) == 1)
		memcpy(to, &in6, sizeof(in6));
	else
		return false;
	return true;
}

bool netguard_text_is_public(const char *ip)
{
	struct sockaddr_storage a;

	return parse_text(ip, &a) && netguard_is_public((const struct sockaddr *)(const void *)&a);
}

bool netguard_text_is_private(const char *text)
{
	struct sockaddr_storage a;

	return parse_text(text, &a) && !netguard_is_public((const struct sockaddr *)(const void *)&a);
}
