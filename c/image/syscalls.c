#include "syscalls.h"

#include "arch.h"
#include "process.h"
#include "wait.h"

ARCH_WAIT;

/* The mark tells a filter that a reading is the image's own, which will move it by itself. */
int call_clock_gettime(int id, void *ts)
{
	return (int)arch_syscall(ARCH_NR_CLOCK_GETTIME, id, (long)ts, 0, 0, 0, (long)VDSO_MARK);
}

int call_gettimeofday(void *tv, void *tz)
{
	return (int)arch_syscall(ARCH_NR_GETTIMEOFDAY, (long)tv, (long)tz, 0, 0, 0, (long)VDSO_MARK);
}

int64_t call_time(int64_t *t)
{
	return arch_syscall(ARCH_NR_TIME, (long)t, 0, 0, 0, 0, (long)VDSO_MARK);
}

long call_getcpu(unsigned *cpu, unsigned *node, void *unused)
{
	return arch_syscall(ARCH_NR_GETCPU, (long)cpu, (long)node, (long)unused, 0, 0, 0);
}

int call_clock_getres(int id, void *ts)
{
	return (int)arch_syscall(ARCH_NR_CLOCK_GETRES, id, (long)ts, 0, 0, 0, 0);
}

long call_nothing(void)
{
	return -38; /* ENOSYS */
}
