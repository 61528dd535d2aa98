/* smtp.c: the pool: which connection takes which mail, when one is opened, and when one is closed. */
#include "config.h"

#include "smtp.h"

#include "conn.h"
#include "pgmqd-plugin.h"

/* After a failed connection, as long as others work: no new one for so long. Servers that limit connections say so
 * by refusing them, and the ones that are there go on. */
#define HOLD_MIN_MS 1000
#define HOLD_MAX_MS 60000

struct smtp_pool {
	const struct smtp_settings *settings;
	struct pgmqd_worker *worker;
	struct event_base *base;
	GQueue waiting;     /* of mails */
	GQueue connections; /* all of them */
	struct event *kick; /* one look at both queues, soon */
	struct event *hold; /* pending: no new connections yet */
	int64_t hold_ms;
	bool proven; /* the last connection that was tried came about; if not, one at a time is enough to try */
};

struct event_base *smtp_pool_base(const struct smtp_pool *pool)
{
	return pool->base;
}

struct pgmqd_worker *smtp_pool_worker(const struct smtp_pool *pool)
{
	return pool->worker;
}

const struct smtp_settings *smtp_pool_settings(const struct smtp_pool *pool)
{
	return pool->settings;
}

void smtp_pool_kick(struct smtp_pool *pool)
{
	event_active(pool->kick, EV_TIMEOUT, 1);
}

/* Whether one more connection may carry bulk: the last one is for the others. */
static bool bulk_may(const struct smtp_pool *pool)
{
	unsigned carrying = 0;

	for (const GList *l = pool->connections.head; l != NULL; l = l->next) {
		const struct smtp_conn *c = l->data;

		carrying += c->mail != NULL && c->mail->bulk;
	}
	return carrying == 0 || carrying + 1 < pool->settings->connections;
}

/* The first waiting mail that a connection may take. */
static struct smtp_mail *next_mail(struct smtp_pool *pool, const struct smtp_conn *c)
{
	for (GList *l = pool->waiting.head; l != NULL; l = l->next) {
		struct smtp_mail *mail = l->data;

		if ((!mail->fresh_only || c->mails == 0) && (!mail->bulk || bulk_may(pool)))
			return mail;
	}
	return NULL;
}

/* Whether it will be ready soon without anybody's doing: connecting, or reading what is left of a refused mail. */
static bool is_coming(const struct smtp_conn *c)
{
	return c->mail == NULL && c->state != CONN_READY && c->state != CONN_QUIT && c->state != CONN_DEAD;
}

/* Frees what is dead and gives every ready connection a mail, or its farewell when it has carried enough. Returns how
 * many connections there are; *coming of them will take a mail without being asked. */
static unsigned serve(struct smtp_pool *pool, unsigned *coming)
{
	unsigned alive = 0;
	GList *next;

	*coming = 0;
	for (GList *l = pool->connections.head; l != NULL; l = next) {
		struct smtp_conn *c = l->data;
		struct smtp_mail *mail;

		next = l->next;
		if (c->state == CONN_READY) {
			if (c->mails >= pool->settings->mails_per_connection) {
				talk_quit(c);
			} else if ((mail = next_mail(pool, c)) != NULL) {
				g_queue_unlink(&pool->waiting, &mail->link);
				talk_start(c, mail);
			}
		}
		if (c->state == CONN_DEAD) {
			g_queue_unlink(&pool->connections, &c->link);
			conn_free(c);
			continue;
		}
		*coming += is_coming(c);
		/* One that says good-bye (2 s at most) still counts with the server. */
		alive++;
	}
	return alive;
}

/* One look at everything. All changes between mails and connections that are not answers happen here. */
static void on_kick(evutil_socket_t fd, short what, void *arg)
{
	struct smtp_pool *pool = arg;
	unsigned coming, alive = serve(pool, &coming);

	(void)fd;
	(void)what;
	while (pool->waiting.length > coming && alive < pool->settings->connections && (pool->proven || coming == 0) &&
		!event_pending(pool->hold, EV_TIMEOUT, NULL)) {
		struct smtp_conn *c = conn_open(pool);

		if (c == NULL) {
			smtp_pool_connect_failed(pool, NULL, MAIL_CONFIG, "libcurl cannot speak SMTP to this server");
			return;
		}
		g_queue_push_tail_link(&pool->connections, &c->link);
		coming++;
		alive++;
	}
}

/* The hold is over. */
static void on_hold(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	smtp_pool_kick(arg);
}

/* Whether another connection works, or may soon; one that is only being made will run into the same wrong setting. */
static bool any_hope(const struct smtp_pool *pool, const struct smtp_conn *but, enum mail_class is)
{
	for (const GList *l = pool->connections.head; l != NULL; l = l->next) {
		const struct smtp_conn *c = l->data;

		if (c != but && c->state != CONN_DEAD && c->state != CONN_QUIT &&
			(c->state != CONN_CONNECTING || is != MAIL_CONFIG))
			return true;
	}
	return false;
}

void smtp_pool_connected(struct smtp_pool *pool)
{
	pool->hold_ms = 0;
	pool->proven = true;
	smtp_pool_kick(pool);
}

void smtp_pool_connect_failed(struct smtp_pool *pool, struct smtp_conn *c, enum mail_class is, const char *text)
{
	struct mail_result result;
	struct smtp_mail *mail;
	unsigned n = pool->waiting.length;

	pool->proven = false;
	/* The mails that wait have a connection to hope for: theirs is not the failure, only the waiting is longer. */
	if (any_hope(pool, c, is)) {
		struct timeval tv;

		pool->hold_ms = pool->hold_ms == 0 ? HOLD_MIN_MS : MIN(pool->hold_ms * 2, HOLD_MAX_MS);
		tv.tv_sec = (time_t)(pool->hold_ms / 1000);
		tv.tv_usec = (suseconds_t)(pool->hold_ms % 1000 * 1000);
		event_add(pool->hold, &tv);
		pgmqd_log(is == MAIL_CONFIG ? PGMQD_WARN : PGMQD_DEBUG,
			"a further connection failed, going on with the others: %s", text);
		return;
	}
	event_del(pool->hold);
	pool->hold_ms = 0;
	/* Counted before: a mail that is given back may bring the next one with it. */
	while (n-- > 0 && (mail = g_queue_peek_head(&pool->waiting)) != NULL) {
		g_queue_unlink(&pool->waiting, &mail->link);
		result = (struct mail_result){ .is = is, .text = g_strdup(text), .unreached = true };
		smtp_pool_end(mail, &result);
	}
}

void smtp_pool_end(struct smtp_mail *mail, struct mail_result *result)
{
	mail->conn = NULL;
	mail->done(mail->arg, result);
	g_free(result->text);
	g_free(result->id);
}

void smtp_pool_finish(struct smtp_mail *mail, enum mail_class is, char *text)
{
	struct mail_result result = { .is = is, .text = text };

	smtp_pool_end(mail, &result);
}

void smtp_pool_again(struct smtp_pool *pool, struct smtp_mail *mail)
{
	mail->conn = NULL;
	mail->fresh_only = true;
	g_queue_push_head_link(&pool->waiting, &mail->link);
	smtp_pool_kick(pool);
}

void smtp_send(struct smtp_pool *pool, struct smtp_mail *mail)
{
	GList *before;

	mail->conn = NULL;
	mail->fresh_only = false;
	mail->link.data = mail;
	mail->link.next = mail->link.prev = NULL;
	for (before = mail->bulk ? NULL : pool->waiting.head; before != NULL; before = before->next)
		if (((struct smtp_mail *)before->data)->bulk)
			break;
	g_queue_insert_before_link(&pool->waiting, before, &mail->link);
	smtp_pool_kick(pool);
}

void smtp_release(struct smtp_mail *mail)
{
	mail->held = false;
	if (mail->conn != NULL && mail->conn->state == CONN_HELD)
		talk_release(mail->conn);
}

bool smtp_may_have_arrived(const struct smtp_mail *mail)
{
	const struct smtp_conn *c = mail->conn;

	return c != NULL && (c->state == CONN_DOT || (c->state == CONN_BODY && c->body_sent + c->chunk >= mail->len));
}

void smtp_cancel(struct smtp_pool *pool, struct smtp_mail *mail)
{
	if (mail->conn != NULL)
		conn_drop(mail->conn);
	else
		g_queue_unlink(&pool->waiting, &mail->link);
	mail->conn = NULL;
}

struct smtp_pool *smtp_pool_new(const struct smtp_settings *settings, struct pgmqd_worker *worker)
{
	struct smtp_pool *pool = g_new0(struct smtp_pool, 1);

	pool->settings = settings;
	pool->worker = worker;
	pool->base = pgmqd_event_base(worker);
	g_queue_init(&pool->waiting);
	g_queue_init(&pool->connections);
	pool->kick = event_new(pool->base, -1, 0, on_kick, pool);
	pool->hold = event_new(pool->base, -1, 0, on_hold, pool);
	if (pool->kick == NULL || pool->hold == NULL)
		g_error("event_new: out of memory");
	return pool;
}

void smtp_pool_free(struct smtp_pool *pool)
{
	GList *l;

	while ((l = g_queue_pop_head_link(&pool->connections)) != NULL) {
		conn_farewell(l->data);
		conn_drop(l->data);
		conn_free(l->data);
	}
	event_free(pool->kick);
	event_free(pool->hold);
	g_free(pool);
}

char *smtp_try(const struct smtp_settings *settings, const char **remedy)
{
	struct smtp_pool pool = { .settings = settings };

	return conn_try(&pool, remedy);
}
