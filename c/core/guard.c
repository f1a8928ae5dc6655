#include "guard.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "descriptor.h"
#include "filter.h"

/* The session index that the next kept descriptor belongs to follows from their order. */
static void take_kept(struct vdso_follower *f, int from, uint32_t *kept)
{
	int fd;

	while (*kept < VDSO_FOLLOWER_SESSIONS && (fd = vdso_descriptor_receive(from, MSG_DONTWAIT)) >= 0)
		f->clock_fd[(*kept)++] = fd;
	/* Sent by a follower that did not live to count it: its successor is asked, and sends, again. */
	while (*kept > f->shared->sessions)
		close(f->clock_fd[--*kept]);
}

static void follow(struct vdso_follower *f, pid_t guard, bool again)
{
	prctl(PR_SET_NAME, "vdso-follower");
	prctl(PR_SET_PDEATHSIG, SIGUSR1);
	if (getppid() != guard)
		raise(SIGUSR1);
	if (!again && f->front && vdso_command_start(f) != 0)
		_exit(1);
	_exit(vdso_follower_run(f, again));
}

static int stand_by(struct vdso_follower *f, pid_t child, int kept_socket)
{
	uint32_t kept = f->shared->sessions;

	signal(SIGCHLD, SIG_DFL); /* ignored before us, our child would leave no status */
	if (f->front && (f->filter & VDSO_FILTER_LISTENS) != 0 && f->listener < 0)
		f->listener = vdso_descriptor_receive(kept_socket, 0);
	if (f->front) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		vdso_command_leave(f, kept_socket);
	}
	prctl(PR_SET_NAME, "vdso-guard");
	for (;;) {
		int status;

		if (waitpid(child, &status, 0) < 0) {
			if (errno == EINTR)
				continue;
			return 1;
		}
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		take_kept(f, kept_socket, &kept);
		if (f->front) {
			/* Under Yama only an ancestor may trace, and by its death its children have become ours. */
			prctl(PR_SET_NAME, "vdso-follower");
			return vdso_follower_run(f, true);
		}

		pid_t guard = getpid();

		child = fork();
		if (child == 0)
			follow(f, guard, true);
		if (child < 0)
			return 1;
	}
}

int vdso_guard_run(struct vdso_follower *f)
{
	pid_t child, guard = getpid();
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
		return 1;
	f->guard = sockets[1];
	child = fork();
	if (child < 0)
		return 1;
	if (child == 0)
		follow(f, guard, false);
	return stand_by(f, child, sockets[0]);
}

void vdso_guard_replace(struct vdso_follower *f)
{
	pid_t child, guard = getpid();
	int sockets[2];

	if (f->front || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
		return; /* no guard any more; following goes on */
	child = fork();
	if (child < 0) {
		close(sockets[0]);
		close(sockets[1]);
		return;
	}
	close(f->guard);
	f->guard = sockets[1];
	if (child == 0) {
		prctl(PR_SET_NAME, "vdso-follower");
		prctl(PR_SET_PDEATHSIG, SIGUSR1);
		if (getppid() != guard)
			raise(SIGUSR1);
		return;
	}
	_exit(stand_by(f, child, sockets[0]));
}

int vdso_guard_keep(int guard, int fd)
{
	return guard < 0 ? 0 : vdso_descriptor_send(guard, fd);
}
