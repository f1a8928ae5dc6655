/*
 * Tasks that wait for an absolute time of the session's clock: turned to the wait that the image has for them, since a call
 * that was notified cannot be carried out with other arguments than its own. What sets a timer is timers.h's.
 */
#ifndef VDSO_CORE_TURN_H
#define VDSO_CORE_TURN_H

#include <linux/seccomp.h>

#include "follower.h"

/* Answers the notification of a call that vdso_deadline_is(). */
void vdso_turn_answer(struct vdso_follower *follower, const struct seccomp_notif *notification);

/* One that had to wait for a sibling's exec. */
void vdso_turn_hold(struct vdso_follower *follower, struct vdso_task *task);

/* Its stop: turned, and let go. */
void vdso_turn_stopped(struct vdso_follower *follower, struct vdso_task *task, int signal);

#endif
