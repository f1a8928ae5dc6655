/* A library that takes clock_gettime from the C library: with SLOW defined, by making it a system call. gcc -shared. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef int clock_function(clockid_t id, struct timespec *now);

static clock_function *next;

__attribute__((constructor)) static void find(void)
{
	next = (clock_function *)dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t id, struct timespec *now)
{
#ifdef SLOW
	return (int)syscall(SYS_clock_gettime, id, now);
#else
	return next != NULL ? next(id, now) : (int)syscall(SYS_clock_gettime, id, now);
#endif
}
