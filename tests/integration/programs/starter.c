/*
 * Starts a command in one of the ways in which programs do:
 *
 *   starter exec COMMAND...    becomes it; if there is none, prints "errno N" and the time
 *   starter thread COMMAND...  becomes it from a thread that is not the leader, while others run
 *   starter vfork COMMAND...   twice, each by vfork
 *   starter spawn COMMAND...   by posix_spawn
 *   starter many N COMMAND...  N children at once
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void *exec_here(void *argument)
{
	char **argv = argument;

	execvp(argv[0], argv);
	_exit(1);
}

static void *stay(void *argument)
{
	(void)argument;
	pause();
	return NULL;
}

static int from_thread(char **argv)
{
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, stay, NULL);
	pthread_create(&thread, NULL, exec_here, argv);
	pause();
	return 1;
}

static int wait_for(int children)
{
	int failed = 0, status;

	for (; children > 0; children--)
		if (wait(&status) < 0 || status != 0)
			failed++;
	return failed != 0;
}

int main(int argc, char **argv)
{
	const char *how = argc > 2 ? argv[1] : "";
	pid_t child;

	if (strcmp(how, "exec") == 0) {
		execvp(argv[2], argv + 2);
		printf("errno %d\nwall %lld\n", errno, (long long)time(NULL));
		return 0;
	}
	if (strcmp(how, "thread") == 0)
		return from_thread(argv + 2);
	if (strcmp(how, "vfork") == 0) {
		for (int i = 0; i < 2; i++) {
			child = vfork();
			if (child == 0) {
				execvp(argv[2], argv + 2);
				_exit(1);
			}
		}
		return wait_for(2);
	}
	if (strcmp(how, "spawn") == 0)
		return posix_spawnp(&child, argv[2], NULL, NULL, argv + 2, environ) != 0 || wait_for(1);
	if (strcmp(how, "many") == 0 && argc > 3) {
		int count = atoi(argv[2]);

		for (int i = 0; i < count; i++)
			if (fork() == 0) {
				execvp(argv[3], argv + 3);
				_exit(1);
			}
		return wait_for(count);
	}
	return 2;
}
