/* settings.c: fuzz target: a settings file. What is wrong is told with the file's name; what is right is equal to
 * itself, and is read once more by a plugin's table. */
#include "config.h"

#include "base/log.h"
#include "settings/load.h"
#include "settings/settings.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct handle {
	const char *host, *secret;
	uint64_t port;
};

static const struct pgmqd_option table[] = {
	{ "smtp_host", PGMQD_STRING, 1, offsetof(struct handle, host), NULL, "Host.", NULL, NULL },
	{ "smtp_pass", PGMQD_SECRET, 0, offsetof(struct handle, secret), NULL, "Password.", NULL, NULL },
	{ "smtp_port", PGMQD_UINT, 0, offsetof(struct handle, port), "587", "Port.", NULL, NULL },
	{ NULL, 0, 0, 0, NULL, NULL, NULL, NULL },
};

/* Reads a file that holds the input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("settings", MFD_CLOEXEC);
	char path[40], *errors = NULL;
	struct settings *s;

	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	if (fd < 0 || fchmod(fd, 0600) != 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	s = settings_load(path, &errors);
	close(fd);
	if ((s == NULL) != (errors != NULL) || (errors && strncmp(errors, path, strlen(path)) != 0))
		abort();
	for (size_t i = 0; s && i < s->nqueues; i++) {
		struct handle h = { 0 };

		if (!settings_queue_equal(&s->queues[i], &s->queues[i]))
			abort();
		free(settings_plugin_options(s, &s->queues[i], table, &h));
		option_free(table, &h);
	}
	if (s) {
		char *shown = settings_redact_conninfo(s->database);

		free(shown);
	}
	free(errors);
	settings_free(s);
	return 0;
}
