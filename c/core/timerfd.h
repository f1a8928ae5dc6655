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

/* False: it is no longer that timer as we have set it. Since we gave it back, its program may have done anything. */
bool vdso_timerfd_set_anew(const struct vdso_clock *clock, struct vdso_timer *timer);

#endif
