/* child.c: the process that runs one version of a plugin over messages: the host of `pgmqd plugin test` with recorded
 * answers of servers (stub.c), a database that keeps nothing (statements.c) and directories of its own (files.c). One
 * message at a time, so that an effect, or a crash, is that message's.
 */
#include "config.h"

#include "cmd/replay/child.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "cmd/plugin/host.h"
#include "cmd/replay/files.h"
#include "cmd/replay/sandbox.h"
#include "cmd/replay/statements.h"
#include "cmd/replay/stub.h"
#include "worker/plugin.h"
#include "worker/plugin_call.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct child {
	const struct child_task *task;
	struct host host;
	struct statements *statements;
	char *dir, *files, *kept;
	FILE *records;
	struct queue_file_message given; /* the message at hand */
	size_t next, at;
	bool has_outcome;
	cJSON *record, *effects; /* of the message at hand; NULL: there is none */
	double began_ms;
};

/* Prints why nothing can be run; the exit status. */
static int refuse(const char *name, char *why)
{
	fprintf(stderr, "pgmqd replay: the %s version: %s\n", name, why);
	free(why);
	return CHILD_REFUSED;
}

/* The time that has passed, which no skipping of timers changes. */
static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Tells the parent. */
static void tell(const struct child *c, const struct replay_note *note)
{
	if (write(c->task->tell, note, sizeof(*note)) != (ssize_t)sizeof(*note))
		_exit(1);
}

/* Something that the plugin did. */
static void child_effect(void *arg, cJSON *effect)
{
	struct child *c = arg;

	if (c->effects)
		cJSON_AddItemToArray(c->effects, effect);
	else
		cJSON_Delete(effect);
}

/* Writes down the message at hand, whose effects are complete. */
static void child_record(struct child *c)
{
	struct replay_note note = { .recorded = 1, .message = c->at };
	char *text;

	if (!c->record || !c->has_outcome)
		return;
	if (c->statements)
		statements_undo(c->statements);
	files_take(c->files, c->kept, child_effect, c);
	text = cJSON_PrintUnformatted(c->record);
	note.len = (int32_t)strlen(text);
	note.at = ftello(c->records);
	if (fprintf(c->records, "%s\n", text) < 0 || fflush(c->records) != 0) {
		fprintf(stderr, "pgmqd replay: cannot write to %s: %s\n", c->dir, strerror(errno));
		_exit(CHILD_REFUSED);
	}
	tell(c, &note);
	free(text);
	cJSON_Delete(c->record);
	c->record = c->effects = NULL;
}

/* The next message, or NULL. */
static struct queue_file_message *child_next(void *arg)
{
	struct child *c = arg;
	const struct replay_messages *all = c->task->messages;
	struct replay_note note = { 0 };
	const struct replay_message *m;

	if (c->record && !c->has_outcome)
		return NULL;
	child_record(c);
	while (c->next < all->n && (c->next % c->task->version->nprocesses != c->task->process ||
					   c->task->version->records[c->next].state != REPLAY_OPEN))
		c->next++;
	if (c->next >= all->n) {
		host_finish(&c->host);
		return NULL;
	}
	m = &all->list[c->at = c->next++];
	c->given = (struct queue_file_message){
		.id = m->number, .attempt = 1, .enqueued_us = m->enqueued_us, .text = m->text, .headers = m->headers
	};
	note.message = c->at;
	tell(c, &note);
	c->has_outcome = false;
	c->record = cJSON_CreateObject();
	cJSON_AddNumberToObject(c->record, "message", (double)m->id);
	c->effects = cJSON_AddArrayToObject(c->record, "effects");
	c->began_ms = now_ms();
	return &c->given;
}

/* Records a statement. */
static void record_statement(
	struct child *c, const char *sql, int nparams, const char *const *params, bool with_outcome, const char *answer)
{
	cJSON *e = cJSON_CreateObject(), *list;

	cJSON_AddStringToObject(e, "kind", "statement");
	cJSON_AddStringToObject(e, "sql", sql);
	list = cJSON_AddArrayToObject(e, "params");
	for (int i = 0; i < nparams; i++)
		cJSON_AddItemToArray(list, params[i] ? cJSON_CreateString(params[i]) : cJSON_CreateNull());
	if (with_outcome)
		cJSON_AddTrueToObject(e, "with_outcome");
	cJSON_AddStringToObject(e, "answer", answer);
	child_effect(c, e);
}

/* Runs a plugin's statement: by the recorded answers, else in the database. */
static void run_statement(struct child *c, const char *sql, int nparams, const char *const *params, bool with_outcome,
	struct answer *reply)
{
	const cJSON *found = answers_find(c->task->way->answers, "match", sql);
	bool refused = false;

	if (found) {
		answers_reply(found, reply);
	} else if (c->statements) {
		refused = !statements_run(c->statements, sql, nparams, params, reply);
	} else {
		reply->error = xstrdup("there is no database here; --answers FILE says what it would answer");
		strcpy(reply->sqlstate, "XX000");
	}
	record_statement(c, sql, nparams, params, with_outcome,
		refused        ? "not run: it writes"
		: reply->error ? reply->error
		: found        ? "as in --answers"
			       : "ok");
}

/* The answer of a database that is not there. */
static void child_answer(void *arg, const char *sql, int nparams, const char *const *params, struct answer *reply)
{
	run_statement(arg, sql, nparams, params, false, reply);
}

/* Runs the statement that commits together with the archive. */
static void run_with_outcome(struct child *c, const struct pgmqd_msg *m)
{
	char **params = xcalloc((size_t)m->nparams + 1, sizeof(*params));
	struct answer reply = { 0 };

	for (int i = 0; i < m->nparams; i++) {
		struct sqltext array = { 0 };

		if (m->shared)
			sqltext_str(&array, m->params[i]);
		params[i] = xstrdup(m->shared ? sqltext_end(&array) : m->params[i]);
		sqltext_free(&array);
	}
	run_statement(c, m->sql, m->nparams, (const char *const *)params, true, &reply);
	PQclear(reply.res);
	free(reply.error);
	for (int i = 0; i < m->nparams; i++)
		free(params[i]);
	free(params);
}

/* Records the messages that the plugin sends along with its outcome; in a replay they go nowhere. */
static void record_messages(struct child *c, const struct pgmqd_msg *m)
{
	char *list = xasprintf("[%s]", m->sends ? m->sends : "");
	cJSON *json = cJSON_Parse(list), *e;

	while (json && (e = cJSON_DetachItemFromArray(json, 0)) != NULL) {
		cJSON_AddStringToObject(e, "kind", "message");
		child_effect(c, e);
	}
	cJSON_Delete(json);
	free(list);
}

/* The message at hand got its outcome. */
static void child_outcome(void *arg, const struct pgmqd_msg *m)
{
	struct child *c = arg;
	cJSON *o;

	if (m->outcome == OUT_RELEASE && !m->started_us) { /* the queue paused before the plugin saw it */
		c->next = c->at;
		c->has_outcome = true;
		cJSON_Delete(c->record);
		c->record = c->effects = NULL;
		host_again(&c->host);
		return;
	}
	if (m->outcome == OUT_DONE_WITH)
		run_with_outcome(c, m);
	record_messages(c, m);
	o = host_outcome(m);
	cJSON_DeleteItemFromObject(o, "id");
	cJSON_DeleteItemFromObject(o, "attempt");
	cJSON_DeleteItemFromObject(o, "sql");
	cJSON_DeleteItemFromObject(o, "params");
	cJSON_DeleteItemFromObject(o, "sends");
	if (m->cancelled)
		cJSON_ReplaceItemInObject(o, "outcome", cJSON_CreateString("none"));
	cJSON_AddItemToObject(c->record, "outcome", o);
	cJSON_AddNumberToObject(c->record, "ms", now_ms() - c->began_ms);
	c->has_outcome = true;
	host_again(&c->host);
}

/* Loads the plugin with settings that fit a replay. NULL with *why. */
static struct plugin *load(struct child *c, char **why)
{
	struct replay_version *v = c->task->version;
	struct plugin *p = plugin_load(v->settings, v->queue, why);
	size_t changed;

	if (!p)
		return NULL;
	changed = files_divert(p, v->queue, c->files);
	if (!changed)
		return p;
	plugin_free(p);
	return plugin_load(v->settings, v->queue, why);
}

/* Makes the directories of this process, which a former process in its place may have made. */
static void make_directories(struct child *c)
{
	char *records;

	c->dir = xasprintf("%s/%s.%u", c->task->way->scratch, c->task->version->name, c->task->process);
	c->files = xasprintf("%s/files", c->dir);
	c->kept = xasprintf("%s/kept", c->dir);
	records = xasprintf("%s/records", c->dir);
	(void)mkdir(c->dir, 0700);
	(void)mkdir(c->files, 0700);
	(void)mkdir(c->kept, 0700);
	c->records = fopen(records, "ae");
	if (!c->records || chdir(c->dir) != 0 || setenv("TMPDIR", c->dir, 1) != 0)
		exit(refuse(c->task->version->name, xasprintf("cannot write to %s: %s", c->dir, strerror(errno))));
	(void)fseeko(c->records, 0, SEEK_END);
	free(records);
}

/* Runs the plugin over the messages. */
static int run(struct child *c, struct plugin *p)
{
	static const struct queue_file_source source = {
		.next = child_next, .outcome = child_outcome, .answer = child_answer
	};
	struct replay_version *v = c->task->version;
	struct stub *stub;
	int status = 0;

	c->host.skip_time = c->host.own_sockets = true;
	host_open(&c->host, v->settings, v->queue, p, &source, c);
	stub = stub_new(c->host.base, c->host.transfers, c->task->way->answers, child_effect, c);
	if (host_start(&c->host))
		host_run(&c->host);
	else
		status = refuse(v->name, xstrdup("the plugin's start() refused (--log error says why)"));
	child_record(c);
	stub_free(stub);
	host_close(&c->host);
	return status;
}

int child_main(const struct child_task *task)
{
	struct child c = { .task = task };
	const char *open_files = NULL;
	struct plugin *p;
	char *why = NULL;
	int status;

	make_directories(&c);
	if (task->way->conninfo && !(c.statements = statements_open(task->way, &why)))
		return refuse(task->version->name, why);
	if (!(p = load(&c, &why)))
		return refuse(task->version->name, why);
	if ((why = sandbox_close(c.dir, &open_files)) != NULL)
		return refuse(task->version->name, why);
	if (open_files)
		log_warn("files that the plugin writes past its directories are not kept in: %s", open_files);
	status = run(&c, p);
	statements_close(c.statements);
	fclose(c.records);
	free(c.dir);
	free(c.files);
	free(c.kept);
	return status;
}
