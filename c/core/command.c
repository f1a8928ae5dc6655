#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "descriptor.h"
#include "filter.h"
#include "guard.h"

/* A filter's errno, or 0 where it has no listener to send. */
static void say(int socket, uint32_t number)
{
	if (send(socket, &number, sizeof(number), MSG_NOSIGNAL) != sizeof(number))
		_exit(VDSO_STRICT_STATUS);
}

/* In the child. Does not return. */
static void become(struct vdso_follower *f, int socket)
{
	int listener = -1, error;
	char go;

	prctl(PR_SET_PDEATHSIG, 0);
	sigprocmask(SIG_SETMASK, &f->mask, NULL);
	if (f->filter & VDSO_FILTER_NONE)
		error = vdso_filter_drop_time();
	else
		error = vdso_filter_install(f->filter, &listener);
	if (error != 0)
		say(socket, (uint32_t)-error);
	else if (listener >= 0)
		error = vdso_descriptor_send(socket, listener, 0);
	else
		say(socket, 0);
	if (error != 0 || recv(socket, &go, 1, 0) != 1)
		_exit(VDSO_STRICT_STATUS);
	if (listener >= 0)
		close(listener);
	if (f->filter & VDSO_FILTER_NONE) { /* its order names the descriptors */
		fcntl(f->image_fd, F_SETFD, 0);
		fcntl(f->clock_fd[0], F_SETFD, 0);
		fcntl(f->counts_fd, F_SETFD, 0);
	}
	execvp(f->command[0], f->command);
	error = errno;
	dprintf(2, "vdso: %s: %s\n", f->command[0],
		error == ENOENT && strchr(f->command[0], '/') == NULL ? "command not found" : strerror(error));
	_exit(error == ENOENT || error == ENOTDIR ? 127 : 126);
}

int vdso_command_start(struct vdso_follower *f)
{
	int sockets[2], error = 0;
	uint32_t said = 0;
	pid_t child;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
		return -errno;
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0) {
		close(sockets[0]);
		become(f, sockets[1]);
	}
	close(sockets[1]);
	if (f->filter & VDSO_FILTER_LISTENS) {
		f->listener = vdso_descriptor_receive(sockets[0], 0, NULL);
		error = f->listener < 0 ? f->listener : vdso_guard_keep(f->guard, f->listener, VDSO_FOLLOWER_SESSIONS);
	} else if (recv(sockets[0], &said, sizeof(said), 0) != sizeof(said)) {
		error = -ECONNRESET;
	} else {
		error = -(int)said;
	}
	if (error == 0)
		f->shared->child = child;
	if (f->direct != 0)
		f->direct = child;
	f->release = sockets[0];
	vdso_command_leave(f, -1);
	vdso_follower_tell(f, error == 0 ? 'P' : 'F', error == 0 ? child : -error);
	return error;
}

/* Everything that the caller's shell has left open, lest a pipeline wait for us. */
static void close_others(const struct vdso_follower *f, int also)
{
	for (unsigned fd = 3; fd < 65536; fd++) {
		unsigned next = 65536;
		const int kept[] = {f->control, f->way, f->image_fd, f->clock_fd[0], f->listener, f->guard, f->release, f->life, f->counts_fd, also};

		for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
			if (kept[i] >= (int)fd && (unsigned)kept[i] < next)
				next = (unsigned)kept[i];
		if (next > fd)
			syscall(SYS_close_range, fd, next == 65536 ? ~0u : next - 1, 0);
		fd = next;
	}
}

void vdso_command_leave(const struct vdso_follower *f, int also)
{
	struct rlimit files;

	vdso_descriptor_drop_standard();
	/* Sessions and what is read of /proc are ours to open, however few the caller allows itself. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	close_others(f, also);
	setsid();
	if (chdir("/") != 0) {
		/* a directory stays in use that need not */
	}
}
