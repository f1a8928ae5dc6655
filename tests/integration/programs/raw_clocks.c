/* Each clock by the C library and by a system call of the program's own: its name, and by how many whole seconds the second
 * is ahead of the first. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const struct {
	const char *name;
	clockid_t id;
} clocks[] = {{"realtime", 0}, {"coarse", 5}, {"tai", 11}, {"monotonic", 1}, {"raw", 4}, {"boottime", 7}};

int main(void)
{
	struct timespec libc, own;
	struct timeval tv;
	struct timezone zone;
	long seconds;

	for (unsigned i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
		clock_gettime(clocks[i].id, &libc);
		if (syscall(SYS_clock_gettime, clocks[i].id, &own) != 0)
			return 1;
		printf("%s %ld\n", clocks[i].name, (long)(own.tv_sec - libc.tv_sec));
	}
	clock_gettime(CLOCK_REALTIME, &libc);
	if (syscall(SYS_gettimeofday, &tv, &zone) != 0 || tv.tv_usec < 0 || tv.tv_usec > 999999)
		return 2;
	printf("gettimeofday %ld\n", (long)(tv.tv_sec - libc.tv_sec));
	if (syscall(SYS_time, &seconds) != seconds)
		return 3;
	printf("time %ld\n", seconds - (long)libc.tv_sec);
	/* What is no clock, no memory, or not to be moved, is the kernel's to answer. */
	if (syscall(SYS_clock_gettime, 99, &own) != -1 || errno != EINVAL)
		return 4;
	if (syscall(SYS_clock_gettime, 0, (void *)8) != -1 || errno != EFAULT)
		return 5;
	return syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, &own) != 0 ? 6 : 0;
}
