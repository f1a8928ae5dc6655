/*
 * setters TIMERS THREADS CHILDREN: as many timers for a day after the clock's now, and threads that set one of their own again
 * and again meanwhile; each child in turn sets one too and ends. Says "ready"; once its standard input has a line: whether
 * each of the timers is that much nearer ("all LEFT", of the one that is farthest), and how many children have ended.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DAY_S 86400
#define TIMERS_MAX 4096

static timer_t timer[TIMERS_MAX];

static timer_t make(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_NONE};
	timer_t ret;

	if (timer_create(CLOCK_REALTIME, &event, &ret) != 0)
		exit(1);
	return ret;
}

static void set(timer_t which)
{
	struct itimerspec setting = {0};

	clock_gettime(CLOCK_REALTIME, &setting.it_value);
	setting.it_value.tv_sec += DAY_S;
	if (timer_settime(which, TIMER_ABSTIME, &setting, NULL) != 0)
		exit(1);
}

static void *set_again(void *unused)
{
	timer_t own = make();

	(void)unused;
	for (;;)
		set(own);
	return NULL;
}

int main(int argc, char **argv)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	int count = argc > 1 ? atoi(argv[1]) : 0, threads = argc > 2 ? atoi(argv[2]) : 0, children = argc > 3 ? atoi(argv[3]) : 0;
	struct itimerspec left;
	pthread_t thread;
	long most;
	char line[16];

	if (count <= 0 || count > TIMERS_MAX)
		return 2;
	for (int i = 0; i < count; i++)
		set(timer[i] = make());
	for (int i = 0; i < threads; i++)
		pthread_create(&thread, NULL, set_again, NULL);
	printf("ready\n");
	fflush(stdout);
	for (int i = 0; i < children; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			set(make());
			_exit(0);
		}
		usleep(2000);
	}
	for (int i = 0; i < children; i++)
		if (wait(NULL) < 0)
			return 1;
	poll(&input, 1, -1);
	if (read(0, line, sizeof(line)) <= 0)
		return 1;
	do {
		most = 0;
		for (int i = 0; i < count; i++) {
			timer_gettime(timer[i], &left);
			if (left.it_value.tv_sec > most)
				most = left.it_value.tv_sec;
		}
		usleep(1000);
	} while (most > DAY_S - atol(line));
	printf("all %ld\n", most);
	fflush(stdout);
	_exit(0);
}
