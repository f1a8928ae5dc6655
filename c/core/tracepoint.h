/* Counting how often a task enters a system call, by the kernel's own tracepoints (perf_event_open(2)): where that is allowed. */
#ifndef VDSO_CORE_TRACEPOINT_H
#define VDSO_CORE_TRACEPOINT_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * The number of the tracepoint syscalls:sys_enter_NAME, or a negative errno. Where no tracefs is mounted it is looked at in
 * a mount namespace of its own, whose end is the mount's.
 */
int vdso_tracepoint_find(const char *name);

/*
 * A descriptor from which how often it was passed since then can be read, a u64: by the task, and by whatever it starts from now
 * on; `from_exec`: by each task of them only once it has executed a program. `filter`: in the tracepoint's own words, such as
 * "which_clock == 1"; NULL: always. A negative errno where it cannot be had.
 */
int vdso_tracepoint_open(int number, const char *filter, pid_t tid, bool from_exec);

#endif
