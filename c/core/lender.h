/* Programs whose threads are borrowed (errand.h): which one minds it least, and those of whom none could be, of late. */
#ifndef VDSO_CORE_LENDER_H
#define VDSO_CORE_LENDER_H

#include "follower.h"

/* The thread that minds it least, best one that waits; 0: there is none. */
pid_t vdso_lender_choose(const struct vdso_follower *follower, pid_t program);

/* The kernel has to do for a while: tried again at once it would be tried for ever. */
void vdso_lender_put_beyond(struct vdso_follower *follower, pid_t program, int error);

/* Whether the program's timer_settime has to be the kernel's for now. */
bool vdso_lender_is_beyond(const struct vdso_follower *follower, pid_t program);

/* How an attempt to borrow one has gone: -EBUSY says that something is in the way there (borrow.h). */
void vdso_lender_note(struct vdso_follower *follower, pid_t program, int error);

/* Whether that is there still, and for so long that nobody needs it any more. */
bool vdso_lender_is_left_alone(const struct vdso_follower *follower, pid_t program);

/* The program has exec'd. */
void vdso_lender_forget(struct vdso_follower *follower, pid_t program);

#endif
