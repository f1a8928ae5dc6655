/* Where our image stands in a program, as its process page tells (process.h): remembered by thread and by thread group. */
#ifndef VDSO_CORE_STANDING_H
#define VDSO_CORE_STANDING_H

#include "argument.h"
#include "follower.h"
#include "process.h"

/* False: the task runs on none. `memory` is the task's. */
bool vdso_standing_find(struct vdso_follower *follower, pid_t tid, const struct vdso_argument *memory, struct vdso_process *ret);

#endif
