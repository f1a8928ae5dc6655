/*
 * Tries to set the clock in each way that there is, and then becomes the command named, if any.
 *
 * Safe by construction: first come calls that set nothing and that only the filter answers with EPERM (without it: success,
 * EINVAL or EFAULT). Unless all of them are refused, nothing else is tried. Then CAP_SYS_TIME is dropped for good, so that
 * what follows could not set the clock even then.
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

static long by_interrupt(long number, void *first, void *second)
{
	long ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "0"(number), "b"(first), "c"(second)
			 : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

static int failed;

static void expect_refused(const char *call, long error)
{
	printf("%s %ld\n", call, error);
	failed |= error != EPERM;
}

static long error_of(long ret)
{
	return ret == -1 ? errno : 0;
}

static void ask(void)
{
	struct timex query = {.modes = 0};
	struct timespec now = {1000000000, 0};
	struct timeval bad = {1000000000, 1000001};

	expect_refused("ask adjtimex", error_of(syscall(SYS_adjtimex, &query)));
	expect_refused("ask clock_adjtime", error_of(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &query)));
	expect_refused("ask clock_settime", error_of(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &now)));
	expect_refused("ask settimeofday", error_of(syscall(SYS_settimeofday, &bad, NULL)));
	expect_refused("ask x32 settimeofday", error_of(syscall(SYS_settimeofday | 0x40000000, &bad, NULL)));
	expect_refused("ask stime, i386", -by_interrupt(25, NULL, NULL));
	expect_refused("ask settimeofday, i386", -by_interrupt(79, (void *)1, NULL));
	expect_refused("ask adjtimex, i386", -by_interrupt(124, NULL, NULL));
	expect_refused("ask clock_settime, i386", -by_interrupt(264, (void *)1, NULL));
	expect_refused("ask clock_adjtime, i386", -by_interrupt(343, NULL, NULL));
	expect_refused("ask clock_settime64, i386", -by_interrupt(404, (void *)1, NULL));
	expect_refused("ask clock_adjtime64, i386", -by_interrupt(405, NULL, NULL));
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
	if (syscall(SYS_capset, &header, data) != 0)
		return -1;
	/* And whatever it execs: not by the bounding set, then by this. */
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void set(void)
{
	struct timespec then = {1000000000, 0};
	struct timeval at = {1000000000, 0};
	struct timex offset = {.modes = ADJ_SETOFFSET, .time = {1, 0}};
	int *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	low[0] = 1000000000;
	low[1] = 0;
	expect_refused("clock_settime", error_of(clock_settime(CLOCK_REALTIME, &then)));
	expect_refused("settimeofday", error_of(settimeofday(&at, NULL)));
	expect_refused("adjtimex", error_of(adjtimex(&offset)));
	offset.modes = ADJ_SETOFFSET;
	expect_refused("clock_adjtime", error_of(clock_adjtime(CLOCK_REALTIME, &offset)));
	expect_refused("stime, i386", -by_interrupt(25, low, NULL));
	expect_refused("settimeofday, i386", -by_interrupt(79, low, NULL));
	expect_refused("clock_settime, i386", -by_interrupt(264, (void *)0, low));
}

int main(int argc, char **argv)
{
	ask();
	if (argc > 1 && strcmp(argv[1], "ask") == 0)
		return 0;
	if (failed || drop() != 0) {
		printf("nothing tried\n");
		return 9;
	}
	set();
	fflush(stdout);
	if (argc > 1) {
		execvp(argv[1], argv + 1);
		return 1;
	}
	return failed;
}
