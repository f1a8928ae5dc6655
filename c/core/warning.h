/* One line on a program's own standard error: the follower keeps none, lest a pipeline wait for it. */
#ifndef VDSO_CORE_WARNING_H
#define VDSO_CORE_WARNING_H

#include <sys/types.h>

/* Never blocks: what cannot be written at once is dropped. */
void vdso_warn(pid_t tid, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
