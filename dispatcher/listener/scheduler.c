/* scheduler.c: runs the schedules of pgmqd.schedule when they are due.
 *
 * It lives in the listener's process, on a connection of its own: that process is there whatever is configured, and has
 * time. A look reads all rows; each that is due is claimed and run by one statement (pgmqd.run_schedule()), one after
 * the other. The time is the server's, so that dispatchers on several machines agree. pg_cron runs its
 * own jobs while its launcher lives. When two looks in a row find it dead, its jobs are switched off there and run
 * here, until it is back.
 */
#include "config.h"

#include "listener/scheduler.h"

#include "base/clock.h"
#include "base/cron.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/sqltext.h"
#include "base/xalloc.h"
#include "pg/pgconn.h"
#include "pg/sqlstate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_MS 10000 /* at the most: a row may have changed, or pg_cron may have died */
#define LOOK_AGAIN_MS 2000  /* before what concerns pg_cron is believed */
#define NO_TABLE_MS 60000   /* a database without schedules */
#define CLOCK_BACK_S 60     /* a last run that far in the future was written by a wrong clock */
#define COMMAND_TIMEOUT_S 600

/* One row as the last look saw it. */
struct row {
	char *name, *due_text; /* due_text: exactly as the server wrote it */
	struct cron cron;
	char *zone;
	bool good, all;       /* its expression and zone can be read; catch_up = all */
	double due, last_run; /* seconds since 1970; NAN: null */
};

struct scheduler {
	const struct proc_env *env;
	struct pgconn *pg;
	struct event *timer;
	struct row *rows;
	size_t nrows, at; /* at: the one in work */
	double now;       /* the server's, at the look */
	int64_t now_ms;   /* ours, at the same time */
	int dead, alive;  /* looks in a row that said so of pg_cron */
	size_t theirs, taken;
	int64_t again_ms;                      /* when the next look is due */
	char *told;                            /* the newest complaint, said once */
	int64_t run_ms;                        /* when the run under way began */
	struct {                               /* the last run during which the connection was lost */
		char *name, *due_text, *error; /* error: NULL when it is written down */
		char next[40];
		bool again; /* its due time stays */
	} cut;
};

static void scheduler_next(struct scheduler *s);
static void scheduler_ask_security(struct scheduler *s);

/* Frees the rows of a look. */
static void scheduler_clear(struct scheduler *s)
{
	for (size_t i = 0; i < s->nrows; i++) {
		free(s->rows[i].name);
		free(s->rows[i].due_text);
		free(s->rows[i].zone);
	}
	free(s->rows);
	s->rows = NULL;
	s->nrows = s->at = 0;
}

/* Says what is wrong, once. */
static void scheduler_complain(struct scheduler *s, char *text)
{
	if (!s->told || strcmp(s->told, text) != 0)
		log_error("%s", text);
	free(s->told);
	s->told = text;
}

/* The end of a look and all that it brought: until something is due. */
static void scheduler_rest(struct scheduler *s, int64_t ms)
{
	scheduler_clear(s);
	loop_timer(s->timer, ms < 1 ? 1 : ms > LOOK_EVERY_MS && ms != NO_TABLE_MS ? LOOK_EVERY_MS : ms);
}

/* The server's time now. */
static double scheduler_now(const struct scheduler *s)
{
	return s->now + (double)(clock_boottime_ms() - s->now_ms) / 1000;
}

/* The time that follows `after`, as text for the server; "" when there is none. */
static void next_text(const struct row *r, double after, char *buf, size_t size, double *next)
{
	int64_t due = cron_next(&r->cron, r->zone, (int64_t)after);

	*next = due == -1 ? NAN : (double)due;
	if (due == -1)
		snprintf(buf, size, "infinity");
	else
		snprintf(buf, size, "epoch %lld", (long long)due);
}

/* Forgets the run that was cut. */
static void scheduler_forget_cut(struct scheduler *s)
{
	free(s->cut.name);
	free(s->cut.due_text);
	free(s->cut.error);
	memset(&s->cut, 0, sizeof(s->cut));
}

/* The connection is lost in the middle of a run: what it did is rolled back, unless its commit was under way. */
static void scheduler_cut(struct scheduler *s, const struct row *row, const char *error)
{
	long long ms = clock_boottime_ms() - s->run_ms;
	double due;

	stats_add(s->env->slot, STAT_SCHEDULED, 1);
	stats_add(s->env->slot, STAT_SCHEDULE_FAILED, 1);
	log_warn("schedule %s: failed: cut off after %lld ms: %s", row->name, ms, error);
	s->cut.again = !s->cut.name || strcmp(s->cut.name, row->name) != 0 ||
	               strcmp(s->cut.due_text, row->due_text) != 0;
	if (s->cut.again) {
		scheduler_forget_cut(s);
		s->cut.again = true;
		s->cut.name = xstrdup(row->name);
		s->cut.due_text = xstrdup(row->due_text);
	}
	free(s->cut.error);
	s->cut.error = xasprintf("cut off after %lld ms: %s", ms, error);
	next_text(row, s->now, s->cut.next, sizeof(s->cut.next), &due);
}

/* Whether a run that was cut could be written down. */
static void scheduler_cut_recorded(void *arg, const struct pgresult *r)
{
	(void)arg;
	if (r->error && *r->sqlstate)
		log_warn("a run that was cut off cannot be written down: %s", r->error);
}

/* Connected again: writes down that a run was cut. The first time it is due as before, and so runs again; the second
 * time the schedule goes on with its next time. The server answers "taken" when the run was committed, or goes on yet.
 */
static void scheduler_record_cut(struct scheduler *s)
{
	const char *params[] = { s->cut.name, s->cut.due_text, s->cut.again ? NULL : s->cut.next, s->cut.error };

	if (!s->cut.error)
		return;
	pgconn_query(s->pg, NULL,
		"SELECT pgmqd.run_schedule($1, $2::timestamptz, CASE WHEN $3::text IS NULL THEN $2::timestamptz"
		" WHEN $3 LIKE 'epoch %' THEN to_timestamp(substr($3, 7)::float8) ELSE 'infinity' END,"
		" clock_timestamp(), $4)",
		4, params, scheduler_cut_recorded, NULL);
	free(s->cut.error);
	s->cut.error = NULL;
	if (!s->cut.again)
		scheduler_forget_cut(s);
}

/* A run has ended. */
static void scheduler_ran(void *arg, const struct pgresult *r)
{
	struct scheduler *s = arg;
	struct row *row = &s->rows[s->at];
	const char *status = r->error ? "failed" : PQgetvalue(r->res, 0, 0);
	struct log_field extra[] = { LOG_STR("schedule", row->name), LOG_STR("status", status),
		LOG_MS("late_ms", (s->now - row->due) * 1000), LOG_INT("run_ms", clock_boottime_ms() - s->run_ms),
		LOG_END };

	if (r->error && !*r->sqlstate) {
		scheduler_cut(s, row, r->error);
		return;
	}
	if (strcmp(status, "taken") != 0) {
		stats_add(s->env->slot, STAT_SCHEDULED, 1);
		if (strcmp(status, "failed") == 0)
			stats_add(s->env->slot, STAT_SCHEDULE_FAILED, 1);
		else if (strcmp(status, "skipped") == 0)
			stats_add(s->env->slot, STAT_SCHEDULE_SKIPPED, 1);
		log_write(strcmp(status, "ok") == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, extra, "schedule %s: %s%s%s",
			row->name, status, r->error || !PQgetisnull(r->res, 0, 1) ? ": " : "",
			r->error ? r->error : PQgetvalue(r->res, 0, 1));
	}
	if (r->error) { /* not even an exception could be caught (a time-out): it is written down, and its next time
		           comes */
		char next[40];
		double due;
		const char *params[] = { row->name, row->due_text, next, r->error };

		next_text(row, s->now, next, sizeof(next), &due);
		pgconn_query(s->pg, NULL,
			"SELECT pgmqd.run_schedule($1, $2::timestamptz, CASE WHEN $3 LIKE 'epoch %' THEN "
			"to_timestamp(substr($3, 7)::float8) ELSE"
			" 'infinity' END, clock_timestamp(), $4)",
			4, params, NULL, NULL);
	}
	s->at++;
	scheduler_next(s);
}

/* Runs one that is due. */
static void scheduler_run(struct scheduler *s, struct row *r)
{
	char next[40];
	double due;
	const char *params[] = { r->name, r->due_text, next };

	next_text(r, r->all ? r->due : s->now, next, sizeof(next), &due);
	if (due - s->now <= 0)
		s->again_ms = 1; /* another time has gone by: the next look is at once */
	else if (!isnan(due) && (int64_t)((due - scheduler_now(s)) * 1000) + 1 < s->again_ms)
		s->again_ms = (int64_t)((due - scheduler_now(s)) * 1000) + 1;
	s->run_ms = clock_boottime_ms();
	pgconn_query(s->pg, NULL,
		"SELECT r, (SELECT last_error FROM pgmqd.schedule WHERE name = $1 AND r IN ('failed', 'skipped')) FROM"
		" (SELECT pgmqd.run_schedule($1, $2::timestamptz, CASE WHEN $3 LIKE 'epoch %' THEN "
		"to_timestamp(substr($3, 7)::float8) ELSE"
		" 'infinity' END) AS r OFFSET 0) run",
		3, params, scheduler_ran, s);
}

/* Whether a time could be written down. */
static void scheduler_was_set(void *arg, const struct pgresult *r)
{
	(void)arg;
	if (r->error && *r->sqlstate)
		log_warn("the next time of a schedule cannot be written down: %s", r->error);
}

/* Writes a first (or another) time, unless another dispatcher has written one since the look. */
static void scheduler_set(struct scheduler *s, struct row *r, double after)
{
	char next[40];
	double due;
	const char *params[] = { r->name, next, r->due_text };

	next_text(r, after, next, sizeof(next), &due);
	pgconn_query(s->pg, NULL,
		"UPDATE pgmqd.schedule SET next_due = CASE WHEN $2 LIKE 'epoch %' THEN to_timestamp(substr($2, "
		"7)::float8) ELSE 'infinity' END"
		" WHERE name = $1 AND runner = 'pgmqd' AND next_due IS NOT DISTINCT FROM $3::timestamptz",
		3, params, scheduler_was_set, s);
	if (!isnan(due) && (int64_t)((due - scheduler_now(s)) * 1000) + 1 < s->again_ms)
		s->again_ms = (int64_t)((due - scheduler_now(s)) * 1000) + 1;
}

/* Goes on with the rows of the look. */
static void scheduler_next(struct scheduler *s)
{
	for (; s->at < s->nrows; s->at++) {
		struct row *r = &s->rows[s->at];

		if (!r->good)
			continue;
		if (isnan(r->due)) {
			scheduler_set(s, r, isnan(r->last_run) || r->last_run > s->now ? s->now : r->last_run);
		} else if (!isnan(r->last_run) && r->last_run > s->now + CLOCK_BACK_S &&
			   r->due > (double)cron_next(&r->cron, r->zone, (int64_t)s->now)) {
			log_warn("schedule %s: the server's clock was set back; its next time is found anew", r->name);
			scheduler_set(s, r, s->now);
		} else if (r->due <= s->now) {
			scheduler_run(s, r);
			return;
		} else if ((int64_t)((r->due - scheduler_now(s)) * 1000) + 1 < s->again_ms) {
			s->again_ms = (int64_t)((r->due - scheduler_now(s)) * 1000) + 1;
		}
	}
	scheduler_rest(s, s->again_ms);
}

/* The jobs of pg_cron were taken over, or given back. */
static void scheduler_changed_hands(void *arg, const struct pgresult *r)
{
	struct scheduler *s = arg;

	if (r->error && *r->sqlstate)
		scheduler_complain(
			s, xasprintf("schedules of pg_cron's cannot change hands: %s (%s)", r->error, r->sqlstate));
	else if (!r->error && atoi(PQgetvalue(r->res, 0, 0)) > 0)
		log_warn(s->dead ? "pg_cron's launcher is dead: its %s schedules are switched off there and run by "
				   "pgmqd until it is back"
				 : "pg_cron's launcher is back: its %s schedules are its own again",
			PQgetvalue(r->res, 0, 0));
}

/* Decides who runs the jobs of pg_cron. Two looks in a row must agree, because a server that is starting has no
 * launcher yet. */
static void scheduler_judge_pg_cron(struct scheduler *s, const char *lives)
{
	s->dead = lives && *lives == 'f' ? s->dead + 1 : 0;
	s->alive = lives && *lives == 't' ? s->alive + 1 : 0;
	if (s->theirs && s->dead == 1)
		s->again_ms = LOOK_AGAIN_MS;
	if (s->taken && s->alive == 1)
		s->again_ms = LOOK_AGAIN_MS;
	if ((s->theirs && s->dead > 1) || (s->taken && s->alive > 1)) {
		pgconn_query(s->pg, NULL,
			s->dead ? "SELECT pgmqd.take_over_schedules()" : "SELECT pgmqd.give_back_schedules()", 0, NULL,
			scheduler_changed_hands, s);
		s->again_ms = 1;
	}
}

/* Reads one row of the look. */
static void scheduler_read(struct scheduler *s, struct row *row, const PGresult *res, int i)
{
	const char *cron = PQgetvalue(res, i, 1);
	char *error;

	row->name = xstrdup(PQgetvalue(res, i, 0));
	row->zone = xstrdup(PQgetvalue(res, i, 2));
	row->due_text = PQgetisnull(res, i, 3) ? NULL : xstrdup(PQgetvalue(res, i, 3));
	row->due = PQgetisnull(res, i, 4) ? NAN : atof(PQgetvalue(res, i, 4));
	row->last_run = PQgetisnull(res, i, 5) ? NAN : atof(PQgetvalue(res, i, 5));
	row->all = strcmp(PQgetvalue(res, i, 6), "all") == 0;
	error = cron_parse(&row->cron, cron);
	if (!error && !cron_zone_exists(row->zone))
		error = xasprintf("the system does not know the time zone \"%s\"", row->zone);
	row->good = !error;
	if (error)
		scheduler_complain(s, xasprintf("schedule %s does not run: %s", row->name, error));
	free(error);
}

/* The answer to a look. */
static void scheduler_looked(void *arg, const struct pgresult *r)
{
	struct scheduler *s = arg;
	const char *lives = NULL;

	scheduler_clear(s);
	if (r->error) {
		if (!*r->sqlstate)
			return;
		if (sqlstate_class(r->sqlstate) != SQLSTATE_STALE) /* else pgmqd migrate has not been here */
			scheduler_complain(
				s, xasprintf("cannot look at the schedules: %s (%s)", r->error, r->sqlstate));
		scheduler_rest(s, NO_TABLE_MS);
		return;
	}
	s->theirs = s->taken = 0;
	s->again_ms = LOOK_EVERY_MS;
	s->now_ms = clock_boottime_ms();
	s->rows = xcalloc((size_t)PQntuples(r->res) + 1, sizeof(*s->rows));
	for (int i = 0; i < PQntuples(r->res); i++) {
		s->now = atof(PQgetvalue(r->res, i, 9));
		lives = PQgetisnull(r->res, i, 10) ? NULL : PQgetvalue(r->res, i, 10);
		if (strcmp(PQgetvalue(r->res, i, 7), "pg_cron") == 0) {
			s->theirs++;
			continue;
		}
		s->taken += *PQgetvalue(r->res, i, 8) == 't';
		scheduler_read(s, &s->rows[s->nrows++], r->res, i);
	}
	stats_gauge(s->env->slot, GAUGE_TAKEN_OVER, (int64_t)s->taken);
	if (PQntuples(r->res) == 0)
		scheduler_ask_security(s);
	scheduler_judge_pg_cron(s, lives);
	scheduler_next(s);
}

/* Whether row security may be why there is no schedule. */
static void scheduler_asked_security(void *arg, const struct pgresult *r)
{
	if (!r->error && *PQgetvalue(r->res, 0, 0) == 't')
		scheduler_complain(arg,
			xstrdup("row security hides the table pgmqd.schedule from this role, so no schedule runs; run "
				"pgmqd migrate, or write a policy on it for the role"));
}

/* There is no schedule, or none that this role may see. */
static void scheduler_ask_security(struct scheduler *s)
{
	pgconn_query(s->pg, NULL,
		"SELECT pg_catalog.row_security_active('pgmqd.schedule'::pg_catalog.regclass) AND NOT EXISTS (SELECT "
		"FROM "
		"pg_catalog.pg_policy p WHERE p.polrelid = 'pgmqd.schedule'::pg_catalog.regclass AND p.polpermissive "
		"AND "
		"p.polcmd IN ('r', '*') AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS role WHERE role = 0 "
		"OR "
		"pg_catalog.pg_has_role(role, 'USAGE')))",
		0, NULL, scheduler_asked_security, s);
}

/* Looks. */
static void scheduler_look(evutil_socket_t fd, short what, void *arg)
{
	struct scheduler *s = arg;

	(void)fd, (void)what;
	if (!pgconn_is_up(s->pg))
		return;
	pgconn_query(s->pg, NULL,
		"SELECT name, cron, tz, next_due, extract(epoch FROM next_due), extract(epoch FROM last_run), "
		"catch_up, runner, taken_over,"
		" extract(epoch FROM pg_catalog.clock_timestamp()), pgmqd.pg_cron_lives() FROM pgmqd.schedule WHERE "
		"enabled ORDER BY next_due, name",
		0, NULL, scheduler_looked, s);
}

/* Connected. */
static void scheduler_up(void *arg)
{
	struct scheduler *s = arg;

	s->dead = s->alive = 0;
	scheduler_record_cut(s);
	scheduler_look(-1, 0, s);
}

/* Not connected; the listener beside us says why. */
static void scheduler_down(void *arg, const char *reason)
{
	struct scheduler *s = arg;

	(void)reason;
	scheduler_clear(s);
	evtimer_del(s->timer);
}

static const struct pgconn_events scheduler_events = { .up = scheduler_up, .down = scheduler_down };

struct scheduler *scheduler_new(struct event_base *base, const struct proc_env *env)
{
	struct scheduler *s = xcalloc(1, sizeof(*s));

	s->env = env;
	s->timer = loop_timer_new(base, scheduler_look, s);
	s->pg = pgconn_new(base, env->settings->database, "pgmqd scheduler", true, &scheduler_events, s);
	pgconn_set_statement_timeout(s->pg, COMMAND_TIMEOUT_S);
	pgconn_start(s->pg);
	return s;
}

void scheduler_free(struct scheduler *s)
{
	pgconn_free(s->pg);
	scheduler_clear(s);
	event_free(s->timer);
	scheduler_forget_cut(s);
	free(s->told);
	free(s);
}
