/*
 * Timers that are set to an absolute time of a session's clock: descriptors (timerfd) and a process's own (timer_create).
 * The follower sets them in the program's stead, remembers them, and sets them anew when the clock is changed: a descriptor by
 * a copy of its own, a process's timer by a thread of it that it borrows.
 */
#ifndef VDSO_CORE_TIMERS_H
#define VDSO_CORE_TIMERS_H

#include <linux/seccomp.h>

#include "argument.h"
#include "clock.h"
#include "deadline.h"
#include "follower.h"

/* Answers timerfd_settime; `version` is of the record. */
void vdso_timers_set_descriptor(struct vdso_follower *follower, const struct seccomp_notif *notification,
				const struct vdso_argument *memory, uint32_t session, const struct vdso_clock *clock,
				uint64_t version, const struct vdso_deadline *deadline);

/* Either call where the kernel may as well carry it out, the clock being its own: remembered for when it no longer is. */
void vdso_timers_note(struct vdso_follower *follower, const struct seccomp_notif *notification, uint32_t session,
		      uint64_t version, const struct vdso_deadline *deadline, const struct itimerspec *wanted);

/* Whether the program's timer_settime has to be the kernel's for now: its threads could not be borrowed. */
bool vdso_timers_beyond(const struct vdso_follower *follower, pid_t program);

/*
 * A task that is held on its way back from a timer_settime, of a timer on that clock, that was not carried out (VDSO_TURNED):
 * has it set by the session's. False: it is as it was, and makes the call again.
 */
bool vdso_timers_begin(struct vdso_follower *follower, struct vdso_task *task, int clock);

/* A task in VDSO_TASK_LENT has stopped, with that status of waitpid(); or is gone. */
void vdso_timers_stopped(struct vdso_follower *follower, struct vdso_task *task, int status);
void vdso_timers_lost(struct vdso_follower *follower, pid_t tid);

/* Sets those anew whose session's clock has changed. */
void vdso_timers_anew(struct vdso_follower *follower);

/* What is due: that again, or threads that are held until others have been lent to us and have gone back. */
void vdso_timers_go_on(struct vdso_follower *follower);

/* How long until something is, in ns; -1: nothing will be. */
int64_t vdso_timers_patience_ns(const struct vdso_follower *follower);

/* The program has exec'd: its process's own timers are gone. */
void vdso_timers_forget(struct vdso_follower *follower, pid_t program);

#endif
