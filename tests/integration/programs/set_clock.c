/*
 * set_clock [keep]: sets the clock in each way that there is, and prints of each: its name, the errno, and what the clock
 * says afterwards, in seconds.
 *
 * Safe by construction: unless told to keep it, it drops CAP_SYS_TIME for good before it tries anything, so that what
 * reached the kernel could not set the host's clock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static long by_interrupt(long number, const void *first, const void *second)
{
	long ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "0"(number), "b"(first), "c"(second)
			 : "memory", "r8", "r9", "r10", "r11");
	return ret < 0 ? -ret : 0; /* adjtimex answers with a state */
}

static void told(const char *call, long error)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	printf("%s %ld %lld\n", call, error, (long long)now.tv_sec);
}

static long error_of(long ret)
{
	return ret == -1 ? errno : 0;
}

static int drop(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];

	prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capget, &header, data) != 0)
		return -1;
	data[CAP_SYS_TIME / 32].effective &= ~(1u << CAP_SYS_TIME);
	data[CAP_SYS_TIME / 32].permitted &= ~(1u << CAP_SYS_TIME);
	data[CAP_SYS_TIME / 32].inheritable &= ~(1u << CAP_SYS_TIME);
	return (int)syscall(SYS_capset, &header, data);
}

/* As a 32-bit program lays them out, where it can reach them. */
struct narrow {
	int seconds[2], pair[2];
	long long wide[2];
	unsigned timex[32];
	struct timex wide_timex;
};

int main(int argc, char **argv)
{
	struct narrow *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	void *zeros = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct timex step = {.modes = ADJ_SETOFFSET, .time = {1000, 0}}, query = {0}, fine = {.modes = ADJ_NANO | ADJ_SETOFFSET};
	struct timespec bad = {1000000000, 1000000000}, negative = {-1, 0};
	struct timeval bad_tv = {1000000000, 1000001};
	struct timezone zone = {60, 0};

	if ((argc < 2 || strcmp(argv[1], "keep") != 0) && drop() != 0) {
		printf("nothing tried\n");
		return 9;
	}
	told("clock_settime", error_of(syscall(SYS_clock_settime, CLOCK_REALTIME, &(struct timespec){1000000000, 0})));
	told("settimeofday", error_of(syscall(SYS_settimeofday, &(struct timeval){1100000000, 0}, NULL)));
	told("settimeofday,x32", error_of(syscall(SYS_settimeofday | 0x40000000, &(struct timeval){1150000000, 0}, NULL)));
	told("adjtimex", error_of(syscall(SYS_adjtimex, &step)));
	fine.time.tv_sec = -2000;
	told("clock_adjtime", error_of(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &fine)));
	low->seconds[0] = 1200000000;
	told("stime,i386", by_interrupt(25, low->seconds, NULL));
	low->pair[0] = 1300000000;
	told("settimeofday,i386", by_interrupt(79, low->pair, NULL));
	low->pair[0] = 1400000000;
	told("clock_settime,i386", by_interrupt(264, NULL, low->pair));
	low->wide[0] = 1500000000;
	low->wide[1] = 0x7fffffff00000000;
	told("clock_settime64,i386", by_interrupt(404, NULL, low->wide));
	low->timex[0] = ADJ_SETOFFSET;
	low->timex[9] = 1000;
	low->timex[10] = 0; /* the answer before may be in ns */
	told("adjtimex,i386", by_interrupt(124, low->timex, NULL));
	low->timex[0] = ADJ_SETOFFSET;
	low->timex[9] = 1000;
	low->timex[10] = 0; /* the answer before may be in ns */
	told("clock_adjtime,i386", by_interrupt(343, NULL, low->timex));
	low->wide_timex = (struct timex){.modes = ADJ_SETOFFSET, .time = {1000, 0}};
	told("clock_adjtime64,i386", by_interrupt(405, NULL, &low->wide_timex));
	/* What is no time, no clock or no memory. */
	told("nsec", error_of(syscall(SYS_clock_settime, CLOCK_REALTIME, &bad)));
	told("negative", error_of(syscall(SYS_clock_settime, CLOCK_REALTIME, &negative)));
	told("usec", error_of(syscall(SYS_settimeofday, &bad_tv, NULL)));
	told("monotonic", error_of(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &(struct timespec){1000000000, 0})));
	told("pointer", error_of(syscall(SYS_clock_settime, CLOCK_REALTIME, (void *)8)));
	told("read-only", error_of(syscall(SYS_adjtimex, zeros)));
	told("zone", error_of(syscall(SYS_settimeofday, NULL, &zone)));
	/* Reading: what it says of the time, and of what it was told. */
	query = (struct timex){.modes = ADJ_FREQUENCY | ADJ_STATUS | ADJ_NANO, .freq = 100 << 16, .status = STA_PLL};
	told("tune", error_of(syscall(SYS_adjtimex, &query)));
	query = (struct timex){0};
	told("read", syscall(SYS_adjtimex, &query));
	printf("freq %ld %lld\n", (long)query.freq >> 16, (long long)query.time.tv_sec);
	printf("tick %ld %lld\n", (long)query.tick, (long long)query.time.tv_sec);
	return 0;
}
