/* test_netguard.c: the addresses at both ends of each closed block, and their neighbours outside. */
#include "config.h"

#include "base/netguard.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>
#include <cmocka.h>

/* Asks both functions, which must agree. */
static bool is_public(const char *ip)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	bool by_text = netguard_text_is_public(ip), by_address = false;

	if (inet_pton(AF_INET, ip, &in.sin_addr) == 1)
		by_address = netguard_is_public((const struct sockaddr *)(const void *)&in);
	else if (inet_pton(AF_INET6, ip, &in6.sin6_addr) == 1)
		by_address = netguard_is_public((const struct sockaddr *)(const void *)&in6);
	else
		fail_msg("%s is no address", ip);
	if (by_text == netguard_text_is_private(ip))
		fail_msg("%s: is it public, or private?", ip);
	if (by_text != by_address)
		fail_msg("%s: the text is %s, the address is not", ip, by_text ? "public" : "closed");
	return by_text;
}

/* Each of a list, which ends with NULL. */
static void all(const char *const *list, bool expected)
{
	for (; *list; list++)
		if (is_public(*list) != expected)
			fail_msg("%s is taken for %s", *list, expected ? "closed" : "public");
}

static void test_ipv4(void **state)
{
	static const char *const closed[] = { "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0",
		"100.127.255.255", "127.0.0.0", "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254",
		"169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.255", "192.0.2.0",
		"192.0.2.255", "192.88.99.0", "192.88.99.255", "192.168.0.0", "192.168.255.255", "198.18.0.0",
		"198.19.255.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.0",
		"239.255.255.255", "240.0.0.0", "255.255.255.255", NULL };
	static const char *const open[] = { "1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
		"126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
		"191.255.255.255", "192.0.1.0", "192.0.1.255", "192.0.3.0", "192.88.98.255", "192.88.100.0",
		"192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0",
		"203.0.112.255", "203.0.114.0", "223.255.255.255", NULL };

	(void)state;
	all(closed, false);
	all(open, true);
}

static void test_ipv6(void **state)
{
	static const char *const closed[] = { "::", "::1", "::2", "100::", "fc00::", "fdff::1", "fe80::1", "febf::1",
		"fec0::1", "ff02::1",
		"1fff:ffff::", "4000::", "2001::", "2001:1ff:ffff::", "2001:db8::", "2001:db8:ffff::1",
		"3fff::", "3fff:fff::1", NULL };
	static const char *const open[] = { "2000::", "2001:200::", "2001:db7:ffff::", "2001:db9::", "2003::1",
		"2606:4700::1111", "3ffe:ffff::", "3fff:1000::", NULL };

	(void)state;
	all(closed, false);
	all(open, true);
}

/* A translator (NAT64) sends these on to the IPv4 address in the last four bytes. */
static void test_nat64(void **state)
{
	static const char *const closed[] = { "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254",
		"64:ff9b:0:0:0:1:808:808", NULL };
	static const char *const open[] = { "64:ff9b::8.8.8.8", "64:ff9b::808:404", NULL };

	(void)state;
	all(closed, false);
	all(open, true);
}

/* Whatever else carries an IPv4 address inside could lead to a closed one, so none of it is public. */
static void test_embedded_ipv4(void **state)
{
	static const char *const closed[] = { "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1",
		"::ffff:0:127.0.0.1", "64:ff9b:1::10.0.0.1", "64:ff9b:1::8.8.8.8", "2002:7f00:1::", "2002:808:808::1",
		"2001:0:7f00:1::80ff:fffe", NULL };

	(void)state;
	all(closed, false);
}

static void test_what_is_no_address(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char long_text[200];

	(void)state;
	memset(long_text, '1', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = 0;
	assert_false(netguard_is_public((const struct sockaddr *)(const void *)&un));
	assert_false(netguard_text_is_public(""));
	assert_false(netguard_text_is_public("%eth0"));
	assert_false(netguard_text_is_public("localhost"));
	assert_false(netguard_text_is_private("localhost"));
	assert_false(netguard_text_is_private(""));
	assert_false(netguard_text_is_public("8.8.8"));
	assert_false(netguard_text_is_public("2130706433"));
	assert_false(netguard_text_is_public(long_text));
	assert_false(netguard_text_is_public("fe80::1%eth0"));
	assert_true(netguard_text_is_public("2606:4700::1111%eth0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_nat64),
		cmocka_unit_test(test_embedded_ipv4),
		cmocka_unit_test(test_what_is_no_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
