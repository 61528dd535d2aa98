/* files.c: files that tests write, and what is written to stderr meanwhile. */
#include "config.h"

#include "files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int saved_stderr;
static FILE *kept;

void write_file(const char *name, const char *text, size_t len, mode_t mode)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(name, mode), 0);
}

void quiet_start(void)
{
	kept = tmpfile();
	assert_non_null(kept);
	saved_stderr = dup(STDERR_FILENO);
	assert_int_not_equal(dup2(fileno(kept), STDERR_FILENO), -1);
}

bool quiet_end(const char *text)
{
	char got[4000];
	size_t n;

	assert_int_not_equal(dup2(saved_stderr, STDERR_FILENO), -1);
	close(saved_stderr);
	rewind(kept);
	n = fread(got, 1, sizeof(got) - 1, kept);
	got[n] = '\0';
	fclose(kept);
	return strstr(got, text) != NULL;
}
