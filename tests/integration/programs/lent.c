/*
 * lent CALL LEFT: with a timer for a day after the clock's now, says "ready" and is in CALL until its standard input ends (or,
 * where CALL takes only so long, until its time has come); prints what that answered, its errno, how long it took in ms, and
 * how many seconds are left of the timer, for LEFT of which it waits. "compute" answers 0 as long as it has computed right.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 1500

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
	(void)number;
	signals++;
}

static long long host_ms(void)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Integers and vectors, and a sum in a register all the while: a wrong register anywhere is a wrong sum. */
static long compute(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	uint64_t wanted = 0;

	do {
		uint64_t x = 88172645463325252, sum = 0;
		double real = 1;

		for (int i = 0; i < 3000000; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			sum += x;
			real = real * 1.0000001 + (double)(x & 1);
		}
		sum ^= (uint64_t)real;
		if (wanted != 0 && sum != wanted)
			return 1;
		wanted = sum;
	} while (poll(&input, 1, 0) == 0);
	return 0;
}

static long call(const char *name)
{
	const struct timespec pause_for = {WAIT_MS / 1000, WAIT_MS % 1000 * 1000000};
	struct pollfd input = {.fd = 0, .events = POLLIN | POLLHUP};
	struct epoll_event event = {.events = EPOLLIN | EPOLLHUP};
	int sockets[2], epoll;
	fd_set set;
	sigset_t signal_set;
	char byte;

	if (strcmp(name, "compute") == 0)
		return compute();
	if (strcmp(name, "read") == 0)
		return read(0, &byte, 1);
	if (strcmp(name, "poll") == 0)
		return poll(&input, 1, -1);
	if (strcmp(name, "select") == 0) {
		FD_ZERO(&set);
		FD_SET(0, &set);
		return select(1, &set, NULL, NULL, NULL);
	}
	if (strcmp(name, "epoll") == 0) {
		epoll = epoll_create1(0);
		epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
		return epoll_wait(epoll, &event, 1, -1);
	}
	if (strcmp(name, "nanosleep") == 0)
		return nanosleep(&pause_for, NULL);
	if (strcmp(name, "poll-timed") == 0)
		return poll(NULL, 0, WAIT_MS);
	if (strcmp(name, "pause") == 0) /* ended by SIGINT */
		return pause();
	if (strcmp(name, "sigsuspend") == 0) {
		sigemptyset(&signal_set);
		return sigsuspend(&signal_set);
	}
	if (strcmp(name, "sigwait") == 0) {
		sigemptyset(&signal_set);
		sigaddset(&signal_set, SIGTERM);
		sigprocmask(SIG_BLOCK, &signal_set, NULL);
		return sigtimedwait(&signal_set, NULL, &(struct timespec){60, 0}) == SIGTERM ? 0 : -1;
	}
	if (strcmp(name, "recv") == 0) {
		struct timeval timeout = {60, 0};

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0)
			return 99;
		setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
		return recv(sockets[0], &byte, 1, 0); /* ended by SIGINT */
	}
	if (strcmp(name, "vfork") == 0) { /* frozen behind its child */
		if (vfork() == 0)
			_exit(read(0, &byte, 1) != 0);
		return 0;
	}
	return 98;
}

int main(int argc, char **argv)
{
	struct sigevent event = {.sigev_notify = SIGEV_NONE};
	struct sigaction action = {.sa_handler = on_signal};
	struct itimerspec setting = {0};
	long long began;
	timer_t timer;
	long ret;

	if (argc != 3)
		return 2;
	sigaction(SIGINT, &action, NULL);
	clock_gettime(CLOCK_REALTIME, &setting.it_value);
	setting.it_value.tv_sec += 86400;
	if (timer_create(CLOCK_REALTIME, &event, &timer) != 0 || timer_settime(timer, TIMER_ABSTIME, &setting, NULL) != 0)
		return 1;
	printf("ready\n");
	fflush(stdout);
	began = host_ms();
	errno = 0;
	ret = call(argv[1]);
	if (ret >= 0)
		errno = 0;
	began = host_ms() - began;
	printf("%ld %d %lld ", ret, errno, began);
	for (int tries = 0; tries < 20000; tries++) {
		timer_gettime(timer, &setting);
		if (setting.it_value.tv_sec < atol(argv[2]))
			break;
		usleep(1000);
	}
	printf("%lld\n", (long long)setting.it_value.tv_sec);
	return 0;
}
