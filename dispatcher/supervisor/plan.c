/* plan.c: turns settings into units (one worker process each), and tells what a reload has to replace. */
#include "config.h"

#include "base/hash.h"
#include "base/xalloc.h"
#include "settings/check.h"
#include "supervisor/plan.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLAN_TEMPLATE_SUFFIX ".mustache"

static uint64_t plan_tree_hash; /* nftw() passes no argument */

/* Mixes a file's identity into a hash: a rebuilt or replaced file differs in at least one of these. */
static uint64_t plan_hash_stat(uint64_t hash, const struct stat *st)
{
	uint64_t id[5] = { (uint64_t)st->st_dev, (uint64_t)st->st_ino, (uint64_t)st->st_size,
		(uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec };

	return hash_add(hash, id, sizeof id);
}

/* nftw() callback: adds a file of a tree; a sum, as the order of a directory is none. */
static int plan_tree_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	size_t len = strlen(path);

	(void)ftw;
	if (type == FTW_F && len > sizeof PLAN_TEMPLATE_SUFFIX - 1 &&
		strcmp(path + len - (sizeof PLAN_TEMPLATE_SUFFIX - 1), PLAN_TEMPLATE_SUFFIX) == 0)
		plan_tree_hash += plan_hash_stat(hash_add(HASH_START, path, len), st);
	return 0;
}

/* One value for all templates: a worker compiles them once, so an edited one needs a new worker. */
static uint64_t plan_templates(const struct settings *s)
{
	plan_tree_hash = 0;
	if (s->template_dir != NULL && *s->template_dir != '\0')
		(void)nftw(s->template_dir, plan_tree_file, 8, 0);
	return plan_tree_hash;
}

/* Stands for a queue's plugin file; 0 when there is none (the worker will say so). */
static uint64_t plan_plugin_file(const struct settings *s, const struct queue_settings *q)
{
	char *path = settings_plugin_path(s, q->plugin);
	struct stat st;
	uint64_t hash = stat(path, &st) == 0 ? plan_hash_stat(HASH_START, &st) : 0;

	free(path);
	return hash;
}

/* "email" for email as well as for /opt/x/pgmqd-email-plugin.so. */
const char *plan_plugin_name(const struct queue_settings *q, char *buf, size_t size)
{
	const char *name = q->plugin != NULL ? q->plugin : "", *slash = strrchr(name, '/');

	if (slash == NULL || !settings_plugin_name(slash + 1, buf, size))
		snprintf(buf, size, "%s", slash != NULL ? slash + 1 : name);
	return buf;
}

/* Whether a queue belongs to a group. */
static bool plan_grouped(const struct queue_settings *q)
{
	return q->group != NULL && *q->group != '\0';
}

/* Appends an empty unit and takes over `name`. */
static struct proc_unit *plan_add_unit(struct plan *p, char *name)
{
	struct proc_unit *u;

	p->units = xrealloc(p->units, p->nunits + 1, sizeof *p->units);
	u = &p->units[p->nunits++];
	memset(u, 0, sizeof *u);
	u->name = name;
	u->wake[0] = u->wake[1] = -1;
	return u;
}

/* Appends a queue to a unit. */
static void plan_add_queue(struct proc_unit *u, const struct settings *s, const struct queue_settings *q)
{
	uint64_t file = plan_plugin_file(s, q);

	u->queues = xrealloc(u->queues, u->nqueues + 1, sizeof *u->queues);
	u->queues[u->nqueues++] = q;
	u->files = hash_add(u->files, &file, sizeof file);
}

/* The unit of that name, or NULL. */
static struct proc_unit *plan_find(struct plan *p, const char *name)
{
	size_t i;

	for (i = 0; i < p->nunits; i++)
		if (strcmp(p->units[i].name, name) == 0)
			return &p->units[i];
	return NULL;
}

/* Makes the units, in the order of the file; settings_check_queue() has seen to it that they can be carried out. */
void plan_make(struct plan *p, const struct settings *s)
{
	uint64_t templates = plan_templates(s), n;
	const struct queue_settings *q;
	struct proc_unit *u;
	char *name;
	size_t i;

	memset(p, 0, sizeof *p);
	for (i = 0; i < s->nqueues; i++) {
		q = &s->queues[i];
		if (plan_grouped(q)) {
			name = xasprintf("group:%s", q->group);
			if ((u = plan_find(p, name)) == NULL)
				u = plan_add_unit(p, name);
			else
				free(name);
			plan_add_queue(u, s, q);
		} else if (q->processes <= 1)
			plan_add_queue(plan_add_unit(p, xstrdup(q->name)), s, q);
		else
			for (n = 1; n <= q->processes; n++)
				plan_add_queue(
					plan_add_unit(p, xasprintf("%s/%llu", q->name, (unsigned long long)n)), s, q);
	}
	for (i = 0; i < p->nunits; i++)
		p->units[i].files = hash_add(p->units[i].files, &templates, sizeof templates);
}

/* Frees what a unit owns. */
void plan_unit_free(struct proc_unit *u)
{
	int i;

	free(u->name);
	free(u->queues);
	free(u->slots);
	for (i = 0; i < 2; i++)
		if (u->wake[i] >= 0)
			close(u->wake[i]);
	memset(u, 0, sizeof *u);
	u->wake[0] = u->wake[1] = -1;
}

/* Frees the plan. */
void plan_free(struct plan *p)
{
	size_t i;

	for (i = 0; i < p->nunits; i++)
		if (p->units[i].name != NULL)
			plan_unit_free(&p->units[i]);
	free(p->units);
	memset(p, 0, sizeof *p);
}

/* Compares two units queue by queue. */
bool plan_unit_equal(const struct proc_unit *a, const struct proc_unit *b)
{
	size_t i;

	if (strcmp(a->name, b->name) != 0 || a->nqueues != b->nqueues || a->files != b->files)
		return false;
	for (i = 0; i < a->nqueues; i++)
		if (!settings_queue_equal(a->queues[i], b->queues[i]))
			return false;
	return true;
}

/* Compares the global settings that workers read. */
bool plan_globals_equal(const struct settings *a, const struct settings *b)
{
	for (const struct pgmqd_option *row = settings_global_options; row->name; row++)
		if (!(row->type & (OPTION_RELOADS | OPTION_NEEDS_RESTART)) && !option_equal(row, a, b))
			return false;
	return true;
}

/* Lists a unit's queues. */
char *plan_unit_queues(const struct proc_unit *u)
{
	char *text = xstrdup(""), *longer;
	size_t i;

	for (i = 0; i < u->nqueues; i++) {
		longer = xasprintf("%s%s%s", text, i > 0 ? ", " : "", u->queues[i]->name);
		free(text);
		text = longer;
	}
	return text;
}
