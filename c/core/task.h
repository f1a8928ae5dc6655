/* The follower's table of tasks between their notification and their landing: in the memory that it shares with its guard. */
#ifndef VDSO_CORE_TASK_H
#define VDSO_CORE_TASK_H

#include "follower.h"

struct vdso_task *vdso_task_find(struct vdso_follower_shared *shared, pid_t tid);

/* An unused entry, NULL if there is none. */
struct vdso_task *vdso_task_take(struct vdso_follower_shared *shared);

/* Held by ptrace. */
bool vdso_task_is_held(const struct vdso_task *task);

/*
 * Traces the task of a notification. 0 or a negative errno; -EAGAIN: its process is being attached to or detached at this
 * moment, and the task has been left waiting, or told to make its call again.
 */
int vdso_task_seize(struct vdso_follower *follower, struct vdso_task *task);

/*
 * Another thread of tid's process is held. One at a time: a thread in its exec has locked the process's credentials and
 * waits for its siblings to die, one that we hold dies only when we reap it, and seizing a third would have us wait for
 * that lock.
 */
bool vdso_task_sibling_held(const struct vdso_follower_shared *shared, pid_t tid);

/* The same, and that thread is in an exec: to be held, a task must not wait for that one's lock. */
bool vdso_task_sibling_in_exec(const struct vdso_follower_shared *shared, pid_t tid);

bool vdso_task_any_held(const struct vdso_follower_shared *shared);

#endif
