/* peer.c: whose process is at the other end of a connection within this machine. With the daemon away, any user of the
 * machine may listen on its port, and would get the token of each command that asks there. The kernel tells to which
 * user the other end of a connection within the machine belongs. */
#include "config.h"

#include "cmd/peer.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An address as /proc/net/tcp and tcp6 show it: words of 32 bits in the order of this machine, and the port. */
static void peer_hex(const struct sockaddr *sa, bool as_v6, char *text, size_t size)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)sa;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)sa;
	uint32_t words[4] = { 0, 0, htonl(0xffff), 0 };

	if (sa->sa_family == AF_INET6)
		memcpy(words, &v6->sin6_addr, sizeof words);
	else
		words[3] = v4->sin_addr.s_addr;
	if (as_v6)
		snprintf(text, size, "%08" PRIX32 "%08" PRIX32 "%08" PRIX32 "%08" PRIX32 ":%04X", words[0], words[1],
			words[2], words[3], ntohs(sa->sa_family == AF_INET6 ? v6->sin6_port : v4->sin_port));
	else
		snprintf(text, size, "%08" PRIX32 ":%04X", words[3], ntohs(v4->sin_port));
}

/* The user at the other end by one of the two tables; false: it is not there, or not accepted yet. */
static bool peer_in_table(const struct sockaddr *theirs, const struct sockaddr *ours, bool as_v6, uid_t *uid)
{
	FILE *in = fopen(as_v6 ? "/proc/net/tcp6" : "/proc/net/tcp", "re");
	char line[512], from[48], to[48], local[48], remote[48];
	unsigned long owner, inode;
	bool found = false;

	if (in == NULL)
		return false;
	peer_hex(theirs, as_v6, from, sizeof from);
	peer_hex(ours, as_v6, to, sizeof to);
	while (!found && fgets(line, sizeof line, in) != NULL)
		found = sscanf(line, " %*[^:]: %47s %47s %*x %*s %*s %*s %lu %*s %lu", local, remote, &owner, &inode) ==
		                4 &&
		        strcmp(local, from) == 0 && strcmp(remote, to) == 0 && inode != 0;
	fclose(in);
	if (found)
		*uid = (uid_t)owner;
	return found;
}

/* Whether a user is one to whom the token may be shown. */
static bool peer_may_see(uid_t uid)
{
	const struct passwd *pgmqd = getpwnam("pgmqd");

	return uid == 0 || uid == geteuid() || (pgmqd != NULL && uid == pgmqd->pw_uid);
}

bool peer_is_known(int fd)
{
	struct sockaddr_storage ours, theirs;
	socklen_t n = sizeof ours, m = sizeof theirs;
	const struct sockaddr *a = (const struct sockaddr *)(const void *)&theirs,
			      *b = (const struct sockaddr *)(const void *)&ours;
	uid_t uid;

	if (getsockname(fd, (struct sockaddr *)(void *)&ours, &n) == -1 ||
		getpeername(fd, (struct sockaddr *)(void *)&theirs, &m) == -1)
		return false;
	if (!(ours.ss_family == AF_INET && peer_in_table(a, b, false, &uid)) && !peer_in_table(a, b, true, &uid))
		return false;
	return peer_may_see(uid);
}
