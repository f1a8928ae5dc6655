/* The counting image counts exactly, whatever the threads are, and what programs write into the counts misleads nobody. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "count.h"
#include "image.h"

#define READS 200000L
#define CROWD 700 /* more than have a place of their own */

struct counted {
	struct image image;
	struct vdso_counts *counts;
	int fd;
};

static struct counted start(void)
{
	struct vdso_clock_record record;
	struct counted ret;

	vdso_record_identity(&record);
	if (vdso_counts_create(&ret.fd) != 0 || (ret.counts = vdso_counts_map(ret.fd)) == NULL)
		fail("vdso_counts_create");
	setenv("VDSO_CLOCK_IMAGE", getenv("VDSO_COUNT_IMAGE"), 1);
	ret.image = map_image(&record);
	if (vdso_local_count(&ret.image.local, ret.fd) != 0)
		fail("vdso_local_count");
	return ret;
}

static void stop(struct counted *c)
{
	unmap_image(&c->image);
	vdso_counts_unmap(c->counts);
	close(c->fd);
}

static uint64_t total(const struct counted *c, uint32_t slot, enum vdso_count_kind kind)
{
	struct vdso_count_cell cell;
	uint64_t ret = 0;

	for (uint32_t i = 0; i < vdso_counts_used(c->counts); i++)
		if (vdso_counts_cell(c->counts, i, &cell) && cell.kind == (uint32_t)kind)
			ret += cell.calls[slot];
	return ret;
}

static void *read_many(void *argument)
{
	const struct counted *c = argument;
	struct timespec now;

	for (long i = 0; i < READS; i++)
		c->image.clock_gettime(CLOCK_MONOTONIC, &now);
	return NULL;
}

static void run_threads(struct counted *c, int count, void *(*function)(void *))
{
	pthread_t thread[CROWD];

	for (int i = 0; i < count; i++)
		if (pthread_create(&thread[i], NULL, function, c) != 0)
			fail("pthread_create");
	for (int i = 0; i < count; i++)
		pthread_join(thread[i], NULL);
}

static void test_threads(void)
{
	struct counted c = start();

	run_threads(&c, 8, read_many);
	check(total(&c, CLOCK_MONOTONIC, VDSO_CELL_THREAD) == 8 * READS,
	      "8 threads: %llu of %ld", (unsigned long long)total(&c, CLOCK_MONOTONIC, VDSO_CELL_THREAD), 8 * READS);
	stop(&c);
}

/* As on a CPU that does not say what the thread pointer is. */
static void test_together(void)
{
	struct counted c = start();
	struct vdso_process *process = (struct vdso_process *)(c.image.local.base + VDSO_CLOCK_BYTES);

	mprotect(process, VDSO_PAGE_BYTES, PROT_READ | PROT_WRITE);
	process->counting = VDSO_COUNT_TOGETHER;
	run_threads(&c, 8, read_many);
	check(total(&c, CLOCK_MONOTONIC, VDSO_CELL_PROGRAM) == 8 * READS,
	      "8 threads in one cell: %llu of %ld", (unsigned long long)total(&c, CLOCK_MONOTONIC, VDSO_CELL_PROGRAM), 8 * READS);
	process->counting = VDSO_COUNT_NOT;
	run_threads(&c, 2, read_many);
	check(total(&c, CLOCK_MONOTONIC, VDSO_CELL_PROGRAM) == 8 * READS, "nothing more where nothing is to be counted");
	stop(&c);
}

static pthread_barrier_t together;

static void *read_in_crowd(void *argument)
{
	const struct counted *c = argument;
	struct timespec now;

	pthread_barrier_wait(&together);
	for (int i = 0; i < 1000; i++)
		c->image.clock_gettime(CLOCK_REALTIME, &now);
	pthread_barrier_wait(&together);
	return NULL;
}

static void test_crowd(void)
{
	struct counted c = start();
	uint64_t own, shared;

	pthread_barrier_init(&together, NULL, CROWD);
	run_threads(&c, CROWD, read_in_crowd);
	own = total(&c, CLOCK_REALTIME, VDSO_CELL_THREAD);
	shared = total(&c, CLOCK_REALTIME, VDSO_CELL_PROGRAM);
	check(own + shared == CROWD * 1000 && shared > 0 && own > shared,
	      "more threads than places: %llu and %llu", (unsigned long long)own, (unsigned long long)shared);
	stop(&c);
}

static void test_full(void)
{
	struct counted c = start();

	c.counts->next = VDSO_COUNT_CELLS - 3;
	run_threads(&c, 8, read_many);
	check(total(&c, CLOCK_MONOTONIC, VDSO_CELL_THREAD) + total(&c, CLOCK_MONOTONIC, VDSO_CELL_PROGRAM) == 8 * READS,
	      "no cells left: %llu", (unsigned long long)total(&c, CLOCK_MONOTONIC, VDSO_CELL_PROGRAM));
	check(vdso_counts_program(c.counts, 1, "late") == 0, "no cell is left for a program");
	check(vdso_counts_raw(c.counts, 1, 2, CLOCK_MONOTONIC), "a system call is counted as nobody's");
	check(vdso_counts_used(c.counts) == VDSO_COUNT_CELLS, "all cells are in use");
	stop(&c);
}

/* ---- a thread in the place of another, and a signal handler that counts at each of its instructions ---- */

#define TRAP_FLAG 0x100
#define ENDLESS 4000

static struct {
	struct counted counted;
	struct vdso_count_cell *cell; /* this thread's */
	int32_t former;  /* who had it before */
	uint64_t formers, before; /* calls: of that one, and all in the cell, when it came to this thread */
	long at, step;   /* of the call that is stepped through: where the handler counts too, and where it is */
	bool wrong;
} handover;

/* What whoever reads it would find now, or after a kill. */
static void look(uint64_t *ret_all, struct vdso_count_cell *ret_last)
{
	struct vdso_counts *counts = handover.counted.counts;
	struct vdso_count_cell cell, part;

	*ret_all = 0;
	if (!vdso_counts_cell(counts, (uint32_t)(handover.cell - counts->cell), &cell))
		return;
	for (bool first = true; vdso_counts_part(counts, &cell, &part); first = false) {
		*ret_all += part.calls[CLOCK_MONOTONIC];
		if (first)
			*ret_last = part;
	}
}

static void on_step(int number)
{
	struct vdso_count_cell last = {0};
	struct timespec now;
	uint64_t all, calls;

	(void)number;
	look(&all, &last);
	calls = last.calls[CLOCK_MONOTONIC];
	if (all < handover.before || all > handover.before + 2 ||
	    !(last.tid == handover.former ? calls == handover.formers : last.tid == (int32_t)gettid() && calls <= 2))
		handover.wrong = true;
	if (handover.step++ == handover.at)
		handover.counted.image.clock_gettime(CLOCK_MONOTONIC, &now);
}

/* As if it had not been this thread that had the cell until now. */
static void come_after(int32_t former)
{
	struct vdso_counts *counts = handover.counted.counts;
	struct vdso_count_cell *cell = handover.cell, last = {0};

	*(cell->note == 0 ? &cell->tid : &counts->cell[cell->note].successor) = former;
	cell->check = (uint32_t)former;
	cell->calls[CLOCK_MONOTONIC] += 3;
	look(&handover.before, &last);
	handover.former = former;
	handover.formers = last.calls[CLOCK_MONOTONIC];
}

static void begin_handovers(int already)
{
	struct timespec now;

	handover.counted = start();
	handover.counted.image.clock_gettime(CLOCK_MONOTONIC, &now);
	for (uint32_t i = 0; i < vdso_counts_used(handover.counted.counts); i++)
		if (handover.counted.counts->cell[i].kind == VDSO_CELL_THREAD)
			handover.cell = &handover.counted.counts->cell[i];
	for (int i = 0; i < already; i++) {
		come_after(-1 - i);
		handover.counted.image.clock_gettime(CLOCK_MONOTONIC, &now);
	}
}

static void test_handover(int already, int most)
{
	struct vdso_count_cell last = {0};
	void (*former)(int) = signal(SIGTRAP, on_step);
	struct timespec now;
	uint64_t all = 0, expected = 0;
	long at = 0;

	for (handover.step = ENDLESS; at < ENDLESS && at <= handover.step; at++) {
		if (at % most == 0) {
			if (at != 0)
				stop(&handover.counted);
			begin_handovers(already);
		}
		come_after(-1000 - (int32_t)at);
		handover.at = at;
		handover.step = 0;
		__asm__ volatile ("pushfq\n orq %0, (%%rsp)\n popfq" : : "i"(TRAP_FLAG) : "cc", "memory");
		handover.counted.image.clock_gettime(CLOCK_MONOTONIC, &now);
		__asm__ volatile ("pushfq\n andq %0, (%%rsp)\n popfq" : : "i"(~TRAP_FLAG) : "cc", "memory");
		look(&all, &last);
		expected = handover.before + 1 + (at < handover.step);
		if (all != expected || last.tid != (int32_t)gettid() || last.calls[CLOCK_MONOTONIC] != expected - handover.before)
			break;
	}
	check(at > 100 && at < ENDLESS && at > handover.step, "after %d handovers, at instruction %ld of %ld: %llu of %llu calls, by %d",
	      already, at, handover.step, (unsigned long long)all, (unsigned long long)expected, last.tid);
	check(!handover.wrong, "after %d handovers, a kill in the middle loses and doubles none", already);
	signal(SIGTRAP, former);
	stop(&handover.counted);
}

/* ---- threads without a thread pointer, as those of a program without a C library are ---- */

static int (*bare_clock)(int, struct timespec *);
static _Atomic int bare_left;

/* Nothing here may use the C library, or what it keeps by thread. */
static __attribute__((noreturn, optimize("no-stack-protector"))) void read_bare(void)
{
	struct timespec now;

	for (long i = 0; i < READS; i++)
		bare_clock(CLOCK_BOOTTIME, &now);
	atomic_fetch_sub(&bare_left, 1);
	for (;;)
		__asm__ __volatile__("syscall" : : "a"(SYS_exit), "D"(0) : "rcx", "r11", "memory");
}

static int enter_bare(void *unused)
{
	(void)unused;
	read_bare();
}

static void test_no_pointer(void)
{
	enum { THREADS = 4, STACK = 65536 };
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS;
	struct counted c = start();
	char *stacks = malloc(THREADS * STACK);

	bare_clock = c.image.clock_gettime;
	atomic_store(&bare_left, THREADS);
	for (int i = 0; i < THREADS; i++)
		if (clone(enter_bare, stacks + (i + 1) * STACK, flags, NULL, NULL, NULL) < 0)
			fail("clone");
	while (atomic_load(&bare_left) > 0)
		sched_yield();
	check(total(&c, CLOCK_BOOTTIME, VDSO_CELL_PROGRAM) == THREADS * READS,
	      "threads without a thread pointer: %llu of %ld", (unsigned long long)total(&c, CLOCK_BOOTTIME, VDSO_CELL_PROGRAM), THREADS * READS);
	stop(&c);
}

/* ---- samples ---- */

static void test_samples(void)
{
	struct counted c = start();
	uint64_t places[3] = {0}, kinds = 0;
	struct vdso_count_sample sample;
	struct timespec now;

	/* Three places take turns, and all are to be found as often: within 5 standard deviations. */
	vdso_counts_sample_one_in(c.counts, 64);
	for (int i = 0; i < 50000; i++) {
		c.image.clock_gettime(CLOCK_MONOTONIC, &now);
		__asm__ __volatile__("");
		c.image.clock_gettime(CLOCK_MONOTONIC, &now);
		__asm__ __volatile__("");
		c.image.clock_gettime(CLOCK_MONOTONIC, &now);
	}
	vdso_counts_sample_one_in(c.counts, 0);
	c.image.clock_gettime(CLOCK_MONOTONIC, &now);
	check(labs((long)vdso_counts_sampled(c.counts) - 150000 / 64) < 5 * 48,
	      "one in 64: %llu", (unsigned long long)vdso_counts_sampled(c.counts));
	for (uint64_t i = 1; i <= vdso_counts_sampled(c.counts); i++) {
		static uint64_t rip[3];

		if (!vdso_counts_sample(c.counts, i, &sample) || sample.slot != CLOCK_MONOTONIC || sample.weight != (i == 1 ? 1 : 64) ||
		    sample.tid != (int32_t)gettid() || sample.stack_size == 0)
			fail("a sample");
		for (int j = 0; j < 3; j++) {
			if (rip[j] == 0) {
				rip[j] = sample.rip;
				kinds++;
			}
			if (rip[j] == sample.rip) {
				places[j]++;
				break;
			}
		}
	}
	for (int j = 0; j < 3; j++)
		check(labs((long)places[j] - 50000 / 64) < 5 * 28, "each place: %llu", (unsigned long long)places[j]);
	check(kinds == 3, "places: %llu", (unsigned long long)kinds);
	check(!vdso_counts_sample(c.counts, vdso_counts_sampled(c.counts) + 1, &sample), "no sample beyond the last");
	stop(&c);
}

/* So many places take turns for ever, each of two threads that do the same: by what samples differ from what is to be expected. */
static void test_turns(uint32_t places, uint32_t one_in)
{
	enum { THREADS = 2, EXPECTED = 40, MOST = 200 };
	uint64_t found[THREADS][MOST] = {{0}}, threshold = UINT64_MAX / one_in, both = 0, all = 0;
	double off = 0;

	for (uint64_t before = 0; before < (uint64_t)one_in * places * EXPECTED; before++) {
		bool is[THREADS];

		for (uint32_t i = 0; i < THREADS; i++) {
			is[i] = before > 0 && vdso_count_is_sampled(before, (uint64_t)(i + 1) << 40, threshold);
			found[i][before % places] += is[i];
		}
		both += is[0] && is[1];
		all += is[0];
	}
	for (uint32_t i = 0; i < THREADS * places; i++) {
		double beyond = (double)found[i / places][i % places] - EXPECTED;

		off += beyond * beyond / EXPECTED;
	}
	check(off < 2 * THREADS * places, "%u places in turns, one in %u: chi-square %.0f", places, one_in, off);
	check(both <= 1 + all / 8, "two threads, one in %u: %llu of %llu samples are of the same calls", one_in, (unsigned long long)both,
	      (unsigned long long)all);
	check(vdso_count_is_sampled(0, 1, threshold) && !vdso_count_is_sampled(0, 1, 0), "a first call always, where any is");
}

/* A call from the last bytes of a stack, behind which nothing is mapped. */
static void *read_at_the_end(void *argument)
{
	const struct counted *c = argument;
	char *pages = mmap(NULL, 3 * VDSO_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *top = pages + 2 * VDSO_PAGE_BYTES;
	struct timespec now;
	int ret;

	if (pages == MAP_FAILED || mprotect(pages, 2 * VDSO_PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
		fail("mmap");
	__asm__ __volatile__("mov %%rsp, %%rbx\n"
			     "mov %[top], %%rsp\n"
			     "call *%[function]\n"
			     "mov %%rbx, %%rsp\n"
			     : "=a"(ret)
			     : [top] "r"(top - 16), [function] "r"(c->image.clock_gettime), "D"(CLOCK_TAI), "S"(&now)
			     : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
	munmap(pages, 3 * VDSO_PAGE_BYTES);
	return NULL;
}

static void test_stack_end(void)
{
	struct counted c = start();
	struct vdso_count_sample sample;

	vdso_counts_sample_one_in(c.counts, 1);
	run_threads(&c, 1, read_at_the_end);
	check(vdso_counts_sample(c.counts, 1, &sample) && sample.stack_size == 16,
	      "a sample at a stack's end is what is left of the stack");
	stop(&c);
}

/* System calls past the image, as the follower counts and samples them. */
static void test_raw_samples(void)
{
	struct counted c = start();
	struct vdso_count_sample sample, found;
	uint32_t program = vdso_counts_program(c.counts, 7, "program");

	vdso_counts_raw(c.counts, 7, 8, CLOCK_TAI);
	check(!vdso_counts_raw_sampled(c.counts, 8, CLOCK_TAI, &sample), "no sample where none is wanted");
	vdso_counts_sample_one_in(c.counts, 1);
	vdso_counts_raw(c.counts, 7, 8, CLOCK_TAI);
	check(vdso_counts_raw_sampled(c.counts, 8, CLOCK_TAI, &sample) && sample.pid == 7 && sample.tid == 8 && sample.raw == 1 &&
		      sample.program == program && sample.slot == CLOCK_TAI && sample.weight == 1,
	      "a sample says whose it is");
	check(!vdso_counts_raw_sampled(c.counts, 9, CLOCK_TAI, &sample), "and there is none of whom nothing was counted");
	sample.rip = 4711;
	vdso_counts_put_sample(c.counts, &sample);
	check(vdso_counts_sampled(c.counts) == 1 && vdso_counts_sample(c.counts, 1, &found) && found.rip == 4711 && found.raw == 1,
	      "it is read as it was put");
	stop(&c);
}

static void test_nonsense(void)
{
	struct counted c = start();
	struct vdso_count_sample sample;
	struct vdso_count_cell cell;
	struct timespec now;
	const char *text;
	uint64_t at = 0;
	size_t size;
	pid_t pid;

	c.image.clock_gettime(CLOCK_MONOTONIC, &now);
	memset(&c.counts->cell[1], 0xff, sizeof(c.counts->cell[1]));
	c.counts->next = UINT32_MAX;
	c.image.clock_gettime(CLOCK_MONOTONIC, &now);
	check(vdso_counts_used(c.counts) == VDSO_COUNT_CELLS && vdso_counts_cell(c.counts, 1, &cell),
	      "a cell of nonsense is read as it is");
	check(!vdso_counts_cell(c.counts, VDSO_COUNT_CELLS, &cell), "there is no cell beyond the last");
	c.counts->samples = 1;
	c.counts->sample[1] = (struct vdso_count_sample){.number = 1, .stack_size = UINT32_MAX, .frame_size = UINT32_MAX};
	check(vdso_counts_sample(c.counts, 1, &sample) && sample.stack_size == VDSO_SAMPLE_STACK && sample.frame_size == VDSO_SAMPLE_FRAME,
	      "a sample's sizes are bounded");
	vdso_counts_leave(c.counts, 7, "text", 4);
	check((text = vdso_counts_left(c.counts, &at, &pid, &size)) != NULL && pid == 7 && size == 4 && memcmp(text,
	      "text", 4) == 0, "what a program had mapped is kept");
	check(vdso_counts_left(c.counts, &at, &pid, &size) == NULL, "and nothing else");
	for (int i = 0; i < 2; i++) {
		struct vdso_count_left *left = (struct vdso_count_left *)((char *)c.counts + VDSO_COUNT_BYTES);

		if (i == 0)
			((struct vdso_count_maps *)left->bytes)->size = UINT32_MAX;
		else
			left->used = UINT64_MAX;
		at = 0;
		check(vdso_counts_left(c.counts, &at, &pid, &size) == NULL, "sizes that lead outside are not followed");
	}
	stop(&c);
}

static void test_file(void)
{
	int fd = memfd_create("other", MFD_CLOEXEC), counts;
	uint64_t used = 0;
	struct stat st;

	check(vdso_counts_map(fd) == NULL, "another file is none");
	close(fd);
	if (vdso_counts_create(&counts) != 0)
		fail("vdso_counts_create");
	check(ftruncate(counts, 4096) != 0 && ftruncate(counts, INT64_C(1) << 30) != 0, "its size stays");
	vdso_counts_discard(counts);
	if (fstat(counts, &st) == 0)
		used = (uint64_t)st.st_blocks;
	check(used == 0, "its memory goes: %llu blocks", (unsigned long long)used);
	close(counts);
}

int main(void)
{
	if (getenv("VDSO_COUNT_IMAGE") == NULL)
		return 77;
	test_threads();
	test_together();
	test_crowd();
	test_full();
	test_handover(0, 200);
	test_handover(300, ENDLESS);
	test_no_pointer();
	test_samples();
	for (uint32_t one_in = 64; one_in <= 4096; one_in *= 4) {
		test_turns(34, one_in);
		test_turns(89, one_in); /* numbers that multiples of the golden ratio come near to themselves at */
		test_turns(100, one_in);
		test_turns(144, one_in);
	}
	test_stack_end();
	test_raw_samples();
	test_nonsense();
	test_file();
	return check_done();
}
