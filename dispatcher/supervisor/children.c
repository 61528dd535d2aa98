/* children.c: the supervisor's children as one set: made from a plan, started, replaced on reload, stopped in order. */
#include "config.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "supervisor/children.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Appends a child. */
static void children_add(struct children *f, struct child *c)
{
	struct child **p = &f->first;

	while (*p != NULL)
		p = &(*p)->next;
	*p = c;
}

/* Makes the listener or the control process. */
static int children_add_role(struct children *f, enum stats_role role, const char *name)
{
	struct proc_unit unit = { .name = xstrdup(name), .wake = { -1, -1 } };
	struct child *c = child_new(role, &unit, f->stats);

	if (c == NULL)
		return -1;
	children_add(f, c);
	return 0;
}

/* Whether the settings want the control process. */
static bool children_wants_control(const struct settings *s)
{
	return s->http_listen != NULL && *s->http_listen != '\0' && strcmp(s->http_listen, "off") != 0;
}

/* The child of a role that is there once; NULL: none. */
static struct child *children_find_role(struct children *f, enum stats_role role)
{
	struct child *c;

	for (c = f->first; c != NULL; c = c->next)
		if (c->role == role && c->phase != CHILD_GONE)
			return c;
	return NULL;
}

/* Makes all children of the first settings. */
int children_init(struct children *f, struct settings *s, const struct proc_roles *roles, struct stats *stats)
{
	struct plan plan;
	struct child *c;
	size_t i;
	int result = -1;

	memset(f, 0, sizeof *f);
	f->settings = s;
	f->roles = roles;
	f->stats = stats;
	f->parent_pipe[0] = f->parent_pipe[1] = -1;
	plan_make(&plan, s);
	if (pipe2(f->parent_pipe, O_CLOEXEC | O_NONBLOCK) == -1) {
		log_error("no pipe: %s", strerror(errno));
		goto out;
	}
	if (children_add_role(f, ROLE_LISTENER, "listener") == -1)
		goto out;
	for (i = 0; i < plan.nunits; i++) {
		if ((c = child_new(ROLE_WORKER, &plan.units[i], stats)) == NULL)
			goto out;
		children_add(f, c);
	}
	if (children_wants_control(s) && children_add_role(f, ROLE_CONTROL, "control") == -1)
		goto out;
	result = 0;
out:
	plan_free(&plan);
	return result;
}

/* Frees the whole set, of which no process runs any more. */
void children_free(struct children *f)
{
	struct child *c;
	int i;

	while ((c = f->first) != NULL) {
		f->first = c->next;
		child_free(c, f->stats);
	}
	for (i = 0; i < 2; i++)
		if (f->parent_pipe[i] >= 0)
			close(f->parent_pipe[i]);
	settings_free(f->settings);
	f->settings = NULL;
}

/* The running (or waiting) worker that does what a unit asks for, or NULL. */
static struct child *children_find_equal(struct children *f, const struct proc_unit *unit)
{
	struct child *c;

	for (c = f->first; c != NULL; c = c->next)
		if (c->role == ROLE_WORKER && !c->retired && (c->phase == CHILD_WAITING || c->phase == CHILD_RUNNING) &&
			plan_unit_equal(&c->unit, unit))
			return c;
	return NULL;
}

/* Puts a worker out of service; its slots stay until it has left. */
static void children_retire(struct children *f, struct child *c, int64_t now)
{
	size_t i;

	c->retired = true;
	for (i = 0; i < c->unit.nqueues; i++)
		atomic_store(&c->unit.slots[i]->retired, 1);
	child_stop(c, now, f->settings->drain_timeout + CHILDREN_DRAIN_GRACE_MS);
	/* Its process has its own copy of the settings; ours are about to be freed, and it is never started again. */
	free(c->unit.queues);
	c->unit.queues = NULL;
}

/* Goes over to new settings, see children.h. */
int children_adopt(struct children *f, struct settings *s, struct plan *plan, int64_t now)
{
	bool same = plan_globals_equal(f->settings, s), had_control = children_find_role(f, ROLE_CONTROL) != NULL;
	struct child **keep = xcalloc(plan->nunits + 1, sizeof(struct child *)),
		     **fresh = xcalloc(plan->nunits + 1, sizeof(struct child *)), *c;
	size_t i, need = children_wants_control(s) && !had_control ? 1 : 0, nfresh = 0;
	const struct queue_settings **queues;
	int result = -1;

	/* Everything that can fail comes first: new children get their slots and pipes, but no process yet. */
	for (i = 0; i < plan->nunits; i++)
		if (!same || (keep[i] = children_find_equal(f, &plan->units[i])) == NULL)
			need += plan->units[i].nqueues;
	if (need > stats_free_slots(f->stats)) {
		log_error(
			"%s: too many queues while old workers still drain: try again in a moment, or put small queues "
			"into groups (group = NAME)",
			s->path);
		goto out;
	}
	for (i = 0; i < plan->nunits; i++)
		if (keep[i] == NULL && (fresh[nfresh++] = child_new(ROLE_WORKER, &plan->units[i], f->stats)) == NULL)
			goto out;
	for (c = f->first; c != NULL; c = c->next) {
		for (i = 0; i < plan->nunits && keep[i] != c; i++)
			;
		if (c->role != ROLE_WORKER || c->retired)
			continue;
		if (i == plan->nunits) {
			children_retire(f, c, now);
			continue;
		}
		/* Its process reads its own copy of the old settings; here the same queues are pointed to in the new
		 * ones, and the old ones can go. */
		queues = c->unit.queues;
		c->unit.queues = plan->units[i].queues;
		plan->units[i].queues = queues;
		child_retry_now(c, now);
	}
	for (i = 0; i < nfresh; i++) {
		fresh[i]->start_at = now;
		children_add(f, fresh[i]);
	}
	settings_free(f->settings);
	f->settings = s;
	s = NULL;
	if ((c = children_find_role(f, ROLE_LISTENER)) != NULL)
		child_restart(c, now, CHILDREN_GRACE_MS);
	if ((c = children_find_role(f, ROLE_CONTROL)) != NULL) {
		if (children_wants_control(f->settings))
			child_restart(c, now, CHILDREN_GRACE_MS);
		else
			child_stop(c, now, CHILDREN_GRACE_MS);
	} else if (children_wants_control(f->settings))
		(void)children_add_role(f, ROLE_CONTROL, "control");
	nfresh = 0;
	result = 0;
out:
	while (nfresh > 0)
		if (fresh[--nfresh] != NULL)
			child_free(fresh[nfresh], f->stats);
	free(keep);
	free(fresh);
	plan_free(plan);
	settings_free(s);
	return result;
}

/* The units of all workers in service, for the listener and the control process; malloc'd, the units themselves are
 * shared. */
static struct proc_unit *children_units(const struct children *f, size_t *n)
{
	struct proc_unit *units = xcalloc(children_workers(f, false) + 1, sizeof *units);
	const struct child *c;

	*n = 0;
	for (c = f->first; c != NULL; c = c->next)
		if (c->role == ROLE_WORKER && !c->retired)
			units[(*n)++] = c->unit;
	return units;
}

/* Starts one child with the descriptors that its role needs. */
static void children_start(struct children *f, struct child *c, int64_t now)
{
	struct proc_env env = { .settings = f->settings, .stats = f->stats, .parent_fd = f->parent_pipe[0] };
	struct proc_unit *units = children_units(f, &env.nunits);
	int *keep = xcalloc(env.nunits + 2, sizeof *keep);
	size_t i, n = 0;

	env.units = units;
	keep[n++] = f->parent_pipe[0];
	if (c->role == ROLE_WORKER)
		keep[n++] = c->unit.wake[0];
	else if (c->role == ROLE_LISTENER)
		for (i = 0; i < env.nunits; i++)
			keep[n++] = units[i].wake[1];
	child_start(c, f->roles, &env, keep, n, now);
	free(keep);
	free(units);
}

/* Starts whose time has come. */
void children_start_due(struct children *f, int64_t now)
{
	struct child *c;

	for (c = f->first; c != NULL; c = c->next)
		if (c->phase == CHILD_WAITING && c->start_at <= now)
			children_start(f, c, now);
}

/* Looks after each child. */
size_t children_check(struct children *f, int64_t now, int64_t awake_since)
{
	struct child **p = &f->first, *c;
	size_t killed = 0;

	while ((c = *p) != NULL) {
		if (child_check(c, now, f->settings->watchdog, awake_since))
			killed++;
		if (c->phase == CHILD_GONE) {
			*p = c->next;
			child_free(c, f->stats);
		} else
			p = &c->next;
	}
	return killed;
}

/* Hands the end of a process to its child. */
bool children_reaped(struct children *f, pid_t pid, int status, int64_t now)
{
	struct child *c;

	for (c = f->first; c != NULL; c = c->next)
		if (child_runs(c) && c->pid == pid) {
			child_reaped(c, status, now);
			return true;
		}
	return false;
}

/* Tells all workers to drain. */
void children_stop_workers(struct children *f, int64_t now, int64_t grace)
{
	struct child *c;

	for (c = f->first; c != NULL; c = c->next)
		if (c->role == ROLE_WORKER)
			child_stop(c, now, grace);
}

/* Tells listener and control process to leave. */
void children_stop_others(struct children *f, int64_t now, int64_t grace)
{
	struct child *c;

	for (c = f->first; c != NULL; c = c->next)
		if (c->role != ROLE_WORKER)
			child_stop(c, now, grace);
}

/* Tells everyone to leave now. */
void children_hurry(struct children *f, int64_t now, int64_t grace)
{
	struct child *c;

	for (c = f->first; c != NULL; c = c->next)
		child_hurry(c, now, grace);
}

/* Counts the processes. */
size_t children_running(const struct children *f, bool workers_only)
{
	const struct child *c;
	size_t n = 0;

	for (c = f->first; c != NULL; c = c->next)
		if (child_runs(c) && (c->role == ROLE_WORKER || !workers_only))
			n++;
	return n;
}

/* Whether there is no child left to wait for. */
bool children_settled(const struct children *f)
{
	const struct child *c;

	for (c = f->first; c != NULL; c = c->next)
		if (!c->retired && !child_settled(c))
			return false;
	return true;
}

/* Names those who are not ready, and why, as far as they said. */
void children_report_unready(const struct children *f)
{
	const struct child *c;
	char title[128], error[256];

	for (c = f->first; c != NULL; c = c->next) {
		if (c->retired || child_settled(c))
			continue;
		stats_error_read(c->slot, error, sizeof error);
		log_warn("%s is not ready yet (%s%s%s); it goes on trying", child_title(c, title, sizeof title),
			stats_state_name(atomic_load(&c->slot->state)), *error != '\0' ? ": " : "", error);
	}
}

/* Counts the workers in service. */
size_t children_workers(const struct children *f, bool ready)
{
	const struct child *c;
	size_t n = 0;

	for (c = f->first; c != NULL; c = c->next)
		if (c->role == ROLE_WORKER && !c->retired && (!ready || child_ready(c)))
			n++;
	return n;
}

/* Whether everyone who runs gives signs of life. */
bool children_beats(const struct children *f, int64_t now, int64_t limit)
{
	const struct child *c;

	for (c = f->first; c != NULL; c = c->next)
		if (c->phase == CHILD_RUNNING && now - atomic_load(&c->slot->beat_ms) > limit)
			return false;
	return true;
}

/* When something is due. */
int64_t children_next(const struct children *f)
{
	const struct child *c;
	int64_t next = INT64_MAX;

	for (c = f->first; c != NULL; c = c->next) {
		if (c->phase == CHILD_WAITING && c->start_at < next)
			next = c->start_at;
		if (c->phase == CHILD_STOPPING && !c->killed && c->kill_at < next)
			next = c->kill_at;
		if (c->phase == CHILD_STOPPING && c->hurry_at != 0 && c->hurry_at < next)
			next = c->hurry_at;
	}
	return next;
}
