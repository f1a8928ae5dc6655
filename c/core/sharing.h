/* Who else is in a process's address space: what is done to one is then done to all. */
#ifndef VDSO_CORE_SHARING_H
#define VDSO_CORE_SHARING_H

#include <sys/types.h>

#include "threads.h"

/* Another process that has the address space of pid, 0 if there is none; `tid`: a thread of pid's that has not ended. */
pid_t vdso_sharing_find(pid_t pid, pid_t tid);

/* The same among the children of the threads, while they stand still: those that have come since. */
pid_t vdso_sharing_find_child(const struct vdso_threads *threads, pid_t any);

#endif
