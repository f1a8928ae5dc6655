/*
 * The calls that set a clock or read how it is disciplined, answered for the session: never let through to the kernel, so
 * that nothing a program does between our look and the kernel's can reach the host's clock.
 */
#ifndef VDSO_CORE_SETTING_H
#define VDSO_CORE_SETTING_H

#include <linux/seccomp.h>
#include <stdbool.h>

#include "follower.h"

/* By architecture and number: x86-64, x32 or i386. */
bool vdso_setting_is(const struct seccomp_data *data);

/* Does for the session of the notifying task what the call asks for, and answers it. */
void vdso_setting_answer(struct vdso_follower *follower, const struct seccomp_notif *notification);

#endif
