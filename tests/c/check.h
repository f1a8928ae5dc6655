/* One line a check, and an exit status that counts them. */
#ifndef VDSO_TESTS_CHECK_H
#define VDSO_TESTS_CHECK_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static int check_failures;

__attribute__((format(printf, 2, 3))) static inline bool check(bool good, const char *format, ...)
{
	va_list arguments;

	printf("%s ", good ? "ok  " : "FAIL");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
	check_failures += !good;
	return good;
}

static inline int check_done(void)
{
	if (check_failures != 0)
		printf("%d checks failed\n", check_failures);
	return check_failures != 0;
}

static inline bool soak(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[1], "--soak") == 0;
}

static inline uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline void sleep_ns(uint64_t ns)
{
	struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

	nanosleep(&ts, NULL);
}

/* Zeroed memory that children share. */
static inline void *shared(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return at;
}

/* splitmix64: the same sequence everywhere, from a seed. */
static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static inline uint64_t next_random(uint64_t *state)
{
	return mix((*state)++);
}

#endif
