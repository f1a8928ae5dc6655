#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descriptor.h"
#include "filter.h"
#include "follower.h"
#include "front.h"
#include "process.h"

extern char **environ;

enum { ARGUMENTS = 26, NUMBER = 16, GIVEN = 5 };

static int start(const struct vdso_launch *l, int control, pid_t *ret)
{
	char numbers[7][NUMBER];
	char *arguments[ARGUMENTS];
	int given[GIVEN] = {control, l->image_fd, l->clock_fd, l->life_fd, l->counts_fd};
	size_t commands = 0, n = 0;
	char **argv;
	volatile int failed = 0;
	int error = 0;

	snprintf(numbers[0], NUMBER, "%d", control);
	snprintf(numbers[1], NUMBER, "%d", l->image_fd);
	snprintf(numbers[2], NUMBER, "%d", l->clock_fd);
	snprintf(numbers[3], NUMBER, "%u", l->filter);
	snprintf(numbers[4], NUMBER, "%d", (int)getpid());
	arguments[n++] = (char *)"vdso-follower";
	arguments[n++] = (char *)"--control";
	arguments[n++] = numbers[0];
	arguments[n++] = (char *)"--image";
	arguments[n++] = numbers[1];
	arguments[n++] = (char *)"--clock";
	arguments[n++] = numbers[2];
	arguments[n++] = (char *)"--filter";
	arguments[n++] = numbers[3];
	if (l->life_fd >= 0) {
		snprintf(numbers[5], NUMBER, "%d", l->life_fd);
		arguments[n++] = (char *)"--life";
		arguments[n++] = numbers[5];
	}
	if (l->counts_fd >= 0) {
		snprintf(numbers[6], NUMBER, "%d", l->counts_fd);
		arguments[n++] = (char *)"--counts";
		arguments[n++] = numbers[6];
	}
	if (l->counter)
		arguments[n++] = (char *)"--counter";
	if (l->strict)
		arguments[n++] = (char *)"--strict";
	if ((l->filter & VDSO_FILTER_EXEC) == 0) {
		arguments[n++] = (char *)"--direct";
		arguments[n++] = numbers[4];
	}
	if (l->command != NULL)
		arguments[n++] = (char *)"--";

	while (l->command != NULL && l->command[commands] != NULL)
		commands++;
	argv = calloc(n + commands + 1, sizeof(*argv));
	if (argv == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		argv[i] = arguments[i];
	for (size_t i = 0; i < commands; i++)
		argv[n + i] = l->command[i];

	/* Not by a file action: the numbers are to stay what they are. */
	for (unsigned i = 0; i < GIVEN; i++)
		fcntl(given[i], F_SETFD, 0);
	/* Not posix_spawn, which leaves two of glibc's signals ignored in a command that we are in front of. */
	*ret = vfork();
	if (*ret == 0) {
		execve(l->follower, argv, environ);
		failed = errno; /* in the parent's memory */
		_exit(127);
	}
	error = *ret < 0 ? -errno : -failed;
	for (unsigned i = 0; i < GIVEN; i++)
		fcntl(given[i], F_SETFD, FD_CLOEXEC);
	free(argv);
	return error;
}

/* Until the follower holds what it has to. */
static int wait_ready(int control)
{
	struct vdso_follower_message message;
	ssize_t size;

	do
		size = recv(control, &message, sizeof(message), 0);
	while (size < 0 && errno == EINTR);
	if (size != sizeof(message))
		return -ECONNRESET;
	return message.what == 'R' ? 0 : -message.value;
}

static int beside(const struct vdso_launch *l, int control, enum vdso_launch_step *step)
{
	int listener = -1, error;

	*step = VDSO_LAUNCH_FILTER;
	if (l->filter & VDSO_FILTER_NONE)
		error = vdso_filter_drop_time();
	else
		error = vdso_filter_install(l->filter, &listener);
	if (error != 0)
		return error;
	*step = VDSO_LAUNCH_HOLD;
	if (listener >= 0) {
		error = vdso_descriptor_send(control, listener, 0);
		close(listener);
	}
	if (error == 0)
		error = wait_ready(control);
	if (error == 0 && (l->filter & VDSO_FILTER_NONE) != 0) {
		/* The swap's order names them, and its landing closes them. */
		fcntl(l->image_fd, F_SETFD, 0);
		fcntl(l->clock_fd, F_SETFD, 0);
		fcntl(l->counts_fd, F_SETFD, 0);
	}
	return error;
}

int vdso_launch(const struct vdso_launch *l, int *status, enum vdso_launch_step *step)
{
	int sockets[2], error;
	pid_t child;

	*step = VDSO_LAUNCH_START;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
		return -errno;
	error = start(l, sockets[1], &child);
	close(sockets[1]);
	if (error == 0 && l->command == NULL) {
		/* It has left us a grandchild, which is nobody's business but its own. */
		while (waitpid(child, status, 0) < 0 && errno == EINTR)
			;
		error = beside(l, sockets[0], step);
	} else if (error == 0) {
		bool filter_refused = false;

		*status = vdso_front_wait(sockets[0], &filter_refused);
		*step = filter_refused ? VDSO_LAUNCH_FILTER : VDSO_LAUNCH_HOLD;
		error = *status < 0 ? *status : 0;
	}
	close(sockets[0]);
	return error;
}

int vdso_launch_apart(const char *path, char *const argv[], const int *fds, size_t count)
{
	int pipe_fds[2], error = 0, status;
	pid_t child;

	if (pipe2(pipe_fds, O_CLOEXEC) != 0)
		return -errno;
	child = fork();
	if (child < 0)
		error = -errno;
	if (child == 0) {
		pid_t grandchild = setsid() < 0 ? -1 : fork();

		if (grandchild == 0) {
			for (size_t i = 0; i < count; i++)
				fcntl(fds[i], F_SETFD, 0);
			execv(path, argv);
		}
		if (grandchild <= 0) {
			error = errno;
			_exit(write(pipe_fds[1], &error, sizeof(error)) != sizeof(error));
		}
		_exit(0);
	}
	close(pipe_fds[1]);
	/* Closed by the exec, or written by its failure. */
	if (error == 0 && read(pipe_fds[0], &status, sizeof(status)) == sizeof(status))
		error = -status;
	close(pipe_fds[0]);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return error;
}

bool vdso_launch_adopt(int clock_fd, bool counter, bool strict, int *error)
{
	long what = clock_fd | (counter ? VDSO_ADOPT_COUNTER : 0) | (strict ? VDSO_ADOPT_STRICT : 0);
	long ret = syscall(SYS_execve, VDSO_ASK_PATH, VDSO_ASK_ADOPT, what);

	/* The kernel's own answer to that path is EFAULT. */
	*error = ret == 0 ? 0 : -errno;
	return ret == 0 || errno != EFAULT;
}
