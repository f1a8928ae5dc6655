/*
 * timeouts CALL...: is in each CALL for half a minute, one after the other but for a second at the most in each, or as long as
 * nobody ends it.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int pipes[2], sockets[2];
static sem_t semaphore;
static const struct timespec half_a_minute = {30, 0};

static struct timespec later(clockid_t clock)
{
	struct timespec ret;

	clock_gettime(clock, &ret);
	ret.tv_sec += 30;
	return ret;
}

static void receive(int seconds)
{
	struct timeval timeout = {seconds, 0};
	char byte;

	setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	recv(sockets[0], &byte, 1, 0);
}

static void call(const char *name)
{
	struct pollfd input = {.fd = pipes[0], .events = POLLIN};
	struct epoll_event event = {.events = EPOLLIN};
	struct timespec at;
	int epoll = epoll_create1(0), word = 0;
	sigset_t set;
	fd_set fds;
	char byte;

	FD_ZERO(&fds);
	FD_SET(pipes[0], &fds);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event);
	if (strcmp(name, "nanosleep") == 0)
		nanosleep(&half_a_minute, NULL);
	else if (strcmp(name, "empty-poll") == 0)
		poll(NULL, 0, 30000);
	else if (strcmp(name, "poll") == 0)
		poll(&input, 1, 30000);
	else if (strcmp(name, "ppoll") == 0)
		ppoll(&input, 1, &half_a_minute, NULL);
	else if (strcmp(name, "select") == 0)
		select(pipes[0] + 1, &fds, NULL, NULL, &(struct timeval){30, 0});
	else if (strcmp(name, "epoll_wait") == 0)
		epoll_wait(epoll, &event, 1, 30000);
	else if (strcmp(name, "sigtimedwait") == 0)
		sigtimedwait(&set, NULL, &half_a_minute);
	else if (strcmp(name, "semtimedop") == 0)
		semtimedop(semget(IPC_PRIVATE, 1, 0600), &(struct sembuf){0, -1, 0}, 1, &half_a_minute);
	else if (strcmp(name, "futex") == 0)
		syscall(SYS_futex, &word, FUTEX_WAIT, 0, &half_a_minute);
	else if (strcmp(name, "futex-until") == 0) {
		at = later(CLOCK_MONOTONIC);
		sem_clockwait(&semaphore, CLOCK_MONOTONIC, &at);
	} else if (strcmp(name, "recv") == 0)
		receive(30);
	/* What has no timeout, or one by the clock's time. */
	else if (strcmp(name, "endless-poll") == 0)
		poll(&input, 1, -1);
	else if (strcmp(name, "endless-select") == 0)
		select(pipes[0] + 1, &fds, NULL, NULL, NULL);
	else if (strcmp(name, "endless-epoll") == 0)
		epoll_wait(epoll, &event, 1, -1);
	else if (strcmp(name, "endless-recv") == 0)
		receive(0);
	else if (strcmp(name, "read") == 0) {
		if (read(pipes[0], &byte, 1) == 1)
			_exit(97);
	} else if (strcmp(name, "pause") == 0)
		pause();
	else if (strcmp(name, "wall-clock") == 0) {
		at = later(CLOCK_REALTIME);
		sem_timedwait(&semaphore, &at);
	} else
		_exit(98);
}

static void on_signal(int number)
{
	(void)number;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct itimerval each = {.it_value = {0, 150000}};

	if (pipe(pipes) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0)
		return 1;
	sem_init(&semaphore, 0, 0);
	sigaction(SIGALRM, &action, NULL);
	for (int i = 1; i < argc; i++) {
		if (argc > 2)
			setitimer(ITIMER_REAL, &each, NULL);
		call(argv[i]);
	}
	return 0;
}
