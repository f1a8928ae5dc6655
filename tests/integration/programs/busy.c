/*
 * Does without a pause what an attached process may do while it is attached and detached: READERS threads read the clock, one
 * waits for an absolute time a millisecond ahead, or until it is woken (its clock may be set back), one starts /bin/true, one forks
 * a child that execs it. Says "ready", and after a line of its input what came of it:
 *
 *   READINGS BACK WAITS TIMEOUTS BAD LATE STARTS FAILED
 *
 * BACK: MONOTONIC went back; BAD: a wait failed; LATE: it was woken and did not wake within five seconds; FAILED: a child could not
 * be started, or did not end with 0.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static _Atomic long readings, back, waits, timeouts, bad, late, starts, failed;
static _Atomic int done;
static char *const words[] = {(char *)"true", NULL};

static void nap(long ns)
{
	nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static int64_t read_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void *read_clocks(void *unused)
{
	int64_t last = read_ns(CLOCK_MONOTONIC);

	while (!done) {
		int64_t now;

		read_ns(CLOCK_REALTIME);
		now = read_ns(CLOCK_MONOTONIC);
		back += now < last;
		last = now;
		readings++;
	}
	return unused;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static void *wake(void *unused)
{
	while (!done) {
		nap(20000000);
		pthread_mutex_lock(&mutex);
		pthread_cond_signal(&condition);
		pthread_mutex_unlock(&mutex);
	}
	return unused;
}

static void *wait_for_times(void *unused)
{
	pthread_mutex_lock(&mutex);
	while (!done) {
		int64_t began = read_ns(CLOCK_MONOTONIC);
		struct timespec at;
		int error;

		clock_gettime(CLOCK_REALTIME, &at);
		at.tv_nsec += 1000000;
		if (at.tv_nsec >= 1000000000) {
			at.tv_nsec -= 1000000000;
			at.tv_sec++;
		}
		error = pthread_cond_timedwait(&condition, &mutex, &at);
		timeouts += error == ETIMEDOUT;
		bad += error != ETIMEDOUT && error != 0;
		late += read_ns(CLOCK_MONOTONIC) - began > INT64_C(5000000000);
		waits++;
	}
	pthread_mutex_unlock(&mutex);
	return unused;
}

static void judge(pid_t child)
{
	int status = -1;

	failed += child < 0 || waitpid(child, &status, 0) != child || status != 0;
	starts++;
	nap(2000000);
}

static void *spawn(void *unused)
{
	while (!done) {
		pid_t child = -1;

		errno = posix_spawn(&child, "/bin/true", NULL, NULL, words, environ);
		judge(errno == 0 ? child : -1);
	}
	return unused;
}

static void *fork_and_exec(void *unused)
{
	while (!done) {
		pid_t child = fork();

		if (child == 0) {
			execv("/bin/true", words);
			_exit(9);
		}
		judge(child);
	}
	return unused;
}

int main(int argc, char **argv)
{
	int readers = argc > 1 ? atoi(argv[1]) : 0, threads = 0;
	pthread_t thread[64];
	char byte = 0;

	for (int i = 0; i < readers; i++)
		pthread_create(&thread[threads++], NULL, read_clocks, NULL);
	pthread_create(&thread[threads++], NULL, wait_for_times, NULL);
	pthread_create(&thread[threads++], NULL, wake, NULL);
	pthread_create(&thread[threads++], NULL, spawn, NULL);
	pthread_create(&thread[threads++], NULL, fork_and_exec, NULL);
	printf("ready\n");
	fflush(stdout);
	while (byte != '\n')
		if (read(0, &byte, 1) != 1)
			break;
	done = 1;
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	printf("%ld %ld %ld %ld %ld %ld %ld %ld\n", readings, back, waits, timeouts, bad, late, starts, failed);
	return 0;
}
