/* System calls that read a clock, made by a program itself: answered with the session's time, where it asks for that. */
#ifndef VDSO_CORE_READING_H
#define VDSO_CORE_READING_H

#include <linux/seccomp.h>
#include <stdbool.h>

#include "follower.h"

bool vdso_reading_is(const struct seccomp_data *data);

void vdso_reading_answer(struct vdso_follower *follower, const struct seccomp_notif *notification);

#endif
