/*
 * How a task of the follower's stands: on which clock page its program goes, if on any, and where our image is in it. Told from
 * its memory at each question, since it may have been attached or detached meanwhile; what was found the last time, of the
 * thread or of its thread group, is only looked at, not searched for again.
 */
#ifndef VDSO_CORE_STANDING_H
#define VDSO_CORE_STANDING_H

#include "argument.h"
#include "follower.h"
#include "process.h"

/* VDSO_MEMBER_NOT where it cannot be looked into, too. Good until the next question. */
const struct vdso_membership *vdso_standing_look(struct vdso_follower *follower, pid_t tid);

/* Its process page. False: the task's program does not run on an image of ours. `memory` is the task's. */
bool vdso_standing_find(struct vdso_follower *follower, pid_t tid, const struct vdso_argument *memory,
			struct vdso_process *ret);

/* The task's program is about to be another one. */
void vdso_standing_forget(struct vdso_follower *follower, pid_t tid);

#endif
