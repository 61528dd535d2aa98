/* sandbox.c: closes a process that runs a plugin. The plugin interface is diverted elsewhere (stub.c, child.c); this
 * keeps in what goes past it: sockets and programs of the plugin's own by seccomp, files by Landlock. Both need no
 * rights, and programs that the plugin starts inherit them.
 */
#include "config.h"

#include "cmd/replay/sandbox.h"

#include "base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define ARCH AUDIT_ARCH_S390X
#endif

#define OTHER_ABI 0x40000000 /* calls of x32 begin here; elsewhere no call has such a number */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define REFUSE_CALL(name, error) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), REFUSE(error)

/* No new sockets and no new connections, and no way to those of other processes. NULL, or why not. */
static const char *close_network(void)
{
#ifdef ARCH
	static struct sock_filter rules[] = {
		LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
		REFUSE(ENOSYS),
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, OTHER_ABI, 0, 1),
		REFUSE(ENOSYS),
		REFUSE_CALL(socket, EACCES),
		REFUSE_CALL(connect, 0), /* does nothing and succeeds: see stub.c */
		REFUSE_CALL(ptrace, EPERM),
		REFUSE_CALL(process_vm_writev, EPERM),
#ifdef SYS_io_uring_setup
		REFUSE_CALL(io_uring_setup, ENOSYS),
#endif
#ifdef SYS_pidfd_getfd
		REFUSE_CALL(pidfd_getfd, EPERM),
#endif
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(rules) / sizeof(*rules), .filter = rules };

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? NULL : strerror(errno);
#else
	return "seccomp is not set up for this processor";
#endif
}

/* Landlock as its first versions have it: the header of the build machine may be older than the kernel. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#define LANDLOCK_VERSION 1U
#define LANDLOCK_BENEATH 1
#define WRITE_FILE (UINT64_C(1) << 1)
#define CHANGES_1 (WRITE_FILE | UINT64_C(0x1ff0)) /* ... remove and make files of each kind */
#define CHANGES_2 (CHANGES_1 | UINT64_C(1) << 13) /* ... move between directories */
#define CHANGES_3 (CHANGES_2 | UINT64_C(1) << 14) /* ... truncate */

struct landlock_files {
	uint64_t handled;
};
struct landlock_below {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

/* Allows changes below a directory. */
static int allow_below(int rules, const char *dir, uint64_t changes)
{
	struct landlock_below below = { .allowed = changes, .fd = open(dir, O_PATH | O_CLOEXEC) };
	long rc = below.fd < 0 ? -1 : syscall(SYS_landlock_add_rule, rules, LANDLOCK_BENEATH, &below, 0);

	if (below.fd >= 0)
		close(below.fd);
	return (int)rc;
}

/* No files but below `scratch`, and devices. NULL, or why not. */
static const char *close_files(const char *scratch)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);
	uint64_t changes = version >= 3 ? CHANGES_3 : version == 2 ? CHANGES_2 : CHANGES_1;
	struct landlock_files files = { .handled = changes };
	const char *why = NULL;
	int rules = version < 1 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &files, sizeof(files), 0);

	if (rules < 0)
		return "the kernel has no Landlock";
	if (allow_below(rules, scratch, changes) != 0 || allow_below(rules, "/dev", WRITE_FILE) != 0 ||
		syscall(SYS_landlock_restrict_self, rules, 0) != 0)
		why = strerror(errno);
	close(rules);
	return why;
}

char *sandbox_close(const char *scratch, const char **files)
{
	const struct rlimit none = { 0, 0 };
	const char *network;

	(void)setrlimit(RLIMIT_CORE, &none);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return xasprintf("the process cannot be closed off: %s", strerror(errno));
	*files = close_files(scratch);
	network = close_network();
	return network ? xasprintf("the process cannot be closed off from the network: %s", network) : NULL;
}
