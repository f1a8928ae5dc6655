#include "observe.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "area.h"
#include "vsyscall.h"

#ifndef CLOCK_TAI
#define CLOCK_TAI 11
#endif
#define PATIENCE_S 5 /* a call that does not come back by then never will */

enum call {
	CALL_CLOCK_GETTIME,
	CALL_GETTIMEOFDAY,
	CALL_TIME,
	CALL_SCHED_GETCPU,
	CALL_GETCPU,
	CALL_CLOCK_GETRES,
	CALL_GETRANDOM,
	CALL_GETPID,
};

static const struct plan {
	const char *name;
	enum call call;
	int clock;
} plans[] = {
	{"clock_gettime", CALL_CLOCK_GETTIME, CLOCK_REALTIME},
	{"clock_gettime", CALL_CLOCK_GETTIME, CLOCK_MONOTONIC},
	{"clock_gettime", CALL_CLOCK_GETTIME, CLOCK_MONOTONIC_RAW},
	{"clock_gettime", CALL_CLOCK_GETTIME, CLOCK_BOOTTIME},
	{"clock_gettime", CALL_CLOCK_GETTIME, CLOCK_TAI},
	{"clock_gettime", CALL_CLOCK_GETTIME, CLOCK_REALTIME_COARSE},
	{"clock_gettime", CALL_CLOCK_GETTIME, CLOCK_MONOTONIC_COARSE},
	{"clock_gettime", CALL_CLOCK_GETTIME, CLOCK_PROCESS_CPUTIME_ID},
	{"clock_gettime", CALL_CLOCK_GETTIME, CLOCK_THREAD_CPUTIME_ID},
	{"gettimeofday", CALL_GETTIMEOFDAY, -1},
	{"time", CALL_TIME, -1},
	{"clock_getres", CALL_CLOCK_GETRES, CLOCK_MONOTONIC},
	{"sched_getcpu", CALL_SCHED_GETCPU, -1},
#ifdef __GLIBC__ /* musl has the other one only */
	{"getcpu", CALL_GETCPU, -1},
#endif
	{"getrandom", CALL_GETRANDOM, -1},
	{"getpid", CALL_GETPID, -1}, /* which no vDSO serves, and a C library may have remembered */
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))
_Static_assert(PLANS <= VDSO_OBSERVED_MAX, "every plan has its place");

static const struct {
	int number;
	const char *name;
} trapped[] = {
	{SYS_clock_gettime, "clock_gettime"},
	{SYS_gettimeofday, "gettimeofday"},
	{SYS_clock_getres, "clock_getres"},
	{SYS_getcpu, "getcpu"},
	{SYS_getrandom, "getrandom"},
	{SYS_getpid, "getpid"},
#ifdef SYS_time
	{SYS_time, "time"},
#endif
};
enum { TRAPPED = sizeof(trapped) / sizeof(trapped[0]) };

const char *vdso_observed_name(int number)
{
	for (unsigned i = 0; i < TRAPPED; i++)
		if (trapped[i].number == number)
			return trapped[i].name;
	return NULL;
}

/* The child's own, in which there is one thread: handlers have no other way to what they must know. */
static struct {
	struct vdso_observed *now; /* the call being made */
	uintptr_t image;
	uintptr_t image_end;
	uintptr_t begin; /* the pages whose permissions are changed */
	size_t size;
	sigjmp_buf back;
} child;

static void make(const struct plan *plan)
{
	struct timespec ts;
	struct timeval tv;
	char byte;

	switch (plan->call) {
	case CALL_CLOCK_GETTIME:
		clock_gettime(plan->clock, &ts);
		break;
	case CALL_GETTIMEOFDAY:
		gettimeofday(&tv, NULL);
		break;
	case CALL_TIME:
		time(NULL);
		break;
	case CALL_SCHED_GETCPU:
		sched_getcpu();
		break;
	case CALL_GETCPU: {
#ifdef __GLIBC__
		unsigned cpu, node;

		getcpu(&cpu, &node);
#endif
		break;
	}
	case CALL_CLOCK_GETRES:
		clock_getres(plan->clock, &ts);
		break;
	case CALL_GETRANDOM:
		if (getrandom(&byte, 1, 0) != 1)
			return;
		break;
	case CALL_GETPID:
		getpid();
		break;
	}
}

static bool in_image(uintptr_t address)
{
	return address >= child.image && address < child.image_end;
}

/* A call into the vDSO, which may not be executed just now. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	if (!in_image((uintptr_t)info->si_addr))
		_exit(1);
	child.now->vdso = 1;
	/* The call goes on, and ends as it would have: cut short, it would leave behind what its caller has in hand, such as
	 * glibc's state for getrandom (from 2.41 on), without which its next call is another. */
	if (mprotect((void *)child.begin, child.size, PROT_READ | PROT_EXEC) != 0)
		_exit(1);
}

/* A system call, which was not made. */
static void on_syscall(int signal, siginfo_t *info, void *context)
{
	uintptr_t from = (uintptr_t)info->si_call_addr;

	(void)signal;
	(void)context;
	if (child.now->caller == VDSO_CALLER_NOBODY) {
		child.now->number = info->si_syscall;
		child.now->caller = in_image(from)                              ? VDSO_CALLER_VDSO
				    : from - VDSO_VSYSCALL_ADDRESS < VDSO_VSYSCALL_BYTES ? VDSO_CALLER_VSYSCALL
									    : VDSO_CALLER_LIBRARY;
	}
	siglongjmp(child.back, 1);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigemptyset(&action.sa_mask);
	sigaction(signal, &action, NULL);
}

/* Traps the calls that are looked at and nothing else: whatever the child needs besides goes on. */
static int install_filter(void)
{
	struct sock_filter filter[TRAPPED + 3];
	struct sock_fprog program = {.len = TRAPPED + 3, .filter = filter};

	filter[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < TRAPPED; i++)
		filter[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)trapped[i].number,
							   TRAPPED - i, 0);
	filter[TRAPPED + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	filter[TRAPPED + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		return -errno;
	return 0;
}

/* Makes the call and is back from it, also when a handler has cut it short. No local of a caller's is at stake. */
static __attribute__((noinline)) void attempt(const struct plan *plan)
{
	if (sigsetjmp(child.back, 1) == 0)
		make(plan);
}

/* Each call once without the vDSO's permission to execute, which the fault gives back. */
static void see_vdso(struct vdso_observed *ret)
{
	for (unsigned i = 0; i < PLANS; i++) {
		child.now = &ret[i];
		ret[i].vdso = child.size != 0 ? -1 : 0;
		if (child.size == 0 || mprotect((void *)child.begin, child.size, PROT_READ) != 0)
			continue;
		ret[i].vdso = 0;
		attempt(&plans[i]);
		if (mprotect((void *)child.begin, child.size, PROT_READ | PROT_EXEC) != 0)
			_exit(1);
	}
}

/* Each call once under the filter. */
static int see_kernel(struct vdso_observed *ret)
{
	int error = install_filter();

	if (error != 0)
		return error;
	for (unsigned i = 0; i < PLANS; i++) {
		child.now = &ret[i];
		ret[i].caller = VDSO_CALLER_NOBODY;
		attempt(&plans[i]);
	}
	return 0;
}

struct report {
	int32_t error; /* negative errno of the filter; 1: not got so far */
	struct vdso_observed calls[VDSO_OBSERVED_MAX];
};

enum pass { PASS_VDSO, PASS_KERNEL };

static void __attribute__((noreturn)) observe_in_child(struct report *report, const struct vdso_area *area, enum pass pass)
{
	sigset_t none;

	child.image = getauxval(AT_SYSINFO_EHDR);
	child.image_end = child.image + area->image_size;
	child.begin = child.image;
	child.size = area->image_size;
	handle(SIGSEGV, on_fault);
	handle(SIGSYS, on_syscall);
	/* The caller's mask and timers are not ours; whoever hangs is ended. */
	signal(SIGALRM, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	alarm(PATIENCE_S);
	if (pass == PASS_VDSO)
		see_vdso(report->calls);
	else
		report->error = see_kernel(report->calls);
	_exit(0);
}

/* A child for each pass: what the first leaves behind in its C library is not the second's. */
static int observe_pass(struct report *report, const struct vdso_area *area, enum pass pass)
{
	pid_t pid = fork();

	if (pid == 0)
		observe_in_child(report, area, pass);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

int vdso_observe(struct vdso_observed ret[VDSO_OBSERVED_MAX])
{
	struct vdso_area area;
	struct report *report;
	int error = vdso_area_learn(&area);

	if (error != 0)
		return error;
	/* Mapped, and the C library does not know: none of its calls can be by it. */
	if (getauxval(AT_SYSINFO_EHDR) == 0)
		memset(&area, 0, sizeof(area));
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED)
		return -errno;
	report->error = 1;
	for (unsigned i = 0; i < PLANS; i++)
		report->calls[i] = (struct vdso_observed){plans[i].name, plans[i].clock, -1, -1, -1};
	error = observe_pass(report, &area, PASS_VDSO);
	if (error == 0)
		error = observe_pass(report, &area, PASS_KERNEL);
	if (error == 0 && report->error < 0)
		error = report->error;
	memcpy(ret, report->calls, sizeof(report->calls));
	munmap(report, sizeof(*report));
	return error != 0 ? error : (int)PLANS;
}
