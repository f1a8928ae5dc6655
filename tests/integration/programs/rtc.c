/*
 * Asks /dev/null, which is no real-time clock, for what sets one, as each kind of program does, and prints of each request
 * the errno: ENOTTY where it got there. Then of one that only reads, and of another device's of no clock at all.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/rtc.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long by_interrupt(long number, long fd, long request, long argument)
{
	long ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "0"(number), "b"(fd), "c"(request), "d"(argument)
			 : "memory", "r8", "r9", "r10", "r11");
	return -ret;
}

static long by_syscall(long number, int fd, unsigned long request)
{
	return syscall(number, fd, request, 0) == -1 ? errno : 0;
}

int main(void)
{
	static const unsigned long requests[] = {RTC_SET_TIME, RTC_ALM_SET, RTC_WKALM_SET, RTC_EPOCH_SET, 0x4004700e};
	static const unsigned long others[] = {RTC_RD_TIME, FIONREAD};
	int fd = open("/dev/null", O_RDWR);

	for (unsigned i = 0; i < 5; i++) {
		printf("set %ld\n", by_syscall(SYS_ioctl, fd, requests[i]));
		printf("set,high %ld\n", by_syscall(SYS_ioctl, fd, requests[i] | 1ul << 40)); /* which the kernel cuts off */
		printf("set,x32 %ld\n", by_syscall(0x40000000 | 514, fd, requests[i]));
		printf("set,i386 %ld\n", by_interrupt(54, fd, (long)requests[i], 0));
	}
	for (unsigned i = 0; i < 2; i++)
		printf("other %ld\n", by_syscall(SYS_ioctl, fd, others[i]));
	return 0;
}
