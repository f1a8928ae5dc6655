/*
 * The kernel's clock data, [vvar], read where it stands in this process: by the protocol of its seqcount, against the kernel's
 * own functions, and tick by tick.
 *
 * Knows no kernel version: where things lie is the caller's to say (vdso.kernel.layout finds out), and nothing is believed.
 * A page that is not backed raises SIGBUS when touched, so whatever is read here has first been copied once by the kernel,
 * which answers EFAULT instead.
 */
#ifndef VDSO_CORE_VVAR_H
#define VDSO_CORE_VVAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define VDSO_VVAR_CLOCK_MAX 1024u /* bytes of one clock, at the most: known ones have 224 to 248 */
#define VDSO_VVAR_BASES 12u       /* of 16 bytes, by clock id */

/* Of one of the page's clocks: offsets from its first byte, in bytes. */
struct vdso_vvar_layout {
	uint32_t size;
	uint32_t seq;        /* u32 */
	uint32_t mode;       /* s32 */
	uint32_t cycle_last; /* u64 */
	uint32_t mask;       /* u64 */
	uint32_t mult;       /* u32 */
	uint32_t shift;      /* u32 */
	uint32_t bases;      /* VDSO_VVAR_BASES times { u64 sec, u64 nsec } */
};

/* What the clock counts by. */
enum vdso_vvar_counter {
	VDSO_VVAR_COUNTER_NONE,
	VDSO_VVAR_COUNTER_TSC,
	VDSO_VVAR_COUNTER_PVCLOCK, /* the hypervisor's line over the TSC, in a page of its own */
	VDSO_VVAR_COUNTERS,
};

struct vdso_vvar_clock {
	const unsigned char *at;
	const unsigned char *pvclock; /* NULL but for the counter of that name */
	enum vdso_vvar_counter counter;
	struct vdso_vvar_layout layout;
};

/* Copies what may be unreadable, by way of the kernel. -EFAULT: some of it is not backed; or another negative errno. */
int vdso_vvar_copy(uintptr_t from, void *ret, size_t size);

/*
 * -EINVAL: members outside the clock or not aligned, a counter that needs a page and has none; -EFAULT: not readable.
 * Afterwards the clock may be read directly as long as the process does not unmap its pages: which of them are backed changes
 * only with its time namespace, and a process with threads cannot change that.
 */
int vdso_vvar_clock_init(struct vdso_vvar_clock *ret, uintptr_t at, uintptr_t pvclock, enum vdso_vvar_counter counter,
			 const struct vdso_vvar_layout *layout);

/* One consistent copy, of layout.size bytes. -EAGAIN: a write was in progress for patience_ns. */
int vdso_vvar_snapshot(const struct vdso_vvar_clock *clock, uint64_t patience_ns, unsigned char *ret, uint32_t *seq);

/* The kernel's clock_gettime, in its vDSO. */
typedef int vdso_vvar_function(clockid_t id, struct timespec *ts);

struct vdso_vvar_proof {
	uint64_t good;
	uint64_t ticks; /* the page changed meanwhile: neither good nor bad */
	uint64_t bad;
	/* The first bad one, in ns. */
	int64_t before, computed, after;
	uint64_t width; /* of the good ones, between before and after, all together, in ns */
};

/*
 * Adds `count` samples to the proof. Coarse: the base of `id` is, to the ns, what the function says. Fine: what base, mult,
 * shift and the counter make lies between two answers of the function. offset_ns: what a time namespace adds.
 * -EINVAL: the function fails, or there is no counter to compute from; -EAGAIN as above.
 */
int vdso_vvar_prove_coarse(const struct vdso_vvar_clock *clock, vdso_vvar_function *function, unsigned id, int64_t offset_ns,
			   uint64_t count, struct vdso_vvar_proof *proof);
int vdso_vvar_prove_fine(const struct vdso_vvar_clock *clock, vdso_vvar_function *function, unsigned id, int64_t offset_ns,
			 uint64_t count, struct vdso_vvar_proof *proof);

struct vdso_vvar_tick {
	uint32_t seq;
	uint64_t cycle_last;
	uint64_t seen_ns; /* CLOCK_MONOTONIC, when it was seen */
	uint64_t late_ns; /* the change is no older than this: the page was as before when it was last looked at */
};

/*
 * Sleeps until the page's sequence is another, even one than `seen`, which it was at looked_ns: for first_ns before the first
 * look (0: at once), then from look to look for poll_ns. -EINTR: a signal; -ETIMEDOUT: nothing for timeout_ns.
 */
int vdso_vvar_wait(const struct vdso_vvar_clock *clock, uint32_t seen, uint64_t looked_ns, uint64_t first_ns, uint64_t poll_ns,
		   uint64_t timeout_ns, struct vdso_vvar_tick *ret);

#endif
