#define _GNU_SOURCE
/*
 * Waits in one thread for each of many calls, and says how each ended once its standard input has: a line "NAME RESULT ERRNO
 * ELAPSED_MS" each. A timed one takes two seconds.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 2000

static int event, sockets[2], pipes[2], semaphores;
static sem_t posted;
static pid_t child;
static const struct timespec two_seconds = {.tv_sec = WAIT_MS / 1000};

static long in_nanosleep(void)
{
	return nanosleep(&two_seconds, NULL);
}

static long in_clock_nanosleep(void)
{
	errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &two_seconds, NULL);
	return errno == 0 ? 0 : -1;
}

static long in_poll(void)
{
	return poll(NULL, 0, WAIT_MS);
}

static long in_ppoll(void)
{
	return ppoll(NULL, 0, &two_seconds, NULL);
}

static long in_select(void)
{
	struct timeval tv = {WAIT_MS / 1000, 0};

	return select(0, NULL, NULL, NULL, &tv);
}

static long in_epoll_wait(void)
{
	int fd = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN};

	epoll_ctl(fd, EPOLL_CTL_ADD, event, &e);
	return epoll_wait(fd, &e, 1, -1);
}

static long in_epoll_pwait(void)
{
	int fd = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN};
	sigset_t set;

	sigemptyset(&set);
	epoll_ctl(fd, EPOLL_CTL_ADD, event, &e);
	return epoll_pwait(fd, &e, 1, -1, &set);
}

static long in_futex(void)
{
	return sem_wait(&posted);
}

static long in_timed_futex(void)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 3600;
	return sem_clockwait(&posted, CLOCK_MONOTONIC, &until);
}

static long in_read(void)
{
	char byte;

	return read(pipes[0], &byte, 1);
}

static long in_recv(void)
{
	struct timeval tv = {3600, 0};
	char byte;

	setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return recv(sockets[0], &byte, 1, 0);
}

static long in_semop(void)
{
	struct sembuf down = {0, -1, 0};

	return semop(semaphores, &down, 1);
}

static long in_sigtimedwait(void)
{
	struct timespec hour = {.tv_sec = 3600};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return sigtimedwait(&set, NULL, &hour);
}

static long in_wait(void)
{
	return waitpid(child, NULL, 0) == child ? 0 : -1;
}

static long in_pause(void)
{
	return pause();
}

static const struct wait {
	const char *name;
	long (*call)(void);
} waits[] = {
	{"nanosleep", in_nanosleep},   {"clock_nanosleep", in_clock_nanosleep},
	{"poll", in_poll},             {"ppoll", in_ppoll},
	{"select", in_select},         {"epoll_wait", in_epoll_wait},
	{"epoll_pwait", in_epoll_pwait}, {"futex", in_futex},
	{"timed_futex", in_timed_futex}, {"read", in_read},
	{"recv", in_recv},             {"semop", in_semop},
	{"sigtimedwait", in_sigtimedwait}, {"waitpid", in_wait},
	{"pause", in_pause},
};
enum { WAITS = sizeof(waits) / sizeof(waits[0]) };

static char lines[WAITS][128];

static void *run(void *arg)
{
	const struct wait *wait = arg;
	struct timespec before, after;
	long result;
	int error;

	clock_gettime(CLOCK_MONOTONIC, &before);
	errno = 0;
	result = wait->call();
	error = errno;
	clock_gettime(CLOCK_MONOTONIC, &after);
	snprintf(lines[wait - waits], sizeof(lines[0]), "%s %ld %d %ld\n", wait->name, result, result < 0 ? error : 0,
		 (long)((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000));
	return NULL;
}

static void on_signal(int signal)
{
	(void)signal;
}

int main(void)
{
	struct sembuf up = {0, 1, 0};
	pthread_t thread[WAITS];
	struct sigaction action = {.sa_handler = on_signal};
	uint64_t one = 1;
	sigset_t set;
	int life[2];
	char byte;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGUSR1, &action, NULL);
	event = eventfd(0, 0);
	sem_init(&posted, 0, 0);
	semaphores = semget(IPC_PRIVATE, 1, 0600);
	if (pipe(life) != 0 || pipe(pipes) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0)
		return 1;
	child = fork();
	if (child == 0) {
		close(life[1]);
		_exit(read(life[0], &byte, 1) != 0);
	}
	for (int i = 0; i < WAITS; i++)
		pthread_create(&thread[i], NULL, run, (void *)&waits[i]);
	printf("ready\n");
	fflush(stdout);
	while (read(0, &byte, 1) == 1)
		;
	if (write(event, &one, sizeof(one)) < 0 || write(pipes[1], "x", 1) < 0 || write(sockets[1], "x", 1) < 0)
		return 1;
	sem_post(&posted);
	sem_post(&posted);
	semop(semaphores, &up, 1);
	for (int i = 0; i < WAITS; i++) {
		if (waits[i].call == in_sigtimedwait)
			pthread_kill(thread[i], SIGUSR2);
		if (waits[i].call == in_pause)
			pthread_kill(thread[i], SIGUSR1);
	}
	close(life[1]);
	for (int i = 0; i < WAITS; i++) {
		pthread_join(thread[i], NULL);
		fputs(lines[i], stdout);
	}
	semctl(semaphores, 0, IPC_RMID);
	return 0;
}
