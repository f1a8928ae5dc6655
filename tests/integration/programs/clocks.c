/* Prints what each way of reading a clock says. As "clocks exec COMMAND..." it then becomes that command. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void print_clock(const char *name, clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) == 0)
		printf("%s %lld.%09ld\n", name, (long long)ts.tv_sec, ts.tv_nsec);
}

int main(int argc, char **argv)
{
	struct timeval tv;
	time_t stored;

	print_clock("wall", CLOCK_REALTIME);
	print_clock("coarse", CLOCK_REALTIME_COARSE);
	print_clock("tai", CLOCK_TAI);
	print_clock("monotonic", CLOCK_MONOTONIC);
	print_clock("monotonic", CLOCK_MONOTONIC_COARSE);
	print_clock("boottime", CLOCK_BOOTTIME);
	printf("wall %lld\n", (long long)time(&stored));
	printf("wall %lld\n", (long long)stored);
	gettimeofday(&tv, NULL);
	printf("wall %lld.%06ld\n", (long long)tv.tv_sec, (long)tv.tv_usec);
	fflush(stdout);
	if (argc > 2 && strcmp(argv[1], "exec") == 0) {
		execvp(argv[2], argv + 2);
		return 1;
	}
	return 0;
}
