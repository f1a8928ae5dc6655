/*
 * live READS [MODE]: reads the page of live.h while it is updated, and holds each record against itself.
 *
 * With LINKED the functions are those that it was linked with, else it opens the page as live.h does. Modes: threads (four
 * of them), fork (in a child too), lock (mlockall first), write (stores into the page, which must fault), wait, later (the page
 * has another layout).
 * Prints how many versions it saw and exits with 0 when no record was torn and the versions went on.
 */
#ifndef _GNU_SOURCE /* C++ has it */
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "live.h"

#ifdef LINKED
#define CALL(function) live_##function
#else
static struct live_page page;
#define CALL(function) page.function
#endif

static long torn;
static bool later; /* the page has a later layout than this program */

static int take(struct live *record, uint64_t *version)
{
#ifdef LINKED
	return live_snapshot_of(record, LIVE_SCHEMA, version);
#else
	return live_snapshot_from(&page, record, version);
#endif
}

static void wrong(const char *what, uint64_t number)
{
	if (__atomic_fetch_add(&torn, 1, __ATOMIC_RELAXED) < 5)
		fprintf(stderr, "%s of %" PRIu64 "\n", what, number);
}

static void hold_against_itself(const struct live *r, uint64_t version)
{
	uint64_t n = r->seq;
	char venue[32];
	int i;

	snprintf(venue, sizeof(venue), "v%llu", (unsigned long long)n % 100000000000000);
	if (n != version)
		wrong("version", n);
	if (r->neg != -(int64_t)n || r->half != (double)n / 2 || r->third != (float)(n % 4096) / 4 || r->low != (uint32_t)n ||
	    r->byte != (uint8_t)n || r->odd != (n % 2 != 0))
		wrong("a number", n);
	if (strncmp(venue, r->venue, sizeof(r->venue)) != 0)
		wrong("text", n);
	for (i = 0; i < (int)sizeof(r->blob); i++)
		if (r->blob[i] != (uint8_t)n)
			wrong("bytes", n);
	for (i = 0; i < 10; i++)
		if (r->depth[i] != (double)n + i)
			wrong("array", n);
	for (i = 0; i < 3; i++)
		if (r->levels[i].price != (double)n * (i + 1) || r->levels[i].count != (uint32_t)n + (uint32_t)i)
			wrong("nested records", n);
	if (r->origin.x != (int16_t)n || r->origin.y != (int16_t)~n)
		wrong("a nested record", n);
}

/* Functions read on their own: each is of a version between the two around it. */
static void hold_functions(void)
{
	uint64_t before = CALL(version)(), seq = CALL(seq)(), n;
	double half = CALL(half)(), depth[12], element = CALL(depth)(3), price = CALL(levels_price)(1);
	int64_t neg = CALL(neg)();
	uint8_t blob[16];
	char venue[32], cut[4];
	size_t length;
	int i;

	if (CALL(depth_copy)(depth, 12) != VDSO_OK || CALL(blob)(blob, sizeof(blob)) != VDSO_OK)
		wrong("copy", before);
	length = CALL(venue)(venue, sizeof(venue));
	CALL(venue)(cut, sizeof(cut));

	uint64_t after = CALL(version)();

	if (seq < before || seq > after || neg > -(int64_t)before || neg < -(int64_t)after || half < (double)before / 2 ||
	    half > (double)after / 2 || element < (double)before + 3 || element > (double)after + 3 ||
	    price < (double)before * 2 || price > (double)after * 2)
		wrong("a function", before);
	for (i = 0; i < 10; i++)
		if (depth[i] != depth[0] + i)
			wrong("an array's copy", before);
	if (depth[10] != 0 || depth[11] != 0 || CALL(depth)(10) != 0 || CALL(levels_price)(3) != 0)
		wrong("what is beyond an array", before);
	for (i = 0; i < 16; i++)
		if (blob[i] != (i < 12 ? blob[0] : 0))
			wrong("the bytes", before);
	n = strtoull(venue + 1, NULL, 10);
	if (venue[0] != 'v' || length != strlen(venue) || n < before % 100000000000000 || n > after || strlen(cut) > 3)
		wrong("the text", before);
	if (!later && (CALL(depth_count)() != 10 || CALL(snapshot_schema)() != LIVE_SCHEMA))
		wrong("a constant", before);
}

static void *read_many(void *argument)
{
	long reads = *(long *)argument;
	uint64_t last = 0, version = 0;
	long versions = 0, i;
	struct live record;

	/* And on until the page has moved: the writer may wait for a CPU. */
	for (i = 0; i < reads || (versions < 100 && i < 2000000000); i++) {
		int answer = take(&record, &version);

		if (answer == VDSO_LAPPED)
			continue;
		if (answer != VDSO_OK || version < last) {
			wrong("answer", version);
			continue;
		}
		hold_against_itself(&record, version);
		versions += version != last;
		last = version;
		if (i % 16 == 0)
			hold_functions();
	}
	return (void *)versions;
}

/* Until there is another version: the page lives. */
static int goes_on(void)
{
	uint64_t seen = CALL(version)();

	for (long i = 0; i < 2000000000; i++)
		if (CALL(version)() != seen)
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	long reads = argc > 1 ? atol(argv[1]) : 100000, versions;
	const char *mode = argc > 2 ? argv[2] : "";

#ifndef LINKED
	const char *wrong_with_it = live_open(&page, getenv("LIVE"));

	if (wrong_with_it != NULL) {
		fprintf(stderr, "%s\n", wrong_with_it);
		return 1;
	}
#endif
	if (strcmp(mode, "write") == 0) {
		/* The page's first address is what the version's trampoline loads: endbr64; lea page(%rip), %rdi. */
		const char *code = (const char *)(uintptr_t)CALL(version);
		int32_t distance;

		memcpy(&distance, code + 7, sizeof(distance));
		*(volatile char *)(uintptr_t)(code + 11 + distance) = 1;
		return 3;
	}
	later = strcmp(mode, "later") == 0;
	if (strcmp(mode, "lock") == 0 && mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
		perror("mlockall");
		return 1;
	}
	if (strcmp(mode, "wait") == 0) {
		for (long i = 0; i < reads; i++) {
			uint64_t seen = CALL(version)();

			if (CALL(wait)(seen, 5000000000) != VDSO_OK || CALL(version)() == seen)
				return 1;
		}
		return CALL(publisher_alive)() ? 0 : 1;
	}
	if (strcmp(mode, "fork") == 0) {
		pid_t child = fork();
		int status = -1;

		if (child == 0) {
			read_many(&reads);
			_exit(torn != 0 || !goes_on());
		}
		waitpid(child, &status, 0);
		if (status != 0)
			wrong("the child", 0);
	}
	if (strcmp(mode, "threads") == 0) {
		pthread_t threads[4];

		for (int i = 0; i < 4; i++)
			pthread_create(&threads[i], NULL, read_many, &reads);
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
	}
	versions = (long)read_many(&reads);
	if (!goes_on())
		wrong("the end", 0);
	printf("%ld\n", versions);
#ifndef LINKED
	live_close(&page);
#endif
	return torn != 0;
}
