/* files.c: directories that a replayed plugin writes to. */
#include "config.h"

#include "cmd/replay/files.h"

#include "base/hash.h"
#include "base/xalloc.h"
#include "settings/settings.h"
#include "worker/plugin.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 1000 /* a directory with more files is a store: what is in it is not what a plugin starts from */

void files_add_pair(struct queue_settings *q, const char *key, const char *value)
{
	q->pairs = xrealloc(q->pairs, q->npairs + 1, sizeof(*q->pairs));
	q->pairs[q->npairs++] = (struct settings_pair){ .key = xstrdup(key), .value = xstrdup(value), .line = 0 };
}

/* Shows in `to` what is in `from`. */
static void link_entries(const char *from, const char *to)
{
	DIR *d = opendir(from);
	const struct dirent *e;
	unsigned n = 0;

	while (d && (e = readdir(d)) != NULL && n++ < LINKS_MAX) {
		char *target = xasprintf("%s/%s", from, e->d_name), *name = xasprintf("%s/%s", to, e->d_name);

		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			(void)!symlink(target, name);
		free(target);
		free(name);
	}
	if (d)
		closedir(d);
}

size_t files_divert(const struct plugin *p, struct queue_settings *q, const char *dir)
{
	size_t n = 0;

	for (const struct pgmqd_option *o = p->options; o->name; o++) {
		const char *value = o->type == PGMQD_STRING ? *(char **)((char *)p->handle + o->offset) : NULL;
		struct stat st;
		char *own;

		if (!value || value[0] != '/' || stat(value, &st) != 0 || !S_ISDIR(st.st_mode) ||
			access(value, W_OK) != 0)
			continue;
		own = xasprintf("%s/%s", dir, o->name);
		if (mkdir(own, 0700) == 0)
			link_entries(value, own);
		files_add_pair(q, o->name, own);
		free(own);
		n++;
	}
	return n;
}

/* The hash of a file's content. What PDF writers put in of the time is left out of it. */
static uint64_t hash_file(const char *path, size_t size)
{
	static const char *const times[] = { "/CreationDate", "/ModDate" };
	uint64_t hash = HASH_START;
	char *data = xmalloc(size + 1), *p;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, data, size) : -1;

	if (fd >= 0)
		close(fd);
	if (n > 0) {
		for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++)
			for (p = data; (p = memmem(p, (size_t)(data + n - p), times[i], strlen(times[i]))) != NULL;)
				for (p += strlen(times[i]); p < data + n && *p != '\n' && *p != ')'; p++)
					*p = ' ';
		hash = hash_add(hash, data, (size_t)n);
	}
	free(data);
	return hash;
}

/* Records one file. */
static void take(const char *path, const char *name, const struct stat *st, const char *kept,
	void (*effect)(void *arg, cJSON *effect), void *arg)
{
	static unsigned serial;
	cJSON *e = cJSON_CreateObject();
	char hash[20], *to = xasprintf("%s/%d-%u-%s", kept, (int)getpid(), serial++, strrchr(path, '/') + 1);

	snprintf(hash, sizeof(hash), "%016" PRIx64, hash_file(path, (size_t)st->st_size));
	cJSON_AddStringToObject(e, "kind", "file");
	cJSON_AddStringToObject(e, "name", name);
	cJSON_AddNumberToObject(e, "size", (double)st->st_size);
	cJSON_AddStringToObject(e, "hash", hash);
	if (rename(path, to) == 0)
		cJSON_AddStringToObject(e, "kept", to);
	free(to);
	effect(arg, e);
}

/* Records the files of one directory and those below; `name` is what it is called. */
static void take_below(
	const char *dir, const char *name, const char *kept, void (*effect)(void *arg, cJSON *effect), void *arg)
{
	DIR *d = opendir(dir);
	const struct dirent *e;

	while (d && (e = readdir(d)) != NULL) {
		char *path = xasprintf("%s/%s", dir, e->d_name),
		     *shown = *name ? xasprintf("%s/%s", name, e->d_name) : xstrdup(e->d_name);
		struct stat st;

		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && lstat(path, &st) == 0) {
			if (S_ISDIR(st.st_mode))
				take_below(path, shown, kept, effect, arg);
			else if (S_ISREG(st.st_mode))
				take(path, shown, &st, kept, effect, arg);
		}
		free(path);
		free(shown);
	}
	if (d)
		closedir(d);
}

void files_take(const char *dir, const char *kept, void (*effect)(void *arg, cJSON *effect), void *arg)
{
	take_below(dir, "", kept, effect, arg);
}
