#include "timers.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "errand.h"
#include "lender.h"
#include "procfs.h"
#include "sessions.h"
#include "source.h"
#include "threads.h"
#include "timer.h"
#include "timerfd.h"
#include "timertable.h"
#include "transform.h"
#include "warning.h"

#define AGAIN_NS UINT64_C(50000000)
#define NOTED_NS UINT64_C(1000000000) /* a thread that has been let go on has run by then */
#define NEVERS (UINT32_C(1) << 20)

/* What a warning is about; calls have their numbers. */
enum { ABOUT_UNLENT = 10003, ABOUT_MANY = 10004 };

int vdso_timers_host_time(int id, struct vdso_time *ret)
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

bool vdso_timers_is_over(const struct vdso_timer *timer)
{
	return vdso_procfs_start(timer->program) != timer->start;
}

bool vdso_timers_is_spent(const struct vdso_timer *timer)
{
	const struct timespec *set = &timer->set.armed.it_value, *next = &timer->next.armed.it_value;
	const struct timespec *last = next->tv_sec > set->tv_sec ? next : set;
	struct vdso_time now;

	return timer->set.armed.it_interval.tv_sec == 0 && timer->set.armed.it_interval.tv_nsec == 0 &&
	       vdso_timers_host_time(timer->clock, &now) == 0 && last->tv_sec < now.sec;
}

void vdso_timers_remember(struct vdso_follower *f, const struct vdso_timer *timer)
{
	if (vdso_timertable_put(f, timer) == NULL && vdso_follower_first_time(f, timer->program, ABOUT_MANY))
		vdso_warn(timer->program, "more than %u timers are set by the session's clock: others are not set anew when it changes",
			  VDSO_FOLLOWER_TIMERS);
}

void vdso_timers_forget(struct vdso_follower *f, pid_t program)
{
	vdso_lender_forget(f, program);
	for (uint32_t i = 0; i < f->shared->timers; i++)
		if (f->shared->timer[i].program == program && !f->shared->timer[i].descriptor)
			vdso_timertable_drop(f, &f->shared->timer[i]);
}

void vdso_timers_warn(struct vdso_follower *f, pid_t program, int error)
{
	char name[32];

	if (error == -ESRCH || !vdso_follower_first_time(f, program, ABOUT_UNLENT))
		return;
	vdso_procfs_name(program, name, sizeof(name));
	vdso_warn(program, "%s (pid %d) has a timer for an absolute time of the moved clock, and the kernel goes by its own (%s)",
		  name, (int)program, strerror(-error));
}

int vdso_timers_prepare(struct vdso_follower *f, const struct vdso_clock *clock, struct vdso_timer *timer)
{
	struct timespec *at = &timer->next.armed.it_value;
	struct vdso_time now;
	int error = vdso_timers_host_time(timer->clock, &now);

	if (error != 0)
		return error;
	timer->noted_until_ns = 0;
	vdso_timer_translate(clock, now, &timer->next.wanted, &timer->next.armed);
	/* A ms apart, which is far more than what is left of a timer can be read wrong by. */
	if (at->tv_sec == VDSO_TIMER_NEVER_S) {
		uint32_t number = f->shared->nevers++ % NEVERS;

		*at = (struct timespec){.tv_sec = at->tv_sec + number / 1000, .tv_nsec = (long)(number % 1000) * 1000000};
	}
	return 0;
}

bool vdso_timers_is_still(struct vdso_timer *timer, const struct itimerspec *left, struct vdso_time before,
			  struct vdso_time after)
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

bool vdso_timers_was_set(const struct vdso_timer *timer, const struct itimerspec *old, struct vdso_time before)
{
	struct itimerspec wanted = timer->set.wanted;
	struct vdso_time after;

	return vdso_timers_host_time(timer->clock, &after) == 0 &&
	       !vdso_timer_is_still(&timer->set.armed, old, before, after, &wanted) &&
	       !(vdso_timer_is_none(old) && vdso_timer_is_due(&timer->set.armed, after));
}

/* Whose descriptors the thread's are: its program's, or its own (CLONE_FILES). */
static pid_t whose_descriptors(pid_t tid, pid_t program)
{
	return tid == program || syscall(SYS_kcmp, tid, program, KCMP_FILES, 0, 0) <= 0 ? program : tid;
}

struct vdso_timer vdso_timers_called(const struct seccomp_notif *n, uint32_t session, uint64_t version,
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
	struct vdso_timer timer = vdso_timers_called(n, session, version, d);

	timer.set.wanted = timer.set.armed = *wanted;
	timer.noted_until_ns = vdso_threads_now_ns() + NOTED_NS;
	vdso_timers_remember(f, &timer);
}

bool vdso_timers_is_stale(const struct vdso_follower *f, struct vdso_timers_versions *now, const struct vdso_timer *timer)
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

void vdso_timers_give_up(struct vdso_follower *f, pid_t program, int error)
{
	struct vdso_timers_versions now = {0};

	vdso_timers_warn(f, program, error);
	for (uint32_t i = 0; i < f->shared->timers; i++) {
		struct vdso_timer *t = &f->shared->timer[i];

		if (t->program == program && !t->descriptor && vdso_timers_is_stale(f, &now, t))
			t->version = now.version[t->session];
	}
}

void vdso_timers_try_again(struct vdso_follower *f)
{
	f->timers_due_ns = vdso_threads_now_ns() + AGAIN_NS;
}

bool vdso_timers_may_come(struct vdso_follower *f, const struct vdso_timer *timer)
{
	bool ret = vdso_threads_now_ns() < timer->noted_until_ns;

	if (ret)
		vdso_timers_try_again(f);
	return ret;
}

/* False: it is nowhere where it was set from. */
static bool set_descriptor_anew(struct vdso_follower *f, struct vdso_timer *timer)
{
	struct vdso_clock_record record;
	uint64_t version;

	if (!vdso_sessions_look(f, timer->session, &record, &version))
		return true;
	if (!vdso_timerfd_set_anew(f, &record.clock[timer->clock], timer))
		return false;
	timer->version = version;
	return true;
}

/* Those whose program has ended, or closed them: who has inherited one still waits for it. */
static void set_lost_anew(struct vdso_follower *f, struct vdso_timers_versions *now)
{
	vdso_timerfd_search(f);
	for (uint32_t i = 0; i < f->shared->timers; i++) {
		struct vdso_timer *t = &f->shared->timer[i];

		if (t->descriptor && vdso_timers_is_stale(f, now, t) && !set_descriptor_anew(f, t))
			vdso_timertable_drop(f, t);
	}
}

void vdso_timers_anew(struct vdso_follower *f)
{
	struct vdso_timers_versions now = {0};
	bool lost = false;

	f->timers_due_ns = 0;
	f->timers_passed_over = false;
	for (uint32_t i = 0; i < f->shared->timers; i++) {
		struct vdso_timer *timer = &f->shared->timer[i];

		if (!vdso_timers_is_stale(f, &now, timer))
			continue;
		if (vdso_timers_is_spent(timer)) {
			vdso_timertable_drop(f, timer);
		} else if (!timer->descriptor && vdso_errand_is_under_way(f, timer->program)) {
			f->timers_passed_over = true;
		} else if (vdso_timers_is_over(timer)) {
			timer->lost = timer->descriptor;
			if (!timer->descriptor)
				vdso_timertable_drop(f, timer);
		} else if (f->shared->attached && vdso_sessions_of(f, timer->program) != timer->session) {
			/* One that has been detached keeps its timers as they are. */
			vdso_timertable_drop(f, timer);
		} else if (timer->descriptor) {
			timer->lost = !set_descriptor_anew(f, timer) && !vdso_timers_may_come(f, timer);
		} else {
			vdso_errand_lend(f, timer->program);
		}
		lost = lost || (timer->program != 0 && timer->lost);
	}
	if (lost)
		set_lost_anew(f, &now);
}

int64_t vdso_timers_patience_ns(const struct vdso_follower *f)
{
	uint64_t now = vdso_threads_now_ns(), due = f->timers_due_ns, queued = vdso_errand_due_ns(f);

	if (queued != 0 && (due == 0 || queued < due))
		due = queued;
	return due == 0 ? -1 : due > now ? (int64_t)(due - now) : 0;
}

void vdso_timers_go_on(struct vdso_follower *f)
{
	vdso_errand_go_on(f);
	if (f->timers_due_ns != 0 && f->timers_due_ns <= vdso_threads_now_ns())
		vdso_timers_anew(f);
}
