/* plugin.c: a queue's shared object: found, checked, opened, its options filled in.
 *
 * A plugin runs with the daemon's rights, so the file and every directory above it must be writable by nobody but
 * root and the user that the daemon runs as.
 */
#include "config.h"

#include "settings/load.h"
#include "settings/option.h"
#include "worker/plugin.h"

#include "base/log.h"
#include "base/xalloc.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The smallest descriptor and option row that API 1 ever had. */
#define DESCRIPTOR_MIN offsetof(struct pgmqd_plugin, stop) + sizeof(void (*)(void *))
#define OPTION_MIN sizeof(struct pgmqd_option)

/* NULL, or who else could change this file or directory. */
static const char *writable_by(const struct stat *st)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "is owned by another user";
	if ((st->st_mode & S_IWOTH) && !(S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX)))
		return "is writable by everybody";
	if ((st->st_mode & S_IWGRP) && st->st_gid != 0 && !(S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX)))
		return "is writable by its group";
	return NULL;
}

/* Checks the open file and each directory above it. NULL, or a malloc'd reason. */
static char *check_trust(int fd, const char *path)
{
	char real[PATH_MAX], *slash;
	struct stat st;
	const char *why;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return xasprintf("%s is not a regular file", path);
	if ((why = writable_by(&st)) != NULL)
		return xasprintf("%s %s; make root or the daemon's user its owner and take the right away (chmod go-w)",
			path, why);
	if (!realpath(path, real))
		return xasprintf("%s: %s", path, strerror(errno));
	while ((slash = strrchr(real, '/')) != NULL) {
		slash[slash == real ? 1 : 0] = 0;
		if (stat(real, &st) != 0)
			return xasprintf("%s: %s", real, strerror(errno));
		if ((why = writable_by(&st)) != NULL)
			return xasprintf("%s, above the plugin %s, %s; a plugin must not be replaceable by others",
				real, path, why);
		if (slash == real)
			break;
	}
	return NULL;
}

/* Checks the descriptor that the object handed over and copies what both sides know. NULL, or a malloc'd reason. */
static char *negotiate(struct plugin *p, const struct pgmqd_plugin *d, const char *name)
{
	const char *bytes = (const char *)d;

	if (d->_api_version < 1 || d->_api_version > PGMQD_API_VERSION || d->_struct_size < DESCRIPTOR_MIN ||
		d->_option_size < OPTION_MIN)
		return xasprintf(
			"speaks plugin API %u; this is pgmqd %s with API 1 to %u: rebuild the plugin or upgrade pgmqd",
			d->_api_version, PACKAGE_VERSION, PGMQD_API_VERSION);
	for (size_t i = sizeof(p->d); i < d->_struct_size; i++)
		if (bytes[i])
			return xasprintf("uses features that pgmqd %s does not have: upgrade pgmqd", PACKAGE_VERSION);
	memcpy(&p->d, d, d->_struct_size < sizeof(p->d) ? d->_struct_size : sizeof(p->d));
	if (!p->d.name || !p->d.deliver)
		return xstrdup("has no name or no deliver() in its descriptor");
	if (name[0] != '/' && strcmp(p->d.name, name) != 0)
		return xasprintf("calls itself \"%s\"; the name must be that of the file", p->d.name);
	if (!p->d.version)
		p->d.version = "0";
	return NULL;
}

/* Copies the option table, whose rows may be longer than ours. */
static void copy_options(struct plugin *p)
{
	const char *row = (const char *)p->d.options;
	size_t n = 0, size = p->d._option_size;

	if (row)
		while (((const struct pgmqd_option *)(const void *)(row + n * size))->name)
			n++;
	p->options = xcalloc(n + 1, sizeof(*p->options));
	for (size_t i = 0; i < n; i++)
		memcpy(&p->options[i], row + i * size, sizeof(*p->options));
}

/* Says that the file is not there, and which plugin of its directory may have been meant; malloc'd. */
static char *not_there(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');
	char *where = xasprintf("%.*s", (int)(slash - path), path);
	DIR *dir = *name == '/' ? NULL : opendir(where);
	struct option_guess g = { 0 };
	char known[NAME_MAX + 1], best[NAME_MAX + 1] = "";
	const struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (settings_plugin_name(e->d_name, known, sizeof(known))) {
			option_guess_word(&g, known, name);
			if (g.name == known)
				g.name = strcpy(best, known);
		}
	if (dir)
		closedir(dir);
	free(where);
	return xasprintf("there is no file %s%s%s%s; install the plugin or set plugin_dir", path,
		g.name ? " (did you mean " : "", g.name ? g.name : "", g.name ? "?)" : "");
}

/* Opens the object by its checked descriptor. NULL, or a malloc'd reason. */
static char *open_object(struct plugin *p, const char *name)
{
	struct pgmqd_plugin *(*init)(void);
	char self[32], *error;
	int fd = open(p->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? not_there(p->path, name)
		                       : xasprintf("cannot open %s: %s", p->path, strerror(errno));
	if ((error = check_trust(fd, p->path)) != NULL) {
		close(fd);
		return error;
	}
	/* through the descriptor: what was checked is what is opened */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	p->dl = dlopen(self, RTLD_NOW | RTLD_LOCAL);
	if (!p->dl && access("/proc/self/fd", F_OK) != 0)
		p->dl = dlopen(p->path, RTLD_NOW | RTLD_LOCAL);
	if (!p->dl) {
		close(fd);
		return xasprintf("cannot be loaded: %s", dlerror());
	}
	/* it stays open: the loader knows objects by name, and another plugin must not come by this one's */
	*(void **)&init = dlsym(p->dl, "pgmqd_plugin_init");
	if (!init)
		return xasprintf(
			"%s is no pgmqd plugin: it has no pgmqd_plugin_init (PGMQD_REGISTER_PLUGIN defines it)",
			p->path);
	return negotiate(p, init(), name);
}

struct plugin *plugin_open(const struct settings *s, const char *name, char **error)
{
	struct plugin *p = xcalloc(1, sizeof(*p));

	p->path = settings_plugin_path(s, name);
	if ((*error = open_object(p, name)) != NULL) {
		plugin_free(p);
		return NULL;
	}
	copy_options(p);
	return p;
}

char *plugin_void_options(const struct plugin *p, const struct queue_settings *q)
{
	int64_t deadline = q->deadline ? q->deadline : 10 * q->visibility_timeout;
	char *all = NULL;

	if (q->batch > 1 && !p->d.deliver_batch)
		settings_error(&all, "batch = %llu is of no use: the plugin %s takes messages one by one only",
			(unsigned long long)q->batch, p->d.name);
	if (q->batch > 1 && q->max_attempts <= 1)
		settings_error(&all,
			"batch = %llu is of no use with max_attempts = 1: a crash of the plugin costs each "
			"message of a batch an attempt, so each goes alone",
			(unsigned long long)q->batch);
	for (const struct pgmqd_option *row = p->options; row->name; row++) {
		size_t n = strlen(row->name);
		char *value;

		if (option_find(settings_queue_options, row->name)) {
			settings_error(&all,
				"the plugin's option %s has the name of one of pgmqd's, which takes the value: "
				"the plugin must give it another name",
				row->name);
			continue;
		}
		if (option_type(row) != PGMQD_DURATION || n < 7 || strcmp(row->name + n - 7, "timeout") != 0 ||
			strcmp(row->name, "idle_timeout") == 0 ||
			*(const int64_t *)(const void *)((const char *)p->handle + row->offset) <= deadline)
			continue;
		value = option_print(row, p->handle);
		settings_error(&all,
			"%s = %s is never reached: an attempt ends at the queue's deadline of "
			"%lld s (deadline, or ten times visibility_timeout)",
			row->name, value, (long long)deadline / 1000);
		free(value);
	}
	return all;
}

struct plugin *plugin_load(const struct settings *s, const struct queue_settings *q, char **errors)
{
	struct log_context former;
	struct plugin *p;
	char *why;
	int rc = 0;

	*errors = NULL;
	if ((p = plugin_open(s, q->plugin, &why)) == NULL) {
		*errors = xasprintf(
			"%s:%u: queue \"%s\": plugin \"%s\": %s", s->path, q->line, q->name, q->plugin, why);
		free(why);
		return NULL;
	}
	p->handle = xcalloc(1, p->d.handle_size ? p->d.handle_size : 1);
	if ((*errors = settings_plugin_options(s, q, p->options, p->handle)) != NULL) {
		plugin_free(p);
		return NULL;
	}
	former = log_context_set((struct log_context){ .process = "worker", .queue = q->name, .plugin = p->d.name });
	if (p->d.config_complete)
		rc = p->d.config_complete(p->handle);
	log_context_set(former);
	if (rc != 0) {
		*errors = xasprintf("%s:%u: queue \"%s\": plugin \"%s\" refuses its options (see the line before)",
			s->path, q->line, q->name, q->plugin);
		plugin_free(p);
		return NULL;
	}
	return p;
}

void plugin_free(struct plugin *p)
{
	if (!p)
		return;
	if (p->handle && p->options)
		option_free(p->options, p->handle);
	free(p->handle);
	free(p->options);
	free(p->path);
	free(p);
}

int plugin_check(const struct settings *s, const struct queue_settings *q, char **errors)
{
	struct plugin *p = plugin_load(s, q, errors);

	if (!p)
		return -1;
	plugin_free(p);
	return 0;
}
