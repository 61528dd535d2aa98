/* dotenv.c: fuzz target: a .env file. What it sets are names of variables, what is set stays, and an error is one line.
 */
#include "config.h"

#include "base/log.h"
#include "settings/env.h"
#include "settings/settings.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern char **environ;

/* Reads a file that holds the input into an environment that is empty but for one variable, which has to stay. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct pgmqd_option row = { "fuzz", PGMQD_SECRET, 0, 0, NULL, NULL, "FUZZ", NULL };
	int fd = memfd_create("env", MFD_CLOEXEC);
	char path[40], *error, *value, *wrong = NULL;

	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	clearenv();
	setenv("MINE", "1", 1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	error = settings_env_file(path);
	if (!getenv("MINE") || strcmp(getenv("MINE"), "1") != 0 ||
		(error && (strncmp(error, path, strlen(path)) != 0 || strchr(error, '\n'))))
		abort();
	for (char **e = environ; *e; e++)
		if (**e == '=' || (**e >= '0' && **e <= '9') || !strchr(*e, '='))
			abort();
	unsetenv("CREDENTIALS_DIRECTORY"); /* these lead to files, which is for test_settings_env */
	unsetenv("FUZZ_FILE");
	value = settings_env_value(&row, NULL, &wrong);
	if (wrong || (value && !*value))
		abort();
	free(value);
	free(error);
	close(fd);
	return 0;
}
