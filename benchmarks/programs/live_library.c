/*
 * Reads a live library, or writes its page.
 *
 *   live_library read FILE NAME FIELD PAGE_OFFSET CPU      prints a line "what ns" each
 *   live_library write FILE PAGE_OFFSET PERIOD_NS CPU      publishes until killed; period 0: flat out
 *
 * Timed by the counter, whose ns are found at the start: a call of a clock would cost more than what is measured.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "protocol.h"

enum { BATCH = 32, BATCHES = 20000, SINGLES = 200000, LARGE = 1 << 16 };

static double ns_per_tick;
static volatile uint64_t sink;

static void pin(const char *cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(atoi(cpu), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void find_rate(void)
{
	int64_t start = now_ns(), end;
	uint64_t ticks = __rdtsc();

	do
		end = now_ns();
	while (end - start < 50000000);
	ns_per_tick = (double)(end - start) / (double)(__rdtsc() - ticks);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile(double *values, size_t count, unsigned percent)
{
	qsort(values, count, sizeof(*values), by_value);
	return values[count * percent / 100];
}

__attribute__((noinline)) static double empty(void)
{
	__asm__ volatile("");
	return 0;
}

/* ---- what is called, through pointers that the compiler cannot see through ---- */

static double (*volatile field)(void), (*volatile nothing)(void) = empty;
static int (*volatile snapshot)(void *), (*volatile nothing_int)(void *);

__attribute__((noinline)) static int empty_int(void *out)
{
	__asm__ volatile("" : : "r"(out) : "memory");
	return 0;
}

static void batches_of_int(int (*call)(void *), void *out, const char *what)
{
	static double ns[BATCHES];

	for (size_t i = 0; i < BATCHES; i++) {
		uint64_t start = __rdtsc();

		for (unsigned k = 0; k < BATCH; k++)
			call(out);
		ns[i] = (double)(__rdtsc() - start) * ns_per_tick / BATCH;
	}
	printf("%s_p50 %.2f\n%s_p99 %.2f\n", what, percentile(ns, BATCHES, 50), what, percentile(ns, BATCHES, 99));
}

/* Long loops: the counter's own cost vanishes in them. */
static double loop_of(double (*call)(void))
{
	enum { COUNT = 10000000 };
	double best = 1e9;

	for (int round = 0; round < 5; round++) {
		uint64_t start = __rdtsc();

		for (unsigned i = 0; i < COUNT; i++)
			call();

		double ns = (double)(__rdtsc() - start) * ns_per_tick / COUNT;

		best = ns < best ? ns : best;
	}
	return best;
}

static void singles_of(int (*call)(void *), void *out, const char *what)
{
	static double ns[SINGLES];
	unsigned mixed;

	for (size_t i = 0; i < SINGLES; i++) {
		uint64_t start = __rdtscp(&mixed);

		call(out);
		ns[i] = (double)(__rdtscp(&mixed) - start) * ns_per_tick;
	}
	printf("%s_p50 %.2f\n%s_p99 %.2f\n", what, percentile(ns, SINGLES, 50), what, percentile(ns, SINGLES, 99));
}

/* How often a read begins again: the protocol's own reader with one try at a time. */
static double retries(const struct vdso_page_header *page, void *out)
{
	uint64_t version, again = 0;

	for (size_t i = 0; i < 1000000; i++)
		while (vdso_page_read(page, out, &version, 1) == VDSO_READ_LAPPED)
			again++;
	return (double)again / 1000000;
}

static const struct vdso_page_header *map_page(const char *path, long offset, int protection, int flags)
{
	int fd = open(path, flags);
	struct vdso_page_header header;
	void *at;

	if (fd < 0 || pread(fd, &header, sizeof(header), offset) != sizeof(header)) {
		perror(path);
		exit(1);
	}
	at = mmap(NULL, header.page_size, protection, MAP_SHARED, fd, offset);
	if (at == MAP_FAILED) {
		perror(path);
		exit(1);
	}
	return at;
}

static void *function_of(void *library, const char *page, const char *name)
{
	char symbol[200];
	void *found;

	snprintf(symbol, sizeof(symbol), "%s_%s", page, name);
	found = dlsym(library, symbol);
	if (found == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return found;
}

static int read_page(char **argv)
{
	void *library = dlopen(argv[0], RTLD_NOW), *out = aligned_alloc(64, LARGE);
	long offset = atol(argv[3]);
	const struct vdso_page_header *page = map_page(argv[0], offset, PROT_READ, O_RDONLY);
	void *address;

	if (library == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	pin(argv[4]);
	find_rate();
	address = function_of(library, argv[1], argv[2]);
	memcpy((void *)&field, &address, sizeof(address));
	address = function_of(library, argv[1], "snapshot");
	memcpy((void *)&snapshot, &address, sizeof(address));
	nothing_int = empty_int;
	loop_of(nothing);
	printf("empty %.2f\n", loop_of(nothing));
	printf("field %.2f\n", loop_of(field));
	batches_of_int(nothing_int, out, "empty_batch");
	batches_of_int(snapshot, out, "snapshot_batch");
	singles_of(nothing_int, out, "empty_single");
	singles_of(snapshot, out, "snapshot_single");
	printf("retries %.5f\n", retries(page, out));
	sink = *(uint64_t *)out;
	return 0;
}

_Noreturn static void write_page(char **argv)
{
	const struct vdso_page_header *mapped = map_page(argv[0], atol(argv[1]), PROT_READ | PROT_WRITE, O_RDWR);
	struct vdso_page_header *page = (struct vdso_page_header *)(uintptr_t)mapped;
	long period_ns = atol(argv[2]);
	uint64_t *record = calloc(1, page->record_size);

	pin(argv[3]);
	for (;;) {
		uint64_t next = atomic_load_explicit(&page->head, memory_order_relaxed) + 1;
		struct timespec pause = {0, period_ns};

		for (uint32_t i = 0; i < page->record_size / 8; i++)
			record[i] = next + i;
		vdso_page_write(page, record);
		if (period_ns != 0)
			nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	if (argc == 7 && strcmp(argv[1], "read") == 0)
		return read_page(argv + 2);
	if (argc == 6 && strcmp(argv[1], "write") == 0)
		write_page(argv + 2);
	fprintf(stderr, "usage: %s read FILE NAME FIELD PAGE_OFFSET CPU | write FILE PAGE_OFFSET PERIOD_NS CPU\n", argv[0]);
	return 2;
}
