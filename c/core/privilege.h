/* What a task may do, by its capabilities (capabilities(7)). Its own are had by no more than its id. */
#ifndef VDSO_CORE_PRIVILEGE_H
#define VDSO_CORE_PRIVILEGE_H

#include <stdbool.h>
#include <sys/types.h>

/* In effect, in its own user namespace; 0: the caller. */
bool vdso_privilege_has(pid_t tid, int capability);

/* Whether it has CAP_SYS_TIME, or may take it, where the kernel asks for it: in the first user namespace. What cannot be seen
 * of one that is there counts as yes. */
bool vdso_privilege_sets_clock(pid_t tid);

#endif
