/*
 * until CALL SECONDS: says "waiting", waits in CALL for the time that its clock will have SECONDS from now, and prints the
 * errno that came of it (0: woken, or the time had come where that is no error), the host's ns that it took, and how many ns
 * the clock is past the deadline. The deadline itself, and registers that a system call keeps, must be as they were.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static long long ns_of(const struct timespec *t)
{
	return t->tv_sec * 1000000000LL + t->tv_nsec;
}

/* By the system call: no session scales it. */
static long long host_ns(void)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return ns_of(&now);
}

static long long clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return ns_of(&now);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition;
static sem_t semaphore;
static int word;

static int wait_condition(const struct timespec *at, clockid_t clock)
{
	pthread_condattr_t attributes;
	int ret;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, clock);
	pthread_cond_init(&condition, &attributes);
	pthread_mutex_lock(&mutex);
	ret = pthread_cond_timedwait(&condition, &mutex, at);
	pthread_mutex_unlock(&mutex);
	return ret;
}

static void *own(void *mine)
{
	pthread_mutex_lock(mine);
	pause();
	return NULL;
}

static int wait_mutex(const struct timespec *at, int protocol)
{
	pthread_mutexattr_t attributes;
	static pthread_mutex_t owned;
	pthread_t owner;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, protocol);
	pthread_mutex_init(&owned, &attributes);
	pthread_create(&owner, NULL, own, &owned);
	while (pthread_mutex_trylock(&owned) == 0) {
		pthread_mutex_unlock(&owned);
		usleep(1000);
	}
	return pthread_mutex_timedlock(&owned, at);
}

/* With every register that the call keeps known before and looked at afterwards. */
static long raw_futex(int op, const struct timespec *at, unsigned bits)
{
	unsigned long kept[6] = {(unsigned long)&word, (unsigned)op, 0, (unsigned long)at, 0x1234567887654321, bits}, after[6];
	unsigned long callee = 0x0123456789abcdef, red_zone_free;
	long ret;

	__asm__ volatile("sub $256, %%rsp\n"
			 "push %%rbx\n push %%r12\n push %%r13\n push %%rbp\n"
			 "mov %[kept], %%rbx\n mov %[after], %%r12\n mov %[callee], %%r13\n mov %[callee], %%rbp\n"
			 "mov %%r13, -8(%%rsp)\n mov %%r13, -64(%%rsp)\n mov %%r13, -128(%%rsp)\n"
			 "mov 0(%%rbx), %%rdi\n mov 8(%%rbx), %%rsi\n mov 16(%%rbx), %%rdx\n mov 24(%%rbx), %%r10\n"
			 "mov 32(%%rbx), %%r8\n mov 40(%%rbx), %%r9\n mov $202, %%eax\n syscall\n"
			 "mov %%rdi, 0(%%r12)\n mov %%rsi, 8(%%r12)\n mov %%rdx, 16(%%r12)\n mov %%r10, 24(%%r12)\n"
			 "mov %%r8, 32(%%r12)\n mov %%r9, 40(%%r12)\n"
			 "xor %%r13, %%rbp\n mov -8(%%rsp), %%rcx\n xor %%r13, %%rcx\n or %%rcx, %%rbp\n"
			 "mov -64(%%rsp), %%rcx\n xor %%r13, %%rcx\n or %%rcx, %%rbp\n"
			 "mov -128(%%rsp), %%rcx\n xor %%r13, %%rcx\n or %%rcx, %%rbp\n mov %%rbp, %%rcx\n"
			 "pop %%rbp\n pop %%r13\n pop %%r12\n pop %%rbx\n"
			 "add $256, %%rsp\n"
			 : "=a"(ret), "=c"(red_zone_free)
			 : [kept] "r"(kept), [after] "r"(after), [callee] "r"(callee)
			 : "rdi", "rsi", "rdx", "r8", "r9", "r10", "r11", "memory");
	if (red_zone_free != 0 || memcmp(kept, after, sizeof(kept)) != 0) {
		printf("registers or red zone changed\n");
		exit(9);
	}
	return ret;
}

static int wait_waitv(const struct timespec *at)
{
	struct {
		unsigned long value, address;
		unsigned flags, reserved;
	} waiters[2] = {{0, (unsigned long)&word, 2 | 128, 0}, {0, (unsigned long)&word, 2 | 128, 0}};

	return syscall(449, waiters, 2, 0, at, CLOCK_REALTIME) < 0 ? errno : 0;
}

static int wait_timerfd(const struct timespec *at, clockid_t clock)
{
	struct itimerspec setting = {.it_value = *at}, old;
	int fd = timerfd_create(clock, 0);
	unsigned long long count = 0;

	if (timerfd_settime(fd, TFD_TIMER_ABSTIME, &setting, &old) != 0)
		return errno;
	return read(fd, &count, sizeof(count)) == sizeof(count) && count == 1 ? 0 : 99;
}

static int wait_timer(const struct timespec *at, clockid_t clock)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec setting = {.it_value = *at};
	sigset_t set;
	timer_t timer;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (timer_create(clock, &event, &timer) != 0 || timer_settime(timer, TIMER_ABSTIME, &setting, NULL) != 0)
		return errno;
	return sigwait(&set, &number);
}

static int wait_queue(const struct timespec *at)
{
	struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 1};
	char name[64], byte = 0;
	mqd_t queue;

	snprintf(name, sizeof(name), "/vdso-until-%d", (int)getpid());
	queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
	if (queue < 0)
		return 99;
	mq_unlink(name);
	return mq_timedreceive(queue, &byte, 1, NULL, at) < 0 ? errno : 0;
}

/* Where main() goes on, and whether a handler in the middle of the wait finds it by unwinding. */
static void *way_home;
static int found_home;

static void handler(int signal)
{
	void *frame[32];
	int count = backtrace(frame, 32);

	(void)signal;
	for (int i = 0; i < count; i++)
		found_home |= frame[i] == way_home;
}

static void *post(void *ignored)
{
	(void)ignored;
	usleep(200000);
	sem_post(&semaphore);
	return NULL;
}

static int cleaned;

static void clean(void *ignored)
{
	(void)ignored;
	cleaned++;
	pthread_mutex_unlock(&mutex);
}

static void *cancelled(void *at)
{
	pthread_mutex_lock(&mutex);
	pthread_cleanup_push(clean, NULL);
	for (;;)
		pthread_cond_timedwait(&condition, &mutex, at);
	pthread_cleanup_pop(1);
	return NULL;
}

static int cancel(struct timespec *at)
{
	pthread_t thread;
	void *ret;

	pthread_cond_init(&condition, NULL);
	pthread_create(&thread, NULL, cancelled, at);
	usleep(200000);
	pthread_cancel(thread);
	pthread_join(thread, &ret);
	return ret == PTHREAD_CANCELED && cleaned == 1 && pthread_mutex_trylock(&mutex) == 0 ? 0 : 99;
}

static int interrupted(const struct timespec *at)
{
	struct sigaction action = {.sa_handler = handler};

	void *loaded[1];
	int ret;

	backtrace(loaded, 1); /* which loads libgcc: not in the handler */
	sigaction(SIGALRM, &action, NULL);
	ualarm(200000, 0);
	ret = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, at, NULL);
	return found_home ? ret : 99;
}

static __attribute__((noinline)) int call(const char *name, struct timespec *at, clockid_t clock)
{
	pthread_t thread;

	way_home = __builtin_return_address(0);
	if (strncmp(name, "cond", 4) == 0)
		return wait_condition(at, clock);
	if (strcmp(name, "mutex") == 0)
		return wait_mutex(at, PTHREAD_PRIO_NONE);
	if (strcmp(name, "pi-mutex") == 0)
		return wait_mutex(at, PTHREAD_PRIO_INHERIT);
	if (strcmp(name, "sem") == 0)
		return sem_timedwait(&semaphore, at) != 0 ? errno : 0;
	if (strcmp(name, "woken") == 0) {
		pthread_create(&thread, NULL, post, NULL);
		return sem_timedwait(&semaphore, at) != 0 ? errno : 0;
	}
	if (strcmp(name, "futex") == 0)
		return (int)-raw_futex(FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, at, ~0u);
	if (strcmp(name, "futex-bits") == 0)
		return (int)-raw_futex(FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, at, 6);
	if (strcmp(name, "futex-differs") == 0) {
		word = 1;
		return (int)-raw_futex(FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, at, ~0u);
	}
	if (strcmp(name, "waitv") == 0)
		return wait_waitv(at);
	if (strncmp(name, "nanosleep", 9) == 0)
		return clock_nanosleep(clock, TIMER_ABSTIME, at, NULL);
	if (strncmp(name, "timerfd", 7) == 0)
		return wait_timerfd(at, clock);
	if (strncmp(name, "timer", 5) == 0)
		return wait_timer(at, clock);
	if (strcmp(name, "queue") == 0)
		return wait_queue(at);
	if (strcmp(name, "cancel") == 0)
		return cancel(at);
	if (strcmp(name, "interrupted") == 0)
		return interrupted(at);
	return 98;
}

int main(int argc, char **argv)
{
	clockid_t clock = argc > 1 && strstr(argv[1], "-tai") != NULL ? CLOCK_TAI :
			  argc > 1 && strstr(argv[1], "-monotonic") != NULL ? CLOCK_MONOTONIC :
			  argc > 1 && strstr(argv[1], "-boottime") != NULL ? CLOCK_BOOTTIME : CLOCK_REALTIME;
	struct timespec at, before;
	long long ns, began;
	int error;

	if (argc != 3)
		return 2;
	sem_init(&semaphore, 0, 0);
	printf("waiting\n");
	fflush(stdout);
	ns = clock_ns(clock) + (long long)(atof(argv[2]) * 1e9);
	if (ns < 0)
		ns = 0;
	before = at = (struct timespec){ns / 1000000000, ns % 1000000000};
	began = host_ns();
	error = call(argv[1], &at, clock);
	printf("%d %lld %lld\n", error, host_ns() - began, clock_ns(clock) - ns);
	return memcmp(&at, &before, sizeof(at)) != 0;
}
