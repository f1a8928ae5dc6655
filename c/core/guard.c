#include "guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "descriptor.h"
#include "filter.h"

#define FORGET 4096 /* and a session's index, in the place of a descriptor: no errno is so high */

/*
 * Later ones supersede: an index may be used again, and a follower that did not live to count it sends it again. As soon as they
 * come: what waits in the socket is open, and there is not room for many.
 */
static void take_kept(struct vdso_follower *f, int from)
{
	for (;;) {
		uint32_t session;
		int fd = vdso_descriptor_receive(from, MSG_DONTWAIT, &session);

		if (fd <= -FORGET && fd > -FORGET - (int)VDSO_FOLLOWER_SESSIONS) {
			session = (uint32_t)(-fd - FORGET);
			fd = -1;
		} else if (fd < 0) {
			return;
		}
		if (session >= VDSO_FOLLOWER_SESSIONS) { /* the listener, which we have */
			close(fd);
			continue;
		}
		if (f->clock_fd[session] > 0)
			close(f->clock_fd[session]);
		f->clock_fd[session] = fd;
	}
}

/* SIGUSR1 when the guard dies, or has died: kept until vdso_follower_run() is ready for it. */
static void watch_guard(pid_t guard)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	prctl(PR_SET_PDEATHSIG, SIGUSR1);
	if (getppid() != guard)
		raise(SIGUSR1);
}

/* In the guard's child, whose own end of the way to the guard is f->guard. */
static void follow(struct vdso_follower *f, pid_t guard, int kept_socket, bool again)
{
	prctl(PR_SET_NAME, "vdso-follower");
	close(kept_socket);
	if (!f->front) /* there it has no successor to make, and the command would inherit the mask */
		watch_guard(guard);
	if (!again && f->front && vdso_command_start(f) != 0)
		_exit(1);
	_exit(vdso_follower_run(f, again));
}

/* As waitpid(), taking what comes to be kept meanwhile. */
static pid_t await_end(struct vdso_follower *f, pid_t child, int kept_socket, int *status)
{
	struct pollfd wait[2] = {{.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN}, {.fd = kept_socket, .events = POLLIN}};
	pid_t ret;

	while (wait[0].fd >= 0 && wait[0].revents == 0) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			break;
		if (wait[1].revents & POLLIN)
			take_kept(f, kept_socket);
		if (wait[1].revents & POLLHUP)
			wait[1].fd = -1;
	}
	if (wait[0].fd >= 0)
		close(wait[0].fd);
	do
		ret = waitpid(child, status, 0);
	while (ret < 0 && errno == EINTR);
	return ret;
}

static int stand_by(struct vdso_follower *f, pid_t child, int kept_socket)
{
	signal(SIGCHLD, SIG_DFL); /* ignored before us, our child would leave no status */
	if (f->front && (f->filter & VDSO_FILTER_LISTENS) != 0 && f->listener < 0)
		f->listener = vdso_descriptor_receive(kept_socket, 0, NULL);
	if (f->front) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		vdso_command_leave(f, kept_socket);
	}
	prctl(PR_SET_NAME, "vdso-guard");
	for (;;) {
		int status;

		if (await_end(f, child, kept_socket, &status) < 0)
			return 1;
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		take_kept(f, kept_socket);
		if (f->front) {
			/* Under Yama only an ancestor may trace, and by its death its children have become ours. */
			prctl(PR_SET_NAME, "vdso-follower");
			close(kept_socket);
			return vdso_follower_run(f, true);
		}

		pid_t guard = getpid();

		child = fork();
		if (child == 0)
			follow(f, guard, kept_socket, true);
		if (child < 0) { /* no process to be had: rather a follower without a guard */
			close(kept_socket);
			return vdso_follower_run(f, true);
		}
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
		follow(f, guard, sockets[0], false);
	if (f->front) { /* else the guard would wait for its own end of the listener's way */
		close(f->guard);
		f->guard = -1;
	}
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
		close(sockets[0]);
		watch_guard(guard);
		return;
	}
	_exit(stand_by(f, child, sockets[0]));
}

int vdso_guard_keep(int guard, int fd, uint32_t number)
{
	int error = guard < 0 ? 0 : vdso_descriptor_send(guard, fd, number);

	/* It has died. Whoever comes in its place is forked from the follower, and has what that has. */
	return error == -EPIPE || error == -ECONNRESET ? 0 : error;
}

void vdso_guard_forget(int guard, uint32_t session)
{
	const uint32_t number = FORGET + session;

	if (guard >= 0 && send(guard, &number, sizeof(number), MSG_NOSIGNAL) < 0) {
		/* it has died, and with it what it kept */
	}
}
