/*
 * Reads REALTIME and MONOTONIC flat out in THREADS threads, and answers each line with what they say and what the threads have
 * seen: REALTIME MONOTONIC BACK READINGS, times in ns; BACK: readings below the one before in the same thread. "fork" answers in a
 * child without threads, which lives until it is killed, with its process id in front.
 *
 *   hot THREADS
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic long back, readings;

static long long now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void *read_for_ever(void *unused)
{
	long long real = now_ns(CLOCK_REALTIME), monotonic = now_ns(CLOCK_MONOTONIC);

	for (;;) {
		long long next_real = now_ns(CLOCK_REALTIME), next_monotonic = now_ns(CLOCK_MONOTONIC);

		if (next_real < real || next_monotonic < monotonic)
			atomic_fetch_add(&back, 1);
		atomic_fetch_add_explicit(&readings, 1, memory_order_relaxed);
		real = next_real;
		monotonic = next_monotonic;
	}
	return unused;
}

static void answer(void)
{
	printf("%lld %lld %ld %ld\n", now_ns(CLOCK_REALTIME), now_ns(CLOCK_MONOTONIC), atomic_load(&back), atomic_load(&readings));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[64];

	for (int i = argc > 1 ? atoi(argv[1]) : 0; i > 0; i--) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, read_for_ever, NULL) != 0)
			return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strcmp(line, "fork\n") == 0 && fork() == 0) {
			printf("%d ", (int)getpid());
			answer();
			for (;;)
				pause();
		} else if (strcmp(line, "fork\n") != 0) {
			answer();
		}
	}
	return 0;
}
