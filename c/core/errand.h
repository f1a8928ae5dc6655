/*
 * A process's own timers, which only its own threads can set: one is borrowed for it (borrow.h). Each errand goes from stop to
 * stop of its thread, while the follower does what else there is to do.
 */
#ifndef VDSO_CORE_ERRAND_H
#define VDSO_CORE_ERRAND_H

#include "follower.h"

/*
 * A task that is held on its way back from a timer_settime, of a timer on that clock, that was not carried out (VDSO_TURNED):
 * has it set by the session's. False: it is as it was, and makes the call again.
 */
bool vdso_errand_begin(struct vdso_follower *follower, struct vdso_task *task, int clock);

/* Has a thread of the program set those of its timers anew that the clock has left behind; whether one is about to, or does. */
void vdso_errand_lend(struct vdso_follower *follower, pid_t program);
bool vdso_errand_is_under_way(const struct vdso_follower *follower, pid_t program);

/* A task in VDSO_TASK_LENT has stopped, with that status of waitpid(); or is gone. */
void vdso_errand_stopped(struct vdso_follower *follower, struct vdso_task *task, int status);
void vdso_errand_lost(struct vdso_follower *follower, pid_t tid);

/* Threads that are held until others have been lent to us and have gone back: tries those that are due, and when the next one
 * is (CLOCK_MONOTONIC); 0: there is none. */
void vdso_errand_go_on(struct vdso_follower *follower);
uint64_t vdso_errand_due_ns(const struct vdso_follower *follower);

#endif
