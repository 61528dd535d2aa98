/* failmalloc.c: preloaded by the fault suite: makes one allocation of one of pgmqd's children fail.
 *
 * FAILMALLOC names a file that all processes map: a number that counts down at each allocation of a child; the one that
 * brings it to nought fails. The process that was exec'd itself, the supervisor, is spared.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* glibc's own, under the names that it keeps for this */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static atomic_int *countdown;
static int in_child;

/* From here allocations count. */
static void forked(void)
{
	in_child = 1;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("FAILMALLOC");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0)
		return;
	p = mmap(NULL, sizeof(*countdown), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		countdown = p;
	pthread_atfork(NULL, NULL, forked);
}

/* Whether this one is to fail. */
static int fails(void)
{
	if (!in_child || !countdown || atomic_load(countdown) <= 0 || atomic_fetch_sub(countdown, 1) != 1)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	return fails() ? NULL : __libc_realloc(p, size);
}
