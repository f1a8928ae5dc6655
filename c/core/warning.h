/* One line on a program's own standard error: the follower keeps none, lest a pipeline wait for it. */
#ifndef VDSO_CORE_WARNING_H
#define VDSO_CORE_WARNING_H

#include <sys/types.h>

/* On the next parent's where the program's own may not be opened. Never blocks: what cannot be written at once is dropped. */
void vdso_warn(pid_t tid, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What comes of a program that has not been swapped: it "runs on the host's clock", say. */
void vdso_warn_unswapped(pid_t tid, const char *fate, int error);

#endif
