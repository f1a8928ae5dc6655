#include "turn.h"

#include <errno.h>
#include <string.h>

#include "argument.h"
#include "deadline.h"
#include "errand.h"
#include "lender.h"
#include "notification.h"
#include "process.h"
#include "procfs.h"
#include "sessions.h"
#include "standing.h"
#include "task.h"
#include "timer.h"
#include "timerfd.h"
#include "timers.h"
#include "tracee.h"
#include "transform.h"
#include "warning.h"

/* What a warning is about; calls have their numbers. */
#define ABOUT_UNHELD 10000

/* In the place of a plan for the image: the task's call sets a timer of its process's, on that clock. */
#define PLAN_TIMER (UINT64_C(1) << 63)

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

/* ---- tasks ---- */

static void warn_unheld(struct vdso_follower *f, pid_t tid, int error)
{
	pid_t program = vdso_procfs_number(tid, "Tgid:");
	char name[32];

	if (!vdso_follower_first_time(f, program, ABOUT_UNHELD))
		return;
	vdso_procfs_name(program, name, sizeof(name));
	vdso_warn(program,
		  "%s (pid %d) waits for an absolute time of the moved clock and cannot be held (%s): the kernel goes by its own", name, (int)program, strerror(-error));
}

void vdso_turn_hold(struct vdso_follower *f, struct vdso_task *task)
{
	int error = vdso_task_seize(f, task);

	if (error == -EAGAIN)
		return;
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
	bool timer = (task->plan & PLAN_TIMER) != 0;

	/* A signal's handler comes first, and then the call again. */
	if (timer && signal == 0 && vdso_errand_begin(f, task, (int)VDSO_PLAN_CLOCK(task->plan)))
		return;
	if (!timer)
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

/* Whether what the pointer leads to is left to the kernel: it shall judge it, or there is nothing to wait for. */
static bool is_for_the_kernel(const struct vdso_argument *memory, const struct vdso_deadline *d, struct itimerspec *setting)
{
	*setting = (struct itimerspec){0};
	if (vdso_deadline_is_timer(d))
		return vdso_argument_read(memory, d->at, setting, sizeof(*setting)) != 0 || !vdso_timer_is_valid(setting) ||
		       vdso_timer_is_none(setting);
	return vdso_argument_read(memory, d->at, &setting->it_value, sizeof(setting->it_value)) != 0 ||
	       !vdso_timer_is_valid(setting);
}

void vdso_turn_answer(struct vdso_follower *f, const struct seccomp_notif *n)
{
	uint32_t session = vdso_sessions_of(f, (pid_t)n->pid);
	struct vdso_process process = {0};
	struct vdso_clock_record record;
	struct vdso_argument memory;
	struct itimerspec setting;
	struct vdso_deadline d;
	uint64_t version;
	bool moved = false, may_be, swapped;
	int err = 1;

	vdso_deadline_plan(n, &d);
	/* Waits and timers last: a clock that is the kernel's still may no longer be so when they end. */
	if (d.way != VDSO_DEADLINE_NONE && vdso_sessions_look(f, session, &record, &version)) {
		moved = record.clock[d.clock].kind != VDSO_KIND_JUMP;
		may_be = d.way != VDSO_DEADLINE_UNKNOWN && vdso_clock_is_wall(d.clock);
		if (moved || may_be)
			err = vdso_argument_open((pid_t)n->pid, &memory);
	}
	if (err != 0) {
		vdso_follower_warn_closed(f, (pid_t)n->pid, err);
		let_go_on(f, n->id);
		return;
	}
	swapped = vdso_standing_find(f, (pid_t)n->pid, &memory, &process);
	/* Whose memory it is, is certain once it is open and the task still waits. */
	if (!swapped || is_for_the_kernel(&memory, &d, &setting) || !vdso_notification_waits(f->listener, n->id)) {
		let_go_on(f, n->id);
	} else if (d.way == VDSO_DEADLINE_UNKNOWN) {
		warn(f, n, d.call);
		let_go_on(f, n->id);
	} else if (!moved && vdso_deadline_is_timer(&d)) {
		vdso_timers_note(f, n, session, version, &d, &setting);
		let_go_on(f, n->id);
	} else if (d.way == VDSO_DEADLINE_TIMERFD) {
		vdso_timerfd_set(f, n, &memory, session, &record.clock[d.clock], version, &d);
	} else if (d.way == VDSO_DEADLINE_TIMER && !vdso_lender_is_beyond(f, vdso_procfs_number((pid_t)n->pid, "Tgid:"))) {
		turn(f, n, 0, PLAN_TIMER | (uint64_t)d.clock);
	} else if (d.way == VDSO_DEADLINE_WAIT && process.wait != 0) {
		turn(f, n, process.wait, d.plan);
	} else {
		let_go_on(f, n->id);
	}
	vdso_argument_close(&memory);
}
