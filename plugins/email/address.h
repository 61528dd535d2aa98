/* address.h: what may stand in an envelope or in a header. Nothing that comes out of here can end a line. */
#ifndef EMAIL_ADDRESS_H
#define EMAIL_ADDRESS_H

#include <stddef.h>

#define ADDRESS_MAX 254      /* octets of a whole address (RFC 5321, erratum 1690) */
#define ADDRESS_LOCAL_MAX 64 /* octets before the @ */
#define HEADER_TEXT_MAX 2000 /* octets of a subject or a name, before encoding */

/* Checks one bare address, local@domain. NULL and *ascii (g_malloc'd, the domain in its A-label form) when it can be
 * used, else what is wrong with it, fit for "to: REASON"; the reason never repeats the address. */
const char *address_parse(const char *text, char **ascii);

/* The same for `address`, or `Name <address>`; *name is NULL without one. */
const char *address_mailbox(const char *text, char **name, char **ascii);

/* Checks an ASCII host name: letters, digits and hyphens in labels of up to 63. */
int address_host_ok(const char *host);

/* A server's name as its user writes it: an IP address, or a name that may end in a dot, have underscores, or letters
 * outside ASCII. NULL, or its ASCII form (g_malloc'd). */
char *address_server(const char *host);

/* Whether the host's name can only be this machine. */
int address_is_loopback(const char *host);

/* Checks text for a header (subject, display name): valid UTF-8 without control characters, up to HEADER_TEXT_MAX.
 * NULL, or what is wrong with it. */
const char *address_header_check(const char *text);

#endif
