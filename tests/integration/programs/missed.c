/*
 * Sets a timerfd and a timer to a second ago by the clock, again each tenth of one, and prints how often each has expired by
 * the first look. With an argument it goes on to print how often the timerfd has, whenever it has, for ever.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec wanted = {.it_interval = {.tv_nsec = 100000000}};
	int fd = timerfd_create(CLOCK_REALTIME, 0);
	uint64_t count = 0;
	siginfo_t info;
	sigset_t set;
	timer_t timer;

	clock_gettime(CLOCK_REALTIME, &wanted.it_value);
	wanted.it_value.tv_sec--;
	if (timerfd_settime(fd, TFD_TIMER_ABSTIME, &wanted, NULL) != 0 || read(fd, &count, sizeof(count)) != sizeof(count))
		return 1;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	clock_gettime(CLOCK_REALTIME, &wanted.it_value);
	wanted.it_value.tv_sec--;
	if (timer_create(CLOCK_REALTIME, &event, &timer) != 0 || timer_settime(timer, TIMER_ABSTIME, &wanted, NULL) != 0 ||
	    sigwaitinfo(&set, &info) != SIGUSR1)
		return 2;
	printf("timerfd %llu\ntimer %d\n", (unsigned long long)count, timer_getoverrun(timer) + 1);
	fflush(stdout);
	while (argc > 1 && read(fd, &count, sizeof(count)) == sizeof(count)) {
		printf("%s %llu\n", argv[1], (unsigned long long)count);
		fflush(stdout);
	}
	return 0;
}
