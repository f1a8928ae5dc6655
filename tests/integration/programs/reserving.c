/*
 * A library to preload, with a getrandom as glibc has it from 2.41 on: a call takes its thread's state in hand, works with the
 * vDSO, and puts it back; while it is taken, as in a signal handler, a call goes to the kernel. The vDSO's part is played by
 * its clock_gettime, which every kernel has.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static atomic_flag taken = ATOMIC_FLAG_INIT;

ssize_t getrandom(void *buffer, size_t size, unsigned int flags)
{
	struct timespec now;
	ssize_t ret;

	if (atomic_flag_test_and_set(&taken))
		return syscall(SYS_getrandom, buffer, size, flags);
	ret = clock_gettime(CLOCK_MONOTONIC, &now) == 0 ? (ssize_t)size : -1;
	atomic_flag_clear(&taken);
	return ret;
}
