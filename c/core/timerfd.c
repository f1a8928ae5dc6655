#include "timerfd.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "descriptor.h"
#include "notification.h"
#include "timer.h"
#include "timers.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

struct information {
	int clock, flags;
	uint64_t ticks; /* that have not been read */
};

static void read_information(int fd, struct information *ret)
{
	unsigned long long ticks = 0;
	char path[64], line[128];
	FILE *file;

	*ret = (struct information){.clock = -1};
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		sscanf(line, "clockid: %d", &ret->clock);
		sscanf(line, "ticks: %llu", &ticks);
		sscanf(line, "settime flags: %o", (unsigned *)&ret->flags);
	}
	if (file != NULL)
		fclose(file);
	ret->ticks = ticks;
}

void vdso_timerfd_set(struct vdso_follower *f, const struct seccomp_notif *n, const struct vdso_argument *memory,
		      uint32_t session, const struct vdso_clock *clock, uint64_t version, const struct vdso_deadline *d)
{
	struct vdso_timer timer = vdso_timers_called(n, session, version, d);
	struct information information;
	struct itimerspec old;
	int fd = vdso_descriptor_copy(timer.task, timer.id), error;

	/* Only now is it certain that it was this task's: it still waits for us. And it may have become another since. */
	if (fd >= 0)
		read_information(fd, &information);
	if (fd < 0 || !vdso_notification_waits(f->listener, n->id) || information.clock != d->clock ||
	    vdso_argument_read(memory, d->at, &timer.next.wanted, sizeof(timer.next.wanted)) != 0 ||
	    !vdso_timer_is_valid(&timer.next.wanted) || vdso_timer_is_none(&timer.next.wanted)) {
		if (fd >= 0)
			close(fd);
		else if (fd != -EBADF)
			vdso_timers_warn(f, timer.program, fd);
		vdso_notification_go_on(f->listener, n->id);
		return;
	}
	error = vdso_timers_prepare(clock, &timer);
	if (error == 0 && timerfd_settime(fd, timer.flags, &timer.next.armed, &old) != 0)
		error = -errno;
	close(fd);
	timer.set = timer.next;
	if (error == 0)
		vdso_timers_remember(f, &timer);
	if (error == 0 && n->data.args[3] != 0)
		error = vdso_argument_write(memory, n->data.args[3], &old, sizeof(old));
	vdso_notification_answer(f->listener, n->id, 0, error);
}

bool vdso_timerfd_set_anew(const struct vdso_clock *clock, struct vdso_timer *timer)
{
	int fd = vdso_timers_is_over(timer) ? -1 : vdso_descriptor_copy(timer->task, timer->id);
	struct information information, missed;
	struct vdso_time before, after;
	struct itimerspec left;
	bool still;

	if (fd < 0)
		return false;
	still = vdso_timers_host_time(timer->clock, &before) == 0 && timerfd_gettime(fd, &left) == 0 &&
		vdso_timers_host_time(timer->clock, &after) == 0;
	read_information(fd, &information);
	still = still && information.clock == timer->clock && (information.flags & TFD_TIMER_ABSTIME) != 0 &&
		vdso_timers_is_still(timer, &left, before, after) && vdso_timers_prepare(clock, timer) == 0 &&
		timerfd_settime(fd, timer->flags, &timer->next.armed, NULL) == 0;
	timer->set = timer->next;
	if (still && information.ticks != 0) { /* setting it has forgotten them */
		timerfd_gettime(fd, &left);
		read_information(fd, &missed);
		missed.ticks += information.ticks;
		ioctl(fd, TFD_IOC_SET_TICKS, &missed.ticks); /* where the kernel has none, they are lost */
	}
	close(fd);
	return still;
}
