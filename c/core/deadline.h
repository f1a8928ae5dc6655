/* Absolute deadlines that a program hands to the kernel under a moved REALTIME: whether a notified call is one, and which. */
#ifndef VDSO_CORE_DEADLINE_H
#define VDSO_CORE_DEADLINE_H

#include <linux/seccomp.h>
#include <stdbool.h>

/* A call that may have an absolute deadline, which the kernel may as well carry out. */
bool vdso_deadline_is(const struct seccomp_data *data);

/* The call's name when its deadline is on a clock that the session moves, else NULL. */
const char *vdso_deadline_call(const struct seccomp_notif *notification);

#endif
