#include "follower.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "adjust.h"
#include "counting.h"
#include "deadline.h"
#include "errand.h"
#include "exec.h"
#include "filter.h"
#include "guard.h"
#include "leaving.h"
#include "notification.h"
#include "procfs.h"
#include "question.h"
#include "reading.h"
#include "sessions.h"
#include "setting.h"
#include "sleep.h"
#include "task.h"
#include "threads.h"
#include "timers.h"
#include "timertable.h"
#include "tracee.h"
#include "turn.h"
#include "warning.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

#define X32_BIT 0x40000000
#define SOON_NS 500000 /* another tracer of ours needs no longer */
#define RENEW_NS (VDSO_RENEW_S * UINT64_C(1000000000))

#define PTRACE_EVENT_OF(status) ((unsigned)(status) >> 16)

#define ABOUT_CLOSED 10002 /* what a program is told once; calls have their numbers */

bool vdso_follower_is_told(const struct vdso_follower *f, int32_t program, int32_t about)
{
	for (unsigned i = 0; i < VDSO_FOLLOWER_WARNED; i++)
		if (f->shared->warned[i].program == program && f->shared->warned[i].about == about)
			return true;
	return false;
}

bool vdso_follower_first_time(struct vdso_follower *f, int32_t program, int32_t about)
{
	struct vdso_follower_shared *s = f->shared;

	if (vdso_follower_is_told(f, program, about))
		return false;
	s->warned[s->warnings++ % VDSO_FOLLOWER_WARNED] = (struct vdso_warned){program, about};
	return true;
}

const char *vdso_follower_fate(const struct vdso_follower *f, bool strict)
{
	if (strict)
		return "is not started, its vDSO could not be swapped";
	return f->counts != NULL ? "is not counted" : "runs on the host's clock";
}

void vdso_follower_warn_closed(struct vdso_follower *f, pid_t tid, int error)
{
	pid_t program = vdso_procfs_number(tid, "Tgid:");
	char name[32];

	if ((error != -EACCES && error != -EPERM) || !vdso_follower_first_time(f, program, ABOUT_CLOSED))
		return;
	vdso_procfs_name(program, name, sizeof(name));
	vdso_warn(program, "%s (pid %d) cannot be looked into (%s): its system calls go by the host's clock", name, (int)program,
		  strerror(-error));
}

int vdso_follower_tell(const struct vdso_follower *f, char what, int32_t value)
{
	struct vdso_follower_message message = {what, value};

	if (f->control < 0)
		return 0;
	return send(f->control, &message, sizeof(message), MSG_NOSIGNAL) == sizeof(message) ? 0 : -errno;
}

/* ---- tasks ---- */

/* Those whose sibling has failed its exec; who was killed by its success is gone. */
static void hold_waiting(struct vdso_follower *f)
{
	f->soon = false;
	for (uint32_t i = 0; i < f->shared->tasks; i++) {
		struct vdso_task *task = &f->shared->task[i];

		if (task->phase != VDSO_TASK_WAITING)
			continue;
		if (!vdso_notification_waits(f->listener, task->id))
			task->phase = VDSO_TASK_NONE;
		else if (task->plan != 0 && !vdso_task_sibling_in_exec(f->shared, task->tid))
			vdso_turn_hold(f, task);
		else if (task->plan == 0 && !vdso_task_sibling_held(f->shared, task->tid))
			vdso_exec_hold(f, task);
	}
}

/* A held task has come to a stop that is not an exec's. */
static void on_other_stop(struct vdso_follower *f, pid_t tid, int status)
{
	struct vdso_task *task = vdso_task_find(f->shared, tid);
	int signal = PTRACE_EVENT_OF(status) == PTRACE_EVENT_STOP ? 0 : WSTOPSIG(status);

	if (task != NULL && task->phase == VDSO_TASK_DIRECT) {
		vdso_tracee_continue(tid, signal);
		return;
	}
	if (task != NULL && task->phase == VDSO_TASK_TURNED) {
		vdso_turn_stopped(f, task, signal);
		return;
	}
	if (task != NULL && task->phase == VDSO_TASK_LENT) {
		vdso_errand_stopped(f, task, status);
		return;
	}
	if (task != NULL)
		vdso_exec_failed(f, task);
	vdso_tracee_detach(tid, signal);
}

static void on_child(struct vdso_follower *f, int status)
{
	if (WIFSTOPPED(status))
		vdso_follower_tell(f, 'S', WSTOPSIG(status));
	else if (WIFCONTINUED(status))
		vdso_follower_tell(f, 'C', 0);
	else {
		vdso_follower_tell(f, 'E', status);
		f->shared->child = 0;
		close(f->control);
		f->control = -1;
	}
}

/* Everything that has stopped or ended. */
static void reap(struct vdso_follower *f)
{
	int status;
	pid_t tid;

	f->round++;
	while ((tid = waitpid(-1, &status, __WALL | WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
		struct vdso_task *task = vdso_task_find(f->shared, tid);
		bool held = task != NULL && vdso_task_is_held(task);

		if (WIFSTOPPED(status) && PTRACE_EVENT_OF(status) == PTRACE_EVENT_EXEC)
			vdso_exec_stopped(f, tid);
		else if (WIFSTOPPED(status) && held)
			on_other_stop(f, tid, status);
		else if (tid == f->shared->child)
			on_child(f, status);
		else if (WIFSTOPPED(status))
			vdso_tracee_detach(tid, 0); /* nothing may be left held */
		if (!WIFSTOPPED(status) && !WIFCONTINUED(status) && task != NULL) {
			vdso_exec_ended(f, task);
			vdso_errand_lost(f, tid);
		}
	}
	hold_waiting(f);
}

/* ---- the loop ---- */

/* Who has been detached, and what that has started, is as it would be without us. */
static bool let_host_go_on(struct vdso_follower *f, const struct seccomp_notif *n)
{
	if (!f->shared->attached || vdso_exec_is(&n->data) || vdso_sessions_of(f, (pid_t)n->pid) != VDSO_ON_HOST)
		return false;
	if (vdso_setting_is(&n->data) && !vdso_sessions_let_set(f, (pid_t)n->pid))
		vdso_notification_answer(f->listener, n->id, 0, -EPERM);
	else
		vdso_notification_go_on(f->listener, n->id);
	return true;
}

/* An x32 program's deadline or reading, on a kernel that has such programs: they keep the host's clock. */
static bool is_x32(const struct seccomp_data *data)
{
	struct seccomp_data plain = *data;

	plain.nr &= ~X32_BIT;
	return data->arch == AUDIT_ARCH_X86_64 && plain.nr != data->nr && (vdso_deadline_is(&plain) || vdso_reading_is(&plain));
}

static void dispatch(struct vdso_follower *f)
{
	struct seccomp_notif *n = (void *)f->shared->notification;
	struct vdso_task *task = vdso_task_find(f->shared, (pid_t)n->pid);

	f->round++;
	/* About to stop for us: whatever it has called for, it calls for again afterwards. */
	if (task != NULL && task->phase == VDSO_TASK_LENT)
		vdso_notification_answer(f->listener, n->id, 0, VDSO_TURNED);
	else if (let_host_go_on(f, n))
		;
	/* Let go on are execs, deadlines and readings, by name: what sets a clock is answered, and so is what is neither. */
	else if (vdso_setting_is(&n->data))
		vdso_setting_answer(f, n);
	else if (is_x32(&n->data))
		vdso_notification_go_on(f->listener, n->id);
	else if (vdso_reading_is(&n->data))
		vdso_reading_answer(f, n);
	else if (vdso_leaving_is(&n->data))
		vdso_leaving_answer(f, n);
	else if (vdso_deadline_is(&n->data))
		vdso_turn_answer(f, n);
	else if (!vdso_exec_is(&n->data))
		vdso_notification_answer(f->listener, n->id, 0, -ENOSYS);
	else if (n->data.arch == AUDIT_ARCH_X86_64 && n->data.nr == SYS_execve && n->data.args[0] == VDSO_ASK_PATH)
		vdso_question_answer(f, n);
	else
		vdso_exec_notified(f, n);
	n->id = 0;
}

static void receive(struct vdso_follower *f)
{
	/* The kernel writes it where a successor will find it. */
	memset(f->shared->notification, 0, sizeof(f->shared->notification));
	if (ioctl(f->listener, SECCOMP_IOCTL_NOTIF_RECV, f->shared->notification) == 0)
		dispatch(f);
}

/* What a follower that was killed left behind. Its tracees were let go by the kernel when it died. */
static void recover(struct vdso_follower *f)
{
	struct seccomp_notif *n = (void *)f->shared->notification;

	for (uint32_t i = 0; i < f->shared->tasks; i++) {
		struct vdso_task *task = &f->shared->task[i];

		if (task->phase == VDSO_TASK_DIRECT) {
			if (vdso_tracee_seize(task->tid) != 0)
				task->phase = VDSO_TASK_NONE;
		} else if (task->phase == VDSO_TASK_NOTIFIED && vdso_notification_waits(f->listener, task->id)) {
			/* The one being read, which comes below, or one that had waited for a sibling, and does again. */
			task->phase = VDSO_TASK_WAITING;
		} else if (task->phase == VDSO_TASK_LENT) {
			task->phase = VDSO_TASK_NONE; /* let go by its death, it goes back by itself */
		} else if (task->plan != 0 && task->phase != VDSO_TASK_NONE && task->phase != VDSO_TASK_WAITING) {
			task->phase = VDSO_TASK_NONE; /* let go by its death, it makes the call again */
		} else if (task->phase == VDSO_TASK_NOTIFIED || task->phase == VDSO_TASK_HELD ||
			   task->phase == VDSO_TASK_LATE) {
			vdso_exec_hold_again(f, task);
		}
	}
	if (n->id != 0 && vdso_notification_waits(f->listener, n->id))
		dispatch(f);
}

static void announce(struct vdso_follower *f, int error)
{
	vdso_follower_tell(f, error == 0 ? 'R' : 'X', -error);
	if (!f->front) {
		close(f->control);
		f->control = -1;
	}
}

/* Holds the one program that is swapped without being followed, and lets the command line go on. */
static void start(struct vdso_follower *f)
{
	int error = 0;

	if (f->counts != NULL)
		f->counts->followed = f->listener >= 0;
	if (f->direct > 0) {
		error = vdso_tracee_seize(f->direct);
		if (error == 0)
			*vdso_task_take(f->shared) = (struct vdso_task){.tid = f->direct, .phase = VDSO_TASK_DIRECT};
	}
	announce(f, error);
	if (f->release >= 0) {
		if (error == 0 && send(f->release, "g", 1, MSG_NOSIGNAL) != 1)
			error = -errno;
		close(f->release); /* without a word it gives up */
		f->release = -1;
	}
}

static volatile sig_atomic_t guard_died;

static void on_signal(int signal)
{
	if (signal == SIGUSR1)
		guard_died = 1;
}

/* Has the sessions' clocks watched, should anybody be told of their changes. Where no thread is to be had they are not. */
static void watch(struct vdso_follower *f)
{
	if (f->listener < 0 || vdso_watch_start(&f->watch) != 0)
		return;
	for (uint32_t i = 0; i < f->shared->sessions; i++)
		vdso_sessions_watch(f, i);
	vdso_sleep_changed(f);
}

/* Until there is something to be done without anything that happens. */
static struct timespec patience_of(const struct vdso_follower *f)
{
	const int64_t second = INT64_C(1000000000);
	const int64_t due[] = {vdso_timers_patience_ns(f), vdso_sleep_patience_ns(f), f->soon ? SOON_NS : -1,
			       f->tidy_at_ns != 0 ? second : -1};
	int64_t ret = VDSO_RENEW_S * second;

	for (size_t i = 0; i < sizeof(due) / sizeof(due[0]); i++)
		if (due[i] >= 0 && due[i] < ret)
			ret = due[i];
	return (struct timespec){.tv_sec = ret / second, .tv_nsec = ret % second};
}

int vdso_follower_run(struct vdso_follower *f, bool again)
{
	uint64_t due_ns = vdso_threads_now_ns() + RENEW_NS, now_ns;
	struct timespec patience;
	sigset_t blocked, open;
	struct sigaction action = {.sa_handler = on_signal};

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, &open);
	sigdelset(&open, SIGCHLD);
	sigdelset(&open, SIGUSR1);
	sigaction(SIGCHLD, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (!f->shared->attached) /* there the process was asked */
		f->no_new_privs = vdso_filter_wants_no_new_privs();
	/* Without a listener nothing else tells when the session, which we hold, is no longer needed. */
	f->ended = f->listener < 0 && f->direct > 0 ? (int)syscall(SYS_pidfd_open, f->direct, 0) : -1;
	/* Who is notified and who is answered take turns, so they need not wake another CPU for it. Since 6.6; else as it was. */
	if (f->listener >= 0)
		ioctl(f->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	vdso_timertable_index(f);
	if (again) {
		recover(f);
		if (f->shared->attached) /* our predecessor may not have come to it */
			announce(f, 0);
	} else {
		start(f);
	}
	watch(f);

	for (;;) {
		reap(f);
		if (f->listener < 0 && !vdso_task_any_held(f->shared) && f->shared->child == 0 && f->ended < 0)
			return 0;
		if (guard_died && !vdso_task_any_held(f->shared)) {
			guard_died = 0;
			vdso_watch_stop(&f->watch);
			vdso_guard_replace(f);
			watch(f);
		}
		now_ns = vdso_threads_now_ns();
		if (now_ns >= due_ns || (f->tidy_at_ns != 0 && now_ns >= f->tidy_at_ns)) {
			f->tidy_at_ns = 0;
			vdso_sessions_tidy(f);
		}
		if (now_ns >= due_ns) {
			vdso_sessions_renew(f);
			due_ns = now_ns + RENEW_NS;
		}
		if (vdso_timers_patience_ns(f) == 0)
			vdso_timers_go_on(f);
		if (vdso_sleep_patience_ns(f) == 0)
			vdso_sleep_look(f);
		patience = patience_of(f);

		/* Only now: what is above closes and opens them, the watch's with each guard. */
		struct pollfd wait[4] = {
			{.fd = f->listener, .events = POLLIN},
			{.fd = f->front ? f->control : -1, .events = 0},
			{.fd = f->ended, .events = POLLIN},
			{.fd = f->watch.changed, .events = POLLIN},
		};

		if (ppoll(wait, 4, &patience, &open) <= 0)
			continue;
		if (wait[3].revents != 0 && vdso_watch_take(&f->watch)) {
			vdso_timers_anew(f);
			vdso_sleep_changed(f);
		}
		if (wait[0].revents & POLLIN)
			receive(f);
		else if (wait[0].revents & POLLHUP) {
			/* The last program under the filter is gone; if we are its parent, its status may be still to come.
			 * POLLERR alone says only that a signal came while the kernel waited for the listener's lock. */
			if (f->shared->child == 0)
				return 0;
			close(f->listener);
			f->listener = -1;
		}
		if (wait[2].revents != 0) {
			close(f->ended);
			f->ended = -1;
		}
		if (wait[1].revents & (POLLHUP | POLLERR)) {
			/* The command line was killed: the command goes with it. */
			if (f->shared->child > 0)
				kill(f->shared->child, SIGKILL);
			close(f->control);
			f->control = -1;
		}
	}
}
