/* Timers that are descriptors, set and set anew by a copy of the descriptor. */
#ifndef VDSO_CORE_TIMERFD_H
#define VDSO_CORE_TIMERFD_H

#include <linux/seccomp.h>

#include "argument.h"
#include "clock.h"
#include "deadline.h"
#include "follower.h"

/* Answers timerfd_settime; `version` is of the record. */
void vdso_timerfd_set(struct vdso_follower *follower, const struct seccomp_notif *notification,
		      const struct vdso_argument *memory, uint32_t session, const struct vdso_clock *clock, uint64_t version,
		      const struct vdso_deadline *deadline);

/* False: where it was set from is no such timer as we have set it. Since we gave it back, its program may have done anything. */
bool vdso_timerfd_set_anew(struct vdso_follower *follower, const struct vdso_clock *clock, struct vdso_timer *timer);

/* Whether there is a timer of that clock where it was set from. */
bool vdso_timerfd_is_there(const struct vdso_timer *timer);

/*
 * Searches the sessions' programs for the timers that are remembered as lost, by what is left of them, which tells them apart to
 * the time that it takes to ask. They are remembered where they have been found, and those that are nowhere not at all.
 */
void vdso_timerfd_search(struct vdso_follower *follower);

#endif
