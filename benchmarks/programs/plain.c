/* The plain loop that `vdso bench` is held against. For each line "ROUTE CLOCK COUNT" prints the ns that COUNT reads of the
 * clock took, the loop included: ROUTE is libc, vdso (the function that dlvsym finds in the vDSO), syscall, or loop. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef int clock_function(clockid_t id, struct timespec *ts);

static long long raw_ns(void)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC_RAW, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long loop(const char *route, clock_function *vdso, int clock, long count)
{
	struct timespec ts;
	long long start = raw_ns();

	if (strcmp(route, "libc") == 0)
		for (long i = 0; i < count; i++)
			clock_gettime(clock, &ts);
	else if (strcmp(route, "vdso") == 0)
		for (long i = 0; i < count; i++)
			vdso(clock, &ts);
	else if (strcmp(route, "syscall") == 0)
		for (long i = 0; i < count; i++)
			syscall(SYS_clock_gettime, clock, &ts);
	else
		for (long i = 0; i < count; i++)
			__asm__ __volatile__("" : : : "memory");
	return raw_ns() - start;
}

int main(void)
{
	void *image = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
	clock_function *vdso = image ? (clock_function *)dlvsym(image, "__vdso_clock_gettime", "LINUX_2.6") : NULL;
	char route[16];
	int clock;
	long count;

	if (vdso == NULL)
		return 1;
	while (scanf("%15s %d %ld", route, &clock, &count) == 3) {
		loop(route, vdso, clock, count / 8 + 1);
		printf("%lld\n", loop(route, vdso, clock, count));
		fflush(stdout);
	}
	return 0;
}
