#include "routes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef int clock_function(int id, struct timespec *ts);

#ifdef __x86_64__
#define VSYSCALL_TIME ((time_t(*)(time_t *))0xffffffffff600400)

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ __volatile__("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static inline uint64_t rdtscp(void)
{
	uint32_t low, high;

	__asm__ __volatile__("rdtscp" : "=a"(low), "=d"(high) : : "ecx", "memory");
	return (uint64_t)high << 32 | low;
}
#endif

static int64_t ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

/* Not by libc, which may be on an image of ours. */
static int64_t raw_ns(void)
{
	struct timespec now = {0};

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC_RAW, &now);
	return ns(&now);
}

static int nothing(int id, struct timespec *ts)
{
	(void)id;
	(void)ts;
	__asm__ __volatile__("" : : : "memory");
	return 0;
}

/* One loop for all that are functions: what differs between two of them is the function alone. */
static __attribute__((noinline)) int64_t time_function(clock_function *function, int clock, uint64_t count)
{
	struct timespec ts;
	int errors = 0;
	int64_t start = raw_ns();

	for (uint64_t i = 0; i < count; i++)
		errors |= function(clock, &ts);

	int64_t end = raw_ns();

	return errors == 0 ? end - start : -EINVAL;
}

static int64_t time_syscall(int clock, uint64_t count)
{
	struct timespec ts;
	long errors = 0;
	int64_t start = raw_ns();

	for (uint64_t i = 0; i < count; i++)
		errors |= syscall(SYS_clock_gettime, clock, &ts);

	int64_t end = raw_ns();

	return errors == 0 ? end - start : -EINVAL;
}

#ifdef __x86_64__
#define TIME_COUNTER(expression) \
	do { \
		int64_t start = raw_ns(); \
\
		for (uint64_t i = 0; i < count; i++) \
			(void)(expression); \
		return raw_ns() - start; \
	} while (0)

static int64_t time_counter(enum vdso_route route, uint64_t count)
{
	switch (route) {
	case VDSO_ROUTE_VSYSCALL:
		if (!vdso_route_vsyscall())
			return -ENOSYS;
		TIME_COUNTER(VSYSCALL_TIME(NULL));
	case VDSO_ROUTE_RDTSC:
		TIME_COUNTER(rdtsc());
	case VDSO_ROUTE_RDTSCP:
		TIME_COUNTER(rdtscp());
	case VDSO_ROUTE_LFENCE_RDTSC:
		TIME_COUNTER(({ __asm__ __volatile__("lfence" : : : "memory"); rdtsc(); }));
	default:
		return -ENOSYS;
	}
}
#else
static int64_t time_counter(enum vdso_route route, uint64_t count)
{
	(void)route;
	(void)count;
	return -ENOSYS;
}
#endif

int64_t vdso_route_time(enum vdso_route route, uintptr_t function, int clock, uint64_t count)
{
	switch (route) {
	case VDSO_ROUTE_EMPTY:
		return time_function(nothing, clock, count);
	case VDSO_ROUTE_FUNCTION:
		return function != 0 ? time_function((clock_function *)function, clock, count) : -EINVAL;
	case VDSO_ROUTE_LIBC:
		return time_function((clock_function *)clock_gettime, clock, count);
	case VDSO_ROUTE_SYSCALL:
		return time_syscall(clock, count);
	default:
		return time_counter(route, count);
	}
}

bool vdso_route_vsyscall(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], execute;
	bool found = false;

	if (maps == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), maps) != NULL)
		found = strstr(line, "[vsyscall]") != NULL && sscanf(line, "%*s %*c%*c%c", &execute) == 1 && execute == 'x';
	fclose(maps);
	return found;
}

int vdso_route_compare(uintptr_t first, uintptr_t second, int clock, struct vdso_route_sample *ret, size_t count)
{
#ifdef __x86_64__
	clock_function *one = (clock_function *)first, *other = (clock_function *)second;
	struct timespec a, b, c;

	for (size_t i = 0; i < count; i++) {
		struct vdso_route_sample *s = &ret[i];
		int errors;

		s->counter[0] = rdtscp();
		errors = one(clock, &a);
		s->counter[1] = rdtscp();
		errors |= other(clock, &b);
		s->counter[2] = rdtscp();
		errors |= one(clock, &c);
		if (errors != 0)
			return -EINVAL;
		s->first_ns = ns(&a);
		s->second_ns = ns(&b);
		s->again_ns = ns(&c);
	}
	return 0;
#else
	(void)first, (void)second, (void)clock, (void)ret, (void)count;
	return -ENOSYS;
#endif
}
