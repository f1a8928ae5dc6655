/* What is remembered of timers, found by whose they are, and room made where they are gone. Asks no timer what is left of
 * it. */
#ifndef VDSO_CORE_TIMERTABLE_H
#define VDSO_CORE_TIMERTABLE_H

#include "follower.h"

/* That timer's entry, NULL where none is. `task` is the process whose it is, or whose descriptors. */
struct vdso_timer *vdso_timertable_find(const struct vdso_follower *follower, pid_t task, int id, bool descriptor);

/* The same; a new one, if there was none. NULL: there is no room. */
struct vdso_timer *vdso_timertable_put(struct vdso_follower *follower, const struct vdso_timer *timer);

/* An entry that is in use is nobody's from now on. */
void vdso_timertable_drop(struct vdso_follower *follower, struct vdso_timer *timer);

/* By what a predecessor has left in the entries. */
void vdso_timertable_index(struct vdso_follower *follower);

#endif
