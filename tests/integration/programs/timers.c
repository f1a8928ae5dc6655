/*
 * timers descriptor|process|leaderless|headless|apart [CLOCK]: one timer (leaderless: the process's, whose main thread has
 * ended; headless: a descriptor, likewise; apart: a descriptor of a thread that has its own, whose number is another timer's in
 * the rest of the process), which its standard input tells what to do, a line each, and each of which it answers with a line:
 *
 * "set AT INTERVAL" (seconds from the clock's now on, absolute), "elsewhere AT INTERVAL" (the same, by a thread that ends with
 * it), "relative SECONDS", "stop": the errno; "count": how often it has expired since it was last asked; "left": the seconds
 * that are left, and those of its interval; "exec": becomes itself anew; "leave": leaves its place to a child, which says its
 * process id; "churn N": makes as many others, sets and deletes each: how many.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static clockid_t clock_id = CLOCK_REALTIME;
static int fd = -1;
static int epoll = -1; /* what waits for a line, where that is to be a call which any interruption ends */
static timer_t timer;

static struct timespec timespec_of(double seconds)
{
	struct timespec ret = {.tv_sec = (time_t)seconds};

	ret.tv_nsec = (long)((seconds - (double)ret.tv_sec) * 1e9);
	return ret;
}

static int set(int flags, struct itimerspec setting)
{
	int ret = fd >= 0 ? timerfd_settime(fd, flags, &setting, NULL) : timer_settime(timer, flags, &setting, NULL);

	return ret == 0 ? 0 : errno;
}

static int set_ahead(double seconds, double interval)
{
	struct itimerspec setting = {.it_value = timespec_of(seconds < 0 ? -seconds : seconds), .it_interval = timespec_of(interval)};
	struct timespec now;
	long sign = seconds < 0 ? -1 : 1;

	clock_gettime(clock_id, &now);
	setting.it_value.tv_sec = now.tv_sec + sign * setting.it_value.tv_sec;
	setting.it_value.tv_nsec = now.tv_nsec + sign * setting.it_value.tv_nsec;
	if (setting.it_value.tv_nsec < 0) {
		setting.it_value.tv_nsec += 1000000000;
		setting.it_value.tv_sec--;
	} else if (setting.it_value.tv_nsec >= 1000000000) {
		setting.it_value.tv_nsec -= 1000000000;
		setting.it_value.tv_sec++;
	}
	return set(TIMER_ABSTIME, setting);
}

static long long count(void)
{
	uint64_t times = 0;
	sigset_t signals;

	if (fd >= 0)
		return read(fd, &times, sizeof(times)) == sizeof(times) ? (long long)times : 0;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	return sigtimedwait(&signals, NULL, &(struct timespec){0}) == SIGUSR1 ? 1 + timer_getoverrun(timer) : 0;
}

static void say_left(void)
{
	struct itimerspec left = {0};

	if (fd >= 0)
		timerfd_gettime(fd, &left);
	else
		timer_gettime(timer, &left);
	printf("%.9f %.9f\n", (double)left.it_value.tv_sec + (double)left.it_value.tv_nsec / 1e9,
	       (double)left.it_interval.tv_sec + (double)left.it_interval.tv_nsec / 1e9);
}

static void *set_elsewhere(void *times)
{
	static int ret;
	double *ahead = times;

	ret = set_ahead(ahead[0], ahead[1]);
	return &ret;
}

static int in_a_thread(double at, double interval)
{
	double times[] = {at, interval};
	pthread_t thread;
	void *ret;

	if (pthread_create(&thread, NULL, set_elsewhere, times) != 0 || pthread_join(thread, &ret) != 0)
		return -1;
	return *(int *)ret;
}

static int churn(int count)
{
	struct sigevent event = {.sigev_notify = SIGEV_NONE};
	struct itimerspec setting = {0};
	timer_t other;

	clock_gettime(clock_id, &setting.it_value);
	setting.it_value.tv_sec += 3600;
	for (int i = 0; i < count; i++)
		if (timer_create(clock_id, &event, &other) != 0 || timer_settime(other, TIMER_ABSTIME, &setting, NULL) != 0 ||
		    timer_delete(other) != 0)
			return i;
	return count;
}

static int obey(char **argv)
{
	double at, interval;
	char line[128];
	int number;

	while ((epoll < 0 || epoll_wait(epoll, &(struct epoll_event){0}, 1, -1) == 1) && fgets(line, sizeof(line), stdin) != NULL) {
		if (sscanf(line, "set %lf %lf", &at, &interval) == 2)
			printf("%d\n", set_ahead(at, interval));
		else if (sscanf(line, "elsewhere %lf %lf", &at, &interval) == 2)
			printf("%d\n", in_a_thread(at, interval));
		else if (sscanf(line, "churn %d", &number) == 1)
			printf("%d\n", churn(number));
		else if (strncmp(line, "leave", 5) == 0) {
			if (fork() != 0)
				_exit(0);
			printf("%d\n", (int)getpid());
		} else if (sscanf(line, "relative %lf", &at) == 1)
			printf("%d\n", set(0, (struct itimerspec){.it_value = timespec_of(at)}));
		else if (strncmp(line, "stop", 4) == 0)
			printf("%d\n", set(0, (struct itimerspec){0}));
		else if (strncmp(line, "count", 5) == 0)
			printf("%lld\n", count());
		else if (strncmp(line, "left", 4) == 0)
			say_left();
		else if (strncmp(line, "exec", 4) == 0)
			execv("/proc/self/exe", argv);
		else
			return 2;
	}
	return 0;
}

static void *apart(void *made)
{
	static long ret;

	if (unshare(CLONE_FILES) != 0)
		exit(1);
	fd = timerfd_create(clock_id, TFD_NONBLOCK | TFD_CLOEXEC);
	sem_post(made);
	ret = obey(NULL);
	return &ret;
}

static void *alone(void *argv)
{
	exit(obey(argv));
}

int main(int argc, char **argv)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	pthread_t thread;
	sigset_t signals;
	sem_t made;

	if (argc < 2)
		return 2;
	if (argc > 2)
		clock_id = atoi(argv[2]);
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0); /* what comes behind "exec" is for whom it becomes */
	if (strcmp(argv[1], "apart") == 0) {
		sem_init(&made, 0, 0);
		pthread_create(&thread, NULL, apart, &made);
		sem_wait(&made);
		if (timerfd_create(clock_id, 0) != fd)
			return 1;
		pthread_join(thread, NULL);
		return 0;
	}
	if (strcmp(argv[1], "descriptor") == 0 || strcmp(argv[1], "headless") == 0)
		fd = timerfd_create(clock_id, TFD_NONBLOCK | TFD_CLOEXEC);
	else if (timer_create(clock_id, &event, &timer) != 0)
		return 1;
	if (strcmp(argv[1], "leaderless") == 0 || strcmp(argv[1], "headless") == 0) {
		epoll = epoll_create1(0);
		epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &(struct epoll_event){.events = EPOLLIN});
		pthread_create(&thread, NULL, alone, argv);
		pthread_exit(NULL);
	}
	return obey(argv);
}
