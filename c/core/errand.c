#include "errand.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attacher.h"
#include "borrow.h"
#include "lender.h"
#include "memory.h"
#include "procfs.h"
#include "registers.h"
#include "sessions.h"
#include "standing.h"
#include "task.h"
#include "threads.h"
#include "timer.h"
#include "timers.h"
#include "timertable.h"
#include "tracee.h"

#define EVENT_OF(status) ((unsigned)(status) >> 16)
#define AGAIN_NS UINT64_C(50000000)
#define OWN_FILTERS 1 /* of ours, that a program runs under */

/* In the memory that a lent thread has made for us: behind what it needs should we die (injected.S). */
#define LEFT_AT 64u

/* Where a lent thread is: on its way to its stop, in a call, or on its way back. */
enum step { COMES, SETS, MAPS, ASKS, SETS_ANEW, PUTS_BACK, UNMAPS, GOES };

struct vdso_errand {
	struct vdso_errand *next;
	pid_t program;
	enum step step;
	struct vdso_borrow borrow;
	int clock; /* SETS: the timer's */
	uint64_t queued_until_ns; /* held where it has stopped, until it is tried again; 0: it is not queued */
	uint32_t index; /* of the timer that it is about */
	struct vdso_timer timer; /* as it will be remembered */
	struct vdso_timer asked; /* as it was remembered */
	struct vdso_time before; /* the timer was asked what is left of it, by the host's time of its clock */
};

static struct vdso_errand *errand_of(const struct vdso_follower *f, pid_t tid)
{
	struct vdso_errand *e = f->errands;

	while (e != NULL && e->borrow.tid != tid)
		e = e->next;
	return e;
}

bool vdso_errand_is_under_way(const struct vdso_follower *f, pid_t program)
{
	struct vdso_errand *e = f->errands;

	while (e != NULL && (e->program != program || e->step == SETS))
		e = e->next;
	return e != NULL;
}

static struct vdso_errand *begin(struct vdso_follower *f, pid_t program, pid_t tid, enum step step)
{
	struct vdso_errand *e = calloc(1, sizeof(*e)), **at = &f->errands;

	if (e == NULL)
		return NULL;
	while (*at != NULL) /* who has come first is queued first */
		at = &(*at)->next;
	e->program = program;
	e->borrow = (struct vdso_borrow){.tid = tid, .mem = -1};
	e->step = step;
	*at = e;
	return e;
}

/* The task is let go by then, or gone. */
static void finish(struct vdso_follower *f, struct vdso_errand *errand)
{
	struct vdso_task *task = vdso_task_find(f->shared, errand->borrow.tid);
	struct vdso_errand **at = &f->errands;

	if (task != NULL && task->phase == VDSO_TASK_LENT)
		task->phase = VDSO_TASK_NONE;
	while (*at != errand)
		at = &(*at)->next;
	*at = errand->next;
	vdso_borrow_lost(&errand->borrow);
	free(errand);
	for (struct vdso_errand *e = f->errands; e != NULL; e = e->next)
		if (e->queued_until_ns != 0)
			e->queued_until_ns = 1;
	/* The clock may have been changed again meanwhile, and this program left alone for that. */
	if (f->timers_passed_over)
		f->timers_due_ns = vdso_threads_now_ns();
	f->timers_passed_over = false;
}

void vdso_errand_lost(struct vdso_follower *f, pid_t tid)
{
	struct vdso_errand *e = errand_of(f, tid);

	if (e != NULL)
		finish(f, e);
}

/* Whether another thread that is lent to us has its code where this one's would be. */
static bool is_taken(const struct vdso_follower *f, const struct vdso_errand *errand)
{
	for (const struct vdso_errand *e = f->errands; e != NULL; e = e->next)
		if (e != errand && e->borrow.at != 0 &&
		    (e->program == errand->program ||
		     syscall(SYS_kcmp, e->borrow.tid, errand->borrow.tid, KCMP_VM, 0, 0) <= 0))
			return true;
	return false;
}

/* -EAGAIN: another thread is lent to us that has to go back first; -EBUSY: what a predecessor of ours has left is there. */
static int borrow(struct vdso_follower *f, struct vdso_errand *e)
{
	pid_t tid = e->borrow.tid;
	struct vdso_process process = {0};
	struct vdso_argument memory;
	int harmless, error;

	if (is_taken(f, e))
		return -EAGAIN;
	error = vdso_argument_open(tid, &memory);
	if (error != 0)
		return error;
	error = vdso_standing_find(f, tid, &memory, &process) ? 0 : -ENOENT;
	vdso_argument_close(&memory);
	/* An attached process knows; the others run under what we run under, and ours. */
	harmless = process.filters != 0 ? (int)process.filters : vdso_procfs_number(getpid(), "Seccomp_filters:") + OWN_FILTERS;
	if (error == 0)
		error = vdso_borrow_begin(&e->borrow, tid, process.kernel_image, &f->area, harmless,
					  vdso_lender_is_left_alone(f, e->program));
	e->borrow.tid = tid;
	vdso_lender_note(f, e->program, error);
	return error;
}

/* It stays held, and is tried again after a pause or when another has gone back. */
static void queue(struct vdso_errand *e)
{
	e->queued_until_ns = vdso_threads_now_ns() + AGAIN_NS;
}

/* Has it call timer_settime. */
static int call_settime(struct vdso_errand *e, int flags, const struct itimerspec *setting, uint64_t old)
{
	uint64_t at;
	int error = vdso_borrow_give(&e->borrow, setting, sizeof(*setting), &at);

	if (error != 0)
		return error;
	return vdso_borrow_call(&e->borrow, SYS_timer_settime,
				(const uint64_t[6]){(uint64_t)e->timer.id, (uint64_t)flags, at, old, VDSO_MARK, 0});
}

/* False: the errand is over, and its thread held as it was. */
static bool set_first(struct vdso_follower *f, struct vdso_errand *e)
{
	const pid_t tid = e->borrow.tid;
	struct seccomp_notif call = {.pid = (uint32_t)tid};
	uint32_t session = vdso_sessions_of(f, tid);
	struct vdso_deadline d = {.way = VDSO_DEADLINE_TIMER, .clock = e->clock};
	struct vdso_clock_record record;
	struct user_regs_struct regs;
	uint64_t version;
	int error;

	e->queued_until_ns = 0;
	if (vdso_registers_get(tid, &regs) != 0 || (int64_t)regs.rax != VDSO_TURNED || regs.orig_rax != SYS_timer_settime ||
	    !vdso_sessions_look(f, session, &record, &version)) {
		finish(f, e);
		return false;
	}
	error = borrow(f, e);
	if (error == -EAGAIN || error == -EBUSY) {
		queue(e);
		return true;
	}
	if (error != 0) {
		vdso_lender_put_beyond(f, e->program, error);
		finish(f, e);
		return false;
	}
	call.data = (struct seccomp_data){.nr = SYS_timer_settime, .args = {regs.rdi, regs.rsi, regs.rdx, regs.r10}};
	e->timer = vdso_timers_called(&call, session, version, &d);
	error = vdso_memory_read(e->borrow.mem, &e->timer.next.wanted, sizeof(e->timer.next.wanted), regs.rdx);
	if (error == 0 && (!vdso_timer_is_valid(&e->timer.next.wanted) || vdso_timer_is_none(&e->timer.next.wanted)))
		error = -EINVAL;
	if (error == 0)
		error = vdso_timers_prepare(f, &record.clock[d.clock], &e->timer);
	if (error == 0)
		error = call_settime(e, e->timer.flags, &e->timer.next.armed, regs.r10);
	if (error != 0) { /* changed since it was looked at: made again, and looked at again */
		vdso_borrow_end(&e->borrow, NULL);
		finish(f, e);
	}
	return true;
}

bool vdso_errand_begin(struct vdso_follower *f, struct vdso_task *task, int clock)
{
	struct vdso_errand *e = begin(f, vdso_procfs_number(task->tid, "Tgid:"), task->tid, SETS);

	if (e == NULL)
		return false;
	task->phase = VDSO_TASK_LENT;
	e->clock = clock;
	return set_first(f, e);
}

/* ---- set anew ---- */

void vdso_errand_lend(struct vdso_follower *f, pid_t program)
{
	pid_t tid = vdso_lender_choose(f, program);
	struct vdso_task *task;
	int error;

	/* An exec takes the timers with it, unless it fails. */
	task = tid != 0 && !vdso_task_sibling_in_exec(f->shared, tid) ? vdso_task_take(f->shared) : NULL;
	if (task == NULL) {
		vdso_timers_try_again(f);
		return;
	}
	error = vdso_tracee_seize(tid);
	if (error == -EPERM && vdso_attacher_of(tid) != VDSO_ATTACHER_NONE) {
		vdso_timers_try_again(f);
		return;
	}
	if (error == 0 && begin(f, program, tid, COMES) == NULL) {
		error = -ENOMEM;
		vdso_tracee_detach(tid, 0);
	}
	if (error == -ESRCH || (error == -EPERM && vdso_procfs_has_ended(tid))) { /* it has just ended: another one will do */
		vdso_timers_try_again(f);
		return;
	}
	if (error != 0) {
		vdso_timers_give_up(f, program, error);
		return;
	}
	*task = (struct vdso_task){.tid = tid, .phase = VDSO_TASK_LENT};
	vdso_tracee_interrupt(tid);
}

/* Gives back what MAPS has made; then it goes. */
static int unmap(struct vdso_errand *e)
{
	uint64_t room = e->borrow.room;

	e->step = UNMAPS;
	vdso_borrow_use_room(&e->borrow, 0);
	return vdso_borrow_call(&e->borrow, SYS_munmap, (const uint64_t[6]){room, VDSO_REGION_BYTES});
}

/* The next of the program's timers, from index on, that the clock has left behind. */
static int ask_next(struct vdso_follower *f, struct vdso_errand *e)
{
	uint64_t room = e->borrow.room;
	struct vdso_timers_versions now = {0};

	for (; e->index < f->shared->timers; e->index++) {
		const struct vdso_timer *t = &f->shared->timer[e->index];

		if (t->program != e->program || t->descriptor || !vdso_timers_is_stale(f, &now, t))
			continue;
		e->timer = e->asked = *t;
		e->step = ASKS;
		if (vdso_timers_host_time(t->clock, &e->before) != 0)
			return -EINVAL;
		return vdso_borrow_call(&e->borrow, SYS_timer_gettime, (const uint64_t[6]){(uint64_t)t->id, room + LEFT_AT});
	}
	return unmap(e);
}

/* Where the errand's timer is remembered; NULL: it has been set again meanwhile. */
static struct vdso_timer *still_remembered(const struct vdso_follower *f, const struct vdso_errand *e)
{
	struct vdso_timer *t = &f->shared->timer[e->index];

	return t->program == e->asked.program && t->id == e->asked.id && !t->descriptor && t->version == e->asked.version &&
			       memcmp(&t->set, &e->asked.set, sizeof(t->set)) == 0 ?
		       t :
		       NULL;
}

/* Whether a signal of the process's timer has been sent and not taken yet: setting the timer takes it back (Linux 6.13). */
static bool signal_waits(pid_t program, int timer)
{
	char path[64], line[128];
	int id, here = 0, number = 0, thread = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/timers", (int)program);
	file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "ID: %d", &id) == 1)
			here = id == timer;
		else if (here) {
			sscanf(line, "signal: %d", &number);
			sscanf(line, "notify: %*[^/]/tid.%d", &thread);
		}
	}
	if (file != NULL)
		fclose(file);
	return number > 0 && vdso_procfs_signal_waits(thread != 0 ? thread : program, number, thread == 0);
}

/* It has answered what is left of the timer: if that is still as we have set it, it is set anew. */
static int set_anew(struct vdso_follower *f, struct vdso_errand *e, int64_t result)
{
	struct vdso_timer *remembered = still_remembered(f, e), *t = &e->timer;
	struct vdso_clock_record record;
	struct itimerspec left;
	struct vdso_time after;
	uint64_t version;
	int error;

	if (remembered == NULL)
		return ask_next(f, e);
	if (result != 0 || vdso_timers_host_time(t->clock, &after) != 0 ||
	    vdso_memory_read(e->borrow.mem, &left, sizeof(left), e->borrow.room + LEFT_AT) != 0 ||
	    !vdso_timers_is_still(t, &left, e->before, after) || !vdso_sessions_look(f, t->session, &record, &version)) {
		/* It has expired, or its program has set or deleted it since. */
		if (!vdso_timers_may_come(f, remembered))
			vdso_timertable_drop(f, remembered);
		e->index++;
		return ask_next(f, e);
	}
	if (memcmp(&t->set.wanted, &t->next.wanted, sizeof(t->set.wanted)) != 0 && signal_waits(e->program, t->id))
		vdso_timer_step_back(&t->next.wanted);
	error = vdso_timers_prepare(f, &record.clock[t->clock], t);
	if (error != 0)
		return error;
	*remembered = e->asked = *t;
	t->version = version;
	e->step = SETS_ANEW;
	return call_settime(e, t->flags, &t->next.armed, e->borrow.room + LEFT_AT);
}

/* It has been set anew, unless its program had done so since we asked: to a relative time, since others are seen. That stays. */
static int set_or_put_back(struct vdso_follower *f, struct vdso_errand *e, int64_t result)
{
	struct vdso_timer *remembered = still_remembered(f, e);
	struct itimerspec old;

	if (result == 0 && vdso_memory_read(e->borrow.mem, &old, sizeof(old), e->borrow.room + LEFT_AT) == 0 &&
	    vdso_timers_was_set(&e->timer, &old, e->before)) {
		if (remembered != NULL)
			vdso_timertable_drop(f, remembered);
		e->step = PUTS_BACK;
		return call_settime(e, 0, &old, 0);
	}
	e->timer.set = e->timer.next;
	if (remembered != NULL) {
		*remembered = e->timer;
		if (result != 0)
			vdso_timertable_drop(f, remembered);
	}
	return ask_next(f, e);
}

/* Its call has ended: the next one, or the way back. */
static void advance(struct vdso_follower *f, struct vdso_errand *e, int64_t result)
{
	struct vdso_timers_versions now = {0};
	int error = 0;

	switch (e->step) {
	case SETS:
		e->timer.set = e->timer.next;
		if (result == 0) {
			vdso_timers_remember(f, &e->timer);
			f->timers_passed_over |= vdso_timers_is_stale(f, &now, &e->timer); /* the clock was changed meanwhile */
		}
		vdso_borrow_end(&e->borrow, &result);
		finish(f, e);
		return;
	case MAPS:
		if (result < 0 && result > -4096) {
			error = (int)result;
			break;
		}
		vdso_borrow_use_room(&e->borrow, (uint64_t)result);
		error = ask_next(f, e);
		break;
	case ASKS:
		error = set_anew(f, e, result);
		break;
	case SETS_ANEW:
		error = set_or_put_back(f, e, result);
		break;
	case PUTS_BACK:
		error = ask_next(f, e);
		break;
	default:
		e->step = GOES;
		vdso_borrow_return(&e->borrow);
		return;
	}
	if (error != 0) {
		vdso_timers_give_up(f, e->program, error);
		if (e->borrow.room != 0 && unmap(e) == 0)
			return;
		e->step = GOES;
		vdso_borrow_return(&e->borrow);
	}
}

/* It is ours now. */
static void arrive(struct vdso_follower *f, struct vdso_errand *e)
{
	pid_t tid = e->borrow.tid;
	int error = borrow(f, e);

	e->queued_until_ns = 0;
	if (error == -EAGAIN) {
		queue(e);
		return;
	}
	if (error == 0) {
		e->step = MAPS;
		error = vdso_borrow_call(&e->borrow, SYS_mmap,
					 (const uint64_t[6]){0, VDSO_REGION_BYTES, PROT_READ | PROT_WRITE,
							     MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX, 0});
		if (error == 0)
			return;
		vdso_borrow_end(&e->borrow, NULL);
	} else {
		vdso_tracee_detach(tid, 0);
	}
	if (error != -EBUSY && error != -ESRCH)
		vdso_timers_give_up(f, e->program, error);
	finish(f, e);
	if (error == -EBUSY || error == -ESRCH)
		vdso_timers_try_again(f);
}

uint64_t vdso_errand_due_ns(const struct vdso_follower *f)
{
	uint64_t due = 0;

	for (const struct vdso_errand *e = f->errands; e != NULL; e = e->next)
		if (e->queued_until_ns != 0 && (due == 0 || e->queued_until_ns < due))
			due = e->queued_until_ns;
	return due;
}

void vdso_errand_go_on(struct vdso_follower *f)
{
	uint64_t now = vdso_threads_now_ns();
	struct vdso_errand *next;

	for (struct vdso_errand *e = f->errands; e != NULL; e = next) {
		pid_t tid = e->borrow.tid;

		next = e->next;
		if (e->queued_until_ns == 0 || e->queued_until_ns > now)
			continue;
		if (e->step == COMES)
			arrive(f, e);
		else if (!set_first(f, e))
			vdso_tracee_detach(tid, 0);
	}
}

/* Something has spoilt what was put there: put back as it was, it goes by the kernel. */
static void save(struct vdso_follower *f, struct vdso_errand *e)
{
	if (e->step == SETS)
		vdso_lender_put_beyond(f, e->program, -EFAULT);
	else
		vdso_timers_give_up(f, e->program, -EFAULT);
	vdso_borrow_end(&e->borrow, NULL);
	finish(f, e);
}

void vdso_errand_stopped(struct vdso_follower *f, struct vdso_task *task, int status)
{
	struct vdso_errand *e = errand_of(f, task->tid);
	bool event = EVENT_OF(status) != 0;
	int64_t result;

	if (e == NULL) { /* cannot be; but nothing may be left held */
		task->phase = VDSO_TASK_NONE;
		vdso_tracee_detach(task->tid, event ? 0 : WSTOPSIG(status));
	} else if (e->queued_until_ns != 0) {
		/* held, until its turn */
	} else if (e->step == COMES && !event) {
		/* A signal on its way to the program; the interruption is still to come. */
		vdso_tracee_continue(task->tid, WSTOPSIG(status));
	} else if (e->step == COMES) {
		arrive(f, e);
	} else if (e->step == GOES && event) {
		vdso_borrow_end(&e->borrow, NULL);
		finish(f, e);
	} else if (e->step == GOES) {
		if (vdso_borrow_has_faulted(&e->borrow, status))
			save(f, e);
		else
			vdso_tracee_continue(task->tid, 0);
	} else {
		enum vdso_borrow_stop stop = vdso_borrow_stopped(&e->borrow, status, &result);

		if (stop == VDSO_BORROW_ANSWERED)
			advance(f, e, result);
		else if (stop == VDSO_BORROW_FAULTED)
			save(f, e);
	}
}
