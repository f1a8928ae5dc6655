/* A task's exec: held from its notification to its first instruction, and given the order to swap. */
#ifndef VDSO_CORE_EXEC_H
#define VDSO_CORE_EXEC_H

#include <linux/seccomp.h>

#include "follower.h"

bool vdso_exec_is(const struct seccomp_data *data);

void vdso_exec_notified(struct vdso_follower *follower, const struct seccomp_notif *notification);

/* Takes hold of a task whose exec waits for our word, and lets it go on into it. */
void vdso_exec_hold(struct vdso_follower *follower, struct vdso_task *task);

/* The exec's stop: ordered, and let go. */
void vdso_exec_stopped(struct vdso_follower *follower, pid_t tid);

/* Another stop of a task that was held for it: the exec is none, and the task is to be let go. */
void vdso_exec_failed(struct vdso_follower *follower, struct vdso_task *task);

/* A task that was held, whatever for, has ended. */
void vdso_exec_ended(struct vdso_follower *follower, struct vdso_task *task);

/* One whose holder, our predecessor, has died. */
void vdso_exec_hold_again(struct vdso_follower *follower, struct vdso_task *task);

#endif
