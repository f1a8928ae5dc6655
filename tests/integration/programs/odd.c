/*
 * A process that is hard to attach to, in the way that the word says; ends with its standard input.
 *
 *   vfork      its thread stands behind a vfork until a line is read, by the child
 *   clone      another process has the same address space, until a line is read
 *   zombie     its child has ended, whose id it prints
 *   leader     its first thread has ended, and another prints the time for each line
 *   seccomp    it ends itself if it makes the calls that attaching takes
 *   one-filter, two-filters  one of two threads has a seccomp filter, or each another; without privilege
 *   one-able   one of two threads has all privileges, and the other none
 *   sealed     its vDSO is sealed, as far as the kernel can; prints the time for each line
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NR_MSEAL 462

static void say(const char *word)
{
	printf("%s\n", word);
	fflush(stdout);
}

static int read_line(void)
{
	char byte;

	while (read(0, &byte, 1) == 1)
		if (byte == '\n')
			return 1;
	return 0;
}

static void *print_clocks(void *unused)
{
	struct timespec ts;

	(void)unused;
	while (read_line()) {
		clock_gettime(CLOCK_REALTIME, &ts);
		printf("wall %ld.%09ld\n", (long)ts.tv_sec, ts.tv_nsec);
		fflush(stdout);
	}
	exit(0);
}

static int in_child(void *unused)
{
	(void)unused;
	read_line();
	_exit(0);
}

/* Refuses one call, whose number is: another filter for each. */
static void refuse(unsigned number)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		exit(1);
}

/* Of this thread alone: the C library would have all do it. */
static void give_up_privilege(void)
{
	if (syscall(SYS_setresuid, 65534, 65534, 65534) != 0)
		exit(1);
}

static pthread_barrier_t both;

static void *be_other(void *how)
{
	if (strcmp(how, "two-filters") == 0)
		refuse(SYS_acct);
	if (strcmp(how, "one-able") != 0)
		give_up_privilege();
	pthread_barrier_wait(&both);
	pause();
	return NULL;
}

static void forbid(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socketpair, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		exit(1);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	char *image = (char *)getauxval(AT_SYSINFO_EHDR);
	static char stack[65536] __attribute__((aligned(16)));
	pthread_t thread;
	char line[32];
	pid_t child;

	if (strcmp(how, "vfork") == 0) {
		say("ready");
		child = vfork();
		if (child == 0)
			in_child(NULL);
	} else if (strcmp(how, "clone") == 0) {
		clone(in_child, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
		say("ready");
		wait(NULL);
	} else if (strcmp(how, "zombie") == 0) {
		child = fork();
		if (child == 0)
			_exit(0);
		waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED | WNOWAIT);
		snprintf(line, sizeof(line), "ready %d", (int)child);
		say(line);
	} else if (strcmp(how, "leader") == 0) {
		pthread_create(&thread, NULL, print_clocks, NULL);
		say("ready");
		pthread_exit(NULL);
	} else if (strcmp(how, "seccomp") == 0) {
		forbid();
		say("ready");
	} else if (strcmp(how, "one-filter") == 0 || strcmp(how, "two-filters") == 0 || strcmp(how, "one-able") == 0) {
		pthread_barrier_init(&both, NULL, 2);
		pthread_create(&thread, NULL, be_other, (void *)how);
		if (strcmp(how, "one-able") != 0)
			refuse(SYS_swapon);
		give_up_privilege();
		pthread_barrier_wait(&both);
		say("ready");
	} else if (strcmp(how, "sealed") == 0) {
		say(syscall(NR_MSEAL, image, 8192, 0) == 0 ? "ready" : strerror(errno));
	}
	print_clocks(NULL);
	return 0;
}
