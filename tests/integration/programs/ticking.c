/*
 * Prints the time for each line that it reads. What the line says: "fork" does so in a child, "exec" in one that has exec'd
 * this program, "sum" prints a sum of the bytes of the vDSO instead.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void print_clocks(void)
{
	struct timespec real, monotonic;

	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	printf("wall %ld.%09ld monotonic %ld.%09ld\n", (long)real.tv_sec, real.tv_nsec, (long)monotonic.tv_sec, monotonic.tv_nsec);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc > 1) {
		print_clocks();
		return 0;
	}
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strcmp(line, "sum\n") == 0) {
			const unsigned char *image = (const unsigned char *)getauxval(AT_SYSINFO_EHDR);
			unsigned long sum = 0;

			for (unsigned i = 0; i < 8192; i++)
				sum = sum * 31 + image[i];
			printf("sum %lu\n", sum);
			fflush(stdout);
			continue;
		}
		if (strcmp(line, "fork\n") != 0 && strcmp(line, "exec\n") != 0) {
			print_clocks();
			continue;
		}
		if (fork() == 0) {
			if (strcmp(line, "exec\n") == 0)
				execl("/proc/self/exe", argv[0], "once", (char *)NULL);
			print_clocks();
			_exit(0);
		}
		wait(NULL);
	}
	return 0;
}
