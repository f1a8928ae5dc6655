/* What stands for a function of the kernel's image that is not there, or out of reach: the true system call. */
#ifndef VDSO_IMAGE_SYSCALLS_H
#define VDSO_IMAGE_SYSCALLS_H

#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN int call_clock_gettime(int id, void *ts);
HIDDEN int call_gettimeofday(void *tv, void *tz);
HIDDEN int64_t call_time(int64_t *t);
HIDDEN long call_getcpu(unsigned *cpu, unsigned *node, void *unused);
HIDDEN int call_clock_getres(int id, void *ts);
HIDDEN long call_nothing(void); /* -ENOSYS */

/* Not a function: entered by a jump, in the place of a system call (VDSO_PLAN in process.h). */
HIDDEN extern const char vdso_wait[];

#endif
