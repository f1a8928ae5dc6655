#include "notification.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>

static int respond(int listener, struct seccomp_notif_resp response)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 ? 0 : -errno;
}

int vdso_notification_answer(int listener, uint64_t id, int64_t value, int32_t error)
{
	return respond(listener, (struct seccomp_notif_resp){.id = id, .val = value, .error = error});
}

int vdso_notification_go_on(int listener, uint64_t id)
{
	return respond(listener, (struct seccomp_notif_resp){.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE});
}

bool vdso_notification_waits(int listener, uint64_t id)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}
