/* Seccomp notifications: the answers to them. All return 0 or a negative errno; -ENOENT: the task was killed, or its call
 * interrupted, meanwhile. */
#ifndef VDSO_CORE_NOTIFICATION_H
#define VDSO_CORE_NOTIFICATION_H

#include <stdbool.h>
#include <stdint.h>

/* The call returns `value`, or fails with `error`, a negative errno. */
int vdso_notification_answer(int listener, uint64_t id, int64_t value, int32_t error);

/* The kernel carries the call out. */
int vdso_notification_go_on(int listener, uint64_t id);

/* Its task still waits for an answer. */
bool vdso_notification_waits(int listener, uint64_t id);

#endif
