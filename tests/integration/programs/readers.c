/*
 * Reads the clocks flat out in THREADS threads, and holds every reading against a clock that is not moved: REALTIME in all its
 * forms is the host's or the host's moved by OFFSET seconds, and MONOTONIC never goes back. What advances by ticks is held against
 * MONOTONIC_COARSE, which advances by the same ones: a busy host's may come however late. With a third word a SIGPROF whose handler
 * does the same comes 1,000 times a second. Ends with its standard input, and says then what it found:
 *
 *   READINGS MOVED WRONG BACK VDSO AUXV     the last two: 1 when they are byte for byte what they were at the start
 *
 *   readers THREADS OFFSET [SIGPROF]
 */
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SLACK_NS 3000000 /* what NTP may do to REALTIME meanwhile */
#define NS 1000000000

static int64_t base_ns, offset_ns;
static _Atomic long readings, moved, wrong, back;
static _Atomic int done;

static int64_t read_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * NS + ts.tv_nsec;
}

/* Taken between those two readings of a clock that is not moved: the host's, or moved? It may be that much too low. */
static void judge(int64_t before, int64_t value, int64_t after, int64_t low)
{
	int64_t first = before + base_ns - SLACK_NS - low, last = after + base_ns + SLACK_NS;

	if (value >= first + offset_ns && value <= last + offset_ns)
		atomic_fetch_add_explicit(&moved, 1, memory_order_relaxed);
	else if (value < first || value > last)
		atomic_fetch_add_explicit(&wrong, 1, memory_order_relaxed);
}

static int64_t look(int64_t last)
{
	int64_t before, after, value;
	struct timeval tv;

	before = read_ns(CLOCK_MONOTONIC);
	value = read_ns(CLOCK_REALTIME);
	after = read_ns(CLOCK_MONOTONIC);
	if (before < last || after < before)
		atomic_fetch_add_explicit(&back, 1, memory_order_relaxed);
	judge(before, value, after, 0);
	before = after;
	gettimeofday(&tv, NULL);
	after = read_ns(CLOCK_MONOTONIC);
	judge(before, (int64_t)tv.tv_sec * NS + (int64_t)tv.tv_usec * 1000, after, 1000);
	before = read_ns(CLOCK_MONOTONIC_COARSE);
	value = read_ns(CLOCK_REALTIME_COARSE);
	after = read_ns(CLOCK_MONOTONIC_COARSE);
	judge(before, value, after, 0);
	before = after;
	value = (int64_t)time(NULL) * NS;
	after = read_ns(CLOCK_MONOTONIC);
	judge(before, value, after, NS);
	atomic_fetch_add_explicit(&readings, 4, memory_order_relaxed);
	return after;
}

static void on_profile(int signal)
{
	(void)signal;
	look(0);
}

static void *run(void *unused)
{
	int64_t last = 0;

	(void)unused;
	while (!atomic_load_explicit(&done, memory_order_relaxed))
		last = look(last);
	return NULL;
}

/* By how much REALTIME is ahead of MONOTONIC: by the closest of many readings, since each may be interrupted. */
static int64_t measure_base(void)
{
	int64_t closest = INT64_MAX, ret = 0;

	for (int i = 0; i < 1000; i++) {
		int64_t before = read_ns(CLOCK_MONOTONIC), value = read_ns(CLOCK_REALTIME), after = read_ns(CLOCK_MONOTONIC);

		if (after - before < closest) {
			closest = after - before;
			ret = value - before;
		}
	}
	return ret;
}

static size_t read_auxv(char *ret, size_t size)
{
	int fd = open("/proc/self/auxv", O_RDONLY);
	ssize_t got = read(fd, ret, size);

	close(fd);
	return got > 0 ? (size_t)got : 0;
}

int main(int argc, char **argv)
{
	static char vdso[8192], auxv[2][4096];
	int threads = atoi(argv[1]);
	pthread_t thread[64];
	struct itimerval every = {{0, 1000}, {0, 1000}};
	const void *image = (const void *)getauxval(AT_SYSINFO_EHDR);
	size_t size;
	char byte;

	offset_ns = (int64_t)atoll(argv[2]) * NS;
	base_ns = measure_base();
	memcpy(vdso, image, sizeof(vdso));
	size = read_auxv(auxv[0], sizeof(auxv[0]));
	if (argc > 3) {
		struct sigaction action = {.sa_handler = on_profile, .sa_flags = SA_RESTART};

		sigaction(SIGPROF, &action, NULL);
		setitimer(ITIMER_PROF, &every, NULL);
	}
	for (int i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, run, NULL);
	printf("ready\n");
	fflush(stdout);
	while (read(0, &byte, 1) == 1)
		;
	atomic_store(&done, 1);
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	every = (struct itimerval){{0, 0}, {0, 0}};
	setitimer(ITIMER_PROF, &every, NULL);
	printf("%ld %ld %ld %ld %d %d\n", readings, moved, wrong, back, memcmp(vdso, image, sizeof(vdso)) == 0,
	       read_auxv(auxv[1], sizeof(auxv[1])) == size && memcmp(auxv[0], auxv[1], size) == 0);
	return 0;
}
