/*
 * Reads clocks a known number of times. counted HOW N COUNT, or without these: as each line of its standard input says.
 *
 *   threads   N threads at once, COUNT readings of MONOTONIC each
 *   later     N threads one after the other, each on the stack of the one before
 *   signals   a thread for each of N, COUNT readings each, interrupted by a timer whose handler reads too
 *   forks     N children, COUNT readings each; the parent as many
 *   vforks    N children by vfork, COUNT readings each, each then exec'ing true; the parent as many
 *   chain     COUNT readings, and then itself with N less, by exec
 *   leave     N children that only wait, until the end of the parent
 *   raw       COUNT readings by the system call, in each of N threads
 *   all       COUNT calls of each function, and of each clock that there is
 *   forever   N threads read until they are killed, each with how often in 8 bytes of its own of the file COUNT
 *
 * Prints what it has read by the C library, "HOW CALLS", where it gets to the end; "ready" before it reads lines.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long count;
static atomic_long handled;
static _Atomic unsigned long *tally;
static atomic_int tallies;

static void read_clock(void)
{
	struct timespec now;

	for (long i = 0; i < count; i++)
		clock_gettime(CLOCK_MONOTONIC, &now);
}

static void *in_thread(void *argument)
{
	read_clock();
	return argument;
}

static void *raw(void *argument)
{
	struct timespec now;

	for (long i = 0; i < count; i++)
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return argument;
}

static void *forever(void *argument)
{
	_Atomic unsigned long *own = &tally[atomic_fetch_add(&tallies, 1)];
	struct timespec now;

	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		atomic_store_explicit(own, atomic_load_explicit(own, memory_order_relaxed) + 1, memory_order_relaxed);
	}
	return argument;
}

static void on_signal(int signal)
{
	struct timespec now;

	(void)signal;
	clock_gettime(CLOCK_MONOTONIC, &now);
	atomic_fetch_add(&handled, 1);
}

static void start_together(int n, void *(*function)(void *))
{
	pthread_t *thread = calloc((size_t)n, sizeof(*thread));

	for (int i = 0; i < n; i++)
		if (pthread_create(&thread[i], NULL, function, NULL) != 0)
			abort();
	if (function == forever) {
		while (atomic_load(&tally[0]) == 0)
			sched_yield();
		puts("reading");
		fflush(stdout);
	}
	for (int i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
}

static void all(void)
{
	static const int ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
				  CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
	struct timespec now;
	struct timeval tv;
	clockid_t own;

	clock_getcpuclockid(getpid(), &own);
	for (long i = 0; i < count; i++) {
		for (size_t j = 0; j < sizeof(ids) / sizeof(ids[0]); j++)
			clock_gettime(ids[j], &now);
		clock_gettime(own, &now);
		clock_gettime(15, &now); /* there is none */
		gettimeofday(&tv, NULL);
		time(NULL);
		clock_getres(CLOCK_MONOTONIC, &now);
	}
}

/* How many calls that were, by the C library; -1: there is no such thing to do. */
static long run(char *self, const char *how, int n, char *number)
{
	long calls = 0;

	count = atol(number);
	if (strcmp(how, "threads") == 0) {
		start_together(n, in_thread);
		calls = n * count;
	} else if (strcmp(how, "later") == 0) {
		for (int i = 0; i < n; i++)
			start_together(1, in_thread);
		calls = n * count;
	} else if (strcmp(how, "signals") == 0) {
		struct itimerval often = {{0, 200}, {0, 200}};

		signal(SIGALRM, on_signal);
		setitimer(ITIMER_REAL, &often, NULL);
		start_together(n, in_thread);
		setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
		calls = n * count + atomic_load(&handled);
	} else if (strcmp(how, "forks") == 0) {
		read_clock();
		for (int i = 0; i < n; i++)
			if (fork() == 0) {
				read_clock();
				_exit(0);
			}
		while (wait(NULL) > 0)
			;
		calls = (n + 1) * count;
	} else if (strcmp(how, "leave") == 0) {
		for (int i = 0; i < n; i++)
			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				for (;;)
					pause();
			}
	} else if (strcmp(how, "vforks") == 0) {
		read_clock();
		for (volatile int i = 0; i < n; i++) {
			if (vfork() == 0) {
				read_clock();
				execlp("true", "true", NULL);
				_exit(1);
			}
			wait(NULL);
		}
		calls = (n + 1) * count;
	} else if (strcmp(how, "chain") == 0) {
		char left[16];

		read_clock();
		snprintf(left, sizeof(left), "%d", n - 1);
		if (n > 0)
			execl("/proc/self/exe", self, how, left, number, NULL);
		calls = count;
	} else if (strcmp(how, "raw") == 0) {
		start_together(n, raw);
	} else if (strcmp(how, "all") == 0) {
		all();
	} else if (strcmp(how, "forever") == 0) {
		int fd = open(number, O_RDWR | O_CREAT, 0600);

		if (ftruncate(fd, 4096) != 0)
			return -1;
		tally = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		start_together(n, forever);
	} else {
		return -1;
	}
	return calls;
}

int main(int argc, char **argv)
{
	char how[16], number[16], line[64];
	long calls = 0;
	int n;

	if (argc > 3) {
		calls = run(argv[0], argv[1], atoi(argv[2]), argv[3]);
		printf("%s %ld\n", argv[1], calls);
		return calls < 0 ? 2 : 0;
	}
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL && sscanf(line, "%15s %d %15s", how, &n, number) == 3) {
		calls = run(argv[0], how, n, number);
		printf("%s %ld\n", how, calls);
		fflush(stdout);
	}
	return 0;
}
