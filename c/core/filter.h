/*
 * The seccomp filter under which a followed program runs: execs are notified, setting the clock too (or refused
 * where nobody listens), and absolute REALTIME deadlines where that clock may be moved.
 */
#ifndef VDSO_CORE_FILTER_H
#define VDSO_CORE_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <sys/types.h>

#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define VDSO_FILTER_EXEC 1u      /* notify every exec, of each architecture's numbers */
#define VDSO_FILTER_DEADLINES 2u /* notify absolute deadlines that may be on REALTIME */

#define VDSO_FILTER_LAST 4u      /* a listener for its hang-up alone: when the last program under the filter is gone */
#define VDSO_FILTER_ALL 16u      /* with DEADLINES: those on MONOTONIC and BOOTTIME too, which the session moves */
#define VDSO_FILTER_READS 32u    /* notify reading a clock that the session moves, by a system call of the program's own */
#define VDSO_FILTER_EXITS 64u    /* notify that a program ends */
#define VDSO_FILTER_NONE 8u      /* no filter at all: where seccomp is refused */
#define VDSO_FILTER_LISTENS (VDSO_FILTER_EXEC | VDSO_FILTER_DEADLINES | VDSO_FILTER_LAST | VDSO_FILTER_READS | VDSO_FILTER_EXITS) /* each needs a listener */

/* Without CAP_SYS_ADMIN a filter needs it, and setuid programs lose their privilege. */
bool vdso_filter_wants_no_new_privs(void);

/*
 * Installs it on the calling thread, which should be the only one, and what it execs. Without CAP_SYS_ADMIN it sets
 * no_new_privs first. 0 or a negative errno (EBUSY: another listener is above us); *listener is close-on-exec, or
 * -1 where none of the flags needs one.
 */
int vdso_filter_install(unsigned flags, int *listener);

#define VDSO_FILTER_MOST 400 /* instructions */

/* The same filter as instructions, for another process to install. How many there are. */
unsigned short vdso_filter_program(unsigned flags, struct sock_filter ret[VDSO_FILTER_MOST]);

/* With these flags of seccomp(2): on all its threads, if none of them has a filter that the caller has not; with a listener. */
#define VDSO_FILTER_TO_ALL                                                                                           \
	(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH | SECCOMP_FILTER_FLAG_NEW_LISTENER |             \
	 SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)

/*
 * Of a task that stands still under our ptrace. To be known, it takes CAP_SYS_ADMIN, and no filter above the caller.
 *
 * Whether all of its filters are of these; and, where one of its filters has a listener, VDSO_FILTER_* of that if it is certainly
 * one of these, else 0.
 */
bool vdso_filter_all_ours(pid_t tid);
unsigned vdso_filter_listening(pid_t tid);

/* Drops CAP_SYS_TIME for good, in this process and what it execs: where a filter cannot be had. 0 or a negative errno. */
int vdso_filter_drop_time(void);

#endif
