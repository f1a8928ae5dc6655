/* Reads a clock by libc, as any program does. clock CPU: pins itself there, then for each line "ID COUNT" prints the ns that
 * COUNT reads took; "ID COUNT STEPS": with some arithmetic between two of them; "raw COUNT": by the system call. Timed by the
 * true system call: libc's clocks are what is being measured. */
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

static void read_clock(int id, long count, long steps)
{
	struct timespec now;
	unsigned long work = 1;

	for (long i = 0; id < 0 && i < count; i++)
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	for (long i = 0; id >= 0 && i < count; i++) {
		clock_gettime(id, &now);
		for (long j = 0; j < steps; j++)
			work ^= work << 13;
		__asm__ __volatile__("" : : "r"(work));
	}
}

int main(int argc, char **argv)
{
	long count, steps;
	char line[64];
	cpu_set_t set;
	int id;

	CPU_ZERO(&set);
	CPU_SET(argc > 1 ? atoi(argv[1]) : 0, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		id = -1;
		steps = 0;
		if (sscanf(line, "raw %ld", &count) != 1 && sscanf(line, "%d %ld %ld", &id, &count, &steps) < 2)
			return 1;
		read_clock(id, count / 4 + 1, steps); /* warm again, after whoever ran here meanwhile */

		long long start = raw_ns();

		read_clock(id, count, steps);
		printf("%lld\n", raw_ns() - start);
		fflush(stdout);
	}
	return 0;
}
