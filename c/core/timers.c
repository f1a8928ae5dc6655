#include "timers.h"

#include <dirent.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "attacher.h"
#include "borrow.h"
#include "descriptor.h"
#include "memory.h"
#include "notification.h"
#include "procfs.h"
#include "registers.h"
#include "sessions.h"
#include "source.h"
#include "standing.h"
#include "task.h"
#include "threads.h"
#include "timer.h"
#include "tracee.h"
#include "transform.h"
#include "warning.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

#define EVENT_OF(status) ((unsigned)(status) >> 16)
#define AGAIN_NS UINT64_C(50000000)
#define BEYOND_NS UINT64_C(1000000000)          /* what cannot be now may be then */
#define LONG_BEYOND_NS UINT64_C(60000000000)    /* what hardly changes before an exec */
#define OWN_FILTERS 1 /* of ours, that a program runs under */

/* What a warning is about; calls have their numbers. */
enum { ABOUT_UNLENT = 10003, ABOUT_MANY = 10004 };

/* In the memory that a lent thread has made for us: behind what it needs should we die (injected.S). */
#define LEFT_AT 64u

/* Where a lent thread is: on its way to its stop, in a call, or on its way back. */
enum step { COMES, SETS, MAPS, ASKS, SETS_ANEW, UNMAPS, GOES };

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
	struct vdso_time before;
};

/* ---- those that are remembered ---- */

static struct vdso_timer *find(const struct vdso_follower *f, pid_t task, int id, bool descriptor)
{
	struct vdso_follower_shared *s = f->shared;

	for (uint32_t i = 0; i < s->timers; i++)
		if (s->timer[i].program != 0 && s->timer[i].task == task && s->timer[i].id == id &&
		    s->timer[i].descriptor == descriptor)
			return &s->timer[i];
	return NULL;
}

/* The kernel's clock of that id, or what it is another view of. */
static int host_time(int id, struct vdso_time *ret)
{
	struct vdso_source source;
	int error;

	vdso_source_init(&source);
	error = source.clock(source.context, id, ret);
	if (error != 0)
		error = source.clock(source.context, vdso_clock_base(id), ret);
	vdso_source_deinit(&source);
	return error;
}

static bool is_over(const struct vdso_timer *timer)
{
	return vdso_procfs_start(timer->program) != timer->start;
}

/* One without an interval, whose time has come: nothing sets it anew any more. */
static bool is_spent(const struct vdso_timer *timer)
{
	const struct timespec *set = &timer->set.armed.it_value, *next = &timer->next.armed.it_value;
	const struct timespec *last = next->tv_sec > set->tv_sec ? next : set;
	struct vdso_time now;

	return timer->set.armed.it_interval.tv_sec == 0 && timer->set.armed.it_interval.tv_nsec == 0 &&
	       host_time(timer->clock, &now) == 0 && last->tv_sec < now.sec;
}

static struct vdso_timer *find_free(struct vdso_follower_shared *s)
{
	for (uint32_t i = 0; i < s->timers; i++)
		if (s->timer[i].program == 0)
			return &s->timer[i];
	return NULL;
}

static struct vdso_timer *take(struct vdso_follower *f)
{
	struct vdso_follower_shared *s = f->shared;
	uint64_t now = vdso_threads_now_ns();
	struct vdso_timer *free;

	while (s->timers > 0 && s->timer[s->timers - 1].program == 0)
		s->timers--;
	free = find_free(s);
	/* Programs end without a word, and timers too: before more room is taken, theirs is. Each time that as many have been added. */
	if (free == NULL && s->timers >= 64 && (s->timers & (s->timers - 1)) == 0 && now >= f->timers_sweep_ns) {
		for (uint32_t i = 0; i < s->timers; i++)
			if (is_spent(&s->timer[i]) || is_over(&s->timer[i]))
				s->timer[i].program = 0;
		if (s->timers == VDSO_FOLLOWER_TIMERS) /* full, it would be each time */
			f->timers_sweep_ns = now + BEYOND_NS;
		free = find_free(s);
	}
	if (free == NULL && s->timers < VDSO_FOLLOWER_TIMERS)
		free = &s->timer[s->timers++];
	return free;
}

static void remember(struct vdso_follower *f, const struct vdso_timer *timer)
{
	struct vdso_timer *place = find(f, timer->task, timer->id, timer->descriptor);

	if (place == NULL)
		place = take(f);
	if (place != NULL)
		*place = *timer;
	else if (vdso_follower_first_time(f, timer->program, ABOUT_MANY))
		vdso_warn(timer->program, "more than %u timers are set by the session's clock: others are not set anew when it changes",
			  VDSO_FOLLOWER_TIMERS);
}

static void warn_unlent(struct vdso_follower *f, pid_t program, int error)
{
	char name[32];

	if (error == -ESRCH || !vdso_follower_first_time(f, program, ABOUT_UNLENT))
		return;
	vdso_procfs_name(program, name, sizeof(name));
	vdso_warn(program, "%s (pid %d) has a timer for an absolute time of the moved clock, and the kernel goes by its own (%s)", name,
		  (int)program, strerror(-error));
}

/* What the timer is set to next, from its time in `next.wanted` on: known to a successor before it is done. */
static int prepare(const struct vdso_clock *clock, struct vdso_timer *timer)
{
	struct vdso_time now;
	int error = host_time(timer->clock, &now);

	if (error == 0)
		vdso_timer_translate(clock, now, &timer->next.wanted, &timer->next.armed);
	return error;
}

/* Whether of a timer `left` is left as we have set it. Puts its time that comes next into next.wanted. */
static bool is_still(struct vdso_timer *timer, const struct itimerspec *left, struct vdso_time before, struct vdso_time after)
{
	struct itimerspec wanted = timer->set.wanted;

	if (!vdso_timer_is_still(&timer->set.armed, left, before, after, &wanted)) {
		wanted = timer->next.wanted;
		if (!vdso_timer_is_still(&timer->next.armed, left, before, after, &wanted))
			return false;
		timer->set = timer->next;
	}
	timer->next.wanted = wanted;
	return true;
}

/* ---- descriptors ---- */

/* Whose descriptors the thread's are: its program's, or its own (CLONE_FILES). */
static pid_t whose_descriptors(pid_t tid, pid_t program)
{
	return tid == program || syscall(SYS_kcmp, tid, program, KCMP_FILES, 0, 0) <= 0 ? program : tid;
}

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

/* What a notified call is about, but for the setting itself. */
static struct vdso_timer called_for(const struct seccomp_notif *n, uint32_t session, uint64_t version,
				    const struct vdso_deadline *d)
{
	bool descriptor = d->way == VDSO_DEADLINE_TIMERFD;
	pid_t program = vdso_procfs_number((pid_t)n->pid, "Tgid:");

	return (struct vdso_timer){
		.program = program,
		.task = descriptor ? whose_descriptors((pid_t)n->pid, program) : program,
		.id = (int)n->data.args[0],
		.descriptor = descriptor,
		.clock = d->clock,
		.flags = (int)n->data.args[1],
		.session = session,
		.start = vdso_procfs_start(program),
		.version = version,
	};
}

void vdso_timers_note(struct vdso_follower *f, const struct seccomp_notif *n, uint32_t session, uint64_t version,
		      const struct vdso_deadline *d, const struct itimerspec *wanted)
{
	struct vdso_timer timer = called_for(n, session, version, d);

	timer.set.wanted = timer.set.armed = *wanted;
	remember(f, &timer);
}

void vdso_timers_set_descriptor(struct vdso_follower *f, const struct seccomp_notif *n, const struct vdso_argument *memory,
				uint32_t session, const struct vdso_clock *clock, uint64_t version,
				const struct vdso_deadline *d)
{
	struct vdso_timer timer = called_for(n, session, version, d);
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
			warn_unlent(f, timer.program, fd);
		vdso_notification_go_on(f->listener, n->id);
		return;
	}
	error = prepare(clock, &timer);
	if (error == 0 && timerfd_settime(fd, timer.flags, &timer.next.armed, &old) != 0)
		error = -errno;
	close(fd);
	timer.set = timer.next;
	if (error == 0)
		remember(f, &timer);
	if (error == 0 && n->data.args[3] != 0)
		error = vdso_argument_write(memory, n->data.args[3], &old, sizeof(old));
	vdso_notification_answer(f->listener, n->id, 0, error);
}

/* False: it is no longer that timer as we have set it. Since we gave it back, its program may have done anything. */
static bool set_descriptor_anew(const struct vdso_clock *clock, struct vdso_timer *timer)
{
	int fd = is_over(timer) ? -1 : vdso_descriptor_copy(timer->task, timer->id);
	struct information information, missed;
	struct vdso_time before, after;
	struct itimerspec left;
	bool still;

	if (fd < 0)
		return false;
	still = host_time(timer->clock, &before) == 0 && timerfd_gettime(fd, &left) == 0 && host_time(timer->clock, &after) == 0;
	read_information(fd, &information);
	still = still && information.clock == timer->clock && (information.flags & TFD_TIMER_ABSTIME) != 0 &&
		is_still(timer, &left, before, after) && prepare(clock, timer) == 0 &&
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

/* ---- a process's timers ---- */

static struct vdso_errand *errand_of(const struct vdso_follower *f, pid_t tid)
{
	struct vdso_errand *e = f->errands;

	while (e != NULL && e->borrow.tid != tid)
		e = e->next;
	return e;
}

/* Whether one of its threads is about to set its timers anew, or does. */
static bool has_errand(const struct vdso_follower *f, pid_t program)
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

void vdso_timers_lost(struct vdso_follower *f, pid_t tid)
{
	struct vdso_errand *e = errand_of(f, tid);

	if (e != NULL)
		finish(f, e);
}

/* ---- programs whose threads cannot be borrowed ---- */

static struct vdso_lender *find_lender(const struct vdso_follower *f, pid_t program)
{
	for (uint32_t i = 0; i < VDSO_FOLLOWER_LENDERS; i++)
		if (f->lender[i].program == program)
			return (struct vdso_lender *)&f->lender[i];
	return NULL;
}

static uint64_t last_of(const struct vdso_lender *l)
{
	return l->program == 0 ? 0 : l->beyond_until_ns > l->busy_since_ns ? l->beyond_until_ns : l->busy_since_ns;
}

/* The same; one that is not known yet takes the place of the one that has been known for longest. */
static struct vdso_lender *take_lender(struct vdso_follower *f, pid_t program)
{
	struct vdso_lender *l = find_lender(f, program);

	if (l != NULL)
		return l;
	l = f->lender;
	for (uint32_t i = 1; i < VDSO_FOLLOWER_LENDERS; i++)
		if (last_of(&f->lender[i]) < last_of(l))
			l = &f->lender[i];
	*l = (struct vdso_lender){.program = program};
	return l;
}

static void forget_lender(struct vdso_follower *f, pid_t program)
{
	struct vdso_lender *l = find_lender(f, program);

	if (l != NULL)
		*l = (struct vdso_lender){0};
}

void vdso_timers_forget(struct vdso_follower *f, pid_t program)
{
	forget_lender(f, program);
	for (uint32_t i = 0; i < f->shared->timers; i++)
		if (f->shared->timer[i].program == program && !f->shared->timer[i].descriptor)
			f->shared->timer[i].program = 0;
}

bool vdso_timers_beyond(const struct vdso_follower *f, pid_t program)
{
	const struct vdso_lender *l = find_lender(f, program);

	return l != NULL && vdso_threads_now_ns() < l->beyond_until_ns;
}

/* The kernel has to do for a while: tried again at once it would be tried for ever. */
static void put_beyond(struct vdso_follower *f, pid_t program, int error)
{
	bool lasts = error == -EACCES || error == -ENOSPC || error == -EFAULT;

	if (error == -ESRCH)
		return;
	take_lender(f, program)->beyond_until_ns = vdso_threads_now_ns() + (lasts ? LONG_BEYOND_NS : BEYOND_NS);
	warn_unlent(f, program, error);
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

/* Whether what was there in the program is there still, and for so long that nobody needs it any more. */
static bool is_left_alone(const struct vdso_follower *f, pid_t program)
{
	const struct vdso_lender *l = find_lender(f, program);

	return l != NULL && l->busy_since_ns != 0 && vdso_threads_now_ns() - l->busy_since_ns > VDSO_BORROW_LEFT_NS;
}

/* -EAGAIN: another thread is lent to us that has to go back first; -EBUSY: what a predecessor of ours has left is there. */
static int borrow(struct vdso_follower *f, struct vdso_errand *e)
{
	pid_t tid = e->borrow.tid;
	struct vdso_process process = {0};
	struct vdso_argument memory;
	struct vdso_lender *lender;
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
		error = vdso_borrow_begin(&e->borrow, tid, process.kernel_image, &f->area, harmless, is_left_alone(f, e->program));
	e->borrow.tid = tid;
	lender = error == -EBUSY ? take_lender(f, e->program) : find_lender(f, e->program);
	if (lender != NULL && error != -EBUSY)
		lender->busy_since_ns = 0;
	else if (lender != NULL && lender->busy_since_ns == 0)
		lender->busy_since_ns = vdso_threads_now_ns();
	return error;
}

/* It stays held, and is tried again after a pause or when another has gone back. */
static void queue(struct vdso_errand *e)
{
	e->queued_until_ns = vdso_threads_now_ns() + AGAIN_NS;
}

/* Gives it what the timer is set to next, and has it call timer_settime. */
static int call_settime(struct vdso_errand *e, uint64_t old)
{
	const struct vdso_timer *timer = &e->timer;
	uint64_t at;
	int error = vdso_borrow_give(&e->borrow, &timer->next.armed, sizeof(timer->next.armed), &at);

	if (error != 0)
		return error;
	return vdso_borrow_call(&e->borrow, SYS_timer_settime,
				(const uint64_t[6]){(uint64_t)timer->id, (uint64_t)timer->flags, at, old, VDSO_MARK, 0});
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
		put_beyond(f, e->program, error);
		finish(f, e);
		return false;
	}
	call.data = (struct seccomp_data){.nr = SYS_timer_settime, .args = {regs.rdi, regs.rsi, regs.rdx, regs.r10}};
	e->timer = called_for(&call, session, version, &d);
	error = vdso_memory_read(e->borrow.mem, &e->timer.next.wanted, sizeof(e->timer.next.wanted), regs.rdx);
	if (error == 0 && (!vdso_timer_is_valid(&e->timer.next.wanted) || vdso_timer_is_none(&e->timer.next.wanted)))
		error = -EINVAL;
	if (error == 0)
		error = prepare(&record.clock[d.clock], &e->timer);
	if (error == 0)
		error = call_settime(e, regs.r10);
	if (error != 0) { /* changed since it was looked at: made again, and looked at again */
		vdso_borrow_end(&e->borrow, NULL);
		finish(f, e);
	}
	return true;
}

bool vdso_timers_begin(struct vdso_follower *f, struct vdso_task *task, int clock)
{
	struct vdso_errand *e = begin(f, vdso_procfs_number(task->tid, "Tgid:"), task->tid, SETS);

	if (e == NULL)
		return false;
	task->phase = VDSO_TASK_LENT;
	e->clock = clock;
	return set_first(f, e);
}

/* ---- set anew ---- */

/* Calls that end by any interruption: made again, but a finite timeout begins anew. */
static bool ends_by_interruption(long number)
{
	switch (number) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case 441: /* epoll_pwait2 */
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_rt_sigtimedwait:
	case SYS_io_getevents:
		return true;
	}
	return false;
}

/* A leader that has ended before its threads is there as long as they are, and not to be held. */
static bool has_ended(pid_t tid)
{
	char state = vdso_procfs_state(tid);

	return state == 'Z' || state == 'X' || state == 0;
}

/* The thread that minds it least, 0 if there is none: best one that waits. */
static pid_t choose(const struct vdso_follower *f, pid_t program)
{
	pid_t best = 0;
	int best_rank = 3;
	struct dirent *entry;
	char path[64], line[32];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)program);
	dir = opendir(path);
	while (dir != NULL && best_rank > 0 && (entry = readdir(dir)) != NULL) {
		pid_t tid = atoi(entry->d_name);
		int rank = 2;
		FILE *file;

		if (tid <= 0 || vdso_task_find(f->shared, tid) != NULL || has_ended(tid))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
		file = fopen(path, "re");
		if (file == NULL || fgets(line, sizeof(line), file) == NULL)
			rank = 2;
		else if (line[0] >= '0' && line[0] <= '9')
			rank = ends_by_interruption(atol(line)) ? 2 : 0;
		else
			rank = 1;
		if (file != NULL)
			fclose(file);
		if (rank < best_rank) {
			best = tid;
			best_rank = rank;
		}
	}
	if (dir != NULL)
		closedir(dir);
	return best;
}

/* The versions of the sessions' records, each looked up once. */
struct versions {
	uint64_t version[VDSO_FOLLOWER_SESSIONS];
	bool known[VDSO_FOLLOWER_SESSIONS], good[VDSO_FOLLOWER_SESSIONS];
};

/* Whether its session's clock no longer goes by the record that it was set by. */
static bool is_stale(const struct vdso_follower *f, struct versions *now, const struct vdso_timer *timer)
{
	uint32_t session = timer->session;
	struct vdso_clock_record record;

	if (timer->program == 0 || f->shared->session[session].counter)
		return false;
	if (!now->known[session])
		now->good[session] = vdso_sessions_look(f, session, &record, &now->version[session]);
	now->known[session] = true;
	return now->good[session] && now->version[session] != timer->version;
}

/* Nothing is to be tried for the program's until the clock changes again. */
static void give_up(struct vdso_follower *f, pid_t program, int error)
{
	struct versions now = {0};

	warn_unlent(f, program, error);
	for (uint32_t i = 0; i < f->shared->timers; i++) {
		struct vdso_timer *t = &f->shared->timer[i];

		if (t->program == program && !t->descriptor && is_stale(f, &now, t))
			t->version = now.version[t->session];
	}
}

static void try_again(struct vdso_follower *f)
{
	f->timers_due_ns = vdso_threads_now_ns() + AGAIN_NS;
}

static void lend(struct vdso_follower *f, pid_t program)
{
	pid_t tid = choose(f, program);
	struct vdso_task *task;
	int error;

	/* An exec takes the timers with it, unless it fails. */
	task = tid != 0 && !vdso_task_sibling_in_exec(f->shared, tid) ? vdso_task_take(f->shared) : NULL;
	if (task == NULL) {
		try_again(f);
		return;
	}
	error = vdso_tracee_seize(tid);
	if (error == -EPERM && vdso_attacher_of(tid) != VDSO_ATTACHER_NONE) {
		try_again(f);
		return;
	}
	if (error == 0 && begin(f, program, tid, COMES) == NULL) {
		error = -ENOMEM;
		vdso_tracee_detach(tid, 0);
	}
	if (error == -ESRCH || (error == -EPERM && has_ended(tid))) { /* it has just ended: another one will do */
		try_again(f);
		return;
	}
	if (error != 0) {
		give_up(f, program, error);
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

void vdso_timers_anew(struct vdso_follower *f)
{
	struct versions now = {0};

	f->timers_due_ns = 0;
	f->timers_passed_over = false;
	for (uint32_t i = 0; i < f->shared->timers; i++) {
		struct vdso_timer *timer = &f->shared->timer[i];
		struct vdso_clock_record record;
		uint64_t version;

		if (!is_stale(f, &now, timer))
			continue;
		/* One that has been detached keeps its timers as they are. */
		if (f->shared->attached && vdso_sessions_of(f, timer->program) != timer->session) {
			timer->program = 0;
			continue;
		}
		if (timer->descriptor) {
			if (!vdso_sessions_look(f, timer->session, &record, &version))
				continue;
			if (set_descriptor_anew(&record.clock[timer->clock], timer))
				timer->version = version;
			else
				timer->program = 0;
		} else if (is_over(timer)) {
			timer->program = 0;
		} else if (has_errand(f, timer->program)) {
			f->timers_passed_over = true;
		} else {
			lend(f, timer->program);
		}
	}
}

int64_t vdso_timers_patience_ns(const struct vdso_follower *f)
{
	uint64_t now = vdso_threads_now_ns(), due = f->timers_due_ns;

	for (const struct vdso_errand *e = f->errands; e != NULL; e = e->next)
		if (e->queued_until_ns != 0 && (due == 0 || e->queued_until_ns < due))
			due = e->queued_until_ns;
	return due == 0 ? -1 : due > now ? (int64_t)(due - now) : 0;
}

/* The next of the program's timers, from index on, that the clock has left behind. */
static int ask_next(struct vdso_follower *f, struct vdso_errand *e)
{
	uint64_t room = e->borrow.room;
	struct versions now = {0};

	for (; e->index < f->shared->timers; e->index++) {
		const struct vdso_timer *t = &f->shared->timer[e->index];

		if (t->program != e->program || t->descriptor || !is_stale(f, &now, t))
			continue;
		e->timer = e->asked = *t;
		e->step = ASKS;
		if (host_time(t->clock, &e->before) != 0)
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
	if (result != 0 || host_time(t->clock, &after) != 0 ||
	    vdso_memory_read(e->borrow.mem, &left, sizeof(left), e->borrow.room + LEFT_AT) != 0 ||
	    !is_still(t, &left, e->before, after) || !vdso_sessions_look(f, t->session, &record, &version)) {
		/* It has expired, or its program has set or deleted it since. */
		remembered->program = 0;
		return ask_next(f, e);
	}
	if (memcmp(&t->set.wanted, &t->next.wanted, sizeof(t->set.wanted)) != 0 && signal_waits(e->program, t->id))
		vdso_timer_step_back(&t->next.wanted);
	error = prepare(&record.clock[t->clock], t);
	if (error != 0)
		return error;
	*remembered = e->asked = *t;
	t->version = version;
	e->step = SETS_ANEW;
	return call_settime(e, 0);
}

/* Its call has ended: the next one, or the way back. */
static void advance(struct vdso_follower *f, struct vdso_errand *e, int64_t result)
{
	struct vdso_timer *remembered;
	struct versions now = {0};
	int error = 0;

	switch (e->step) {
	case SETS:
		e->timer.set = e->timer.next;
		if (result == 0) {
			remember(f, &e->timer);
			f->timers_passed_over |= is_stale(f, &now, &e->timer); /* the clock was changed meanwhile */
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
		e->timer.set = e->timer.next;
		remembered = still_remembered(f, e);
		if (remembered != NULL) {
			*remembered = e->timer;
			if (result != 0)
				remembered->program = 0;
		}
		error = ask_next(f, e);
		break;
	default:
		e->step = GOES;
		vdso_borrow_return(&e->borrow);
		return;
	}
	if (error != 0) {
		give_up(f, e->program, error);
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
		give_up(f, e->program, error);
	finish(f, e);
	if (error == -EBUSY || error == -ESRCH)
		try_again(f);
}

void vdso_timers_go_on(struct vdso_follower *f)
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
	if (f->timers_due_ns != 0 && f->timers_due_ns <= now)
		vdso_timers_anew(f);
}

/* Something has spoilt what was put there: put back as it was, it goes by the kernel. */
static void save(struct vdso_follower *f, struct vdso_errand *e)
{
	if (e->step == SETS)
		put_beyond(f, e->program, -EFAULT);
	else
		give_up(f, e->program, -EFAULT);
	vdso_borrow_end(&e->borrow, NULL);
	finish(f, e);
}

void vdso_timers_stopped(struct vdso_follower *f, struct vdso_task *task, int status)
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
