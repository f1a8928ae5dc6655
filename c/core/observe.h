/*
 * The way that the C library takes to each clock, observed: two forked children make each call and report where it went. In
 * one, what enters the vDSO is caught by taking the execute permission off it; in the other, what enters the kernel by a
 * seccomp filter. So nothing is concluded from versions or symbols.
 */
#ifndef VDSO_CORE_OBSERVE_H
#define VDSO_CORE_OBSERVE_H

#include <stdint.h>

/* Who made the system call, by the address it came from. */
enum vdso_observed_caller {
	VDSO_CALLER_NOBODY = 0, /* the kernel was not entered */
	VDSO_CALLER_LIBRARY,    /* outside the vDSO */
	VDSO_CALLER_VDSO,       /* the vDSO itself, for want of a better way */
	VDSO_CALLER_VSYSCALL,   /* the page at the fixed address */
};

struct vdso_observed {
	const char *call; /* such as "clock_gettime" */
	int32_t clock;    /* its clock id, -1: the call has none */
	int32_t vdso;     /* 1: it entered the vDSO; 0: it did not; -1: could not be seen */
	int32_t caller;   /* enum vdso_observed_caller; -1: the call crashed, or never came back */
	int32_t number;   /* the system call's, if the kernel was entered, else -1 */
};

#define VDSO_OBSERVED_MAX 32

/* The name of a system call that is looked for, NULL for any other. */
const char *vdso_observed_name(int number);

/*
 * Makes every call once in each child and fills `ret`; returns how many, or a negative errno: the child could not be
 * started, or seccomp refused the filter. `vdso` is -1 throughout where the vDSO's pages are sealed, and 0 where there is
 * no vDSO.
 */
int vdso_observe(struct vdso_observed ret[VDSO_OBSERVED_MAX]);

#endif
