/* One line on a program's own standard error: the follower keeps none, lest a pipeline wait for it. */
#ifndef VDSO_CORE_WARNING_H
#define VDSO_CORE_WARNING_H

#include <stdbool.h>
#include <sys/types.h>

/* On the next parent's where the program's own may not be opened. Never blocks: what cannot be written at once is dropped. */
void vdso_warn(pid_t tid, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* That the task's program has not been swapped; strict: and is not started for it. */
void vdso_warn_host_clock(pid_t tid, bool strict, int error);

#endif
