/*
 * A child that reads the clock, left alone by its tracer with the next instruction that of a jump in the vDSO, or with a signal
 * handler to return to it. Prints the child's process id; at the first line of its standard input brings it there and prints
 * where it is, from the vDSO's first byte; at the second lets it go on, and prints "rightly" when every reading was in order.
 *
 *   standing thread|frame|aside|nested      aside: the handler has a stack of its own; nested: another one, called in it, has
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READINGS 1000
#define STEPS 100000
#define IMAGE 8192u

static int begin[2], go_on[2], nested;

static void handle(int signal)
{
	char byte;

	if (signal == SIGUSR1 && nested)
		raise(SIGUSR2);
	else
		while (read(go_on[0], &byte, 1) != 1)
			;
}

static int run_child(int aside)
{
	static char stack[65536];
	stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_handler = handle, .sa_flags = aside ? SA_ONSTACK : 0}, inner = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
	int64_t last = 0;
	char byte;

	sigaltstack(&alternative, NULL);
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &inner, NULL);
	while (read(begin[0], &byte, 1) != 1)
		;
	for (int i = 0; i < READINGS; i++) {
		struct timespec ts = {-1, -1};
		int64_t now;

		if (clock_gettime(CLOCK_MONOTONIC, &ts) != 0 || ts.tv_nsec < 0 || ts.tv_nsec >= 1000000000)
			return 1;
		now = ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
		if (now < last)
			return 2;
		last = now;
	}
	return 0;
}

static uint64_t rip_of(pid_t pid)
{
	struct user_regs_struct regs;
	struct iovec iov = {&regs, sizeof(regs)};

	return ptrace(PTRACE_GETREGSET, pid, (long)NT_PRSTATUS, &iov) == 0 ? regs.rip : 0;
}

/* Steps it to a long jump in the vDSO, by way of whatever leads there. Its place in the vDSO; 0: there was none. */
static uint64_t step_to_jump(pid_t pid, uint64_t image)
{
	int status;

	for (int i = 0; i < STEPS; i++) {
		uint64_t rip = rip_of(pid);

		if (rip - image < IMAGE && (ptrace(PTRACE_PEEKTEXT, pid, rip, 0L) & 0xff) == 0xe9)
			return rip - image;
		if (ptrace(PTRACE_SINGLESTEP, pid, 0L, 0L) != 0 || waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status))
			return 0;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "thread";
	uint64_t image = getauxval(AT_SYSINFO_EHDR), at;
	int status;
	char line[16];
	pid_t pid;

	nested = strcmp(how, "nested") == 0;
	if (pipe(begin) != 0 || pipe(go_on) != 0)
		return 1;
	pid = fork();
	if (pid == 0)
		_exit(run_child(strcmp(how, "aside") == 0));
	printf("%d\n", (int)pid);
	fflush(stdout);
	if (fgets(line, sizeof(line), stdin) == NULL)
		return 1;
	if (ptrace(PTRACE_SEIZE, pid, 0L, 0L) != 0 || ptrace(PTRACE_INTERRUPT, pid, 0L, 0L) != 0 || waitpid(pid, &status, __WALL) != pid)
		return 1;
	if (write(begin[1], "", 1) != 1)
		return 1;
	at = step_to_jump(pid, image);
	if (ptrace(PTRACE_DETACH, pid, 0L, strcmp(how, "thread") == 0 ? (long)SIGSTOP : (long)SIGUSR1) != 0)
		return 1;
	printf("%llx\n", (unsigned long long)at);
	fflush(stdout);
	if (fgets(line, sizeof(line), stdin) == NULL)
		return 1;
	if (write(go_on[1], "", 1) != 1 || kill(pid, SIGCONT) != 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		printf("rightly\n");
	else
		printf("ended with status %x\n", status);
	return 0;
}
