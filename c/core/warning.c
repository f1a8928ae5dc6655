#include "warning.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "descriptor.h"
#include "procfs.h"

#define PARENTS 8 /* that are tried in the program's stead */

/* The program's own description, so that a redirected file's offset moves on; by path only where that is filtered. */
static int open_stderr_of(pid_t tid)
{
	int fd = vdso_descriptor_copy(tid, 2);
	char path[64];

	if (fd < 0) /* a thread, and a kernel that has pidfds of leaders alone */
		fd = vdso_descriptor_copy(vdso_procfs_number(tid, "Tgid:"), 2);
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/fd/2", (int)tid);
	return open(path, O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
}

static void put(int fd, const char *line, size_t length)
{
	struct iovec iov = {(void *)line, length};
	struct pollfd ready = {.fd = fd, .events = POLLOUT};
	struct stat st = {0};

	/* A data file that happens to be descriptor 2 is no place for messages. */
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY)
		return;
	if (!S_ISREG(st.st_mode) && (pwritev2(fd, &iov, 1, -1, RWF_NOWAIT) >= 0 ||
				     (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)))
		return;
	/* What knows no such flag: a file, or a terminal or older pipe that says that it is ready. */
	if (poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0 && write(fd, line, length) < 0) {
		/* its reader has gone; nobody is left to be told */
	}
}

void vdso_warn(pid_t tid, const char *format, ...)
{
	char line[512] = "vdso: ";
	size_t length = strlen(line);
	va_list args;
	int fd;

	va_start(args, format);
	vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	va_end(args);
	length = strlen(line);
	line[length++] = '\n';

	fd = open_stderr_of(tid);
	/* A program that may not be looked into: to whoever started it. */
	for (int up = 0; fd < 0 && (errno == EACCES || errno == EPERM) && up < PARENTS; up++) {
		tid = vdso_procfs_parent(tid);
		if (tid <= 1)
			return;
		fd = open_stderr_of(tid);
	}
	if (fd < 0)
		return;
	put(fd, line, length);
	close(fd);
}

void vdso_warn_unswapped(pid_t tid, const char *fate, int error)
{
	char name[32];

	if (error == -ESRCH) /* killed meanwhile */
		return;
	vdso_procfs_name(tid, name, sizeof(name));
	vdso_warn(tid, "%s (pid %d) %s: %s", name, (int)tid, fate, strerror(-error));
}
