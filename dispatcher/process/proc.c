/* proc.c: making a child process that inherits nothing by accident, its sign of life, and the titles that ps shows. */
#include "config.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "process/proc.h"
#include "process/stats.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

extern char **environ;

static char
	*proc_title_area; /* argv and environ as the kernel laid them out; NULL: unknown, and only comm can be set */
static size_t proc_title_size;
static char **proc_title_args, **volatile proc_title_environ,
	**volatile proc_title_vector; /* the copies, lest one that is replaced or taken out counts as lost */

/* Closes descriptors first..last. */
static void proc_close_between(unsigned first, unsigned last)
{
	unsigned fd;
	DIR *dir;
	struct dirent *e;

	if (first > last)
		return;
#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, last, 0U) == 0)
		return;
#endif
	/* Kernels before 5.9, and valgrind. */
	if ((dir = opendir("/proc/self/fd")) != NULL) {
		while ((e = readdir(dir)) != NULL) {
			if (e->d_name[0] < '0' || e->d_name[0] > '9')
				continue;
			fd = (unsigned)strtoul(e->d_name, NULL, 10);
			if (fd >= first && fd <= last && fd != (unsigned)dirfd(dir))
				close((int)fd);
		}
		closedir(dir);
		return;
	}
	if (last > 65535)
		last = 65535;
	for (fd = first; fd <= last; fd++)
		close((int)fd);
}

/* Orders descriptors. */
static int proc_fd_compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* Closes everything above stderr that is not to be kept. */
static void proc_close_others(const int *keep, size_t nkeep)
{
	unsigned next = STDERR_FILENO + 1;
	int *sorted = xcalloc(nkeep + 1, sizeof *sorted);
	size_t i;

	if (nkeep > 0)
		memcpy(sorted, keep, nkeep * sizeof *sorted);
	qsort(sorted, nkeep, sizeof *sorted, proc_fd_compare);
	for (i = 0; i < nkeep; i++) {
		if (sorted[i] < (int)next)
			continue; /* one of 0-2, named twice, or not open (-1) */
		proc_close_between(next, (unsigned)sorted[i] - 1);
		next = (unsigned)sorted[i] + 1;
	}
	proc_close_between(next, UINT_MAX);
	free(sorted);
}

/* Gives a new child the signal dispositions and the mask of a fresh process, but for what its parent decides. */
static void proc_reset_signals(void)
{
	static const int ignored[] = { SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE };
	struct sigaction sa;
	sigset_t none;
	size_t i;
	int sig;

	memset(&sa, 0, sizeof sa);
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = SIG_DFL;
	for (sig = 1; sig < NSIG; sig++)
		/* Faults stay as they are: only a sanitizer handles them, and its report is wanted from children
		 * too. The call is refused for KILL, STOP and what libc keeps for itself. */
		if (sig != SIGSEGV && sig != SIGBUS && sig != SIGFPE && sig != SIGILL)
			(void)sigaction(sig, &sa, NULL);
	sa.sa_handler = SIG_IGN;
	for (i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		(void)sigaction(ignored[i], &sa, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Points stdin at /dev/null. */
static void proc_null_stdin(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd == -1)
		return;
	(void)dup2(fd, STDIN_FILENO); /* clears O_CLOEXEC for the copy */
	if (fd > STDERR_FILENO)
		close(fd);
}

/* Forks; see proc.h for what the child finds. */
pid_t proc_fork(const int *keep, size_t nkeep)
{
	sigset_t all, old;
	pid_t parent = getpid(), pid;
	int saved;

	fflush(NULL); /* what is buffered would come out twice */
	/* With signals blocked no handler of the parent can run in the child, and no signal is lost between fork and
	 * reset. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	pid = fork();
	if (pid != 0) {
		saved = errno;
		sigprocmask(SIG_SETMASK, &old, NULL);
		errno = saved;
		return pid;
	}
	/* SIGTERM rather than SIGKILL: mails in hand are finished instead of being sent twice. A hanging child is
	 * proc_beat()'s. */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(PROC_EXIT_RESTART); /* it died before the line above */
	proc_null_stdin();
	proc_close_others(keep, nkeep);
	proc_reset_signals();
	return 0;
}

/* Blocks or unblocks the signals by which a container is stopped and reloaded, in its first process. */
static void proc_mask(int how)
{
	sigset_t set;

	if (getpid() != 1)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(how, &set, NULL);
}

const char *proc_host(void)
{
	static char host[64];

	gethostname(host, sizeof(host) - 1);
	return host;
}

void proc_hold_signals(void)
{
	proc_mask(SIG_BLOCK);
}

void proc_unhold_signals(void)
{
	proc_mask(SIG_UNBLOCK);
}

/* Gives a sign of life and winds the timer up anew. */
void proc_beat(const struct proc_env *env)
{
	struct itimerval it;
	int64_t ms = env->settings->watchdog;

	stats_beat(env->slot);
	if (ms <= 0)
		return;
	/* Twice the watchdog's time, so that the supervisor, who can say what happened, comes first. SIGALRM ends
	 * the process. */
	ms = ms * 2 + 1000;
	memset(&it, 0, sizeof it);
	it.it_value.tv_sec = (time_t)(ms / 1000);
	it.it_value.tv_usec = (suseconds_t)(ms % 1000 * 1000);
	(void)setitimer(ITIMER_REAL, &it, NULL);
}

/* Drops the mapped pages of every file that is not writable here. Only where none has been written to: the linker's
 * tables are made read-only after they were filled in, and would come back empty. */
void proc_trim(void)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long from = 0, to = 0, a, b, inode, kb;
	char line[512], perms[5];
	bool ours = false;

	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &a, &b, perms, &inode) == 4) {
			ours = inode != 0 && perms[1] == '-';
			from = a;
			to = b;
		} else if (ours && sscanf(line, "Anonymous: %lu kB", &kb) == 1 && kb == 0) {
			(void)madvise((void *)from, to - from, MADV_DONTNEED);
		}
	}
	if (f)
		fclose(f);
}

/* Becomes this program once more; see proc.h. By its path if that still leads to it, for under valgrind the link is
 * valgrind. */
void proc_again(char **argv)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n > 0) {
		path[n] = '\0';
		execv(path, argv);
	}
	execv("/proc/self/exe", argv);
}

/* Fills the gaps among 0-2. */
void proc_std_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* Finds how far the arguments and the environment reach in one piece, and copies both to where they can stay. */
void proc_title(int argc, char **argv)
{
	char *end = NULL, **copy;
	size_t i, n;

	if (argc < 1 || proc_title_area != NULL)
		return;
	for (i = 0; i < (size_t)argc; i++)
		if (end == NULL || argv[i] == end)
			end = argv[i] + strlen(argv[i]) + 1;
	for (n = 0; environ != NULL && environ[n] != NULL; n++)
		if (environ[n] == end)
			end = environ[n] + strlen(environ[n]) + 1;
	proc_title_area = argv[0];
	proc_title_size = (size_t)(end - argv[0]);
	proc_title_environ = xcalloc(n + 1, sizeof *proc_title_environ);
	for (i = 0; i < n; i++)
		proc_title_environ[i] = xstrdup(environ[i]);
	copy = xcalloc(n + 1, sizeof *copy); /* unsetenv() takes pointers out of this one */
	memcpy(copy, proc_title_environ, n * sizeof *copy);
	environ = proc_title_vector = copy; /* and the first setenv() goes on with one of its own */
	proc_title_args = xcalloc((size_t)argc, sizeof *proc_title_args);
	for (i = 0; i < (size_t)argc; i++)
		argv[i] = proc_title_args[i] = xstrdup(
			argv[i]); /* options may be kept for as long as the process lives */
}

/* Sets the title; the part behind "pgmqd: " is also the process's short name. */
void proc_set_title(const char *fmt, ...)
{
	char title[256];
	const char *name;
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	vsnprintf(title, sizeof title, fmt, ap);
	va_end(ap);
	name = strstr(title, ": ");
	(void)prctl(PR_SET_NAME, name != NULL ? name + 2 : title); /* cut to 15 bytes by the kernel */
	if (proc_title_area == NULL || proc_title_size < 2)
		return;
	len = strlen(title);
	if (len > proc_title_size - 1)
		len = proc_title_size - 1;
	memcpy(proc_title_area, title, len);
	memset(proc_title_area + len, 0, proc_title_size - len);
}

/* glibc raises its limit with each large block that is freed, up to 32 MB: then a few large messages would leave holes
 * below small blocks that stay. */
void proc_return_memory(void)
{
#ifdef __GLIBC__
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 22);
#endif
}

/* The limit alone is not enough: it does not count where the kernel pipes core dumps into a program. */
void proc_no_core(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_CORE, &limit) == 0) {
		limit.rlim_cur = 0;
		(void)setrlimit(RLIMIT_CORE, &limit);
	}
	if (prctl(PR_SET_DUMPABLE, 0) != 0)
		log_warn("cannot switch core dumps off: %s", strerror(errno));
}
