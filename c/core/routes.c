#include "routes.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "vsyscall.h"

typedef int clock_function(int id, struct timespec *ts);
typedef int day_function(struct timeval *tv, void *zone);
typedef time_t time_function(time_t *seconds);
typedef int cpu_function(unsigned int *cpu, unsigned int *node, void *unused);
typedef ssize_t random_function(void *buffer, size_t size, unsigned int flags, void *state, size_t state_size);

/* Before a batch is timed: caches and branch predictors have seen the route. */
enum { WARM_CALLS = 4 };

#ifdef __x86_64__
#define VSYSCALL_GETTIMEOFDAY ((day_function *)VDSO_VSYSCALL_ADDRESS)
#define VSYSCALL_TIME ((time_function *)(VDSO_VSYSCALL_ADDRESS + 0x400))
#define VSYSCALL_GETCPU ((cpu_function *)(VDSO_VSYSCALL_ADDRESS + 0x800))

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

static inline uint64_t lfence_rdtsc(void)
{
	__asm__ __volatile__("lfence" : : : "memory");
	return rdtsc();
}

/* syscall() would add its own call, and errno's. */
static inline long system_call(long number, long a, long b, long c)
{
	long ret;

	__asm__ __volatile__("syscall" : "=a"(ret) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}
#else
#define system_call(number, a, b, c) syscall(number, a, b, c)
#endif

static int64_t ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

/* Not by libc, which may be on an image of ours; but where a filter refuses the call there is nothing else. */
static int64_t raw_ns(void)
{
	struct timespec now = {0};

	if (system_call(SYS_clock_gettime, CLOCK_MONOTONIC_RAW, (long)&now, 0) < 0)
		clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return ns(&now);
}

static int nothing(int id, struct timespec *ts)
{
	(void)id;
	(void)ts;
	__asm__ __volatile__("" : : : "memory");
	return 0;
}

/* One loop for all routes: what differs between two of them is the call alone. Every call fails with something negative. */
#define TIME(expression) \
	do { \
		long signs = 0; \
		int64_t start, end; \
\
		for (int i = 0; i < WARM_CALLS; i++) \
			signs |= (long)(expression); \
		start = raw_ns(); \
		for (uint64_t i = 0; i < count; i++) \
			signs |= (long)(expression); \
		end = raw_ns(); \
		return signs >= 0 ? end - start : -EINVAL; \
	} while (0)

/* So that a function of ours is called as those of others are, through a pointer that the compiler knows nothing of. */
#define UNKNOWN(pointer) __asm__("" : "+r"(pointer))

static __attribute__((noinline)) int64_t time_clock(clock_function *function, int clock, uint64_t count)
{
	struct timespec ts;

	UNKNOWN(function);
	TIME(function(clock, &ts));
}

static __attribute__((noinline)) int64_t time_day(day_function *function, uint64_t count)
{
	struct timeval tv;

	UNKNOWN(function);
	TIME(function(&tv, NULL));
}

static __attribute__((noinline)) int64_t time_time(time_function *function, uint64_t count)
{
	UNKNOWN(function);
	TIME(function(NULL));
}

static __attribute__((noinline)) int64_t time_cpu(cpu_function *function, uint64_t count)
{
	unsigned int cpu, node;

	UNKNOWN(function);
	TIME(function(&cpu, &node, NULL));
}

static __attribute__((noinline)) int64_t time_random(random_function *function, void *state, size_t size, uint64_t count)
{
	char buffer[VDSO_ROUTE_RANDOM_BYTES];

	UNKNOWN(function);
	TIME(function(buffer, sizeof(buffer), 0, state, size));
}

/* What a caller of the vDSO's getrandom must bring: a state of the size, protection and flags that the function names when
 * asked with a state size of ~0 (include/uapi/linux/random.h, struct vgetrandom_opaque_params, since 6.11). It lives for one
 * batch, and the calls before the measured ones fill it. */
static int64_t time_vdso_random(random_function *function, uint64_t count)
{
	struct {
		uint32_t size, protection, flags, reserved[13];
	} state = {0};
	int64_t ret;
	void *room;

	if (function(NULL, 0, 0, &state, ~(size_t)0) != 0 || state.size == 0)
		return -ENOSYS;
	room = mmap(NULL, state.size, (int)state.protection, (int)state.flags, -1, 0);
	if (room == MAP_FAILED)
		return -ENOMEM;
	ret = time_random(function, room, state.size, count);
	munmap(room, state.size);
	return ret;
}

static int64_t time_function_of(enum vdso_call call, uintptr_t function, int clock, uint64_t count)
{
	if (function == 0)
		return -EINVAL;
	switch (call) {
	case VDSO_CALL_CLOCK_GETTIME:
	case VDSO_CALL_CLOCK_GETRES:
		return time_clock((clock_function *)function, clock, count);
	case VDSO_CALL_GETTIMEOFDAY:
		return time_day((day_function *)function, count);
	case VDSO_CALL_TIME:
		return time_time((time_function *)function, count);
	case VDSO_CALL_GETCPU:
		return time_cpu((cpu_function *)function, count);
	case VDSO_CALL_GETRANDOM:
		return time_vdso_random((random_function *)function, count);
	default:
		return -ENOSYS;
	}
}

/* Called as programs call them, by name: through a pointer clock_gettime takes 1 ns more. */
static int64_t time_libc(enum vdso_call call, int clock, uint64_t count)
{
	char random[VDSO_ROUTE_RANDOM_BYTES];
	unsigned int cpu, node;
	struct timespec ts;
	struct timeval tv;

	switch (call) {
	case VDSO_CALL_CLOCK_GETTIME:
		TIME(clock_gettime(clock, &ts));
	case VDSO_CALL_CLOCK_GETRES:
		TIME(clock_getres(clock, &ts));
	case VDSO_CALL_GETTIMEOFDAY:
		TIME(gettimeofday(&tv, NULL));
	case VDSO_CALL_TIME:
		TIME(time(NULL));
	case VDSO_CALL_GETCPU:
		TIME(getcpu(&cpu, &node));
	case VDSO_CALL_GETRANDOM:
		TIME(getrandom(random, sizeof(random), 0));
	default:
		return -ENOSYS;
	}
}

static int64_t time_syscall(enum vdso_call call, int clock, uint64_t count)
{
	char random[VDSO_ROUTE_RANDOM_BYTES];
	unsigned int cpu, node;
	struct timespec ts;
	struct timeval tv;

	switch (call) {
	case VDSO_CALL_CLOCK_GETTIME:
		TIME(system_call(SYS_clock_gettime, clock, (long)&ts, 0));
	case VDSO_CALL_CLOCK_GETRES:
		TIME(system_call(SYS_clock_getres, clock, (long)&ts, 0));
	case VDSO_CALL_GETTIMEOFDAY:
		TIME(system_call(SYS_gettimeofday, (long)&tv, 0, 0));
	case VDSO_CALL_GETCPU:
		TIME(system_call(SYS_getcpu, (long)&cpu, (long)&node, 0));
	case VDSO_CALL_GETRANDOM:
		TIME(system_call(SYS_getrandom, (long)random, sizeof(random), 0));
	case VDSO_CALL_GETPPID:
		TIME(system_call(SYS_getppid, 0, 0, 0));
#ifdef SYS_time
	case VDSO_CALL_TIME:
		TIME(system_call(SYS_time, 0, 0, 0));
#endif
	default:
		return -ENOSYS;
	}
}

#ifdef __x86_64__
static int64_t time_vsyscall(enum vdso_call call, uint64_t count)
{
	if (!vdso_route_vsyscall())
		return -ENOSYS;
	switch (call) {
	case VDSO_CALL_GETTIMEOFDAY:
		return time_day(VSYSCALL_GETTIMEOFDAY, count);
	case VDSO_CALL_TIME:
		return time_time(VSYSCALL_TIME, count);
	case VDSO_CALL_GETCPU:
		return time_cpu(VSYSCALL_GETCPU, count);
	default:
		return -ENOSYS;
	}
}

static int64_t time_counter(enum vdso_route route, uint64_t count)
{
	/* A counter's top bit is no sign of failure. */
	switch (route) {
	case VDSO_ROUTE_RDTSC:
		TIME(rdtsc() >> 1);
	case VDSO_ROUTE_RDTSCP:
		TIME(rdtscp() >> 1);
	case VDSO_ROUTE_LFENCE_RDTSC:
		TIME(lfence_rdtsc() >> 1);
	default:
		return -ENOSYS;
	}
}
#else
static int64_t time_vsyscall(enum vdso_call call, uint64_t count)
{
	(void)call;
	(void)count;
	return -ENOSYS;
}

static int64_t time_counter(enum vdso_route route, uint64_t count)
{
	(void)route;
	(void)count;
	return -ENOSYS;
}
#endif

static __attribute__((noinline)) int64_t time_loop(uint64_t count)
{
	TIME(({ __asm__ __volatile__("" : : : "memory"); 0; }));
}

int64_t vdso_route_time(enum vdso_route route, enum vdso_call call, uintptr_t function, int clock, uint64_t count)
{
	switch (route) {
	case VDSO_ROUTE_LOOP:
		return time_loop(count);
	case VDSO_ROUTE_EMPTY:
		return time_clock(nothing, clock, count);
	case VDSO_ROUTE_FUNCTION:
		return time_function_of(call, function, clock, count);
	case VDSO_ROUTE_LIBC:
		return time_libc(call, clock, count);
	case VDSO_ROUTE_SYSCALL:
		return time_syscall(call, clock, count);
	case VDSO_ROUTE_VSYSCALL:
		return time_vsyscall(call, count);
	default:
		return time_counter(route, count);
	}
}

void vdso_route_hypervisor(char ret[13])
{
	memset(ret, 0, 13);
#ifdef __x86_64__
	unsigned int a, b, c, d;

	/* The CPU's own leaves answer first: without this bit the others hold whatever the last of those holds. */
	if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & 1u << 31) == 0)
		return;
	__cpuid(0x40000000, a, b, c, d);
	memcpy(ret, &b, 4);
	memcpy(ret + 4, &c, 4);
	memcpy(ret + 8, &d, 4);
#endif
}

bool vdso_route_vsyscall(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	bool found = false;

	if (maps == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), maps) != NULL)
		found = vdso_vsyscall_line(line);
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
