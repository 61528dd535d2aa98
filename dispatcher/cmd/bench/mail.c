/* mail.c: `pgmqd bench mail`: how fast mails leave, against one connection that libcurl sends them over one after the
 * other. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/bench/bench_private.h"
#include "cmd/bench/child.h"
#include "cmd/bench/report.h"
#include "cmd/bench/scratch.h"

#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char mail_text[] = "Subject: pgmqd bench\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; "
				"charset=utf-8\r\n\r\nOne mail of a benchmark. It says nothing.\r\n";

/* The value of an option of the queue: from the command line, else from the environment, else NULL. */
static const char *value_of(const struct bench *b, const char *key, const char *env)
{
	const char *value = bench_option(b, key);

	return value || !env ? value : getenv(env);
}

/* Splits --smtp into host (malloc'd) and port; NULL when it is not HOST:PORT. */
static char *smtp_host(const struct bench *b, const char **port)
{
	const char *colon = strrchr(b->smtp, ':');

	if (!colon || colon == b->smtp || !colon[1] || colon[1 + strspn(colon + 1, "0123456789")])
		return NULL;
	*port = colon + 1;
	return xstrndup(b->smtp, (size_t)(colon - b->smtp));
}

/* Hands the mail's text to libcurl; the read position is `arg`. */
static size_t read_mail(char *to, size_t size, size_t n, void *arg)
{
	size_t *at = arg, left = sizeof(mail_text) - 1 - *at, len = size * n < left ? size * n : left;

	memcpy(to, mail_text + *at, len);
	*at += len;
	return len;
}

/* The sender's bare address. */
static const char *sender(const struct bench *b)
{
	const char *from = value_of(b, "from", "SMTP_FROM"), *bracket = from ? strchr(from, '<') : NULL;

	return bracket ? bracket : from ? from : "bench@example.test";
}

/* Makes a curl handle for the server. */
static CURL *mail_handle(const struct bench *b, struct curl_slist *to, size_t *at)
{
	const char *tls = value_of(b, "smtp_tls", NULL), *port = "", *ca = value_of(b, "smtp_ca_file", NULL);
	char *host = smtp_host(b, &port);
	bool implicit = tls && strcmp(tls, "auto") != 0 ? strcmp(tls, "tls") == 0 : strcmp(port, "465") == 0;
	char *url = xasprintf("%s://%s:%s/", implicit ? "smtps" : "smtp", host, port);
	CURL *c = curl_easy_init();

	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_MAIL_FROM, sender(b));
	curl_easy_setopt(c, CURLOPT_MAIL_RCPT, to);
	curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(c, CURLOPT_READFUNCTION, read_mail);
	curl_easy_setopt(c, CURLOPT_READDATA, at);
	if (!implicit && (!tls || strcmp(tls, "none") != 0))
		curl_easy_setopt(c, CURLOPT_USE_SSL, (long)CURLUSESSL_ALL);
	if (ca)
		curl_easy_setopt(c, CURLOPT_CAINFO, ca);
	if (value_of(b, "smtp_user", "SMTP_USER"))
		curl_easy_setopt(c, CURLOPT_USERNAME, value_of(b, "smtp_user", "SMTP_USER"));
	if (value_of(b, "smtp_pass", "SMTP_PASS"))
		curl_easy_setopt(c, CURLOPT_PASSWORD, value_of(b, "smtp_pass", "SMTP_PASS"));
	free(host);
	free(url);
	return c;
}

/* The floor: claims, sends and archives one after the other over one connection. */
static int floor_main(struct bench *b, PGconn *conn, int out, const char *queue)
{
	char *claim = bench_claim_sql(queue), *done = bench_done_sql(b, queue);
	struct curl_slist *to = curl_slist_append(NULL, b->to);
	size_t at = 0;
	CURL *c;
	int status = 0;

	(void)out;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	c = mail_handle(b, to, &at);
	PQclear(bench_must(conn, PQprepare(conn, "done", done, 1, NULL), "done"));
	for (int rows = 1; rows && !status;) {
		PGresult *res = bench_must(conn, PQexec(conn, claim), "claim");

		rows = PQntuples(res);
		for (int i = 0; i < rows && !status; i++) {
			const char *id = PQgetvalue(res, i, 0);
			CURLcode code;

			at = 0;
			if ((code = curl_easy_perform(c)) != CURLE_OK) {
				fprintf(stderr, "pgmqd bench: sending a mail without pgmqd: %s\n",
					curl_easy_strerror(code));
				status = 1;
			} else {
				PQclear(bench_must(conn, PQexecPrepared(conn, "done", 1, &id, NULL, NULL, 0), "done"));
			}
		}
		PQclear(res);
	}
	curl_easy_cleanup(c);
	curl_slist_free_all(to);
	free(claim);
	free(done);
	return status;
}

/* Starts pgmqd with the email plugin. */
static bool daemon_start(struct bench *b, const char *queue)
{
	const char *port = ""; /* --smtp was checked before */
	char *host = smtp_host(b, &port);
	char *section = xasprintf("plugin = email\nsmtp_host = %s\nsmtp_port = %s\n%s", host, port,
		value_of(b, "from", "SMTP_FROM") ? "" : "from = bench@example.test\n");
	bool ok = bench_daemon_start(b, queue, section);

	free(host);
	free(section);
	return ok;
}

/* One turn of one contender, on a queue that is full before it begins; the time is from the first mail that is done to
 * the last, so that neither a start nor the first connection counts. */
static bool one_round(struct bench *b, struct bench_row *row, const char *queue, const char *body, bool floor)
{
	double first, last, began, took, dead;

	if (!bench_empty(b, queue) || !bench_fill(b, queue, b->messages, 0, body))
		return false;
	first = bench_number(b, "SELECT min(msg_id) FROM pgmq.q_%s", queue);
	last = bench_number(b, "SELECT max(msg_id) FROM pgmq.q_%s", queue);
	if (isnan(first) || isnan(last) ||
		!(floor ? bench_fork(b, floor_main, queue, STDERR_FILENO) : daemon_start(b, queue)))
		return false;
	began = bench_gone(b, queue, (int64_t)first);
	took = isnan(began) ? NAN : bench_drained(b, queue, (int64_t)last, began);
	if (isnan(took) || !(floor ? bench_reap(b) : bench_daemon_stop(b)))
		return false;
	dead = bench_number(b, "SELECT count(*) FROM pgmq.q_%s_dlq", queue);
	if (dead != 0)
		return !isnan(dead) && !cmd_db_fail(&b->db, xasprintf("%.0f mails were refused for good", dead));
	if (!bench_deletes(b)) /* to the microsecond, which looking cannot do */
		took = bench_number(
			b, "SELECT extract(epoch FROM max(archived_at) - min(archived_at)) FROM pgmq.a_%s", queue);
	bench_add(row, (double)(b->messages - 1) / (took > 1e-6 ? took : 1e-6), b->messages);
	return true;
}

/* The benchmark. */
static bool run(struct bench *b)
{
	struct bench_row rows[] = { { .name = "one connection, one by one" }, { .name = "pgmqd" } };
	const char *queues[2], *port;
	char *host = smtp_host(b, &port), *body;
	bool ok = true;

	if (!host)
		return !cmd_usage("bench", "--smtp takes HOST:PORT");
	free(host);
	body = xasprintf("{\"to\": \"%s\", \"subject\": \"pgmqd bench\", \"text\": \"One mail of a benchmark. It says "
			 "nothing.\"}",
		b->to);
	if (strpbrk(b->to, "\"'\\$") || b->messages < 2) {
		cmd_usage("bench", "--to takes a bare address, and --messages 2 at the least");
		ok = false;
	}
	queues[0] = ok ? bench_queue(b, "floor", false) : NULL;
	queues[1] = queues[0] ? bench_queue(b, "queue", true) : NULL;
	ok = queues[1] != NULL;
	for (int64_t i = 0; ok && i < b->rounds; i++)
		for (size_t k = 0; ok && k < 2; k++)
			ok = one_round(b, &rows[k], queues[k], body, k == 0);
	if (ok)
		bench_print_rates(b, "mails/s", rows, 2, 0);
	free(rows[0].values);
	free(rows[1].values);
	free(body);
	return ok;
}

const struct bench_kind bench_mail = { .name = "mail", .messages = 500, .rounds = 3, .run = run };
