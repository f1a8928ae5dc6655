#include "vvar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "counter.h"

#define NS_PER_S 1000000000
#define PATIENCE_NS 100000000u
#define SPINS_PER_LOOK 1024u /* at the seqcount, between two looks at the time */
#define COPY_BYTES 4096u     /* at once: any pipe holds as much */

/* struct pvclock_vcpu_time_info, an ABI between hypervisor and guest. */
#define PVCLOCK_BYTES 32u
#define PVCLOCK_VERSION 0u
#define PVCLOCK_TSC 8u
#define PVCLOCK_SYSTEM 16u
#define PVCLOCK_MUL 24u
#define PVCLOCK_SHIFT 28u
#define PVCLOCK_FLAGS 29u
#define PVCLOCK_STABLE 1u

/* The writer is the kernel, on another CPU: every word of the page is read as an atomic. */
static inline uint32_t load32(const unsigned char *at, memory_order order)
{
	return atomic_load_explicit((const _Atomic uint32_t *)(const void *)at, order);
}

static inline uint64_t load64(const unsigned char *at)
{
	return atomic_load_explicit((const _Atomic uint64_t *)(const void *)at, memory_order_relaxed);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

int vdso_vvar_copy(uintptr_t from, void *ret, size_t size)
{
	int pipes[2], err = 0;

	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) != 0)
		return -errno;
	for (size_t done = 0; done < size && err == 0;) {
		size_t part = size - done < COPY_BYTES ? size - done : COPY_BYTES;
		ssize_t put = write(pipes[1], (const void *)(from + done), part);

		if (put < 0)
			err = -errno;
		else if (put == 0 || read(pipes[0], (char *)ret + done, (size_t)put) != put)
			err = -EIO;
		else
			done += (size_t)put;
	}
	close(pipes[0]);
	close(pipes[1]);
	return err;
}

static bool holds(const struct vdso_vvar_layout *layout, uint32_t offset, uint32_t size, uint32_t align)
{
	return offset % align == 0 && size <= layout->size && offset <= layout->size - size;
}

int vdso_vvar_clock_init(struct vdso_vvar_clock *ret, uintptr_t at, uintptr_t pvclock, enum vdso_vvar_counter counter,
			 const struct vdso_vvar_layout *layout)
{
	unsigned char copy[VDSO_VVAR_CLOCK_MAX];
	int err;

	if (layout->size > sizeof(copy) || layout->size % 4 != 0 || at % 8 != 0 || at > UINTPTR_MAX - layout->size ||
	    !holds(layout, layout->seq, 4, 4) || !holds(layout, layout->mode, 4, 4) ||
	    !holds(layout, layout->cycle_last, 8, 8) || !holds(layout, layout->mask, 8, 8) ||
	    !holds(layout, layout->mult, 4, 4) || !holds(layout, layout->shift, 4, 4) ||
	    !holds(layout, layout->bases, VDSO_VVAR_BASES * 16, 8) || counter >= VDSO_VVAR_COUNTERS ||
	    (counter == VDSO_VVAR_COUNTER_PVCLOCK) != (pvclock != 0) || pvclock % 8 != 0)
		return -EINVAL;
	err = vdso_vvar_copy(at, copy, layout->size);
	if (err == 0 && pvclock != 0)
		err = vdso_vvar_copy(pvclock, copy, PVCLOCK_BYTES);
	if (err != 0)
		return err;
	*ret = (struct vdso_vvar_clock){
		.at = (const unsigned char *)at,
		.pvclock = (const unsigned char *)pvclock,
		.counter = counter,
		.layout = *layout,
	};
	return 0;
}

/*
 * Begins a read: an even sequence. The acquire load pairs with the write barrier that the kernel's vdso_write_end() has before
 * it makes the sequence even (lib/vdso, include/vdso/helpers.h): what is loaded next is at least of that update.
 */
static int read_begin(const struct vdso_vvar_clock *clock, uint64_t patience_ns, uint32_t *seq)
{
	uint64_t start = 0;

	for (;;) {
		for (unsigned i = 0; i < SPINS_PER_LOOK; i++) {
			*seq = load32(clock->at + clock->layout.seq, memory_order_acquire);
			if ((*seq & 1) == 0)
				return 0;
		}
		/* A write takes the kernel well below a microsecond, a virtual CPU that is taken away during one some ms. */
		if (start == 0)
			start = now_ns();
		else if (now_ns() - start >= patience_ns)
			return -EAGAIN;
	}
}

/*
 * Whether what was loaded since belongs together. The acquire fence pairs with the write barrier that vdso_write_begin() has
 * after it makes the sequence odd: if one of our loads saw a word of that update, this one sees the odd sequence or a later.
 */
static bool read_end(const struct vdso_vvar_clock *clock, uint32_t seq)
{
	atomic_thread_fence(memory_order_acquire);
	return load32(clock->at + clock->layout.seq, memory_order_relaxed) == seq;
}

int vdso_vvar_snapshot(const struct vdso_vvar_clock *clock, uint64_t patience_ns, unsigned char *ret, uint32_t *seq)
{
	uint64_t start = now_ns();

	for (;;) {
		int err = read_begin(clock, patience_ns, seq);

		if (err != 0)
			return err;
		for (uint32_t i = 0; i < clock->layout.size; i += 4) {
			uint32_t word = load32(clock->at + i, memory_order_relaxed);

			memcpy(ret + i, &word, sizeof(word));
		}
		if (read_end(clock, *seq))
			return 0;
		if (now_ns() - start >= patience_ns)
			return -EAGAIN;
	}
}

/* The TSC on the hypervisor's line. Its version is a seqcount of the same kind, written by the hypervisor. False: it does not
 * hold for all CPUs, and then the kernel's own code does not go by it either. */
static bool pvclock_count(const unsigned char *at, uint64_t *ret)
{
	for (unsigned tries = 0; tries < 1u << 20; tries++) {
		uint32_t version = load32(at + PVCLOCK_VERSION, memory_order_acquire);
		uint64_t tsc = load64(at + PVCLOCK_TSC), system = load64(at + PVCLOCK_SYSTEM);
		uint32_t mul = load32(at + PVCLOCK_MUL, memory_order_relaxed);
		uint32_t word = load32(at + PVCLOCK_SHIFT, memory_order_relaxed);
		int8_t shift = (int8_t)(word & 0xff);
		uint64_t delta = vdso_counter() - tsc;

		/* Pairs with the hypervisor's write barrier after it makes the version odd. */
		atomic_thread_fence(memory_order_acquire);
		if ((version & 1) != 0 || load32(at + PVCLOCK_VERSION, memory_order_relaxed) != version)
			continue;
		if ((word >> 8 * (PVCLOCK_FLAGS - PVCLOCK_SHIFT) & PVCLOCK_STABLE) == 0 || shift < -63 || shift > 63)
			return false;
		delta = shift < 0 ? delta >> -shift : delta << shift;
		*ret = (system + (uint64_t)((unsigned __int128)delta * mul >> 32)) & INT64_MAX;
		return true;
	}
	return false;
}

static bool read_counter(const struct vdso_vvar_clock *clock, uint64_t *ret)
{
	switch (clock->counter) {
	case VDSO_VVAR_COUNTER_TSC:
		*ret = vdso_counter();
		return true;
	case VDSO_VVAR_COUNTER_PVCLOCK:
		return pvclock_count(clock->pvclock, ret);
	default:
		return false;
	}
}

static inline int64_t ns(const struct timespec *ts)
{
	return (int64_t)((uint64_t)ts->tv_sec * NS_PER_S + (uint64_t)ts->tv_nsec);
}

/* Unsigned arithmetic throughout: what a wrong layout yields is wrong and nothing worse. */
static inline int64_t whole(uint64_t sec, uint64_t nsec, int64_t offset_ns)
{
	return (int64_t)(sec * NS_PER_S + nsec + (uint64_t)offset_ns);
}

static void note(struct vdso_vvar_proof *proof, int64_t before, int64_t computed, int64_t after)
{
	if (computed >= before && computed <= after) {
		proof->good++;
		proof->width += (uint64_t)after - (uint64_t)before;
		return;
	}
	if (proof->bad++ == 0) {
		proof->before = before;
		proof->computed = computed;
		proof->after = after;
	}
}

int vdso_vvar_prove_coarse(const struct vdso_vvar_clock *clock, vdso_vvar_function *function, unsigned id, int64_t offset_ns,
			   uint64_t count, struct vdso_vvar_proof *proof)
{
	const unsigned char *base;
	struct timespec said;

	if (id >= VDSO_VVAR_BASES)
		return -EINVAL;
	base = clock->at + clock->layout.bases + id * 16u;
	for (uint64_t i = 0; i < count; i++) {
		uint32_t seq;
		uint64_t sec, nsec;
		int err = read_begin(clock, PATIENCE_NS, &seq);

		if (err != 0)
			return err;
		sec = load64(base);
		nsec = load64(base + 8);
		if (function((clockid_t)id, &said) != 0)
			return -EINVAL;
		if (read_end(clock, seq))
			note(proof, ns(&said), whole(sec, nsec, offset_ns), ns(&said));
		else
			proof->ticks++;
	}
	return 0;
}

int vdso_vvar_prove_fine(const struct vdso_vvar_clock *clock, vdso_vvar_function *function, unsigned id, int64_t offset_ns,
			 uint64_t samples, struct vdso_vvar_proof *proof)
{
	const struct vdso_vvar_layout *layout = &clock->layout;
	const unsigned char *at = clock->at, *base;
	struct timespec before, after;

	if (id >= VDSO_VVAR_BASES)
		return -EINVAL;
	base = at + layout->bases + id * 16u;
	for (uint64_t i = 0; i < samples; i++) {
		uint64_t cycles, last, mask, delta, sec, nsec;
		uint32_t seq, mult, shift;
		int err = read_begin(clock, PATIENCE_NS, &seq);

		if (err != 0)
			return err;
		if (function((clockid_t)id, &before) != 0)
			return -EINVAL;
		/* In order: after the function's own read of the counter and before its second one, each of them ordered. */
		if (!read_counter(clock, &cycles))
			return -EINVAL;
		last = load64(at + layout->cycle_last);
		mask = load64(at + layout->mask);
		mult = load32(at + layout->mult, memory_order_relaxed);
		shift = load32(at + layout->shift, memory_order_relaxed);
		sec = load64(base);
		nsec = load64(base + 8);
		if (function((clockid_t)id, &after) != 0)
			return -EINVAL;
		if (!read_end(clock, seq)) {
			proof->ticks++;
			continue;
		}
		/* A counter behind cycle_last, read on another CPU, counts as none gone by: as the kernel's code has it. */
		delta = (cycles - last) & mask;
		if (delta > mask / 2)
			delta = 0;
		nsec = shift < 64 ? (uint64_t)(((unsigned __int128)delta * mult + nsec) >> shift) : 0;
		note(proof, ns(&before), whole(sec, nsec, offset_ns), ns(&after));
	}
	return 0;
}

int vdso_vvar_wait(const struct vdso_vvar_clock *clock, uint32_t seen, uint64_t looked_ns, uint64_t first_ns, uint64_t poll_ns,
		   uint64_t timeout_ns, struct vdso_vvar_tick *ret)
{
	uint64_t end = now_ns() + timeout_ns, next = first_ns;

	for (;;) {
		struct timespec pause;
		uint64_t now = now_ns();
		uint32_t seq;

		if (now >= end || next > end - now)
			next = now >= end ? 0 : end - now;
		pause = (struct timespec){.tv_sec = (time_t)(next / NS_PER_S), .tv_nsec = (long)(next % NS_PER_S)};
		if (next != 0 && nanosleep(&pause, NULL) != 0)
			return -errno;
		/* The time first: the change may be younger than the look, never older than the look before. */
		now = now_ns();
		if (read_begin(clock, PATIENCE_NS, &seq) == 0 && seq != seen) {
			ret->cycle_last = load64(clock->at + clock->layout.cycle_last);
			next = 0;
			if (!read_end(clock, seq))
				continue;
			ret->seq = seq;
			ret->seen_ns = now_ns();
			ret->late_ns = ret->seen_ns - looked_ns;
			return 0;
		}
		looked_ns = now;
		if (now >= end)
			return -ETIMEDOUT;
		next = poll_ns;
	}
}
