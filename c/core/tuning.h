/*
 * adjtimex for a session's clock, as the kernel has it for its own (kernel/time/ntp.c, timekeeping.c of Linux 6.18): what it
 * refuses, what it takes for less, and what it says. Where a kernel slews, the clock is stepped, and nothing is left to be
 * done; leap seconds and PPS are told and do nothing. What it has been told is in the session's page, for all its followers.
 */
#ifndef VDSO_CORE_TUNING_H
#define VDSO_CORE_TUNING_H

#include <stdbool.h>
#include <sys/timex.h>

#include "follower.h"

/* Whether a clock may be set to that second (since 1970): from there on, and 30 years before 2262. */
bool vdso_tuning_settable(int64_t sec);

/* The session's clock has been set: nobody knows any more how right it is. Its page is open for writing. */
void vdso_tuning_set(const struct vdso_follower *follower, uint32_t session, struct vdso_page *page);

/* Does what *t asks for, and answers in it; the state (TIME_OK, TIME_ERROR) or a negative errno. */
int vdso_tuning_adjust(struct vdso_follower *follower, uint32_t session, struct timex *t);

#endif
