/*
 * Reads MONOTONIC flat out by the system call itself, for as many ms as the word says; without one until its standard input ends,
 * after the line "ready".
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long read_ns(void)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv)
{
	long long end = read_ns() + (argc > 1 ? atoll(argv[1]) : 60000) * 1000000;
	struct pollfd input = {.fd = 0, .events = POLLIN};

	if (argc < 2) {
		puts("ready");
		fflush(stdout);
	}
	while (read_ns() < end) {
		for (int i = 0; i < 1000; i++)
			read_ns();
		if (argc < 2 && poll(&input, 1, 0) != 0)
			break;
	}
	return 0;
}
