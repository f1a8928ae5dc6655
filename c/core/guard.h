/*
 * The guard: holds what a follower needs, and puts a new one in the place of one that was killed. An exec under a filter
 * whose listener is closed fails with ENOSYS, so one of the two must live.
 */
#ifndef VDSO_CORE_GUARD_H
#define VDSO_CORE_GUARD_H

#include "follower.h"

/* Runs a follower in a child and stands by until it has ended in order. Returns its exit status. */
int vdso_guard_run(struct vdso_follower *follower);

/* Called by a follower whose guard was killed: returns in a child that goes on following; the caller becomes the guard. */
void vdso_guard_replace(struct vdso_follower *follower);

/* Called by the follower: a session's clock page, or the listener, that a successor will need. 0 or a negative errno. */
int vdso_guard_keep(int guard, int fd, uint32_t number);

/* No successor will need that page. */
void vdso_guard_forget(int guard, uint32_t session);

#endif
