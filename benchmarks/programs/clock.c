/* Reads a clock by libc, as any program does. clock CPU: pins itself there, then for each line "ID COUNT" prints the ns that
 * COUNT reads took. Timed by the true system call: libc's clocks are what is being measured. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long raw_ns(void)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC_RAW, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void read_clock(int id, long count)
{
	struct timespec now;

	for (long i = 0; i < count; i++)
		clock_gettime(id, &now);
}

int main(int argc, char **argv)
{
	cpu_set_t set;
	long count;
	int id;

	CPU_ZERO(&set);
	CPU_SET(argc > 1 ? atoi(argv[1]) : 0, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while (scanf("%d %ld", &id, &count) == 2) {
		read_clock(id, count / 4 + 1); /* warm again, after whoever ran here meanwhile */

		long long start = raw_ns();

		read_clock(id, count);
		printf("%lld\n", raw_ns() - start);
		fflush(stdout);
	}
	return 0;
}
