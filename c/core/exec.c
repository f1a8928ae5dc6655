#include "exec.h"

#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "count.h"
#include "errand.h"
#include "leaving.h"
#include "notification.h"
#include "procfs.h"
#include "question.h"
#include "sessions.h"
#include "sleep.h"
#include "standing.h"
#include "task.h"
#include "timers.h"
#include "tracee.h"
#include "warning.h"

/* What a warning is about, so that it is given once. */
enum { ABOUT_FOREIGN = -1, ABOUT_TRACED = -2, ABOUT_PTRACE = -3, ABOUT_SETUID = -4 };

bool vdso_exec_is(const struct seccomp_data *data)
{
	if (data->arch == AUDIT_ARCH_I386)
		return data->nr == 11 || data->nr == 358;
	return data->nr == SYS_execve || data->nr == SYS_execveat || data->nr == (0x40000000 | 520) ||
	       data->nr == (0x40000000 | 545);
}

/* A process id that has come to a new program starts anew. */
static void forget_warnings(struct vdso_follower *f, int32_t program)
{
	for (unsigned i = 0; i < VDSO_FOLLOWER_WARNED; i++)
		if (f->shared->warned[i].program == program && f->shared->warned[i].about >= 0)
			f->shared->warned[i].program = 0;
}

/* A follower died while it held it, and the next one came too late to see. Its standard error stream has gone with it: the
 * command's has to do. */
static void warn_ended(struct vdso_follower *f, pid_t tid)
{
	vdso_warn(f->shared->command, "a program (pid %d) has ended, and may %s: %s", (int)tid,
		  f->counts != NULL ? "not have been counted" : "have run on the host's clock", strerror(EOWNERDEAD));
}

/* Whether ptrace was refused because somebody else is tracing it. */
static void warn_unheld(struct vdso_follower *f, pid_t tid, bool strict, int error)
{
	int tracer = vdso_procfs_number(tid, "TracerPid:");
	char name[32];

	if (tracer > 0) {
		if (!vdso_follower_first_time(f, tracer, ABOUT_TRACED))
			return;
		vdso_procfs_name(tracer, name, sizeof(name));
		vdso_warn(tid, "what %s (pid %d) traces %s", name, tracer,
			  strict              ? "is not started: it could only run on the host's clock" :
			  f->counts != NULL ? "is not counted" :
						"keeps the host's clock");
	} else if (error != -ESRCH && vdso_follower_first_time(f, 0, ABOUT_PTRACE)) {
		vdso_warn(tid, "programs cannot be traced here (%s) and %s; in a container try --cap-add SYS_PTRACE", strerror(-error),
			  strict ? "are not started" : f->counts != NULL ? "are not counted" : "run on the host's clock");
	}
}

void vdso_exec_hold(struct vdso_follower *f, struct vdso_task *task)
{
	int error;

	task->phase = VDSO_TASK_NOTIFIED;
	error = vdso_task_seize(f, task);
	if (error == -EAGAIN)
		return;
	if (error != 0) {
		warn_unheld(f, task->tid, vdso_sessions_strict(f, task), error);
		task->phase = VDSO_TASK_NONE;
		if (vdso_sessions_strict(f, task))
			vdso_notification_answer(f->listener, task->id, 0, -EPERM);
		else
			vdso_notification_go_on(f->listener, task->id);
		return;
	}
	vdso_notification_go_on(f->listener, task->id); /* -ENOENT: its wait was interrupted, and the stop below says so */
	task->phase = VDSO_TASK_HELD;
	vdso_tracee_interrupt(task->tid);
}

void vdso_exec_notified(struct vdso_follower *f, const struct seccomp_notif *n)
{
	pid_t tid = (pid_t)n->pid;
	struct vdso_task *task = vdso_task_find(f->shared, tid);
	uint32_t session;

	if (task != NULL && (task->phase == VDSO_TASK_HELD || task->phase == VDSO_TASK_LATE)) {
		/* Its last exec failed and it has made the next before our interrupt came: a search along a PATH. It is
		 * still held, and the interrupt still pending. */
		vdso_notification_go_on(f->listener, n->id);
		vdso_tracee_interrupt(tid);
		return;
	}
	session = vdso_sessions_of(f, tid);
	if (session == VDSO_ON_HOST || (f->counts != NULL && vdso_counts_ended(f->counts))) {
		vdso_standing_forget(f, tid);
		vdso_notification_go_on(f->listener, n->id);
		return;
	}
	if (task == NULL)
		task = vdso_task_take(f->shared);
	if (task == NULL) { /* more execs at once than we can hold */
		vdso_warn_unswapped(tid, vdso_follower_fate(f, vdso_sessions_strict(f, NULL)), -EAGAIN);
		if (vdso_sessions_strict(f, NULL))
			vdso_notification_answer(f->listener, n->id, 0, -EAGAIN);
		else
			vdso_notification_go_on(f->listener, n->id);
		return;
	}
	if (f->shared->command == 0)
		f->shared->command = tid;
	vdso_leaving_note(f, tid);
	*task = (struct vdso_task){.tid = tid, .id = n->id, .session = session};
	if (vdso_task_sibling_held(f->shared, tid))
		task->phase = VDSO_TASK_WAITING;
	else
		vdso_exec_hold(f, task);
}

void vdso_exec_stopped(struct vdso_follower *f, pid_t tid)
{
	pid_t former = vdso_tracee_former(tid);
	struct vdso_task *task = vdso_task_find(f->shared, former);
	struct vdso_swap swap = {
		.landing = f->landing, .image_fd = -1, .clock_fd = -1, .counts = -1, .strict = vdso_sessions_strict(f, task)};
	char name[32];
	int error = 0;

	if (task == NULL) { /* cannot be; but nothing may be left held */
		vdso_tracee_detach(tid, 0);
		return;
	}
	if (former != tid) { /* the leader, which this exec has killed without a word to us */
		struct vdso_task *leader = vdso_task_find(f->shared, tid);

		if (leader != NULL)
			leader->phase = VDSO_TASK_NONE;
		vdso_errand_lost(f, tid);
	}
	forget_warnings(f, tid);
	vdso_sessions_forget(f, tid);
	vdso_timers_forget(f, tid);
	if (f->no_new_privs && vdso_procfs_setuid(tid) && vdso_follower_first_time(f, 0, ABOUT_SETUID)) {
		vdso_procfs_name(tid, name, sizeof(name));
		vdso_warn(tid, "%s is a setuid program and runs without its privilege: following needs no_new_privs here", name);
	}
	if (f->listener < 0) { /* nobody answers questions */
		swap.image_fd = f->image_fd;
		swap.clock_fd = f->clock_fd[0];
		swap.flags = vdso_sessions_flags(f, tid, 0);
		if (f->counts != NULL)
			swap.counts = f->counts_fd | (int64_t)vdso_question_program(f, tid) << 20;
	}

	switch (vdso_tracee_order(tid, &f->area, &swap, &error)) {
	case VDSO_SWAP_ORDERED:
		/* Before the detach: it may ask before we have come to the next line. */
		task->tid = tid;
		task->phase = f->listener < 0 ? VDSO_TASK_NONE : VDSO_TASK_ORDERED;
		vdso_sleep_begin(f, tid, task->session);
		vdso_tracee_detach(tid, 0);
		return;
	case VDSO_SWAP_FOREIGN:
		if (vdso_follower_first_time(f, 0, ABOUT_FOREIGN)) {
			vdso_procfs_name(tid, name, sizeof(name));
			vdso_warn(tid, "%s is a 32-bit program and %s", name,
				  swap.strict         ? "is not started: it could only run on the host's clock" :
				  f->counts != NULL ? "is not counted; 64-bit programs that it starts are" :
						      "keeps the host's clock; 64-bit programs that it starts do not");
		}
		break;
	case VDSO_SWAP_REFUSED:
		vdso_warn_unswapped(tid, vdso_follower_fate(f, swap.strict), error);
		break;
	}
	task->phase = VDSO_TASK_NONE;
	if (swap.strict)
		vdso_tracee_refuse(tid);
	vdso_tracee_detach(tid, 0);
}

void vdso_exec_failed(struct vdso_follower *f, struct vdso_task *task)
{
	/* Or our predecessor died while it held it, and it has started without us. */
	if (task->phase == VDSO_TASK_LATE && !vdso_sessions_swapped(f, task->tid)) {
		vdso_warn_unswapped(task->tid, vdso_follower_fate(f, vdso_sessions_strict(f, task)), -EOWNERDEAD);
		if (vdso_sessions_strict(f, task))
			kill(task->tid, SIGKILL);
	}
	task->phase = VDSO_TASK_NONE;
}

void vdso_exec_ended(struct vdso_follower *f, struct vdso_task *task)
{
	if (task->phase == VDSO_TASK_LATE)
		warn_ended(f, task->tid);
	task->phase = VDSO_TASK_NONE;
}

void vdso_exec_hold_again(struct vdso_follower *f, struct vdso_task *task)
{
	if (vdso_tracee_seize(task->tid) == 0) {
		task->phase = VDSO_TASK_LATE;
		vdso_tracee_interrupt(task->tid);
	} else {
		warn_ended(f, task->tid);
		task->phase = VDSO_TASK_NONE;
	}
}
