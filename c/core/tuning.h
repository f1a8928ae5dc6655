/*
 * adjtimex for a session's clock, as the kernel has it for its own (kernel/time/ntp.c, timekeeping.c of Linux 6.18): what it
 * refuses, what it takes for less, and what it says. Where a kernel slews, the clock is stepped, and nothing is left to be
 * done; leap seconds and PPS are told and do nothing. What it has been told is in the session's record, for all its followers, as are
 * the last calls: what a follower that was killed has carried out is not carried out again by the one that answers it.
 */
#ifndef VDSO_CORE_TUNING_H
#define VDSO_CORE_TUNING_H

#include <stdbool.h>
#include <sys/timex.h>

#include "clock.h"
#include "follower.h"

/* Whether a clock may be set to that second (since 1970): from there on, and 30 years before 2262. */
bool vdso_tuning_settable(int64_t sec);

/* Sets the session's clock, of which nobody knows any more how right it is. 0 or a negative errno. */
int vdso_tuning_set(struct vdso_follower *follower, uint32_t session, struct vdso_time to);

/* Does what *t asks for, and answers in it; the state (TIME_OK, TIME_ERROR) or a negative errno. */
int vdso_tuning_adjust(struct vdso_follower *follower, uint32_t session, struct timex *t);

#endif
