/* mailfloor.c: the least that a mail from a queue can cost: LISTEN, a claim, one pipelined SMTP conversation over a
 * kept connection, an archive; no template, no ledger, one mail at a time.
 *
 *   mailfloor CONNINFO QUEUE PORT COUNT    prints "ready", and ends after COUNT mails; the mail is standard input
 */
#include "config.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAIL_MAX 65536

static char mail[MAIL_MAX];
static size_t mail_len;

/* Says why, and ends. */
static void die(const char *why)
{
	fprintf(stderr, "mailfloor: %s\n", why);
	exit(1);
}

/* The statement must have worked. */
static PGresult *must(PGconn *c, PGresult *res)
{
	ExecStatusType st = PQresultStatus(res);

	if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK)
		die(PQerrorMessage(c));
	return res;
}

/* Runs a statement, or prepares it under a name. */
__attribute__((format(printf, 3, 4))) static void run(PGconn *c, const char *name, const char *fmt, ...)
{
	char sql[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sql, sizeof(sql), fmt, ap);
	va_end(ap);
	PQclear(must(c, name ? PQprepare(c, name, sql, 0, NULL) : PQexec(c, sql)));
}

/* Reads until so many answers have come. */
static void answers(int fd, int wanted)
{
	char in[1024];
	ssize_t n;

	while (wanted > 0 && (n = read(fd, in, sizeof(in))) > 0)
		for (ssize_t i = 0; i < n; i++)
			wanted -= in[i] == '\n';
	if (wanted > 0)
		die("the SMTP server went away");
}

/* Writes it all. */
static void say(int fd, const char *text, size_t len)
{
	if (write(fd, text, len) != (ssize_t)len)
		die("cannot write to the SMTP server");
}

/* A connection that has said EHLO. */
static int dial(const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)atoi(port)) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
		die("cannot connect to the SMTP server");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	answers(fd, 1);
	say(fd, "EHLO floor.example.test\r\n", 25);
	answers(fd, 4);
	return fd;
}

/* One mail. */
static void send_mail(int fd, const char *to)
{
	char head[512];
	int len = snprintf(head, sizeof(head), "MAIL FROM:<noreply@example.test>\r\nRCPT TO:<%s>\r\nDATA\r\n", to);

	say(fd, head, (size_t)len);
	answers(fd, 3);
	say(fd, mail, mail_len);
	answers(fd, 1);
}

/* Waits for a notification. */
static void wait_notify(PGconn *c)
{
	struct pollfd p = { .fd = PQsocket(c), .events = POLLIN };
	PGnotify *n;

	while (!(n = PQnotifies(c))) {
		poll(&p, 1, -1);
		if (!PQconsumeInput(c))
			die(PQerrorMessage(c));
	}
	PQfreemem(n);
}

int main(int argc, char **argv)
{
	PGconn *c;
	int fd;

	if (argc != 5)
		die("usage: mailfloor CONNINFO QUEUE PORT COUNT");
	mail_len = fread(mail, 1, sizeof(mail) - 5, stdin);
	memcpy(mail + mail_len, "\r\n.\r\n", 5);
	mail_len += 5;
	c = PQconnectdb(argv[1]);
	run(c, "claim",
		"UPDATE pgmq.q_%1$s SET vt = clock_timestamp() + interval '30 s', read_ct = read_ct + 1 WHERE msg_id = "
		"ANY (ARRAY(SELECT msg_id FROM pgmq.q_%1$s WHERE vt <= clock_timestamp() ORDER BY vt LIMIT 100"
		" FOR UPDATE SKIP LOCKED)) RETURNING msg_id, message->>'to'",
		argv[2]);
	run(c, "archive",
		"WITH gone AS (DELETE FROM pgmq.q_%1$s WHERE msg_id = $1::bigint RETURNING *) INSERT INTO pgmq.a_%1$s"
		" (msg_id, read_ct, enqueued_at, vt, message)"
		" SELECT msg_id, read_ct, enqueued_at, vt, message FROM gone",
		argv[2]);
	run(c, NULL, "LISTEN %s", argv[2]);
	fd = dial(argv[3]);
	puts("ready");
	fflush(stdout);
	for (int left = atoi(argv[4]); left > 0;) {
		wait_notify(c);
		PGresult *res = must(c, PQexecPrepared(c, "claim", 0, NULL, NULL, NULL, 0));

		for (int i = 0; i < PQntuples(res); i++, left--) {
			const char *id = PQgetvalue(res, i, 0);

			send_mail(fd, PQgetvalue(res, i, 1));
			PQclear(must(c, PQexecPrepared(c, "archive", 1, &id, NULL, NULL, 0)));
		}
		PQclear(res);
	}
	close(fd);
	PQfinish(c);
	return 0;
}
