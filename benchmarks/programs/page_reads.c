/*
 * Reads a live library from C, or writes its page, or writes a bare record without any protocol.
 *
 *   page_reads read FILE NAME FIELD PAGE_OFFSET CPU     answers each line "WHAT COUNT" with a number, see asked()
 *   page_reads write FILE PAGE_OFFSET PERIOD_NS CPU     publishes until killed; period 0: flat out
 *   page_reads bare FILE CPU                            64 bytes of eight equal doubles, the next ones without a pause
 *
 * Timed by the counter, whose ns are found at the start: a call of a clock would cost more than what is measured. The
 * functions are called through pointers that the compiler cannot see through, as a program calls what dlsym gave it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "protocol.h"

enum { BATCH = 32, MOST = 1 << 18, LARGE = 1 << 16 };

static double ns_per_tick;
static double samples[MOST];

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

static double percentile(size_t count, unsigned percent)
{
	qsort(samples, count, sizeof(*samples), by_value);
	return samples[count * percent / 100];
}

/* ---- what is called ---- */

static const struct vdso_page_header *page;
static double (*_Atomic field)(void);
static int (*_Atomic record)(void *);
static char *out;

__attribute__((noinline)) static double no_field(void)
{
	__asm__ volatile("");
	return 0;
}

__attribute__((noinline)) static int no_record(void *to)
{
	__asm__ volatile("" : : "r"(to) : "memory");
	return 0;
}

/* The record as it happens to stand there: what a read costs that nothing guards. */
__attribute__((noinline)) static int unguarded(void *to)
{
	uint64_t head = atomic_load_explicit(&page->head, memory_order_relaxed);

	memcpy(to, (const void *)vdso_slot_words(page, head), page->record_size);
	__asm__ volatile("" : : "r"(to) : "memory");
	return 0;
}

/* ---- how it is timed ---- */

/* One loop: the counter's own cost vanishes in it. */
static double loop_of(double (*_Atomic *through)(void), size_t count)
{
	uint64_t start = __rdtsc();

	for (size_t i = 0; i < count; i++)
		(*through)();
	return (double)(__rdtsc() - start) * ns_per_tick / (double)count;
}

static double batches_of(int (*_Atomic *through)(void *), size_t count, unsigned percent)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t start = __rdtsc();

		for (unsigned k = 0; k < BATCH; k++)
			(*through)(out);
		samples[i] = (double)(__rdtsc() - start) * ns_per_tick / BATCH;
	}
	return percentile(count, percent);
}

/* Each between two readings of the counter, whose own cost stays in. */
static double singles_of(int (*_Atomic *through)(void *), size_t count, unsigned percent)
{
	unsigned mixed;

	for (size_t i = 0; i < count; i++) {
		uint64_t start = __rdtscp(&mixed);

		(*through)(out);
		samples[i] = (double)(__rdtscp(&mixed) - start) * ns_per_tick;
	}
	return percentile(count, percent);
}

/* How often a read begins again: the protocol's own reader with one try at a time. */
static double retries(size_t count)
{
	uint64_t version, again = 0;

	for (size_t i = 0; i < count; i++)
		while (vdso_page_read(page, out, &version, 1) == VDSO_READ_LAPPED)
			again++;
	return (double)again / (double)count;
}

static double asked(const char *what, size_t count)
{
	static double (*_Atomic nothing)(void) = no_field;
	static int (*_Atomic nothing_of)(void *) = no_record, (*_Atomic bare)(void *) = unguarded;

	if (strcmp(what, "empty") == 0)
		return loop_of(&nothing, count);
	if (strcmp(what, "field") == 0)
		return loop_of(&field, count);
	if (strcmp(what, "empty-batch") == 0)
		return batches_of(&nothing_of, count, 50);
	if (strcmp(what, "unguarded-batch") == 0)
		return batches_of(&bare, count, 50);
	if (strcmp(what, "batch") == 0)
		return batches_of(&record, count, 50);
	if (strcmp(what, "batch-p99") == 0)
		return batches_of(&record, count, 99);
	if (strcmp(what, "empty-single-p99") == 0)
		return singles_of(&nothing_of, count, 99);
	if (strcmp(what, "single-p50") == 0)
		return singles_of(&record, count, 50);
	if (strcmp(what, "single-p99") == 0)
		return singles_of(&record, count, 99);
	if (strcmp(what, "retries") == 0)
		return retries(count);
	fprintf(stderr, "page_reads: %s?\n", what);
	exit(2);
}

/* ---- the page ---- */

static void *map_file(const char *path, off_t offset, size_t size, int protection, int flags)
{
	int fd = open(path, flags);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, size, protection, MAP_SHARED, fd, offset);

	if (at == MAP_FAILED) {
		perror(path);
		exit(1);
	}
	close(fd);
	return at;
}

static struct vdso_page_header *map_page(const char *path, const char *offset, int protection, int flags)
{
	struct vdso_page_header *header = map_file(path, atol(offset), sizeof(*header), PROT_READ, O_RDONLY);

	return map_file(path, atol(offset), header->page_size, protection, flags);
}

static void *function_of(void *library, const char *name, const char *what)
{
	char symbol[200];
	void *found;

	snprintf(symbol, sizeof(symbol), "%s_%s", name, what);
	found = dlsym(library, symbol);
	if (found == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return found;
}

static int read_page(char **argv)
{
	void *library = dlopen(argv[0], RTLD_NOW);
	char what[64];
	size_t count;

	if (library == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	pin(argv[4]);
	find_rate();
	out = aligned_alloc(64, LARGE);
	page = map_page(argv[0], argv[3], PROT_READ, O_RDONLY);
	field = (double (*)(void))function_of(library, argv[1], argv[2]);
	record = (int (*)(void *))function_of(library, argv[1], "snapshot");
	while (scanf("%63s %zu", what, &count) == 2) {
		printf("%.4f\n", asked(what, count < MOST || strcmp(what, "field") == 0 || strcmp(what, "empty") == 0 ||
							     strcmp(what, "retries") == 0
						     ? count
						     : MOST));
		fflush(stdout);
	}
	return 0;
}

_Noreturn static void write_page(char **argv)
{
	struct vdso_page_header *own = map_page(argv[0], argv[1], PROT_READ | PROT_WRITE, O_RDWR);
	uint64_t *words = calloc(1, own->record_size);
	long period_ns = atol(argv[2]);

	pin(argv[3]);
	for (;;) {
		uint64_t next = atomic_load_explicit(&own->head, memory_order_relaxed) + 1;
		struct timespec pause = {0, period_ns};

		for (uint32_t i = 0; i < own->record_size / 8; i++)
			words[i] = next + i;
		vdso_page_write(own, words);
		if (period_ns != 0)
			nanosleep(&pause, NULL);
	}
}

_Noreturn static void write_bare(char **argv)
{
	double _Atomic *record_of_eight = map_file(argv[0], 0, 64, PROT_READ | PROT_WRITE, O_RDWR);

	pin(argv[1]);
	for (double number = 0;; number++)
		for (int i = 0; i < 8; i++)
			atomic_store_explicit(&record_of_eight[i], number, memory_order_relaxed);
}

int main(int argc, char **argv)
{
	if (argc == 7 && strcmp(argv[1], "read") == 0)
		return read_page(argv + 2);
	if (argc == 6 && strcmp(argv[1], "write") == 0)
		write_page(argv + 2);
	if (argc == 4 && strcmp(argv[1], "bare") == 0)
		write_bare(argv + 2);
	fprintf(stderr, "page_reads: see the source\n");
	return 2;
}
