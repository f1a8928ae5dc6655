/* threads COUNT idle|busy: that many threads wait, or read the clock flat out, until the standard input ends. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int busy;

static void *run(void *unused)
{
	struct timespec now;

	(void)unused;
	while (busy)
		clock_gettime(CLOCK_REALTIME, &now);
	pause();
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char byte;

	busy = argc > 2 && strcmp(argv[2], "busy") == 0;
	for (int i = 1; i < atoi(argv[1]); i++) /* the first thread is one of them */
		pthread_create(&thread, NULL, run, NULL);
	puts("ready");
	fflush(stdout);
	return read(0, &byte, 1) != 0;
}
