/*
 * Absolute deadlines that a program hands to the kernel: whether a notified call has one, on which clock, and how it is waited
 * for by the session's clock instead (VDSO_PLAN in process.h).
 */
#ifndef VDSO_CORE_DEADLINE_H
#define VDSO_CORE_DEADLINE_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>

/* A call that may have an absolute deadline, which the kernel may as well carry out. */
bool vdso_deadline_is(const struct seccomp_data *data);

enum vdso_deadline_way {
	VDSO_DEADLINE_NONE,    /* it has none, or on a clock that no session moves */
	VDSO_DEADLINE_WAIT,    /* by the image, after `plan` */
	VDSO_DEADLINE_TIMERFD, /* a timer of its own, set in its stead */
	VDSO_DEADLINE_TIMER,
	VDSO_DEADLINE_UNKNOWN, /* the kernel's clock has to do */
};

struct vdso_deadline {
	enum vdso_deadline_way way;
	const char *call;
	int clock;
	uint64_t at;   /* where its timespec is */
	uint64_t plan;
};

/* It is what a timer is set to, and not waited for. */
bool vdso_deadline_is_timer(const struct vdso_deadline *deadline);

void vdso_deadline_plan(const struct seccomp_notif *notification, struct vdso_deadline *ret);

#endif
