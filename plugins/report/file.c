/* file.c: a file that is there as a whole or not at all: written beside its place, made durable, and renamed. */
#include "config.h"

#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SUFFIX ".report.tmp"
#define OLD_S 3600

/* Writes all bytes and brings them to the disk. 0, or an errno. */
static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : EIO;
		data += n;
		len -= (size_t)n;
	}
	return fdatasync(fd) == 0 ? 0 : errno;
}

int file_write(const char *dir, const char *name, const void *data, size_t len)
{
	char tmp[300];
	int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd, error = 0;

	if (at < 0)
		return errno;
	snprintf(tmp, sizeof(tmp), ".%s.%ld" SUFFIX, name, (long)getpid());
	if (unlinkat(at, tmp, 0) != 0 && errno != ENOENT)
		error = errno;
	fd = error ? -1 : openat(at, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		error = error ? error : errno;
	} else {
		error = write_all(fd, data, len);
		if (close(fd) != 0 && !error)
			error = errno;
		if (!error && renameat(at, tmp, at, name) != 0)
			error = errno;
		if (error)
			unlinkat(at, tmp, 0);
		else if (fsync(at) != 0 && errno != EINVAL)
			error = errno;
	}
	close(at);
	return error;
}

int file_remove(const char *dir, const char *name)
{
	int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

	if (at < 0)
		return errno;
	if (unlinkat(at, name, 0) != 0)
		error = errno == ENOENT ? 0 : errno;
	else if (fsync(at) != 0 && errno != EINVAL)
		error = errno;
	close(at);
	return error;
}

int file_try(const char *dir)
{
	int error = file_write(dir, ".check" SUFFIX, "", 0);

	return error ? error : file_remove(dir, ".check" SUFFIX);
}

long long file_size(const char *dir, const char *name)
{
	struct stat st;
	int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (at < 0)
		return -1;
	rc = fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW);
	close(at);
	return rc == 0 && S_ISREG(st.st_mode) ? (long long)st.st_size : -1;
}

void file_sweep(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;

	if (!d)
		return;
	while ((e = readdir(d)) != NULL) {
		size_t n = strlen(e->d_name);

		/* another process may be writing one right now */
		if (n > strlen(SUFFIX) && e->d_name[0] == '.' && strcmp(e->d_name + n - strlen(SUFFIX), SUFFIX) == 0 &&
			fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && time(NULL) - st.st_mtime > OLD_S)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	closedir(d);
}
