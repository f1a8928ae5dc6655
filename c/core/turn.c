#include "turn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "argument.h"
#include "deadline.h"
#include "notification.h"
#include "page.h"
#include "process.h"
#include "procfs.h"
#include "sessions.h"
#include "source.h"
#include "task.h"
#include "tracee.h"
#include "transform.h"
#include "warning.h"

/* What a warning is about; calls have their numbers. */
#define ABOUT_UNHELD 10000

#define TIMERS_LOOK_NS INT64_C(50000000)
#define FAR_SEC INT64_C(9000000000) /* what a timer takes for never */

static void let_go_on(struct vdso_follower *f, uint64_t id)
{
	vdso_notification_go_on(f->listener, id);
}

/* The kernel's clock has to do: said once a program and call. */
static void warn(struct vdso_follower *f, const struct seccomp_notif *n, const char *call)
{
	pid_t program = vdso_procfs_number((pid_t)n->pid, "Tgid:");
	char name[32];

	if (vdso_follower_first_time(f, program, n->data.nr)) {
		vdso_procfs_name(program, name, sizeof(name));
		vdso_warn(program, "%s (pid %d) waits in %s for an absolute time of the moved clock, and the kernel goes by its own",
			  name, (int)program, call);
	}
}

/* ---- where to ---- */

static bool read_process(const struct vdso_argument *memory, uint64_t at, uint64_t *wait)
{
	struct vdso_process process;

	if (vdso_argument_read(memory, at, &process, sizeof(process)) != 0 || process.magic != VDSO_PROCESS_MAGIC ||
	    process.image != at + VDSO_PAGE_BYTES || process.wait == 0)
		return false;
	*wait = process.wait;
	return true;
}

/* The image's wait in that task, 0 if it does not run on one. What was known of a task may be another's by now, and is looked
 * at again. */
static uint64_t find_wait(struct vdso_follower *f, pid_t tid, const struct vdso_argument *memory)
{
	struct vdso_place_known *known = &f->known[(uint32_t)tid % VDSO_FOLLOWER_KNOWN];
	uint64_t wait;

	if (known->tid == tid && read_process(memory, known->process, &wait))
		return wait;
	*known = (struct vdso_place_known){.tid = tid, .process = vdso_procfs_clock_address(tid) + VDSO_CLOCK_BYTES};
	return read_process(memory, known->process, &wait) ? wait : 0;
}

/* ---- timers that are descriptors ---- */

static int timer_of(pid_t program, int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, program, 0), ret;

	if (pidfd < 0)
		return -errno;
	ret = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	ret = ret < 0 ? -errno : ret;
	close(pidfd);
	return ret;
}

static struct vdso_time time_of(const struct timespec *t)
{
	return (struct vdso_time){.sec = t->tv_sec, .nsec = (uint64_t)t->tv_nsec};
}

static bool valid(const struct timespec *t)
{
	return t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < (long)VDSO_NSEC_PER_SEC;
}

/* The record in force, and its version. */
static bool look(const struct vdso_follower *f, uint32_t session, struct vdso_clock_record *record, uint64_t *version)
{
	struct vdso_page page;
	bool ret = vdso_page_open_reader(f->clock_fd[session], 0, &page) == 0;

	if (ret) {
		ret = vdso_page_get(&page, 0, record, version) == VDSO_PAGE_OK;
		vdso_page_close(&page);
	}
	return ret;
}

/* 0, or a negative errno of the kernel's. */
static int arm(int fd, int flags, const struct vdso_clock *clock, int id, const struct itimerspec *wanted,
	       struct itimerspec *old)
{
	struct itimerspec host = *wanted;
	struct vdso_source source;
	struct vdso_time now, at;

	vdso_source_init(&source);
	if (source.clock(source.context, id, &now) == 0 &&
	    vdso_clock_reach(clock, now, time_of(&wanted->it_value), &at) == 0 && at.sec < FAR_SEC) {
		host.it_value = (struct timespec){.tv_sec = at.sec, .tv_nsec = (long)at.nsec};
		/* Long ago is still a time: 0 would stop the timer. */
		if (at.sec < 0 || (at.sec == 0 && at.nsec == 0))
			host.it_value = (struct timespec){.tv_nsec = 1};
	} else {
		host.it_value = (struct timespec){.tv_sec = FAR_SEC};
	}
	return timerfd_settime(fd, flags, &host, old) == 0 ? 0 : -errno;
}

static void remember(struct vdso_follower *f, const struct vdso_timer *timer)
{
	struct vdso_follower_shared *s = f->shared;
	struct vdso_timer *place = NULL;

	for (uint32_t i = 0; i < VDSO_FOLLOWER_TIMERS; i++) {
		struct vdso_timer *at = &s->timer[i];

		if (at->program == timer->program && at->fd == timer->fd) {
			place = at;
			break;
		}
		if (at->program == 0 && place == NULL)
			place = at;
	}
	if (place != NULL) /* else it goes by the clock as it is now */
		*place = *timer;
}

static void set_timerfd(struct vdso_follower *f, const struct seccomp_notif *n, const struct vdso_argument *memory,
			const struct vdso_clock_record *record, uint64_t version, uint32_t session,
			const struct vdso_deadline *d)
{
	pid_t program = vdso_procfs_number((pid_t)n->pid, "Tgid:");
	int fd = timer_of(program, (int)n->data.args[0]), flags = (int)n->data.args[1], err;
	struct itimerspec wanted, old;

	if (fd < 0 || vdso_argument_read(memory, d->at, &wanted, sizeof(wanted)) != 0 || !valid(&wanted.it_value) ||
	    !valid(&wanted.it_interval)) {
		if (fd >= 0)
			close(fd);
		else
			warn(f, n, d->call);
		let_go_on(f, n->id);
		return;
	}
	if (wanted.it_value.tv_sec == 0 && wanted.it_value.tv_nsec == 0) {
		close(fd);
		let_go_on(f, n->id);
		return;
	}
	err = arm(fd, flags, &record->clock[d->clock], d->clock, &wanted, &old);
	close(fd);
	if (err == 0 && n->data.args[3] != 0)
		err = vdso_argument_write(memory, n->data.args[3], &old, sizeof(old));
	if (err == 0)
		remember(f, &(struct vdso_timer){.program = program,
						 .fd = (int)n->data.args[0],
						 .clock = d->clock,
						 .flags = flags,
						 .session = session,
						 .version = version,
						 .by = record->clock[d->clock],
						 .wanted = wanted});
	vdso_notification_answer(f->listener, n->id, 0, err);
}

/*
 * Whether the descriptor is still that timer as we have set it: since we gave it back, its program may have done anything. How
 * long it has, and how often it has expired since it was last read.
 */
static bool still_ours(int fd, const struct vdso_timer *timer, struct itimerspec *left, uint64_t *unread)
{
	char path[64], line[128];
	int clock = -1, flags = -1;
	unsigned long ticks = 0;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "re");
	while (info != NULL && fgets(line, sizeof(line), info) != NULL) {
		sscanf(line, "clockid: %d", &clock);
		sscanf(line, "settime flags: %o", (unsigned *)&flags);
		sscanf(line, "ticks: %lu", &ticks);
	}
	if (info != NULL)
		fclose(info);
	*unread = ticks;
	return clock == timer->clock && (flags & TFD_TIMER_ABSTIME) != 0 && timerfd_gettime(fd, left) == 0 &&
	       (left->it_value.tv_sec != 0 || left->it_value.tv_nsec != 0);
}

/*
 * Sets it by another record. One that has expired before is due next at the time that the clock showed, by the record that it
 * was set by, for when the kernel would let it expire: as a timer of the kernel's is when its clock is set.
 */
static void set_anew(int fd, struct vdso_timer *timer, const struct itimerspec *left, const struct vdso_clock *clock,
		     uint64_t version)
{
	struct vdso_source source;
	struct vdso_time now, first;

	vdso_source_init(&source);
	if (source.clock(source.context, timer->clock, &now) != 0)
		return;
	if (vdso_clock_reach(&timer->by, now, time_of(&timer->wanted.it_value), &first) == 0 && vdso_time_compare(first, now) <= 0) {
		struct vdso_time next = vdso_time_add(now, left->it_value.tv_sec, left->it_value.tv_nsec);

		next = vdso_clock_evaluate(&timer->by, next, 0);
		timer->wanted.it_value = (struct timespec){.tv_sec = next.sec, .tv_nsec = (long)next.nsec};
	}
	if (arm(fd, timer->flags, clock, timer->clock, &timer->wanted, NULL) == 0) {
		timer->by = *clock;
		timer->version = version;
	}
}

int64_t vdso_turn_patience_ns(const struct vdso_follower *f)
{
	for (uint32_t i = 0; i < VDSO_FOLLOWER_TIMERS; i++)
		if (f->shared->timer[i].program != 0)
			return TIMERS_LOOK_NS;
	return -1;
}

void vdso_turn_timers(struct vdso_follower *f)
{
	for (uint32_t i = 0; i < VDSO_FOLLOWER_TIMERS; i++) {
		struct vdso_timer *timer = &f->shared->timer[i];
		struct vdso_clock_record record;
		uint64_t version, unread;
		struct itimerspec left;
		int fd;

		if (timer->program == 0)
			continue;
		fd = timer_of(timer->program, timer->fd);
		if (fd < 0 || !still_ours(fd, timer, &left, &unread))
			timer->program = 0;
		else if (unread == 0 && !f->shared->session[timer->session].counter && look(f, timer->session, &record, &version) &&
			 version != timer->version)
			set_anew(fd, timer, &left, &record.clock[timer->clock], version); /* which forgets what is unread */
		if (fd >= 0)
			close(fd);
	}
}

/* ---- tasks ---- */

static void warn_unheld(struct vdso_follower *f, pid_t tid, int error)
{
	pid_t program = vdso_procfs_number(tid, "Tgid:");
	char name[32];

	if (!vdso_follower_first_time(f, program, ABOUT_UNHELD))
		return;
	vdso_procfs_name(program, name, sizeof(name));
	vdso_warn(program, "%s (pid %d) waits for an absolute time of the moved clock and cannot be held (%s): the kernel goes by its own",
		  name, (int)program, strerror(-error));
}

void vdso_turn_hold(struct vdso_follower *f, struct vdso_task *task)
{
	int error = vdso_tracee_seize(task->tid);

	if (error != 0) { /* traced by somebody, or not to be traced */
		if (error != -ESRCH)
			warn_unheld(f, task->tid, error);
		task->phase = VDSO_TASK_NONE;
		let_go_on(f, task->id);
		return;
	}
	task->phase = VDSO_TASK_TURNED;
	vdso_tracee_interrupt(task->tid);
	/* Not carried out. Should we die now, the task makes the call again and our successor hears of it. */
	vdso_notification_answer(f->listener, task->id, 0, VDSO_TURNED);
}

void vdso_turn_stopped(struct vdso_follower *f, struct vdso_task *task, int signal)
{
	(void)f;
	vdso_tracee_turn(task->tid, task->entry, task->plan); /* else it makes the call again */
	task->phase = VDSO_TASK_NONE;
	vdso_tracee_detach(task->tid, signal);
}

static void turn(struct vdso_follower *f, const struct seccomp_notif *n, uint64_t entry, uint64_t plan)
{
	struct vdso_task *task = vdso_task_find(f->shared, (pid_t)n->pid);

	if (task == NULL)
		task = vdso_task_take(f->shared);
	if (task == NULL) {
		let_go_on(f, n->id);
		return;
	}
	*task = (struct vdso_task){.tid = (int32_t)n->pid, .phase = VDSO_TASK_NOTIFIED, .id = n->id, .plan = plan, .entry = entry};
	if (vdso_task_sibling_in_exec(f->shared, task->tid))
		task->phase = VDSO_TASK_WAITING;
	else
		vdso_turn_hold(f, task);
}

void vdso_turn_answer(struct vdso_follower *f, const struct seccomp_notif *n)
{
	uint32_t session = vdso_sessions_of(f, (pid_t)n->pid);
	struct vdso_clock_record record;
	struct vdso_argument memory;
	struct vdso_deadline d;
	struct timespec at[2];
	uint64_t version, wait;
	int err = 1;

	vdso_deadline_plan(n, &d);
	if (d.way != VDSO_DEADLINE_NONE && look(f, session, &record, &version) && record.clock[d.clock].kind != VDSO_KIND_JUMP)
		err = vdso_argument_open((pid_t)n->pid, &memory);
	if (err != 0) {
		vdso_follower_warn_closed(f, (pid_t)n->pid, err);
		let_go_on(f, n->id);
		return;
	}
	wait = find_wait(f, (pid_t)n->pid, &memory);
	if (d.way == VDSO_DEADLINE_UNKNOWN) {
		warn(f, n, d.call);
		let_go_on(f, n->id);
	} else if (d.way == VDSO_DEADLINE_TIMERFD && wait != 0) {
		set_timerfd(f, n, &memory, &record, version, session, &d);
	} else if (wait == 0 || vdso_argument_read(&memory, d.at, at, sizeof(at[0]) * (VDSO_PLAN_HOW(d.plan) == VDSO_WAIT_TIMER ? 2 : 1)) != 0 ||
		   !vdso_notification_waits(f->listener, n->id)) {
		let_go_on(f, n->id); /* a program on the host's clock, or a pointer that the kernel shall judge */
	} else {
		const struct timespec *deadline = &at[VDSO_PLAN_HOW(d.plan) == VDSO_WAIT_TIMER];

		if (!valid(deadline) || (VDSO_PLAN_HOW(d.plan) == VDSO_WAIT_TIMER && deadline->tv_sec == 0 && deadline->tv_nsec == 0))
			let_go_on(f, n->id);
		else
			turn(f, n, wait, d.plan);
	}
	vdso_argument_close(&memory);
}
