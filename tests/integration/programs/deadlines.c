/*
 * deadlines CALL: makes one call with a deadline, three times, in each of two threads. Each deadline has passed on the host's clock
 * and on any that is ahead of it, so that nothing waits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const struct timespec past = {1, 0}, soon = {0, 1};
static const struct itimerspec past_timer = {.it_value = {1, 0}}, soon_timer = {.it_value = {0, 1}};

static int wait_condition(clockid_t clock)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_condattr_t attributes;
	pthread_cond_t condition;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, clock);
	pthread_cond_init(&condition, &attributes);
	pthread_mutex_lock(&mutex);
	return pthread_cond_timedwait(&condition, &mutex, &past) != ETIMEDOUT;
}

static int wait_mutex(void)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&mutex);
	return pthread_mutex_timedlock(&mutex, &past) != ETIMEDOUT;
}

static int wait_semaphore(void)
{
	sem_t semaphore;

	sem_init(&semaphore, 0, 0);
	return sem_timedwait(&semaphore, &past) != -1 || errno != ETIMEDOUT;
}

static int wait_futex(int flags)
{
	int word = 0;

	return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE | flags, 0, &past, NULL, ~0u) != -1 ||
	       errno != ETIMEDOUT;
}

static int set_timerfd(clockid_t clock, int flags)
{
	int fd = timerfd_create(clock, 0);
	unsigned long long count;

	return timerfd_settime(fd, flags, flags ? &past_timer : &soon_timer, NULL) != 0 ||
	       read(fd, &count, sizeof(count)) != sizeof(count) || close(fd) != 0;
}

static int set_timer(clockid_t clock, int flags)
{
	struct sigevent nothing = {.sigev_notify = SIGEV_NONE};
	timer_t timer;

	return timer_create(clock, &nothing, &timer) != 0 ||
	       timer_settime(timer, flags, flags ? &past_timer : &soon_timer, NULL) != 0 || timer_delete(timer) != 0;
}

static int wait_queue(int send)
{
	struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 1};
	char name[64], byte = 0;
	mqd_t queue;
	long ret;

	snprintf(name, sizeof(name), "/vdso-test-%d", (int)gettid());
	queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
	if (queue < 0)
		return 1;
	mq_unlink(name);
	if (send) {
		mq_send(queue, &byte, 1, 0);
		ret = mq_timedsend(queue, &byte, 1, 0, &past);
	} else {
		ret = mq_timedreceive(queue, &byte, 1, NULL, &past);
	}
	return ret != -1 || errno != ETIMEDOUT || mq_close(queue) != 0;
}

static int call(const char *name)
{
	if (strcmp(name, "pthread_cond_timedwait") == 0)
		return wait_condition(CLOCK_REALTIME);
	if (strcmp(name, "pthread_cond_timedwait-monotonic") == 0)
		return wait_condition(CLOCK_MONOTONIC);
	if (strcmp(name, "pthread_mutex_timedlock") == 0)
		return wait_mutex();
	if (strcmp(name, "sem_timedwait") == 0)
		return wait_semaphore();
	if (strcmp(name, "futex-monotonic") == 0)
		return wait_futex(0);
	if (strcmp(name, "futex-realtime") == 0)
		return wait_futex(FUTEX_CLOCK_REALTIME);
	if (strcmp(name, "futex-wait") == 0) /* Linux 6.7 */
		return syscall(455, &(int){0}, 0, 0xffffffffL, 2 | 128, &past, CLOCK_REALTIME) != -1 ||
		       (errno != ETIMEDOUT && errno != ENOSYS);
	if (strcmp(name, "clock_nanosleep") == 0)
		return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &past, NULL);
	if (strcmp(name, "clock_nanosleep-tai") == 0)
		return clock_nanosleep(CLOCK_TAI, TIMER_ABSTIME, &past, NULL);
	if (strcmp(name, "clock_nanosleep-monotonic") == 0)
		return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL);
	if (strcmp(name, "clock_nanosleep-relative") == 0)
		return clock_nanosleep(CLOCK_REALTIME, 0, &soon, NULL);
	if (strcmp(name, "timerfd_settime") == 0)
		return set_timerfd(CLOCK_REALTIME, TFD_TIMER_ABSTIME);
	if (strcmp(name, "timerfd_settime-monotonic") == 0)
		return set_timerfd(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME);
	if (strcmp(name, "timerfd_settime-relative") == 0)
		return set_timerfd(CLOCK_REALTIME, 0);
	if (strcmp(name, "timer_settime") == 0)
		return set_timer(CLOCK_REALTIME, TIMER_ABSTIME);
	if (strcmp(name, "timer_settime-monotonic") == 0)
		return set_timer(CLOCK_MONOTONIC, TIMER_ABSTIME);
	if (strcmp(name, "timer_settime-relative") == 0)
		return set_timer(CLOCK_REALTIME, 0);
	if (strcmp(name, "mq_timedreceive") == 0)
		return wait_queue(0);
	if (strcmp(name, "mq_timedsend") == 0)
		return wait_queue(1);
	return 2;
}

static void *three_times(void *name)
{
	int failed = 0;

	for (int i = 0; i < 3; i++)
		failed |= call(name);
	return failed ? name : NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];
	void *failed, *any = NULL;

	if (argc != 2)
		return 2;
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, three_times, argv[1]);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], &failed);
		any = failed != NULL ? failed : any;
	}
	return any != NULL;
}
