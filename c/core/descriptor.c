#include "descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIDFD_OF_THREAD O_EXCL /* PIDFD_THREAD, Linux 6.9 */

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

int vdso_descriptor_send(int socket, int fd, uint32_t number)
{
	struct iovec iov = {&number, sizeof(number)};
	union control control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(socket, &message, MSG_NOSIGNAL) == sizeof(number) ? 0 : -errno;
}

int vdso_descriptor_receive(int socket, int flags, uint32_t *ret)
{
	uint32_t number = 0;
	struct iovec iov = {&number, sizeof(number)};
	union control control;
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	ssize_t size;
	int fd;

	do
		size = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	while (size < 0 && errno == EINTR);
	if (size < 0)
		return -errno;
	if (size == sizeof(number) && message.msg_controllen == 0 && number != 0)
		return -(int)number;
	if (size == 0 || message.msg_controllen < sizeof(control.header) || control.header.cmsg_type != SCM_RIGHTS)
		return -ECONNRESET;
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	if (ret != NULL)
		*ret = number;
	return fd;
}

int vdso_descriptor_copy(pid_t task, int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, task, 0), ret;

	if (pidfd < 0) /* not a leader */
		pidfd = (int)syscall(SYS_pidfd_open, task, PIDFD_OF_THREAD);
	if (pidfd < 0)
		return -errno;
	ret = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	ret = ret < 0 ? -errno : ret;
	close(pidfd);
	return ret;
}

bool vdso_descriptor_keep(const int *wanted, int count)
{
	enum { FIRST = 3, KEPT_MAX = 8, ABOVE = 64 };
	int above[KEPT_MAX];

	if (count > KEPT_MAX)
		return false;
	/* Above all places first, so that none is overwritten before it was moved. */
	for (int i = 0; i < count; i++) {
		above[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, ABOVE);
		if (above[i] < 0)
			return false;
	}
	for (int i = 0; i < count; i++)
		if (dup3(above[i], FIRST + i, O_CLOEXEC) < 0)
			return false;
	if (syscall(SYS_close_range, FIRST + count, ~0u, 0) != 0)
		for (int fd = FIRST + count; fd < 65536; fd++)
			close(fd);
	vdso_descriptor_drop_standard();
	return true;
}

void vdso_descriptor_drop_standard(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd < 3; fd++) {
		if (null >= 0)
			dup2(null, fd);
		else
			close(fd);
	}
	if (null > 2)
		close(null);
}
