#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

int vdso_memory_open(pid_t tid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)tid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int vdso_memory_read(int mem, void *bytes, size_t size, uint64_t at)
{
	ssize_t got = pread(mem, bytes, size, (off_t)at);

	return got == (ssize_t)size ? 0 : got < 0 ? -errno : -EFAULT;
}

/* Word by word: for kernels that let nobody write over what is mapped read-only by /proc/PID/mem. */
static int poke_all(pid_t tid, const void *bytes, size_t size, uint64_t at)
{
	for (size_t done = 0; done < size; done += sizeof(long)) {
		size_t part = size - done < sizeof(long) ? size - done : sizeof(long);
		long word = 0;

		errno = 0;
		if (part < sizeof(long))
			word = ptrace(PTRACE_PEEKDATA, tid, at + done, 0L);
		if (errno != 0)
			return -errno;
		memcpy(&word, (const char *)bytes + done, part);
		if (ptrace(PTRACE_POKEDATA, tid, at + done, word) != 0)
			return -errno;
	}
	return 0;
}

int vdso_memory_write(pid_t tid, int mem, const void *bytes, size_t size, uint64_t at)
{
	if (pwrite(mem, bytes, size, (off_t)at) == (ssize_t)size)
		return 0;
	return poke_all(tid, bytes, size, at);
}
