/* address.c: the strict checks of addresses, host names and header texts. */
#include "config.h"

#include "address.h"

#include <glib.h>
#include <idn2.h>
#include <string.h>

/* Whether `c` may stand in an unquoted local part (RFC 5322's atext and the dot). */
static int local_char(unsigned char c)
{
	return g_ascii_isalnum(c) || (c != 0 && strchr("!#$%&'*+-/=?^_`{|}~.", c) != NULL);
}

/* Checks what stands before the @. Quoted local parts are refused: no real mailbox needs one, and every second mail
 * server gets them wrong. Non-ASCII ones would need SMTPUTF8 all the way to the recipient. */
static const char *check_local(const char *local, size_t len)
{
	if (len == 0)
		return "there is nothing before the @";
	if (len > ADDRESS_LOCAL_MAX)
		return "the part before the @ is longer than 64 octets";
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)local[i] >= 0x80)
			return "letters outside ASCII before the @ are not supported";
		if (!local_char((unsigned char)local[i]))
			return "a character before the @ is not allowed in an address";
		if (local[i] == '.' && (i == 0 || i + 1 == len || local[i - 1] == '.'))
			return "a dot before the @ is misplaced";
	}
	return NULL;
}

int address_host_ok(const char *host)
{
	size_t label = 0, len = strlen(host);

	if (len == 0 || len > 253)
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (host[i] == '.') {
			if (label == 0 || host[i - 1] == '-')
				return 0;
			label = 0;
			continue;
		}
		if (!g_ascii_isalnum(host[i]) && (host[i] != '-' || label == 0))
			return 0;
		if (++label > 63)
			return 0;
	}
	return label > 0 && host[len - 1] != '-';
}

/* Turns an internationalised domain into its A-labels; NULL when that is not possible. */
static char *domain_to_ascii(const char *domain)
{
	uint8_t *out = NULL;
	char *copy;

	if (idn2_lookup_u8((const uint8_t *)domain, &out, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
		return NULL;
	copy = g_strdup((const char *)out);
	idn2_free(out);
	return copy;
}

char *address_server(const char *host)
{
	char *ascii, *plain;
	size_t len;

	if (g_hostname_is_ip_address(host))
		return g_strdup(host);
	ascii = g_str_is_ascii(host) ? g_strdup(host) : g_utf8_validate(host, -1, NULL) ? domain_to_ascii(host) : NULL;
	if (ascii == NULL)
		return NULL;
	plain = g_strdelimit(g_strdup(ascii), "_", 'x');
	len = strlen(plain);
	if (len > 1 && plain[len - 1] == '.')
		plain[len - 1] = '\0';
	if (!address_host_ok(plain))
		g_clear_pointer(&ascii, g_free);
	g_free(plain);
	return ascii;
}

int address_is_loopback(const char *host)
{
	return g_ascii_strcasecmp(host, "localhost") == 0 || g_str_has_suffix(host, ".localhost") ||
	       strcmp(host, "::1") == 0 || strcmp(host, "[::1]") == 0 ||
	       (strncmp(host, "127.", 4) == 0 && g_hostname_is_ip_address(host));
}

/* The checks that need only the bytes. */
static const char *check_bytes(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 0x20 || c == 0x7f)
			return "it has a line break or another control character in it";
	}
	if (memchr(text, ' ', len) != NULL)
		return "it has a space in it";
	return strpbrk(text, "<>") != NULL ? "it must be a bare address without < and >" : NULL;
}

const char *address_parse(const char *text, char **ascii)
{
	size_t len = strlen(text);
	const char *at, *reason;
	char *domain, *whole;

	*ascii = NULL;
	if (len == 0)
		return "it is empty";
	if ((reason = check_bytes(text, len)) != NULL)
		return reason;
	if (!g_utf8_validate(text, (gssize)len, NULL))
		return "it is not valid UTF-8";
	if ((at = strchr(text, '@')) == NULL)
		return "it has no @";
	if (strchr(at + 1, '@') != NULL)
		return "it has more than one @";
	if ((reason = check_local(text, (size_t)(at - text))) != NULL)
		return reason;
	if (at[1] == '\0')
		return "there is nothing after the @";
	if (at[1] == '[')
		return "an IP address after the @ is not supported";

	domain = g_str_is_ascii(at + 1) ? g_strdup(at + 1) : domain_to_ascii(at + 1);
	if (domain == NULL || !address_host_ok(domain)) {
		g_free(domain);
		return "the part after the @ is not a domain name";
	}
	whole = g_strdup_printf("%.*s@%s", (int)(at - text), text, domain);
	g_free(domain);
	if (strlen(whole) > ADDRESS_MAX) {
		g_free(whole);
		return "it is longer than 254 octets";
	}
	*ascii = whole;
	return NULL;
}

/* Takes the quotes off a name: "Ivanov \\"I.\\" Ivan". false when they do not match, or when a name without quotes has
 * what belongs to addresses. */
static int unquote(char *name)
{
	size_t len = strlen(name);
	char *out = name;

	if (name[0] != '"')
		return strpbrk(name, "<>@\"") == NULL;
	if (len < 2 || name[len - 1] != '"')
		return 0;
	name[len - 1] = '\0';
	for (const char *p = name + 1; *p != '\0'; p++) {
		if (*p == '"' || (*p == '\\' && *++p == '\0'))
			return 0;
		*out++ = *p;
	}
	*out = '\0';
	return 1;
}

const char *address_mailbox(const char *text, char **name, char **ascii)
{
	const char *reason = address_header_check(text);
	char *copy, *open, *bare;

	*name = *ascii = NULL;
	if (reason != NULL)
		return reason;
	copy = g_strstrip(g_strdup(text)); /* people copy addresses with a blank behind them */
	open = strrchr(copy, '<');
	if (open != NULL && g_str_has_suffix(copy, ">")) {
		*name = g_strstrip(g_strndup(copy, (gsize)(open - copy)));
		bare = g_strndup(open + 1, strlen(open + 1) - 1);
		reason = unquote(*name) ? address_parse(bare, ascii) : "it must be one address, or Name <address>";
		g_free(bare);
		if (reason != NULL || **name == '\0')
			g_clear_pointer(name, g_free);
	} else {
		reason = address_parse(copy, ascii);
	}
	g_free(copy);
	return reason;
}

const char *address_header_check(const char *text)
{
	size_t len = strlen(text);

	if (len > HEADER_TEXT_MAX)
		return "it is longer than 2000 octets";
	if (!g_utf8_validate(text, (gssize)len, NULL))
		return "it is not valid UTF-8";
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		/* 0xC2 0x80-0x9F are the C1 controls, U+0085 (next line) among them. */
		if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)text[i + 1] < 0xa0))
			return "it has a line break or another control character in it";
	}
	/* U+2028 and U+2029 break lines for some readers. */
	if (strstr(text, "\xe2\x80\xa8") != NULL || strstr(text, "\xe2\x80\xa9") != NULL)
		return "it has a line break or another control character in it";
	return NULL;
}
