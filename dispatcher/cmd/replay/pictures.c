/* pictures.c: the pages of PDF files as pictures within a replay's page, made by pdftoppm of poppler-utils. */
#include "config.h"

#include "cmd/replay/pictures.h"

#include "base/xalloc.h"
#include "cmd/replay/base64.h"
#include "cmd/replay/compare.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <glob.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PICTURE_MAX (8U * 1024 * 1024) /* bytes of one picture */

extern char **environ;

/* Runs pdftoppm, which writes PREFIX-1.png and so on: pages 600 pixels wide, the first twenty. */
static bool run_tool(const char *pdf, const char *prefix)
{
	char *argv[] = { (char *)"pdftoppm", (char *)"-png", (char *)"-scale-to-x", (char *)"600",
		(char *)"-scale-to-y", (char *)"-1", (char *)"-l", (char *)"20", (char *)pdf, (char *)prefix, NULL };
	posix_spawn_file_actions_t actions;
	int status = -1, rc;
	pid_t pid;

	if (posix_spawn_file_actions_init(&actions) != 0)
		return false;
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return rc == 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A picture as a data: URI; the file is removed. NULL: it cannot be read. */
static cJSON *take_picture(const char *path)
{
	char *data = xmalloc(PICTURE_MAX), *text, *uri;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, data, PICTURE_MAX) : -1;
	cJSON *picture;

	if (fd >= 0)
		close(fd);
	unlink(path);
	text = base64_encode(data, n > 0 ? (size_t)n : 0);
	uri = xasprintf("data:image/png;base64,%s", text);
	picture = n > 0 ? cJSON_CreateString(uri) : NULL;
	free(uri);
	free(text);
	free(data);
	return picture;
}

/* Adds the pages of a file to `to`, or why there are none. */
static void add_pages(cJSON *to, const char *pdf, const char *dir, bool show)
{
	char *prefix = xasprintf("%s/picture", dir), *pattern = xasprintf("%s-*.png", prefix);
	glob_t found = { 0 };
	cJSON *pages;

	if (!show) {
		cJSON_AddStringToObject(to, "no_pages", "hidden");
	} else if (!run_tool(pdf, prefix) || glob(pattern, 0, NULL, &found) != 0) {
		cJSON_AddStringToObject(to, "no_pages", "tool");
	} else {
		pages = cJSON_AddArrayToObject(to, "pages");
		for (size_t i = 0; i < found.gl_pathc; i++) /* sorted by name, and the numbers are of one length */
			cJSON_AddItemToArray(pages, take_picture(found.gl_pathv[i]));
	}
	globfree(&found);
	free(pattern);
	free(prefix);
}

/* The same for base64 of what may be a PDF. */
static void add_encoded(cJSON *to, const cJSON *encoded, const char *dir, bool show)
{
	char *path = xasprintf("%s/picture.pdf", dir), *data;
	size_t n;
	FILE *f;

	if (cJSON_IsString(encoded)) {
		data = base64_decode(encoded->valuestring, strlen(encoded->valuestring), &n);
		f = n > 4 && memcmp(data, "%PDF", 4) == 0 ? fopen(path, "we") : NULL;
		if (f) {
			fwrite(data, 1, n, f);
			fclose(f);
			add_pages(to, path, dir, show);
			unlink(path);
		}
		free(data);
	}
	free(path);
}

/* The parts of a mail. */
static void add_parts(cJSON *shown, const cJSON *effect, const char *dir, bool show)
{
	cJSON *mail = compare_mail(effect), *part;
	const cJSON *whole = cJSON_GetObjectItemCaseSensitive(mail, "parts");

	whole = whole ? whole->child : NULL;
	cJSON_ArrayForEach(part, cJSON_GetObjectItemCaseSensitive(shown, "parts"))
	{
		add_encoded(part, cJSON_GetObjectItemCaseSensitive(whole, "content_base64"), dir, show);
		cJSON_DeleteItemFromObject(part, "content_base64"); /* the pictures stand for it */
		whole = whole ? whole->next : NULL;
	}
	cJSON_Delete(mail);
}

void pictures_add(cJSON *shown, const cJSON *record, const char *dir, bool show)
{
	const cJSON *r = cJSON_GetObjectItemCaseSensitive(record, "effects");
	cJSON *e;

	r = r ? r->child : NULL;
	cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(shown, "effects"))
	{
		const cJSON *kept = cJSON_GetObjectItemCaseSensitive(r, "kept"),
			    *name = cJSON_GetObjectItemCaseSensitive(r, "name");
		const char *dot = cJSON_IsString(name) ? strrchr(name->valuestring, '.') : NULL;

		if (cJSON_IsString(kept) && dot && strcasecmp(dot, ".pdf") == 0)
			add_pages(e, kept->valuestring, dir, show);
		add_encoded(e, cJSON_GetObjectItemCaseSensitive(r, "body_base64"), dir, show);
		if (r)
			add_parts(e, r, dir, show);
		r = r ? r->next : NULL;
	}
}
