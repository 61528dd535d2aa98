/* supervisor.c: the parent of all processes: keeps them alive, passes signals on, reloads, tells systemd. */
#include "config.h"

#include "base/clock.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/sdnotify.h"
#include "settings/load.h"
#include "supervisor/children.h"
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SUPERVISOR_SLOTS                                                                                               \
	16384 /* processes and queues; unused ones cost address space only, a reload needs the double for a while */
#define SUPERVISOR_TICK_MS 1000 /* the only wake-up when nothing happens */
#define SUPERVISOR_SETTLE_MS 20 /* between looks while children come up */
#define SUPERVISOR_SETTLE_MAX_MS 5000
#define SUPERVISOR_STALL_MS 5000  /* a longer gap between ticks means that the machine stood still, not the children */
#define SUPERVISOR_HURRY_MS 1000  /* after a second SIGTERM */
#define SUPERVISOR_CHECK_MS 60000 /* for loading the plugins of new settings, for a thousand queues */

enum supervisor_phase { PHASE_RUNNING, PHASE_STOP_WORKERS, PHASE_STOP_OTHERS, PHASE_DONE };

struct supervisor {
	struct children children;
	struct stats *stats;
	struct stats_slot *slot;
	enum supervisor_phase phase;
	int64_t now, started_at, stop_at, tick_at, awake_since;
	bool killed; /* a process had to be killed while it drained */

	const char *settling; /* what to log once all children are settled; NULL: they are */
	int64_t settle_from, settle_until;

	/* A reload under way: checked in a process of its own before it is carried out. */
	struct settings *next;
	pid_t check_pid; /* 0: none */
	int64_t check_until;

	int64_t watchdog_ms, watchdog_at; /* systemd's; 0: not asked for */
	size_t told_ready, told_workers;  /* what STATUS said last */
};

/* Set by the handlers; the loop compares. A byte in the pipe ends the loop's sleep. Signals are blocked nowhere: two of
 * a kind that wait for their turn would be one. */
static volatile sig_atomic_t supervisor_terms, supervisor_hup, supervisor_chld;
static int supervisor_pipe[2] = { -1, -1 };

/* Notes a signal. */
static void supervisor_signal(int sig)
{
	int saved = errno;

	if (sig == SIGTERM || sig == SIGINT)
		supervisor_terms++;
	else if (sig == SIGHUP)
		supervisor_hup = 1;
	else
		supervisor_chld = 1;
	(void)!write(supervisor_pipe[1], "", 1); /* a full pipe ends the sleep as well */
	errno = saved;
}

/* Installs the handlers. false: no pipe, which was logged. */
static bool supervisor_signals(void)
{
	static const int handled[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD }, ignored[] = { SIGPIPE, SIGUSR1, SIGUSR2 };
	struct sigaction sa;
	sigset_t open;
	size_t i;

	if (pipe2(supervisor_pipe, O_CLOEXEC | O_NONBLOCK) == -1) {
		log_error("no pipe: %s", strerror(errno));
		return false;
	}
	memset(&sa, 0, sizeof sa);
	sigemptyset(&open);
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = SIG_IGN;
	for (i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		sigaction(ignored[i], &sa, NULL);
	sa.sa_handler = supervisor_signal;
	sa.sa_flags = SA_NOCLDSTOP | SA_RESTART;
	for (i = 0; i < sizeof handled / sizeof handled[0]; i++) {
		sigaction(handled[i], &sa, NULL);
		sigaddset(&open, handled[i]);
	}
	/* The parent, or proc_hold_signals(), may have blocked them: those that came meanwhile arrive now. */
	sigprocmask(SIG_UNBLOCK, &open, NULL);
	return true;
}

/* Logs each line of a text as an error. */
static void supervisor_log_lines(char *text)
{
	char *line, *rest = text;

	while ((line = lines_next(&rest)) != NULL)
		log_error("%s", line);
}

/* Tells systemd how many workers are ready, when that has changed. */
static void supervisor_status(struct supervisor *sup, const char *prefix)
{
	size_t ready = children_workers(&sup->children, true), all = children_workers(&sup->children, false);

	if (*prefix == '\0' && ready == sup->told_ready && all == sup->told_workers)
		return;
	sup->told_ready = ready;
	sup->told_workers = all;
	if (sdnotify_send("%sSTATUS=%zu of %zu workers ready", prefix, ready, all) == -1)
		log_warn("cannot tell systemd: %s", strerror(errno));
}

/* Begins to wait for children that come up; `text` is logged when they have. */
static void supervisor_settle_begin(struct supervisor *sup, const char *text)
{
	sup->settling = text;
	sup->settle_from = sup->now;
	sup->settle_until = sup->now + SUPERVISOR_SETTLE_MAX_MS;
}

/* Looks whether all are settled, and says so once. */
static void supervisor_settle(struct supervisor *sup)
{
	struct log_field fields[5];
	size_t ready, all;
	char prefix[64];

	if (sup->settling == NULL || (!children_settled(&sup->children) && sup->now < sup->settle_until))
		return;
	children_report_unready(&sup->children);
	ready = children_workers(&sup->children, true);
	all = children_workers(&sup->children, false);
	fields[0] = LOG_INT("start_ms", sup->now - sup->settle_from);
	fields[1] = LOG_INT("workers", all);
	fields[2] = LOG_INT("retrying", all - ready);
	fields[3] = LOG_INT("generation", atomic_load(&sup->stats->generation));
	fields[4] = LOG_END;
	stats_state(sup->slot, STATE_READY); /* before the line: a reader of it may ask /ready next */
	log_write(LOG_LEVEL_INFO, fields, "%s", sup->settling);
	sup->settling = NULL;
	snprintf(prefix, sizeof prefix, "READY=1\nMAINPID=%d\n", (int)getpid());
	supervisor_status(sup, prefix);
	proc_trim();
}

/* Says that everything goes on under the old settings. */
static void supervisor_reload_refused(struct supervisor *sup)
{
	log_error("reload refused: nothing was changed, the old settings stay in force");
	settings_free(sup->next);
	sup->next = NULL;
	/* Unless children are still coming up, in which case READY follows by itself. */
	if (sup->settling == NULL)
		supervisor_status(sup, "READY=1\n");
}

/* First half of a reload: reads the settings, and has a process of its own check them against the plugins. */
static void supervisor_reload_begin(struct supervisor *sup)
{
	char *errors = NULL;

	log_info("reloading %s", sup->children.settings->path);
	(void)sdnotify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_monotonic_us());
	sup->next = settings_load(sup->children.settings->path, &errors);
	if (sup->next == NULL) {
		if (errors != NULL)
			supervisor_log_lines(errors);
		free(errors);
		supervisor_reload_refused(sup);
		return;
	}
	free(errors);
	sup->check_pid = proc_fork(NULL, 0);
	if (sup->check_pid == 0) {
		proc_set_title("pgmqd: checking settings");
		exit(sup->children.roles->check(sup->next));
	}
	if (sup->check_pid == -1) {
		log_error("cannot fork: %s", strerror(errno));
		sup->check_pid = 0;
		supervisor_reload_refused(sup);
		return;
	}
	sup->check_until = sup->now + SUPERVISOR_CHECK_MS;
}

/* Says which of the new settings are not in force before pgmqd itself is started anew. */
static void supervisor_report_restart(const struct settings *old, const struct settings *s)
{
	for (const struct pgmqd_option *row = settings_global_options; row->name; row++)
		if ((row->type & OPTION_NEEDS_RESTART) && !option_equal(row, old, s))
			log_warn("%s:%u: %s has changed, and takes effect only when pgmqd is restarted", s->path,
				s->lines[row - settings_global_options], row->name);
}

/* Second half: the check is over. */
static void supervisor_reload_end(struct supervisor *sup, int status)
{
	struct settings *s = sup->next;
	struct plan plan;

	sup->check_pid = 0;
	if (sup->phase != PHASE_RUNNING) {
		settings_free(s);
		sup->next = NULL;
		return;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != PROC_EXIT_OK) {
		if (WIFSIGNALED(status))
			log_error("the check of the new settings ended with signal %d: a plugin of theirs is broken",
				WTERMSIG(status));
		supervisor_reload_refused(sup);
		return;
	}
	supervisor_report_restart(sup->children.settings, s);
	plan_make(&plan, s);
	sup->next = NULL; /* the children's now, also if they refuse it */
	if (children_adopt(&sup->children, s, &plan, sup->now) == -1) {
		supervisor_reload_refused(sup);
		return;
	}
	s = sup->children.settings;
	log_setup(s->log_level, s->log_format);
	atomic_fetch_add(&sup->stats->generation, 1);
	/* A reload before the first "ready" is part of the start. */
	supervisor_settle_begin(sup, sup->settling != NULL ? sup->settling : "reloaded");
}

/* Collects every process that has ended. */
static void supervisor_reap(struct supervisor *sup)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == sup->check_pid)
			supervisor_reload_end(sup, status);
		else
			(void)children_reaped(&sup->children, pid, status, sup->now);
}

/* First SIGTERM or SIGINT: workers drain. */
static void supervisor_stop(struct supervisor *sup)
{
	int64_t drain = sup->children.settings->drain_timeout;

	sup->phase = PHASE_STOP_WORKERS;
	sup->settling = NULL;
	sup->stop_at = sup->now;
	log_info("stopping: workers finish what they have in hand, for up to %lld s", (long long)(drain / 1000));
	(void)sdnotify_send("STOPPING=1\nSTATUS=draining");
	stats_state(sup->slot, STATE_DRAINING);
	if (sup->check_pid > 0)
		(void)kill(sup->check_pid, SIGKILL);
	children_stop_workers(&sup->children, sup->now, drain + CHILDREN_DRAIN_GRACE_MS);
}

/* Second one: everything leaves now. */
static void supervisor_hurry(struct supervisor *sup)
{
	log_warn("stopping at once: what is in hand is given back or claimed again when its time is up");
	children_hurry(&sup->children, sup->now, SUPERVISOR_HURRY_MS);
}

/* Goes through the stages of stopping: the listener and the control process leave when the last worker has. */
static void supervisor_stop_advance(struct supervisor *sup)
{
	int64_t left = sup->stop_at + sup->children.settings->drain_timeout - sup->now;

	if (sup->phase == PHASE_STOP_WORKERS && children_running(&sup->children, true) == 0) {
		sup->phase = PHASE_STOP_OTHERS;
		children_stop_others(&sup->children, sup->now, left > CHILDREN_GRACE_MS ? left : CHILDREN_GRACE_MS);
	}
	if (sup->phase == PHASE_STOP_OTHERS && children_running(&sup->children, false) == 0 && sup->check_pid == 0)
		sup->phase = PHASE_DONE;
}

/* Acts on the signals that came. */
static void supervisor_handle_signals(struct supervisor *sup, int *terms_seen)
{
	if (supervisor_chld) {
		supervisor_chld = 0;
		supervisor_reap(sup);
	}
	while (*terms_seen < supervisor_terms) {
		if (sup->phase == PHASE_RUNNING)
			supervisor_stop(sup);
		else
			supervisor_hurry(sup);
		++*terms_seen;
	}
	/* One that comes while a check is under way stays noted until that is over. */
	if (supervisor_hup && sup->check_pid == 0) {
		supervisor_hup = 0;
		if (sup->phase == PHASE_RUNNING)
			supervisor_reload_begin(sup);
	}
}

/* The work of each second. */
static void supervisor_tick(struct supervisor *sup)
{
	int64_t limit = sup->children.settings->watchdog > 0 ? sup->children.settings->watchdog : sup->watchdog_ms;

	if (sup->now >= sup->tick_at) {
		sup->tick_at = sup->now + SUPERVISOR_TICK_MS;
		stats_beat(sup->slot);
		if (sup->phase == PHASE_RUNNING && sup->settling == NULL)
			supervisor_status(sup, "");
	}
	if (sup->check_pid > 0 && sup->now >= sup->check_until) {
		log_error("the check of the new settings has not ended within %d s: a plugin of theirs hangs",
			SUPERVISOR_CHECK_MS / 1000);
		sup->check_until = INT64_MAX;
		(void)kill(sup->check_pid, SIGKILL);
	}
	if (sup->watchdog_ms > 0 && sup->now >= sup->watchdog_at) {
		/* A child that hangs is killed by us first; only when that does not help is systemd left to wait in
		 * vain. */
		if (children_beats(&sup->children, sup->now, limit + SUPERVISOR_STALL_MS)) {
			(void)sdnotify_send("WATCHDOG=1");
			sup->watchdog_at = sup->now + sup->watchdog_ms / 2;
		} else
			sup->watchdog_at = sup->now + SUPERVISOR_TICK_MS;
	}
}

/* Sleeps until something is due or a signal comes. */
static void supervisor_sleep(struct supervisor *sup)
{
	int64_t due = sup->tick_at, next = children_next(&sup->children);
	struct pollfd p = { .fd = supervisor_pipe[0], .events = POLLIN };

	if (next < due)
		due = next;
	if (sup->watchdog_ms > 0 && sup->watchdog_at < due)
		due = sup->watchdog_at;
	if (sup->check_pid > 0 && sup->check_until < due)
		due = sup->check_until;
	if (sup->settling != NULL && sup->now + SUPERVISOR_SETTLE_MS < due)
		due = sup->now + SUPERVISOR_SETTLE_MS;
	due -= clock_monotonic_ms();
	if (due < 0)
		due = 0;
	(void)poll(&p, 1, (int)due);
}

/* The loop. */
static void supervisor_loop(struct supervisor *sup)
{
	char noted[64];
	int terms_seen = 0;
	int64_t before = sup->now;

	while (sup->phase != PHASE_DONE) {
		while (read(supervisor_pipe[0], noted, sizeof noted) > 0)
			;
		sup->now = clock_monotonic_ms();
		if (sup->now - before > SUPERVISOR_STALL_MS)
			sup->awake_since = sup->now;
		before = sup->now;
		supervisor_handle_signals(sup, &terms_seen);
		if (children_check(&sup->children, sup->now, sup->awake_since) > 0)
			sup->killed = true;
		if (sup->phase == PHASE_RUNNING)
			children_start_due(&sup->children, sup->now);
		supervisor_settle(sup);
		supervisor_stop_advance(sup);
		supervisor_tick(sup);
		if (sup->phase != PHASE_DONE)
			supervisor_sleep(sup);
	}
}

/* Runs pgmqd until SIGTERM or SIGINT. */
int supervisor_run(struct settings *s, const struct proc_roles *roles)
{
	struct supervisor sup;
	int status = PROC_EXIT_CONFIG;

	memset(&sup, 0, sizeof sup);
	supervisor_terms = supervisor_hup = supervisor_chld = 0;
	proc_std_fds();
	proc_set_title("pgmqd: supervisor");
	log_context_set((struct log_context){ .process = "supervisor" });
	sdnotify_init();
	if (!supervisor_signals()) {
		settings_free(s);
		return status;
	}
	sup.stats = stats_create(SUPERVISOR_SLOTS);
	sup.slot = stats_take(sup.stats, ROLE_SUPERVISOR, "supervisor", NULL, NULL);
	atomic_store(&sup.slot->pid, (int)getpid());
	sup.now = sup.started_at = sup.awake_since = sup.tick_at = clock_monotonic_ms();
	atomic_store(&sup.slot->started_ms, sup.now);
	sup.watchdog_ms = sdnotify_watchdog_ms();
	sup.watchdog_at = sup.now;
	if (children_init(&sup.children, s, roles, sup.stats) == 0) {
		supervisor_settle_begin(&sup, "ready");
		supervisor_loop(&sup);
		log_info("stopped after %lld ms", (long long)(clock_monotonic_ms() - sup.stop_at));
		status = sup.killed ? PROC_EXIT_RESTART : PROC_EXIT_OK;
	}
	children_free(&sup.children);
	return status;
}
