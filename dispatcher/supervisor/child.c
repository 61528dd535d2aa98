/* child.c: the life of one child: started, watched, stopped, and after a death started again, sooner or later. */
#include "config.h"

#include "base/backoff.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "supervisor/child.h"
#include "supervisor/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_BACKOFF_MIN_MS 100
#define CHILD_BACKOFF_MAX_MS 30000
#define CHILD_HEALTHY_MS 60000     /* who lives so long starts with a clean record */
#define CHILD_LOOP_WINDOW_MS 60000 /* CHILD_DEATHS within this are a crash loop */
#define CHILD_LOOP_RETRY_MS 30000
#define CHILD_CONFIG_RETRY_MS 60000
#define CHILD_GIVE_BACK_MS 2000 /* before it is killed, one that drains is told to give back what it has */

/* "worker", ... for logs. */
static const char *child_role_name(const struct child *c)
{
	switch (c->role) {
	case ROLE_LISTENER:
		return "listener";
	case ROLE_CONTROL:
		return "control";
	case ROLE_WORKER:
		return "worker";
	default:
		return "process";
	}
}

/* Names a child for people. */
const char *child_title(const struct child *c, char *buf, size_t size)
{
	if (c->role == ROLE_WORKER)
		snprintf(buf, size, "worker %s", c->unit.name);
	else
		snprintf(buf, size, "%s", child_role_name(c));
	return buf;
}

/* How many slots it has. */
static size_t child_nslots(const struct child *c)
{
	return c->role == ROLE_WORKER ? c->unit.nqueues : 1;
}

/* Its i-th slot. */
static struct stats_slot *child_slot(const struct child *c, size_t i)
{
	return c->role == ROLE_WORKER ? c->unit.slots[i] : c->slot;
}

/* Sets the state of all its slots. */
static void child_state(struct child *c, enum stats_state state)
{
	size_t i;

	for (i = 0; i < child_nslots(c); i++)
		stats_state(child_slot(c, i), state);
}

/* Takes what a child needs over its whole life. */
struct child *child_new(enum stats_role role, struct proc_unit *unit, struct stats *stats)
{
	struct child *c = xcalloc(1, sizeof *c);
	const struct queue_settings *q;
	struct stats_slot *s;
	char plugin[64];
	size_t i;

	c->role = role;
	c->unit = *unit;
	memset(unit, 0, sizeof *unit);
	unit->wake[0] = unit->wake[1] = -1;
	c->phase = CHILD_WAITING;
	if (role == ROLE_WORKER)
		c->unit.slots = xcalloc(c->unit.nqueues, sizeof *c->unit.slots);
	for (i = 0; i < child_nslots(c); i++) {
		q = role == ROLE_WORKER ? c->unit.queues[i] : NULL;
		s = stats_take(stats, role, c->unit.name, q != NULL ? q->name : NULL,
			q != NULL ? plan_plugin_name(q, plugin, sizeof plugin) : NULL);
		if (s == NULL) {
			log_error("more than %zu queue processes: put small queues into groups (group = NAME)",
				stats->room);
			child_free(c, stats);
			return NULL;
		}
		s->lead = i == 0;
		if (role == ROLE_WORKER)
			c->unit.slots[i] = s;
		if (i == 0)
			c->slot = s;
	}
	if (role == ROLE_WORKER && pipe2(c->unit.wake, O_CLOEXEC | O_NONBLOCK) == -1) {
		log_error("worker %s: no pipe: %s (raise the limit of open files)", c->unit.name, strerror(errno));
		c->unit.wake[0] = c->unit.wake[1] = -1;
		child_free(c, stats);
		return NULL;
	}
	return c;
}

/* Gives everything back. */
void child_free(struct child *c, struct stats *stats)
{
	size_t i;

	for (i = 0; i < child_nslots(c); i++)
		if (child_slot(c, i) != NULL)
			stats_release(stats, child_slot(c, i));
	plan_unit_free(&c->unit);
	free(c);
}

/* Makes the slots those of a process that is about to start. */
static void child_reset_slots(struct child *c, int64_t now)
{
	struct stats_slot *s;
	size_t i;
	int g;

	for (i = 0; i < child_nslots(c); i++) {
		s = child_slot(c, i);
		for (g = 0; g < STATS_NGAUGES; g++)
			stats_gauge(s, (enum stats_gauge)g, 0);
		atomic_store(&s->started_ms, now);
		atomic_store(&s->beat_ms, now);
		stats_state(s, STATE_STARTING);
	}
}

/* Sets the process id of all slots. */
static void child_set_pid(struct child *c, pid_t pid)
{
	size_t i;

	c->pid = pid;
	for (i = 0; i < child_nslots(c); i++)
		atomic_store(&child_slot(c, i)->pid, (int)pid);
}

/* The work of the new process; it never returns. */
static void __attribute__((noreturn))
child_main(struct child *c, const struct proc_roles *roles, const struct proc_env *common)
{
	struct log_context context = { .process = child_role_name(c) };
	struct proc_env env = *common;
	char title[128];

	env.slot = c->slot;
	env.after_crash = c->failures > 0;
	env.unit = c->role == ROLE_WORKER ? &c->unit : NULL;
	child_set_pid(c, getpid()); /* the parent does it too; either may be first */
	proc_set_title("pgmqd: %s", child_title(c, title, sizeof title));
	if (c->role == ROLE_WORKER && c->unit.nqueues == 1)
		context.queue = c->unit.queues[0]->name;
	log_context_set(context);
	switch (c->role) {
	case ROLE_LISTENER:
		exit(roles->listener(&env));
	case ROLE_CONTROL:
		exit(roles->control(&env));
	default:
		exit(roles->worker(&env));
	}
}

/* Wipes its record. */
static void child_forgive(struct child *c)
{
	c->failures = c->ndeaths = 0;
	c->looping = c->misconfigured = false;
}

/* Decides when it is started again after it died (or could not be started), and says so. */
static void child_failed(struct child *c, const char *how, const struct log_field *extra, int64_t now)
{
	struct log_field fields[6];
	char title[128], text[512], *queues = NULL;
	bool entered = false;
	int64_t delay;
	size_t n = 0;

	c->failures++;
	c->deaths[c->ndeaths++ % CHILD_DEATHS] = now;
	if (!c->looping && c->ndeaths >= CHILD_DEATHS &&
		now - c->deaths[c->ndeaths % CHILD_DEATHS] <= CHILD_LOOP_WINDOW_MS)
		c->looping = entered = true;
	delay = c->looping ? CHILD_LOOP_RETRY_MS
	                   : backoff_delay(c->failures, CHILD_BACKOFF_MIN_MS, CHILD_BACKOFF_MAX_MS, backoff_random());
	c->phase = CHILD_WAITING;
	c->start_at = now + delay;
	child_state(c, c->looping ? STATE_CRASH_LOOP : STATE_RESTARTING);
	stats_error(c->slot, how);

	child_title(c, title, sizeof title);
	fields[n++] = LOG_STR("child", title);
	if (extra != NULL)
		fields[n++] = *extra;
	fields[n++] = LOG_INT("restart_ms", delay);
	if (c->role == ROLE_WORKER) {
		queues = plan_unit_queues(&c->unit);
		fields[n++] = LOG_STR("queues", queues);
	}
	fields[n] = LOG_END;
	snprintf(text, sizeof text, "%s %s", title, how);
	if (entered)
		log_write(LOG_LEVEL_ERROR, fields,
			"%s; that was death number %d within a minute: it is now tried every %d s; the others go on",
			text, CHILD_DEATHS, CHILD_LOOP_RETRY_MS / 1000);
	else
		log_write(LOG_LEVEL_ERROR, fields, "%s; started again in %lld ms", text, (long long)delay);
	free(queues);
}

/* Forks, and counts a failed fork as a death. */
void child_start(struct child *c, const struct proc_roles *roles, const struct proc_env *common, const int *keep,
	size_t nkeep, int64_t now)
{
	char how[128];
	pid_t pid;

	child_reset_slots(c, now);
	c->started_at = now;
	c->killed = c->again = false;
	c->hurry_at = 0;
	if (c->failures > 0 || c->misconfigured)
		atomic_fetch_add(&c->slot->restarts, 1);
	pid = proc_fork(keep, nkeep);
	if (pid == 0)
		child_main(c, roles, common);
	if (pid == -1) {
		snprintf(how, sizeof how, "could not be forked: %s", strerror(errno));
		child_failed(c, how, NULL, now);
		return;
	}
	child_set_pid(c, pid);
	c->phase = CHILD_RUNNING;
}

/* Asks it to leave. */
void child_stop(struct child *c, int64_t now, int64_t grace)
{
	c->again = false;
	if (c->phase == CHILD_WAITING) {
		c->phase = CHILD_GONE;
		child_state(c, STATE_STOPPED);
	} else if (c->phase == CHILD_RUNNING) {
		c->phase = CHILD_STOPPING;
		c->kill_at = now + grace;
		child_state(c, STATE_DRAINING);
		(void)kill(c->pid, SIGTERM);
	} else if (c->phase == CHILD_STOPPING && c->kill_at > now + grace) {
		/* It drains by the settings of its time, which gave it longer than it has now: it must be told. */
		c->kill_at = now + grace;
		c->hurry_at = c->kill_at - CHILD_GIVE_BACK_MS;
	}
}

/* Asks it to make room for its successor. */
void child_restart(struct child *c, int64_t now, int64_t grace)
{
	if (c->phase == CHILD_WAITING)
		child_retry_now(c, now);
	else if (c->phase == CHILD_RUNNING) {
		child_stop(c, now, grace);
		c->again = true;
	}
}

/* Wipes its record and starts it at the next occasion. */
void child_retry_now(struct child *c, int64_t now)
{
	if (c->phase == CHILD_RUNNING)
		(void)kill(c->pid, SIGHUP); /* paused queues try at once, too */
	if (c->phase != CHILD_WAITING)
		return;
	child_forgive(c);
	c->start_at = now;
}

/* Says "leave now", and leaves little time for that. */
void child_hurry(struct child *c, int64_t now, int64_t grace)
{
	if (c->phase != CHILD_STOPPING) {
		child_stop(c, now, grace);
		return;
	}
	(void)kill(c->pid, PROC_STOP_NOW);
	c->kill_at = now + grace;
	c->hurry_at = 0;
	c->again = false;
}

/* "SIGSEGV". */
static const char *child_signal_name(int sig, char *buf, size_t size)
{
	static const struct {
		int sig;
		const char *name;
	} names[] = { { SIGABRT, "SIGABRT" }, { SIGALRM, "SIGALRM" }, { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" },
		{ SIGHUP, "SIGHUP" }, { SIGILL, "SIGILL" }, { SIGINT, "SIGINT" }, { SIGKILL, "SIGKILL" },
		{ SIGPIPE, "SIGPIPE" }, { SIGQUIT, "SIGQUIT" }, { SIGSEGV, "SIGSEGV" }, { SIGSYS, "SIGSYS" },
		{ SIGTERM, "SIGTERM" }, { SIGTRAP, "SIGTRAP" }, { SIGXCPU, "SIGXCPU" }, { SIGXFSZ, "SIGXFSZ" } };
	size_t i;

	for (i = 0; i < sizeof names / sizeof names[0]; i++)
		if (names[i].sig == sig)
			return names[i].name;
	snprintf(buf, size, "signal %d", sig);
	return buf;
}

/* Takes note of an end that was asked for. */
static void child_left(struct child *c, const char *how, bool orderly, int64_t now)
{
	char title[128];

	child_title(c, title, sizeof title);
	if (c->again) {
		c->phase = CHILD_WAITING;
		c->start_at = now;
		c->again = false;
	} else {
		c->phase = CHILD_GONE;
		child_state(c, STATE_STOPPED);
	}
	if (orderly)
		log_debug("%s %s", title, how);
	else
		log_warn("%s %s while it was leaving; what it had in hand will be claimed again", title, how);
}

/* Takes note of the end of its process. */
void child_reaped(struct child *c, int status, int64_t now)
{
	bool by_us = c->killed;
	char how[128], name[32], title[128];
	struct log_field extra;
	int64_t lived = now - c->started_at;

	if (WIFSIGNALED(status)) {
		extra = LOG_STR("signal", child_signal_name(WTERMSIG(status), name, sizeof name));
		snprintf(how, sizeof how, "(process %d) was killed by %s%s", (int)c->pid, extra.str,
			by_us               ? " of the supervisor"
			: WCOREDUMP(status) ? " and left a core"
					    : "");
	} else {
		extra = LOG_INT("exit", WEXITSTATUS(status));
		snprintf(how, sizeof how, "(process %d) ended with status %d", (int)c->pid, WEXITSTATUS(status));
	}
	child_set_pid(c, 0);
	if (c->phase == CHILD_STOPPING) {
		/* A SIGTERM that comes before the child has a handler for it ends it just as well. */
		child_left(c, how, WIFSIGNALED(status) ? WTERMSIG(status) == SIGTERM : WEXITSTATUS(status) == 0, now);
		return;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != PROC_EXIT_CONFIG) {
		if (lived >= CHILD_HEALTHY_MS)
			child_forgive(c);
		c->misconfigured = false;
		child_failed(c, how, &extra, now);
		return;
	}
	/* Its own log line says what is wrong. The text in the slot is the child's too, so leave it. */
	if (!c->misconfigured)
		log_error("%s cannot work as it is configured (its reason is above): correct the settings and send "
			  "SIGHUP; it is also tried every %d s",
			child_title(c, title, sizeof title), CHILD_CONFIG_RETRY_MS / 1000);
	c->misconfigured = true;
	c->phase = CHILD_WAITING;
	c->start_at = now + CHILD_CONFIG_RETRY_MS;
	child_state(c, STATE_CONFIG);
}

/* Sends SIGKILL, once. */
static void child_kill(struct child *c)
{
	if (c->killed)
		return;
	c->killed = true;
	(void)kill(c->pid, SIGKILL);
}

/* Looks whether it must be killed, or has earned a clean record; true when it was killed while it was to leave. */
bool child_check(struct child *c, int64_t now, int64_t watchdog, int64_t awake_since)
{
	int64_t beat;
	char title[128];

	if (!child_runs(c) || c->killed)
		return false;
	if (c->phase == CHILD_STOPPING) {
		if (c->hurry_at != 0 && now >= c->hurry_at) {
			c->hurry_at = 0;
			(void)kill(c->pid, PROC_STOP_NOW);
		}
		if (now >= c->kill_at) {
			log_warn("%s (process %d) has not left in time: killed", child_title(c, title, sizeof title),
				(int)c->pid);
			child_kill(c);
		}
		return c->killed;
	}
	beat = atomic_load(&c->slot->beat_ms);
	if (beat < awake_since)
		beat = awake_since;
	if (watchdog > 0 && now - beat > watchdog) {
		log_error("%s (process %d) has given no sign of life for %lld ms: killed",
			child_title(c, title, sizeof title), (int)c->pid, (long long)(now - beat));
		child_kill(c);
		return false;
	}
	if ((c->failures > 0 || c->misconfigured) && now - c->started_at >= CHILD_HEALTHY_MS) {
		if (c->looping)
			log_info("%s has run for %d s: no crash loop any more", child_title(c, title, sizeof title),
				CHILD_HEALTHY_MS / 1000);
		child_forgive(c);
	}
	return false;
}

/* Whether it has a process. */
bool child_runs(const struct child *c)
{
	return c->phase == CHILD_RUNNING || c->phase == CHILD_STOPPING;
}

/* Whether it runs and all its queues are ready or paused. */
bool child_ready(const struct child *c)
{
	size_t i;
	int state;

	if (c->phase != CHILD_RUNNING)
		return false;
	for (i = 0; i < child_nslots(c); i++) {
		state = atomic_load(&child_slot(c, i)->state);
		if (state != STATE_READY && state != STATE_PAUSED)
			return false;
	}
	return true;
}

/* Whether there is nothing to wait for. */
bool child_settled(const struct child *c)
{
	return child_ready(c) || c->failures > 0 || c->misconfigured || c->phase == CHILD_GONE;
}
