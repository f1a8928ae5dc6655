#include "timerfd.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "descriptor.h"
#include "notification.h"
#include "procfs.h"
#include "sessions.h"
#include "timer.h"
#include "timers.h"
#include "timertable.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

struct information {
	int clock, flags; /* clock -1: it is no timer's */
	uint64_t ticks; /* that have not been read */
	struct itimerspec left;
};

static void read_information(pid_t tid, int fd, struct information *ret)
{
	unsigned long long ticks = 0;
	char path[64], line[128];
	FILE *file;

	*ret = (struct information){.clock = -1};
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)tid, fd);
	file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		sscanf(line, "clockid: %d", &ret->clock);
		sscanf(line, "ticks: %llu", &ticks);
		sscanf(line, "settime flags: %o", (unsigned *)&ret->flags);
		sscanf(line, "it_value: (%ld, %ld)", &ret->left.it_value.tv_sec, &ret->left.it_value.tv_nsec);
		sscanf(line, "it_interval: (%ld, %ld)", &ret->left.it_interval.tv_sec, &ret->left.it_interval.tv_nsec);
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
		read_information(getpid(), fd, &information);
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
	error = vdso_timers_prepare(f, clock, &timer);
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

bool vdso_timerfd_set_anew(struct vdso_follower *f, const struct vdso_clock *clock, struct vdso_timer *timer)
{
	int fd = vdso_descriptor_copy(timer->task, timer->id);
	struct information information, missed;
	struct vdso_time before, after;
	struct itimerspec left, old;
	bool still;

	if (fd < 0)
		return false;
	still = vdso_timers_host_time(timer->clock, &before) == 0 && timerfd_gettime(fd, &left) == 0 &&
		vdso_timers_host_time(timer->clock, &after) == 0;
	read_information(getpid(), fd, &information);
	still = still && information.clock == timer->clock && (information.flags & TFD_TIMER_ABSTIME) != 0 &&
		vdso_timers_is_still(timer, &left, before, after) && vdso_timers_prepare(f, clock, timer) == 0 &&
		timerfd_settime(fd, timer->flags, &timer->next.armed, &old) == 0;
	if (still && vdso_timers_was_set(timer, &old, before)) { /* to a relative time: others are seen */
		timerfd_settime(fd, 0, &old, NULL);
		still = false;
	}
	if (still)
		timer->set = timer->next;
	if (still && information.ticks != 0) { /* setting it has forgotten them */
		timerfd_gettime(fd, &left);
		read_information(getpid(), fd, &missed);
		missed.ticks += information.ticks;
		ioctl(fd, TFD_IOC_SET_TICKS, &missed.ticks); /* where the kernel has none, they are lost */
	}
	close(fd);
	return still;
}

/* ---- those that are not where they were set from ---- */

bool vdso_timerfd_is_there(const struct vdso_timer *timer)
{
	struct information information;

	read_information(timer->task, timer->id, &information);
	return information.clock == timer->clock;
}

/* The lost one that this is, by what is left of it; `same`: under the number that it was set by. */
static struct vdso_timer *recognise(const struct vdso_follower *f, const struct vdso_timer *like, const struct information *is,
				    struct vdso_time before, struct vdso_time after, bool same)
{
	for (uint32_t i = 0; i < f->shared->timers; i++) {
		struct vdso_timer *t = &f->shared->timer[i], copy = *t;

		if (t->program != 0 && t->lost && t->session == like->session && t->clock == is->clock &&
		    (t->id == like->id) == same && vdso_timers_is_still(&copy, &is->left, before, after))
			return t;
	}
	return NULL;
}

/* Whatever descriptor it is: if it is a lost timer it is remembered there. */
static void look_at(struct vdso_follower *f, const struct vdso_timer *there)
{
	struct vdso_timer *known = vdso_timertable_find(f, there->task, there->id, true), moved;
	struct vdso_time before, after;
	struct information information;

	if (known != NULL && !known->lost)
		return;
	read_information(there->task, there->id, &information);
	if (information.clock < 0 || (information.flags & TFD_TIMER_ABSTIME) == 0 ||
	    vdso_timers_host_time(information.clock, &before) != 0)
		return;
	read_information(there->task, there->id, &information);
	if (information.clock < 0 || vdso_timers_host_time(information.clock, &after) != 0)
		return;
	known = recognise(f, there, &information, before, after, true);
	if (known == NULL)
		known = recognise(f, there, &information, before, after, false);
	if (known == NULL)
		return;
	moved = *known;
	moved.program = there->program;
	moved.task = there->task;
	moved.id = there->id;
	moved.start = there->start;
	moved.lost = false;
	vdso_timertable_drop(f, known);
	known = vdso_timertable_find(f, moved.task, moved.id, true);
	if (known != NULL) /* lost too: what was there before */
		vdso_timertable_drop(f, known);
	vdso_timertable_put(f, &moved);
}

static bool is_timerfd(int dir, const char *name)
{
	static const char wanted[] = "anon_inode:[timerfd]";
	char link[sizeof(wanted)];

	return readlinkat(dir, name, link, sizeof(link)) == sizeof(wanted) - 1 && memcmp(link, wanted, sizeof(wanted) - 1) == 0;
}

static bool any_lost(const struct vdso_follower *f, const uint32_t *session)
{
	for (uint32_t i = 0; i < f->shared->timers; i++)
		if (f->shared->timer[i].program != 0 && f->shared->timer[i].lost &&
		    (session == NULL || f->shared->timer[i].session == *session))
			return true;
	return false;
}

static void search_program(struct vdso_follower *f, pid_t program)
{
	struct vdso_timer there = {.program = program, .task = vdso_procfs_living(program), .start = vdso_procfs_start(program)};
	struct dirent *entry;
	char path[64];
	DIR *dir;

	if (there.task == 0 || !vdso_sessions_runs_on(f, there.task, &there.session) || !any_lost(f, &there.session))
		return;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)there.task);
	dir = opendir(path);
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		there.id = atoi(entry->d_name);
		if (is_timerfd(dirfd(dir), entry->d_name))
			look_at(f, &there);
	}
	if (dir != NULL)
		closedir(dir);
}

void vdso_timerfd_search(struct vdso_follower *f)
{
	bool lost = any_lost(f, NULL);
	DIR *proc = lost ? opendir("/proc") : NULL;
	struct dirent *entry;

	while (lost && proc != NULL && (entry = readdir(proc)) != NULL)
		if (atoi(entry->d_name) > 0) {
			search_program(f, atoi(entry->d_name));
			lost = any_lost(f, NULL);
		}
	if (proc != NULL)
		closedir(proc);
	for (uint32_t i = 0; i < f->shared->timers; i++)
		if (f->shared->timer[i].program != 0 && f->shared->timer[i].lost)
			vdso_timertable_drop(f, &f->shared->timer[i]);
}
