/* Reading a data page like the kernel's: one of our own, whose writer, functions and faults are ours to choose. */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "check.h"
#include "counter.h"
#include "vvar.h"

#define SECOND 1000000000
#define SHIFT 20u

/* As x86-64 has it since 6.16. */
struct clock {
	_Atomic uint32_t seq;
	int32_t mode;
	_Atomic uint64_t cycle_last;
	uint64_t max_cycles, mask;
	uint32_t mult, shift;
	struct {
		_Atomic uint64_t sec, nsec;
	} base[12];
};

static const struct vdso_vvar_layout layout = {
	.size = sizeof(struct clock),
	.seq = offsetof(struct clock, seq),
	.mode = offsetof(struct clock, mode),
	.cycle_last = offsetof(struct clock, cycle_last),
	.mask = offsetof(struct clock, mask),
	.mult = offsetof(struct clock, mult),
	.shift = offsetof(struct clock, shift),
	.bases = offsetof(struct clock, base),
};

static struct clock *page;
static atomic_bool done;

/* One ns a count, from a base of 5 s, and coarse clocks that stand at the base. */
static void set(uint64_t cycles)
{
	*page = (struct clock){.seq = 8, .cycle_last = cycles, .mask = UINT64_MAX, .mult = 1u << SHIFT, .shift = SHIFT};
	for (int id = 0; id < 12; id++) {
		page->base[id].sec = 5;
		page->base[id].nsec = id == 5 || id == 6 ? 7 : (uint64_t)7 << SHIFT;
	}
}

/* The kernel's vdso_write_begin() and vdso_write_end(). */
static void write_page(uint64_t value)
{
	atomic_store_explicit(&page->seq, page->seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&page->cycle_last, value, memory_order_relaxed);
	for (int id = 0; id < 12; id++) {
		atomic_store_explicit(&page->base[id].sec, value, memory_order_relaxed);
		atomic_store_explicit(&page->base[id].nsec, value, memory_order_relaxed);
	}
	atomic_store_explicit(&page->seq, page->seq + 1, memory_order_release);
}

static void *writer(void *none)
{
	(void)none;
	for (uint64_t value = 1; !atomic_load_explicit(&done, memory_order_relaxed); value++) {
		write_page(value);
		/* A reader gets in: the kernel's pauses are milliseconds. */
		for (unsigned i = 0; i < 200; i++)
			atomic_signal_fence(memory_order_seq_cst);
	}
	return NULL;
}

static int say(clockid_t id, struct timespec *ts)
{
	uint64_t more = id == 5 || id == 6 ? 7 : 7 + vdso_counter() - page->cycle_last;

	*ts = (struct timespec){.tv_sec = (time_t)(5 + more / SECOND), .tv_nsec = (long)(more % SECOND)};
	return 0;
}

static int say_an_hour_later(clockid_t id, struct timespec *ts)
{
	int ret = say(id, ts);

	ts->tv_sec += 3600;
	return ret;
}

static int say_and_write(clockid_t id, struct timespec *ts)
{
	page->seq += 2;
	return say(id, ts);
}

static int say_nothing(clockid_t id, struct timespec *ts)
{
	(void)id, (void)ts;
	return -EINVAL;
}

static int open_clock(struct vdso_vvar_clock *clock, enum vdso_vvar_counter counter)
{
	return vdso_vvar_clock_init(clock, (uintptr_t)page, 0, counter, &layout);
}

static void test_what_is_not_there(void)
{
	char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), copy[8192];
	FILE *file = tmpfile();
	char *beyond = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
	struct vdso_vvar_clock clock;

	mprotect(hole + 4096, 4096, PROT_NONE);
	memset(hole, 'x', 4096);
	check(vdso_vvar_copy((uintptr_t)hole, copy, 4096) == 0 && memcmp(copy, hole, 4096) == 0, "what is there is copied");
	check(vdso_vvar_copy((uintptr_t)hole + 4000, copy, 200) == -EFAULT, "what ends in a page without rights is refused");
	check(vdso_vvar_copy((uintptr_t)hole, copy, 8192) == -EFAULT, "also in its second page");
	/* Beyond the end of its file a page raises SIGBUS, as those of [vvar] do that the kernel does not use. */
	check(vdso_vvar_copy((uintptr_t)beyond, copy, 16) == -EFAULT, "a page that raises SIGBUS is refused");
	check(vdso_vvar_copy(UINTPTR_MAX - 7, copy, 8) == -EFAULT, "no address of ours is refused");
	check(vdso_vvar_clock_init(&clock, (uintptr_t)beyond, 0, VDSO_VVAR_COUNTER_TSC, &layout) == -EFAULT,
	      "and no clock is opened there");
	check(vdso_vvar_clock_init(&clock, (uintptr_t)page, (uintptr_t)beyond, VDSO_VVAR_COUNTER_PVCLOCK, &layout) == -EFAULT,
	      "nor with a hypervisor's page there");
	munmap(beyond, 4096);
	munmap(hole, 8192);
	fclose(file);
}

static void test_layouts_that_lie(void)
{
	struct vdso_vvar_layout wrong[] = {layout, layout, layout, layout, layout, layout};
	struct vdso_vvar_clock clock;
	unsigned refused = 0;

	wrong[0].seq = layout.size;
	wrong[1].cycle_last = 4;
	wrong[2].bases = layout.bases + 8;
	wrong[3].size = VDSO_VVAR_CLOCK_MAX + 4;
	wrong[4].mult = UINT32_MAX - 3;
	wrong[5].size = 0;
	for (unsigned i = 0; i < 6; i++)
		refused += vdso_vvar_clock_init(&clock, (uintptr_t)page, 0, VDSO_VVAR_COUNTER_TSC, &wrong[i]) == -EINVAL;
	refused += vdso_vvar_clock_init(&clock, (uintptr_t)page + 4, 0, VDSO_VVAR_COUNTER_TSC, &layout) == -EINVAL;
	refused += vdso_vvar_clock_init(&clock, (uintptr_t)page, 0, VDSO_VVAR_COUNTER_PVCLOCK, &layout) == -EINVAL;
	refused += vdso_vvar_clock_init(&clock, (uintptr_t)page, 0, VDSO_VVAR_COUNTERS, &layout) == -EINVAL;
	check(refused == 9, "%u of 9 layouts that cannot be are refused", refused);
}

static void test_snapshots(unsigned count)
{
	struct vdso_vvar_clock clock;
	unsigned char copy[sizeof(struct clock)];
	unsigned torn = 0, late = 0, versions = 0;
	uint64_t last = 0;
	uint32_t seq;
	pthread_t thread;

	set(0);
	open_clock(&clock, VDSO_VVAR_COUNTER_NONE);
	atomic_store(&done, false);
	write_page(0);
	pthread_create(&thread, NULL, writer, NULL);
	for (unsigned i = 0; i < count || (versions < 3 && i < count * 1000); i++) {
		struct clock *got = (void *)copy;

		if (vdso_vvar_snapshot(&clock, SECOND, copy, &seq) != 0) {
			late++;
			continue;
		}
		for (int id = 0; id < 12; id++)
			torn += got->base[id].sec != got->cycle_last || got->base[id].nsec != got->cycle_last;
		torn += (seq & 1) != 0 || got->seq != seq;
		versions += got->cycle_last != last;
		last = got->cycle_last;
	}
	atomic_store(&done, true);
	pthread_join(thread, NULL);
	check(torn == 0 && late == 0 && versions >= 3, "%u copies under a writer, %u versions, %u torn, %u given up", count, versions,
	      torn, late);
	page->seq |= 1;
	check(vdso_vvar_snapshot(&clock, 1000000, copy, &seq) == -EAGAIN, "a write that does not end is not waited for for ever");
}

static void test_proofs(void)
{
	struct vdso_vvar_clock clock;
	struct vdso_vvar_proof proof;
	int err;

	set(vdso_counter());
	open_clock(&clock, VDSO_VVAR_COUNTER_TSC);
	proof = (struct vdso_vvar_proof){0};
	err = vdso_vvar_prove_coarse(&clock, say, 5, 0, 500, &proof);
	check(err == 0 && proof.good == 500 && proof.bad == 0, "a coarse clock is right %llu times of 500", (unsigned long long)proof.good);
	proof = (struct vdso_vvar_proof){0};
	err = vdso_vvar_prove_fine(&clock, say, 1, 0, 500, &proof);
	check(err == 0 && proof.good == 500, "a fine one %llu times of 500",
	      (unsigned long long)proof.good);
	for (int fine = 0; fine < 2; fine++) {
		int (*prove)(const struct vdso_vvar_clock *, vdso_vvar_function *, unsigned, int64_t, uint64_t,
			     struct vdso_vvar_proof *) = fine ? vdso_vvar_prove_fine : vdso_vvar_prove_coarse;
		unsigned id = fine ? 1 : 6;
		const char *name = fine ? "fine" : "coarse";

		proof = (struct vdso_vvar_proof){0};
		prove(&clock, say_an_hour_later, id, 0, 500, &proof);
		check(proof.bad == 500 && proof.good == 0 && proof.before - proof.computed > 3599ll * SECOND,
		      "%s: an hour's difference is found", name);
		proof = (struct vdso_vvar_proof){0};
		prove(&clock, say_an_hour_later, id, 3600ll * SECOND, 500, &proof);
		check(proof.good == 500, "%s: a namespace's offset is added", name);
		proof = (struct vdso_vvar_proof){0};
		prove(&clock, say_and_write, id, 0, 500, &proof);
		check(proof.ticks == 500 && proof.good == 0 && proof.bad == 0, "%s: an update meanwhile is no evidence", name);
		check(prove(&clock, say_nothing, id, 0, 1, &proof) == -EINVAL, "%s: a function that fails is no evidence", name);
		check(prove(&clock, say, 12, 0, 1, &proof) == -EINVAL, "%s: no such clock", name);
		page->seq |= 1;
		check(prove(&clock, say, id, 0, 1, &proof) == -EAGAIN, "%s: a write that does not end", name);
		page->seq += 1;
	}
	/* Each of what the line is made of, a little wrong. */
	page->mult += 1u << (SHIFT - 4);
	sleep_ns(1000000);
	proof = (struct vdso_vvar_proof){0};
	vdso_vvar_prove_fine(&clock, say, 1, 0, 500, &proof);
	check(proof.bad == 500, "a wrong mult is found in %llu of 500", (unsigned long long)proof.bad);
	page->mult = 1u << SHIFT;
	page->shift = SHIFT - 1;
	proof = (struct vdso_vvar_proof){0};
	vdso_vvar_prove_fine(&clock, say, 1, 0, 500, &proof);
	check(proof.bad == 500, "a wrong shift in %llu of 500", (unsigned long long)proof.bad);
	page->shift = 200;
	vdso_vvar_prove_fine(&clock, say, 1, 0, 1, &proof);
	check(true, "a shift that no word has is survived");

	open_clock(&clock, VDSO_VVAR_COUNTER_NONE);
	check(vdso_vvar_prove_fine(&clock, say, 1, 0, 1, &proof) == -EINVAL, "without a counter nothing is computed");
}

static void test_a_counter_behind(void)
{
	struct vdso_vvar_clock clock;
	struct vdso_vvar_proof proof = {0};

	/* Ahead of this CPU's counter by an hour of it: as if none had gone by, so that the base itself is what is said. */
	set(vdso_counter() + (uint64_t)3600 * 4 * SECOND);
	open_clock(&clock, VDSO_VVAR_COUNTER_TSC);
	vdso_vvar_prove_fine(&clock, say, 1, 0, 1, &proof);
	check(proof.bad == 1 && proof.computed == 5ll * SECOND + 7, "a counter behind cycle_last counts as none gone by");
}

static void test_pvclock(void)
{
	struct {
		uint32_t version, pad;
		uint64_t tsc, system;
		uint32_t mul;
		int8_t shift;
		uint8_t flags, more[2];
	} *line = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vdso_vvar_proof proof = {0};
	struct vdso_vvar_clock clock;
	uint64_t now = vdso_counter();
	int err;

	/* Half of twice the counter, 1,000 counts back, on a line that stands at `now`. */
	line->version = 2;
	line->tsc = now - 1000;
	line->system = now - 1000;
	line->mul = 0x80000000u;
	line->shift = 1;
	line->flags = 1;
	set(now);
	err = vdso_vvar_clock_init(&clock, (uintptr_t)page, (uintptr_t)line, VDSO_VVAR_COUNTER_PVCLOCK, &layout);
	if (err == 0)
		err = vdso_vvar_prove_fine(&clock, say, 1, 0, 500, &proof);
	check(err == 0 && proof.good == 500, "the hypervisor's line is right %llu times of 500", (unsigned long long)proof.good);
	line->shift = -1;
	proof = (struct vdso_vvar_proof){0};
	vdso_vvar_prove_fine(&clock, say, 1, 0, 500, &proof);
	check(proof.bad == 500, "another shift of it is not");
	line->flags = 0;
	check(vdso_vvar_prove_fine(&clock, say, 1, 0, 1, &proof) == -EINVAL, "nor is a line that does not hold for all CPUs");
	line->flags = 1;
	line->version = 3;
	check(vdso_vvar_prove_fine(&clock, say, 1, 0, 1, &proof) == -EINVAL, "nor one that is being written for ever");
	munmap(line, 4096);
}

static void *later(void *none)
{
	(void)none;
	sleep_ns(20000000);
	write_page(77);
	return NULL;
}

static void test_waiting(void)
{
	struct vdso_vvar_clock clock;
	struct vdso_vvar_tick tick;
	uint64_t start = monotonic_ns();
	pthread_t thread;
	int err;

	set(0);
	open_clock(&clock, VDSO_VVAR_COUNTER_NONE);
	check(vdso_vvar_wait(&clock, 8, start, 0, 1000000, 5000000, &tick) == -ETIMEDOUT && monotonic_ns() - start >= 5000000,
	      "nothing comes");
	start = monotonic_ns();
	pthread_create(&thread, NULL, later, NULL);
	err = vdso_vvar_wait(&clock, 8, start, 0, 1000000, (uint64_t)30 * SECOND, &tick);
	check(err == 0 && tick.seq == 10 && tick.cycle_last == 77 && tick.late_ns <= tick.seen_ns - start, "an update is seen when it comes, known to %.3f ms", (double)tick.late_ns / 1e6);
	pthread_join(thread, NULL);
	check(vdso_vvar_wait(&clock, 8, start, 0, 1000000, 0, &tick) == 0 && tick.late_ns >= tick.seen_ns - start,
	      "one that came before is as old as the look before");
	start = monotonic_ns();
	check(vdso_vvar_wait(&clock, 8, start, 5000000, 1000000, SECOND, &tick) == 0 && tick.seen_ns - start >= 5000000,
	      "nobody looks before it is time to");
	check(vdso_vvar_wait(&clock, tick.seq, start, SECOND, SECOND, 3000000, &tick) == -ETIMEDOUT &&
		      monotonic_ns() - start < SECOND,
	      "nor waits for a look when there is no time left");
}

int main(int argc, char **argv)
{
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	set(0);
	test_what_is_not_there();
	test_layouts_that_lie();
	test_snapshots(soak(argc, argv) ? 20000000 : 200000);
#ifdef __x86_64__
	test_proofs();
	test_a_counter_behind();
	test_pvclock();
#endif
	test_waiting();
	return check_done();
}
