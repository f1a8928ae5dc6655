/*
 * Timers that are set to an absolute time of a session's clock: descriptors (timerfd.h) and a process's own (errand.h). The
 * follower sets them in the program's stead, remembers them, and sets them anew when the clock is changed.
 */
#ifndef VDSO_CORE_TIMERS_H
#define VDSO_CORE_TIMERS_H

#include <linux/seccomp.h>

#include "clock.h"
#include "deadline.h"
#include "follower.h"

/* What a notified timerfd_settime or timer_settime is about, but for the setting; `version` is of the session's record. */
struct vdso_timer vdso_timers_called(const struct seccomp_notif *notification, uint32_t session, uint64_t version,
				     const struct vdso_deadline *deadline);

void vdso_timers_remember(struct vdso_follower *follower, const struct vdso_timer *timer);

/* A call that the kernel may as well carry out, the clock being its own: remembered for when it no longer is. */
void vdso_timers_note(struct vdso_follower *follower, const struct seccomp_notif *notification, uint32_t session,
		      uint64_t version, const struct vdso_deadline *deadline, const struct itimerspec *wanted);

/* The program has exec'd: its process's own timers are gone. */
void vdso_timers_forget(struct vdso_follower *follower, pid_t program);

/* One without an interval, whose time has come: nothing sets it anew any more. */
bool vdso_timers_is_spent(const struct vdso_timer *timer);

/* Its program has ended. */
bool vdso_timers_is_over(const struct vdso_timer *timer);

/* The versions of the sessions' records, each looked up once. */
struct vdso_timers_versions {
	uint64_t version[VDSO_FOLLOWER_SESSIONS];
	bool known[VDSO_FOLLOWER_SESSIONS], good[VDSO_FOLLOWER_SESSIONS];
};

/* Whether its session's clock no longer goes by the record that it was set by. `now` begins as {0}. */
bool vdso_timers_is_stale(const struct vdso_follower *follower, struct vdso_timers_versions *now,
			  const struct vdso_timer *timer);

/* Whether of a timer `left` is left as we have set it, asked between these times of the host's. Puts its time that comes next
 * into next.wanted. */
bool vdso_timers_is_still(struct vdso_timer *timer, const struct itimerspec *left, struct vdso_time before,
			  struct vdso_time after);

/* Whether a timer that is not as it was set may not have come to be so yet: it is tried again in a moment. */
bool vdso_timers_may_come(struct vdso_follower *follower, const struct vdso_timer *timer);

/* Whether what a timer was found at when we set it, `old`, is its program's doing: neither is it still as we had set it
 * (set.armed), nor has it expired meanwhile. We had looked at `before`. */
bool vdso_timers_was_set(const struct vdso_timer *timer, const struct itimerspec *old, struct vdso_time before);

/* Puts into next.armed what it is to be set to, for next.wanted: known to a successor before it is done. */
int vdso_timers_prepare(struct vdso_follower *follower, const struct vdso_clock *clock, struct vdso_timer *timer);

/* The kernel's clock of that id, or what it is another view of. 0 or a negative errno, as above. */
int vdso_timers_host_time(int id, struct vdso_time *ret);

/* One line a program, that a timer of it goes by the kernel's clock; -ESRCH is no news. */
void vdso_timers_warn(struct vdso_follower *follower, pid_t program, int error);

/* Nothing is to be tried for the timers of the program's process until the clock changes again. */
void vdso_timers_give_up(struct vdso_follower *follower, pid_t program, int error);

/* Sets those anew whose session's clock has changed; the same in a moment. */
void vdso_timers_anew(struct vdso_follower *follower);
void vdso_timers_try_again(struct vdso_follower *follower);

/* What is due: that again, or errands that wait for others. How long until something is, in ns; -1: nothing will be. */
void vdso_timers_go_on(struct vdso_follower *follower);
int64_t vdso_timers_patience_ns(const struct vdso_follower *follower);

#endif
