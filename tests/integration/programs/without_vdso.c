/*
 * without_vdso PROGRAM [ARG...]: runs the program as a kernel booted with vdso=0 would, as far as it can tell: at the exec,
 * before its first instruction, AT_SYSINFO_EHDR is taken out of its auxiliary vector.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static uintptr_t peek(pid_t pid, uintptr_t at)
{
	errno = 0;

	uintptr_t word = (uintptr_t)ptrace(PTRACE_PEEKDATA, pid, at, 0);

	if (errno != 0) {
		perror("without_vdso: peek");
		_exit(99);
	}
	return word;
}

int main(int argc, char **argv)
{
	struct user_regs_struct registers;
	uintptr_t at;
	int status;
	pid_t pid;

	if (argc < 2)
		return 2;
	pid = fork();
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execvp(argv[1], argv + 1);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || ptrace(PTRACE_GETREGS, pid, 0, &registers) != 0) {
		fprintf(stderr, "without_vdso: cannot trace %s\n", argv[1]);
		return 99;
	}
	at = registers.rsp + 8 * (1 + peek(pid, registers.rsp) + 1);
	while (peek(pid, at) != 0)
		at += 8;
	for (at += 8; peek(pid, at) != AT_NULL; at += 16)
		if (peek(pid, at) == AT_SYSINFO_EHDR)
			ptrace(PTRACE_POKEDATA, pid, at, AT_IGNORE);
	ptrace(PTRACE_DETACH, pid, 0, 0);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
