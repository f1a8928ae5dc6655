/* The registers of a thread that stands still under ptrace, and what the kernel has not made up its mind about in them. */
#ifndef VDSO_CORE_REGISTERS_H
#define VDSO_CORE_REGISTERS_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

/* orig_rax outside a system call. */
#define VDSO_NO_CALL UINT64_MAX

/* What is in rax while the kernel has not decided between a restart and EINTR (linux/errno.h). */
enum vdso_restart {
	VDSO_RESTART_SYS = -512,
	VDSO_RESTART_NOINTR = -513,
	VDSO_RESTART_NOHAND = -514,
	VDSO_RESTART_BLOCK = -516,
};

/* 0 or a negative errno; -ENOEXEC: a 32-bit program's, which are fewer. */
int vdso_registers_get(pid_t tid, struct user_regs_struct *ret);
int vdso_registers_set(pid_t tid, const struct user_regs_struct *regs);

/*
 * Some calls answer EINTR to any interruption, where others say that they may be made again: epoll_wait, semop, sigtimedwait,
 * a socket's with a timeout set. Told in the kernel's own words that it may, it is made again if no handler runs, and is
 * EINTR if one does. A finite timeout begins anew. close() is never made twice.
 */
void vdso_registers_hide_interruption(pid_t tid);

/*
 * Where a thread that stands in a restartable sequence (rseq) goes on, 0 if it stands in none. The kernel looks at the
 * instruction pointer when a thread returns from being interrupted, and would find ours: it must not be brought back into a
 * sequence that the kernel has missed. `mem` is /proc/TID/mem.
 */
uint64_t vdso_registers_sequence_abort(pid_t tid, int mem, uint64_t rip);

#endif
