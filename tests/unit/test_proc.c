/* test_proc.c: memory of large messages goes back to the system. */
#include "config.h"

#include "base/xalloc.h"
#include "process/proc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LARGE (12U << 20)
#define BLOCKS 8

/* Resident memory in bytes. */
static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*u %lu", &pages), 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Makes large blocks with small ones between them, and frees the large ones. */
static void large_messages(char *small[BLOCKS])
{
	char *large[BLOCKS];

	for (size_t i = 0; i < BLOCKS; i++) {
		large[i] = xmalloc(LARGE);
		memset(large[i], 1, LARGE);
		small[i] = xmalloc(100);
	}
	for (size_t i = 0; i < BLOCKS; i++)
		free(large[i]);
}

static void large_blocks_go_back(void **state)
{
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
	char *small[3 * BLOCKS];
	size_t before = resident();

	const char *preloaded = getenv("LD_PRELOAD");

	(void)state;
	if (preloaded != NULL && strstr(preloaded, "vgpreload") != NULL)
		skip(); /* valgrind keeps freed blocks */
	proc_return_memory();
	for (int i = 0; i < 3; i++)
		large_messages(small + (size_t)i * BLOCKS);
	assert_true(resident() < before + LARGE);
	for (size_t i = 0; i < 3 * BLOCKS; i++)
		free(small[i]);
#else
	(void)state;
	(void)large_messages;
	(void)resident;
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_blocks_go_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
