/* local.c: the checks of `pgmqd doctor` that need no database: settings, plugins and what they need, templates. */
#include "config.h"

#include "base/clock.h"
#include "base/lines.h"
#include "cmd/doctor/local.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "cmd/doctor/finding.h"
#include "process/stats.h"
#include "settings/env.h"
#include "settings/load.h"
#include "settings/settings.h"
#include "template/template.h"
#include "worker/plugin.h"
#include "worker/plugin_call.h"
#include "worker/plugin_check.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLUGIN_MS 45000

/* ---- settings ---- */

/* Tells of each line of errors. */
static void tell_errors(struct doctor *d, char *errors)
{
	char *rest = errors, *line;

	while ((line = lines_next(&rest)) != NULL)
		doctor_report(d, PGMQD_CHECK_FAIL, "",
			xstrdup(strstr(line, "there is no such settings file")
					? "pgmqd init -d CONNINFO writes one; -c names "
					  "another"
					: "correct this line; pgmqd.conf(5) says what it may contain"),
			NULL, "%s", line);
	free(errors);
}

/* Whether other machines can reach an address of http_listen. */
static bool listens_beyond(const char *address)
{
	static const char *const here[] = { "off", "unix:", "127.", "[::1]", "localhost" };

	for (size_t i = 0; i < sizeof(here) / sizeof(*here); i++)
		if (strncmp(address, here[i], strlen(here[i])) == 0)
			return false;
	return true;
}

void doctor_settings(struct doctor *d)
{
	struct sqltext names = { 0 };
	char *error = NULL;

	settings_free(d->db.settings);
	d->db.settings = NULL;
	free(d->queues);
	d->queues = NULL;
	if (d->db.env_file && (error = settings_env_file(d->db.env_file)) != NULL) {
		tell_errors(d, error);
		return;
	}
	if (!d->db.conf && d->db.database) {
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL,
			"none are read (-d without -c): queues are those of the database, plugins are not checked");
		return;
	}
	d->db.settings = settings_load(d->db.conf, &error);
	if (!d->db.settings) {
		tell_errors(d, error);
		return;
	}
	for (size_t i = 0; i < d->db.settings->nqueues; i++)
		sqltext_str(&names, d->db.settings->queues[i].name);
	d->queues = xstrdup(sqltext_end(&names));
	sqltext_free(&names);
	d->have |= DOCTOR_SETTINGS;
	if (!d->db.database && (error = check_database(d->db.settings)))
		tell_errors(d, error);
	if (d->db.settings->nqueues == 0)
		doctor_report(d, PGMQD_CHECK_FAIL, "",
			xstrdup("add a section [queue NAME] for each queue; pgmqd run --sample shows one"), NULL,
			"%s names no queue, so there is nothing to do", d->db.settings->path);
	else
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL, "%s: %zu queue%s", d->db.settings->path,
			d->db.settings->nqueues, d->db.settings->nqueues == 1 ? "" : "s");
	if (listens_beyond(d->db.settings->http_listen) && !*d->db.settings->http_token &&
		!*d->db.settings->http_people)
		doctor_report(d, PGMQD_CHECK_FAIL, "",
			xstrdup("set http_token (PGMQD_HTTP_TOKEN), or http_listen to an address of this machine"),
			NULL, "http_listen = %s can be reached from other machines, and there is no http_token",
			d->db.settings->http_listen);
	if (d->db.settings->world_readable)
		doctor_report(d, PGMQD_CHECK_WARN, "", xasprintf("chmod o-r %s", d->db.settings->path), NULL,
			"everybody on this machine can read %s", d->db.settings->path);
}

/* ---- plugins ---- */

/* Runs in a process of its own: loads a queue's plugin and has it check its surroundings. Its log goes to the same
 * pipe. */
static void ask_plugin(const struct settings *s, const struct queue_settings *q, int fd)
{
	struct pgmqd_check c;
	struct plugin *p;
	char *errors;

	dup2(fd, STDERR_FILENO);
	c.out = fdopen(fd, "w");
	p = c.out ? plugin_load(s, q, &errors) : NULL;
	if (!c.out)
		_exit(1);
	if (!p) {
		fprintf(c.out, "!%s\n", errors);
	} else {
		fprintf(c.out, "+%s %s, %s\n", p->d.name, p->d.version, p->path);
		fflush(c.out);
		if (p->d.check)
			p->d.check(p->handle, &c);
	}
	fflush(c.out);
	_exit(0); /* nothing of the parent's is to be flushed or freed here */
}

/* Reads all that the process has to say within its time; the rest is killed. The status is as from waitpid(2). */
static char *collect(pid_t pid, int fd, int *status)
{
	int64_t end = clock_monotonic_ms() + PLUGIN_MS;
	size_t len = 0, room = 4096;
	char *text = xmalloc(room);
	ssize_t n = 1;

	while (n > 0 || (n < 0 && errno == EINTR)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = end - clock_monotonic_ms();

		if (left <= 0 || poll(&p, 1, (int)left) == 0)
			break;
		if (room - len < 2)
			text = xrealloc(text, room *= 2, 1);
		n = read(fd, text + len, room - len - 1);
		if (n > 0)
			len += (size_t)n;
	}
	text[len] = 0;
	if (n != 0) /* it has not come to its end by itself */
		kill(pid, SIGKILL);
	close(fd);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	return text;
}

/* A finding of the plugin's own. */
static void tell_found(struct doctor *d, const struct queue_settings *q, const char *line)
{
	cJSON *o = cJSON_Parse(line);
	const cJSON *status = cJSON_GetObjectItemCaseSensitive(o, "status");
	const char *seen = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "seen"));
	const char *remedy = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "remedy"));

	if (cJSON_IsNumber(status) && seen)
		doctor_report(d, status->valueint, q->name, xstrdup(remedy), NULL, "%s", seen);
	cJSON_Delete(o);
}

/* The remedy for a plugin that does not load; most errors name it themselves. */
static char *load_remedy(const struct settings *s, const struct queue_settings *q, const char *error)
{
	char *path = settings_plugin_path(s, q->plugin), *text;

	if (strstr(error, "there is no file"))
		text = xasprintf("install the plugin as %s, or set plugin_dir in %s to where it is", path, s->path);
	else if (strstr(error, "writable by") || strstr(error, "owned by another") || strstr(error, "replaceable"))
		text = xasprintf(
			"install the file anew, since anybody may have changed it, then chown root %s && chmod go-w"
			" %s",
			path, path);
	else if (strstr(error, "plugin API") || strstr(error, "upgrade pgmqd"))
		text = xasprintf("build %s against this pgmqd", path);
	else
		text = xasprintf("correct the section [queue %s] of %s, then check it by pgmqd run --check -c %s",
			q->name, s->path, s->path);
	free(path);
	return text;
}

/* One queue's plugin. */
static void check_plugin(struct doctor *d, const struct queue_settings *q)
{
	const struct settings *s = d->db.settings;
	char *text, *rest, *line, *last = NULL;
	bool told = false;
	int fds[2], status = 0;
	pid_t pid;

	fflush(NULL);
	if (pipe(fds) != 0 || (pid = fork()) < 0) {
		doctor_report(d, PGMQD_CHECK_FAIL, q->name, xstrdup("raise the limits of processes and open files"),
			NULL, "no process can be made: %s", strerror(errno));
		return;
	}
	if (pid == 0) {
		close(fds[0]);
		ask_plugin(s, q, fds[1]);
	}
	close(fds[1]);
	text = rest = collect(pid, fds[0], &status);
	while ((line = lines_next(&rest)) != NULL) {
		if (*line == '+') {
			doctor_report(d, PGMQD_CHECK_OK, q->name, NULL, NULL, "%s", line + 1);
			told = true;
		} else if (*line == '{') {
			tell_found(d, q, line);
		} else if (*line == '!') {
			doctor_report(d, PGMQD_CHECK_FAIL, q->name, load_remedy(s, q, line), NULL, "%s%s%s", line + 1,
				last ? "; " : "", last ? last : "");
			told = true;
		} else {
			last = line;
		}
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		doctor_report(d, PGMQD_CHECK_FAIL, q->name, xstrdup("report it to the plugin's author"), NULL,
			"the plugin \"%s\" crashed (%s) when it was %s", q->plugin, strsignal(WTERMSIG(status)),
			told ? "asked what it needs" : "loaded");
	else if (WIFSIGNALED(status))
		doctor_report(d, PGMQD_CHECK_FAIL, q->name, xstrdup("see whether what the plugin talks to answers"),
			NULL, "the plugin \"%s\" was still %s after %d s", q->plugin,
			told ? "looking round" : "loading", PLUGIN_MS / 1000);
	free(text);
}

void doctor_plugins(struct doctor *d)
{
	for (size_t i = 0; i < d->db.settings->nqueues; i++)
		check_plugin(d, &d->db.settings->queues[i]);
}

/* ---- templates ---- */

/* One template that is rendered as a trial. */
struct trial {
	struct doctor *d;
	struct template_set *set;
	const char *dir;
	size_t good, without;
};

/* The sample data of a template: NAME.LANG.json, else NAME.json. NULL when there is none; malloc'd name in *path. */
static cJSON *read_sample(const char *dir, const char *name, const char *lang, char **path)
{
	for (int i = 0; i < 2; i++) {
		char *text = NULL;
		size_t size = 0;
		cJSON *vars;
		FILE *f;

		*path = i == 0 ? xasprintf("%s/samples/%s.%s.json", dir, name, lang)
		               : xasprintf("%s/samples/%s.json", dir, name);
		f = fopen(*path, "re");
		if (f && getdelim(&text, &size, '\0', f) > 0) {
			vars = cJSON_Parse(text);
			free(text);
			fclose(f);
			return vars ? vars : cJSON_CreateNull();
		}
		free(text);
		if (f)
			fclose(f);
		free(*path);
	}
	*path = NULL;
	return NULL;
}

/* One template in one language. */
static void try_template(void *arg, const char *name, const char *lang)
{
	struct trial *t = arg;
	struct template_result r;
	char *path, *subject = xasprintf("%s/%s", lang, name);
	cJSON *vars = read_sample(t->dir, name, lang, &path);

	if (!vars) {
		t->without++;
	} else if (!cJSON_IsObject(vars)) {
		doctor_report(t->d, PGMQD_CHECK_WARN, subject, xasprintf("correct %s", path), NULL,
			"%s is no JSON object, so the template was not tried", path);
	} else if (template_render(t->set, name, lang, vars, &r) != 0) {
		doctor_report(t->d, PGMQD_CHECK_FAIL, subject,
			xasprintf("correct the template, or its sample %s; pgmqd render %s --lang %s --data %s"
				  " --template-dir %s shows it",
				path, name, lang, path, t->dir),
			NULL, "%s", r.error);
		template_result_free(&r);
	} else {
		t->good++;
		template_result_free(&r);
	}
	cJSON_Delete(vars);
	free(path);
	free(subject);
}

void doctor_templates(struct doctor *d)
{
	const struct settings *s = d->db.settings;
	struct trial t = { .d = d, .dir = s->template_dir };
	cJSON *brand;
	size_t before = d->nfindings;
	bool mails = false;
	char *error = NULL;

	for (size_t i = 0; i < s->nqueues; i++)
		mails = mails || strcmp(s->queues[i].plugin, "email") == 0;
	brand = settings_brand(s);
	t.set = template_load(
		&(struct template_source){
			.dir = t.dir, .below = template_shipped(), .default_lang = s->default_lang, .brand = brand },
		&error);
	cJSON_Delete(brand);
	if (!t.set) {
		if (mails || access(t.dir, F_OK) == 0)
			doctor_report(d, PGMQD_CHECK_FAIL, "",
				xasprintf("correct the file, or set template_dir in %s to where the templates are",
					s->path),
				NULL, "%s", error);
		else
			doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL, "there are none, and no queue sends mails");
		free(error);
		return;
	}
	template_each(t.set, try_template, &t);
	if (t.good + t.without == 0 && d->nfindings == before)
		doctor_report(d, mails ? PGMQD_CHECK_WARN : PGMQD_CHECK_OK, "",
			mails ? xstrdup("set template_dir to where the templates are") : NULL, NULL,
			"there is no template in %s", t.dir);
	else if (t.good + t.without)
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL,
			"%zu rendered with their sample data, %zu have none, in %s", t.good, t.without, t.dir);
	template_free(t.set);
}
