/* What /proc says of a task, for the follower: small, and never an error that stops it. */
#ifndef VDSO_CORE_PROCFS_H
#define VDSO_CORE_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A number from /proc/TID/status, 0 if it cannot be had. */
int vdso_procfs_number(pid_t tid, const char *key);
/* The letter after "State:", 'T' for a stopped one; 0 if there is none. */
char vdso_procfs_state(pid_t tid);
/* A leader that has ended before its threads is there as long as they are, and not to be held. */
bool vdso_procfs_has_ended(pid_t tid);
/* A thread of the program that has not ended, its main thread if that is one; 0: it has none. */
pid_t vdso_procfs_living(pid_t program);
pid_t vdso_procfs_parent(pid_t tid);
/* Of the process's (`shared`), or of the task alone. */
bool vdso_procfs_signal_waits(pid_t tid, int signal, bool shared);
void vdso_procfs_name(pid_t tid, char *ret, size_t size);
uint64_t vdso_procfs_start(pid_t pid);       /* field 22 of its stat, 0 if it is gone */
unsigned vdso_procfs_flags(pid_t tid);       /* field 9 of its stat, the kernel's PF_* */
bool vdso_procfs_setuid(pid_t tid); /* the running program's file has a setuid or setgid bit */
void vdso_procfs_time_namespace(pid_t tid, char *ret, size_t size);
/* A close-on-exec descriptor of the task that has this file open, -1 if there is none. */
int vdso_procfs_find_fd(pid_t tid, dev_t device, ino_t inode);
int vdso_procfs_open_fd(pid_t tid, int fd, int flags);

#endif
