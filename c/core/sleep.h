/* Relative sleeps, which take the host's time whatever the session's rate: named once a program. */
#ifndef VDSO_CORE_SLEEP_H
#define VDSO_CORE_SLEEP_H

#include <linux/seccomp.h>
#include <stdbool.h>

#include "follower.h"

/* A call that only sleeps: for so long, or until a time of MONOTONIC, by which some libraries do the same. */
bool vdso_sleep_is(const struct seccomp_data *data);

/* Says so under a changed rate, and lets it go on. False: it is a deadline on a clock that the session scales too. */
bool vdso_sleep_answer(struct vdso_follower *follower, const struct seccomp_notif *notification);

#endif
