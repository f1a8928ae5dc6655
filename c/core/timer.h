/*
 * A timer on a session's clock as one on the host's: what the kernel is given for what a program has asked for, and which of
 * the program's times the kernel's next one stands for. Arithmetic alone; touches no timer.
 */
#ifndef VDSO_CORE_TIMER_H
#define VDSO_CORE_TIMER_H

#include <stdbool.h>
#include <time.h>

#include "clock.h"

/* What the kernel takes for never, short of what it would turn over. */
#define VDSO_TIMER_NEVER_S INT64_C(9000000000)

/* The kernel takes it: no part negative, and nanoseconds below a second. */
bool vdso_timer_is_valid(const struct itimerspec *setting);

/* That its it_value is zero, which stops a timer. */
bool vdso_timer_is_none(const struct itimerspec *setting);

/*
 * An absolute setting on `clock`, as one on the kernel's clock, which now shows `now`. An interval passes at the clock's rate,
 * and stands still with it. A time that the clock has passed is put where as many intervals have been missed.
 */
void vdso_timer_translate(const struct vdso_clock *clock, struct vdso_time now, const struct itimerspec *wanted,
			  struct itimerspec *ret);

/*
 * Whether a timer of which `left` is left is still as it was set to the host's `armed`: asked between the host's times `before`
 * and `after`. Its time that comes next, in `wanted` as it was when it was armed, is then put into *wanted.
 */
bool vdso_timer_is_still(const struct itimerspec *armed, const struct itimerspec *left, struct vdso_time before,
			 struct vdso_time after, struct itimerspec *wanted);

/* Whether a timer that is armed so has expired by `now`. */
bool vdso_timer_is_due(const struct itimerspec *armed, struct vdso_time now);

/* To the time before the one that comes next, so that it expires once more; nothing for one without an interval. */
void vdso_timer_step_back(struct itimerspec *wanted);

#endif
