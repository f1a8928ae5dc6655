/*
 * The counter of the processor, and whether it can be trusted to be one counter for all of them.
 *
 * Knows the hardware's counter and the kernel's opinion of it; knows nothing of clocks or pages.
 */
#ifndef VDSO_CORE_COUNTER_H
#define VDSO_CORE_COUNTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An ordered read: not before what stands in front of it. */
static inline uint64_t vdso_counter(void)
{
#if defined(__x86_64__)
	uint32_t low, high, cpu;

	__asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(cpu) : : "memory");
	return (uint64_t)high << 32 | low;
#elif defined(__aarch64__)
	uint64_t count;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(count) : : "memory");
	return count;
#else
	return 0;
#endif
}

struct vdso_counter_trust {
	bool trusted;
	unsigned pairs;       /* pairs of CPUs that were compared */
	bool all;             /* each CPU with each other; else each with the first alone */
	uint64_t handovers;   /* reads that followed a read of the other CPU: without these nothing was measured */
	uint64_t warps;       /* reads that were behind the one before */
	uint64_t warp_max;    /* in counts */
	char reason[128];     /* one line, for people */
};

/* Whether the first "flags" line of a cpuinfo text has all of constant_tsc, nonstop_tsc and rdtscp; the first that is missing,
 * or NULL. */
const char *vdso_counter_missing_flag(const char *cpuinfo);

/* How many pairs that many CPUs make: each with each if that is wanted and the time suffices (*ret_all), or with the first. */
unsigned vdso_counter_pairs(unsigned cpus, bool all, uint64_t budget_ns, bool *ret_all);

/*
 * The kernel's check_tsc_warp between CPUs of this process's affinity mask, in the pairs of vdso_counter_pairs(), for up to
 * budget_ns in all and until it has found a warp. `read` is called with `context` on threads pinned to two CPUs (tests give a counter that is wrong).
 * -EAGAIN: some pair hardly ran at the same time, so no warp was seen but none could have been.
 */
int vdso_counter_warp(uint64_t (*read)(void *context), void *context, bool all, uint64_t budget_ns,
		      struct vdso_counter_trust *ret);

/* All of it: flags, the kernel's own judgement, and the measurement. Takes some milliseconds. */
void vdso_counter_trust(struct vdso_counter_trust *ret);

#endif
