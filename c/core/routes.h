/*
 * Ways to what the vDSO serves, timed: loops in C around one of its functions (ours, the kernel's own, libc's), the true
 * system call, the vsyscall page, and the bare counter. One call is one batch, so that batches of different routes can be
 * run in turns.
 */
#ifndef VDSO_CORE_ROUTES_H
#define VDSO_CORE_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vdso_route {
	VDSO_ROUTE_LOOP,     /* the loop with nothing in it */
	VDSO_ROUTE_EMPTY,    /* a function of clock_gettime's form that does nothing: the loop and the call */
	VDSO_ROUTE_FUNCTION, /* the one at `function` */
	VDSO_ROUTE_LIBC,
	VDSO_ROUTE_SYSCALL,  /* by the instruction itself */
	VDSO_ROUTE_VSYSCALL, /* time, gettimeofday and getcpu at their fixed addresses */
	VDSO_ROUTE_RDTSC,
	VDSO_ROUTE_RDTSCP,
	VDSO_ROUTE_LFENCE_RDTSC,
	VDSO_ROUTES,
};

enum vdso_call {
	VDSO_CALL_CLOCK_GETTIME,
	VDSO_CALL_CLOCK_GETRES,
	VDSO_CALL_GETTIMEOFDAY,
	VDSO_CALL_TIME,
	VDSO_CALL_GETCPU,
	VDSO_CALL_GETRANDOM, /* VDSO_ROUTE_RANDOM_BYTES at a time */
	VDSO_CALL_GETPPID,   /* the system call alone */
	VDSO_CALLS,
};

#define VDSO_ROUTE_RANDOM_BYTES 16

/* The ns that `count` calls take all together, by CLOCK_MONOTONIC_RAW, which is read by the true system call before and
 * after: a count of 0 gives what that costs. A few calls go before, unmeasured. `clock` is for the two calls that take one.
 * -EINVAL: the route answered with an error; -ENOSYS: there is no such route for this call, or not on this machine. */
int64_t vdso_route_time(enum vdso_route route, enum vdso_call call, uintptr_t function, int clock, uint64_t count);

/* Who answers CPUID's hypervisor leaf ("KVMKVMKVM", "TCGTCGTCGTCG"), "" where none does. */
void vdso_route_hypervisor(char ret[13]);

/* Whether the kernel lets programs call into the vsyscall page. */
bool vdso_route_vsyscall(void);

/* Two clocks read one after the other, with the counter before, between and after; then `first` once more. */
struct vdso_route_sample {
	uint64_t counter[3];
	int64_t first_ns;
	int64_t second_ns;
	int64_t again_ns;
};

/* `first` and `second` are of clock_gettime's form. 0, -EINVAL when one of them answers with an error, or -ENOSYS. */
int vdso_route_compare(uintptr_t first, uintptr_t second, int clock, struct vdso_route_sample *ret, size_t count);

#endif
