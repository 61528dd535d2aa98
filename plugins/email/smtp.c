/* smtp.c: the pool: which connection takes which mail, when one is opened, and when one is closed. */
#include "config.h"

#include "smtp.h"

#include "login.h"
#include "pgmqd-plugin.h"
#include "token.h"

#include <string.h>

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
	struct login login;
	bool asking; /* for a token */
};

/* Has the pool look at its connections and mails soon. */
static void kick(void *arg)
{
	struct smtp_pool *pool = arg;

	event_active(pool->kick, EV_TIMEOUT, 1);
}

/* Whether one more connection may carry bulk: the last one is for the others. */
static bool bulk_may(const struct smtp_pool *pool)
{
	unsigned carrying = 0;

	for (const GList *l = pool->connections.head; l != NULL; l = l->next) {
		const struct talk *t = l->data;

		carrying += t->mail != NULL && t->mail->bulk;
	}
	return carrying == 0 || carrying + 1 < pool->settings->connections;
}

/* The first waiting mail that a connection may take. */
static struct smtp_mail *next_mail(struct smtp_pool *pool, const struct talk *t)
{
	for (GList *l = pool->waiting.head; l != NULL; l = l->next) {
		struct smtp_mail *mail = l->data;

		if ((!mail->fresh_only || t->mails == 0) && (!mail->bulk || bulk_may(pool)))
			return mail;
	}
	return NULL;
}

/* Whether it will be ready soon without anybody's doing: connecting, or reading what is left of a refused mail. */
static bool is_coming(const struct talk *t)
{
	return t->mail == NULL && t->state != TALK_READY && t->state != TALK_QUIT && t->state != TALK_DEAD;
}

/* Frees what is dead and gives every ready connection a mail, or its farewell when it has carried enough. Returns how
 * many connections there are; *coming of them will take a mail without being asked. */
static unsigned serve(struct smtp_pool *pool, unsigned *coming)
{
	unsigned alive = 0;
	GList *next;

	*coming = 0;
	for (GList *l = pool->connections.head; l != NULL; l = next) {
		struct talk *t = l->data;
		struct smtp_mail *mail;

		next = l->next;
		if (t->state == TALK_READY) {
			if (t->mails >= pool->settings->mails_per_connection) {
				talk_quit(t);
			} else if ((mail = next_mail(pool, t)) != NULL) {
				g_queue_unlink(&pool->waiting, &mail->link);
				talk_start(t, mail);
			}
		}
		if (t->state == TALK_DEAD) {
			g_queue_unlink(&pool->connections, &t->link);
			talk_free(t);
			continue;
		}
		*coming += is_coming(t);
		/* One that says good-bye (2 s at most) still counts with the server. */
		alive++;
	}
	return alive;
}

/* Whether another connection works, or may soon; one that is only being made will run into the same wrong setting. */
static bool any_hope(const struct smtp_pool *pool, const struct talk *but, enum mail_class is)
{
	for (const GList *l = pool->connections.head; l != NULL; l = l->next) {
		const struct talk *t = l->data;

		if (t != but && t->state != TALK_DEAD && t->state != TALK_QUIT &&
			(t->state != TALK_CONNECTING || is != MAIL_CONFIG))
			return true;
	}
	return false;
}

/* The server does not take the mails that wait: they end, unless another connection gives them hope. */
static void failed(void *arg, struct talk *t, enum mail_class is, const char *text)
{
	struct smtp_pool *pool = arg;
	struct mail_result result;
	struct smtp_mail *mail;
	unsigned n = pool->waiting.length;

	pool->proven = false;
	if (t != NULL && login_next(&pool->login, t->conn)) {
		pgmqd_log(PGMQD_DEBUG, "%s; trying another mechanism", text);
		kick(pool);
		return;
	}
	pool->login.refused = t != NULL && t->conn->login_refused;
	login_settled(&pool->login);
	/* The mails that wait have a connection to hope for: theirs is not the failure, only the waiting is longer. */
	if (any_hope(pool, t, is)) {
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
		result = (struct mail_result){ .is = is, .text = g_strdup(text) };
		talk_end(mail, &result);
	}
}

/* A connection has been made. */
static void connected(void *arg)
{
	struct smtp_pool *pool = arg;

	pool->hold_ms = 0;
	pool->proven = true;
	pool->login.refused = false;
	login_settled(&pool->login);
	kick(pool);
}

/* A mail goes back to the head of the queue, for a new connection. */
static void again(void *arg, struct smtp_mail *mail)
{
	struct smtp_pool *pool = arg;

	mail->talk = NULL;
	mail->fresh_only = true;
	g_queue_push_head_link(&pool->waiting, &mail->link);
	kick(pool);
}

/* Opens one connection. False: libcurl does not do it. */
static bool open_one(struct smtp_pool *pool, const char *token)
{
	static const struct talk_events events = { kick, connected, failed, again };
	struct talk *t = talk_open(pool->settings, pool->worker, login_now(&pool->login), token, &events, pool);

	if (t == NULL) {
		failed(pool, NULL, MAIL_CONFIG, "libcurl cannot speak SMTP to this server");
		return false;
	}
	g_queue_push_tail_link(&pool->connections, &t->link);
	return true;
}

/* The token is there, or it cannot be had. */
static void on_token(void *arg, const char *token, const char *why)
{
	struct smtp_pool *pool = arg;

	pool->asking = false;
	if (token != NULL)
		open_one(pool, token);
	else
		failed(pool, NULL, MAIL_CONFIG, why);
}

/* Whether a connection may be opened beside `alive` ones, of which `coming` will take a mail without being asked. */
static bool may_open(const struct smtp_pool *pool, unsigned alive, unsigned coming)
{
	return pool->waiting.length > coming && alive < pool->settings->connections && !pool->asking &&
	       (pool->proven || coming == 0) && !event_pending(pool->hold, EV_TIMEOUT, NULL);
}

/* One look at everything. All changes between mails and connections that are not answers happen here. */
static void on_kick(evutil_socket_t fd, short what, void *arg)
{
	struct smtp_pool *pool = arg;
	unsigned coming, alive = serve(pool, &coming);

	(void)fd;
	(void)what;
	for (; may_open(pool, alive, coming); coming++, alive++) {
		if (pool->login.token != NULL && pool->settings->user != NULL) {
			pool->asking = true;
			token_get(pool->login.token, pool->worker, pool->login.refused, on_token, pool);
			return;
		}
		if (!open_one(pool, NULL))
			return;
	}
}

/* The hold is over. */
static void on_hold(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	kick(arg);
}

void smtp_send(struct smtp_pool *pool, struct smtp_mail *mail)
{
	GList *before;

	mail->talk = NULL;
	mail->fresh_only = false;
	mail->link.data = mail;
	mail->link.next = mail->link.prev = NULL;
	for (before = mail->bulk ? NULL : pool->waiting.head; before != NULL; before = before->next)
		if (((struct smtp_mail *)before->data)->bulk)
			break;
	g_queue_insert_before_link(&pool->waiting, before, &mail->link);
	kick(pool);
}

void smtp_release(struct smtp_mail *mail)
{
	mail->held = false;
	if (mail->talk != NULL)
		talk_release(mail->talk);
}

bool smtp_may_have_arrived(const struct smtp_mail *mail)
{
	return mail->talk != NULL && talk_may_have_arrived(mail->talk);
}

void smtp_cancel(struct smtp_pool *pool, struct smtp_mail *mail)
{
	if (mail->talk != NULL)
		talk_recall(mail->talk);
	else
		g_queue_unlink(&pool->waiting, &mail->link);
	mail->talk = NULL;
}

struct smtp_pool *smtp_pool_new(const struct smtp_settings *settings, struct token *token, struct pgmqd_worker *worker)
{
	struct smtp_pool *pool = g_new0(struct smtp_pool, 1);

	pool->settings = pool->login.settings = settings;
	pool->login.token = token;
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

	while ((l = g_queue_pop_head_link(&pool->connections)) != NULL)
		talk_free(l->data);
	event_free(pool->kick);
	event_free(pool->hold);
	g_free(pool);
}

char *smtp_try(const struct smtp_settings *settings, struct token *token, const char **remedy)
{
	struct login login = { .settings = settings, .token = token };
	char *text = NULL, *given = NULL;
	struct conn c;

	if (token != NULL && settings->user != NULL && (given = token_wait(token, &text)) == NULL) {
		*remedy = "put a token into smtp_token_file, or have smtp_token_command print one";
		return text;
	}
	do {
		g_free(text);
		text = conn_try(&c, settings, login_now(&login), given, remedy);
	} while (text != NULL && login_next(&login, &c));
	g_free(given);
	return text;
}
