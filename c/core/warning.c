#include "warning.h"

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The program's own description, so that a redirected file's offset moves on; by path only where that is filtered. */
static int open_stderr_of(pid_t tid)
{
	char path[64];
	int pidfd = (int)syscall(SYS_pidfd_open, tid, 0);
	int fd = -1;

	if (pidfd < 0) { /* not a thread group's leader */
		FILE *status;
		char line[128];
		int program = 0;

		snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
		status = fopen(path, "re");
		while (status != NULL && program == 0 && fgets(line, sizeof(line), status) != NULL)
			sscanf(line, "Tgid: %d", &program);
		if (status != NULL)
			fclose(status);
		pidfd = program > 0 ? (int)syscall(SYS_pidfd_open, program, 0) : -1;
	}
	if (pidfd >= 0) {
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, 2, 0);
		close(pidfd);
	}
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/fd/2", (int)tid);
	return open(path, O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
}

void vdso_warn(pid_t tid, const char *format, ...)
{
	char line[512] = "vdso: ";
	size_t length = strlen(line);
	struct pollfd ready;
	va_list args;

	va_start(args, format);
	vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	va_end(args);
	length = strlen(line);
	line[length++] = '\n';

	ready.fd = open_stderr_of(tid);
	ready.events = POLLOUT;
	if (ready.fd < 0)
		return;
	/* A pipe that is ready takes PIPE_BUF bytes at once, which is more than a line. */
	if (poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0 && write(ready.fd, line, length) < 0) {
		/* its reader has gone; nobody is left to be told */
	}
	close(ready.fd);
}
