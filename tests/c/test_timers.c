/* Timers that a program is about to set by itself when its session's clock is first moved: waited for, and set anew then. */
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "adjust.h"
#include "sessions.h"
#include "source.h"
#include "timers.h"
#include "timertable.h"
#include "transform.h"

#define HOUR 3600
#define MARGIN 600

/* A session of one clock, and a timer of ours that is noted and not set yet. */
struct about {
	struct vdso_follower *f;
	struct vdso_page page;
	struct vdso_source source;
	struct itimerspec wanted;
	int fd;
};

static bool begin(struct about *a)
{
	struct vdso_page_shape shape = vdso_clock_shape();
	struct vdso_deadline deadline = {.way = VDSO_DEADLINE_TIMERFD, .clock = CLOCK_REALTIME};
	struct seccomp_notif call = {.pid = (uint32_t)getpid()};
	struct vdso_clock_record record;
	uint64_t version;
	int page;

	*a = (struct about){.f = calloc(1, sizeof(*a->f)), .fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC)};
	a->f->shared = calloc(1, sizeof(*a->f->shared));
	a->f->shared->sessions = 1;
	vdso_timertable_index(a->f);
	vdso_source_init(&a->source);
	if (a->fd < 0 || vdso_page_create_memfd("vdso-clock", &shape, &page) != 0)
		return false;
	a->f->clock_fd[0] = dup(page);
	if (vdso_page_open_writer(page, 0, &a->page) != 0)
		return false;
	vdso_record_offset(&record, 0, 0);
	if (vdso_clock_publish(&a->page, &record, false) != 0 || !vdso_sessions_look(a->f, 0, &record, &version))
		return false;
	clock_gettime(CLOCK_REALTIME, &a->wanted.it_value);
	a->wanted.it_value.tv_sec += 2 * HOUR;
	call.data = (struct seccomp_data){.args = {(uint64_t)a->fd, TFD_TIMER_ABSTIME}};
	vdso_timers_note(a->f, &call, 0, version, &deadline, &a->wanted);
	return true;
}

static void end(struct about *a)
{
	vdso_page_close(&a->page);
	vdso_source_deinit(&a->source);
	close(a->f->clock_fd[0]);
	close(a->fd);
	free(a->f->shared);
	free(a->f);
}

static void move_on(struct about *a)
{
	const struct vdso_adjustment hour = {.time = VDSO_TIME_SHIFT, .by = {.sec = HOUR}};

	check(vdso_adjust(&a->page, &a->source, &hour) == 0, "the clock is an hour on");
}

static time_t left(const struct about *a)
{
	struct itimerspec ret = {0};

	timerfd_gettime(a->fd, &ret);
	return ret.it_value.tv_sec;
}

static void test_set_late(void)
{
	struct about a;

	if (!check(begin(&a), "a timer that is about to be set"))
		return;
	move_on(&a);
	for (int i = 0; i < 5; i++) {
		vdso_timers_anew(a.f);
		check(left(&a) == 0 && a.f->timers_due_ns != 0, "it is not set yet, and looked at again");
	}
	timerfd_settime(a.fd, TFD_TIMER_ABSTIME, &a.wanted, NULL);
	vdso_timers_anew(a.f);
	check(left(&a) > HOUR - MARGIN && left(&a) <= HOUR, "set by its program, it goes with the clock: %d s", (int)left(&a));
	check(a.f->timers_due_ns == 0, "nothing is looked at again");
	end(&a);
}

static void test_never_set(void)
{
	struct about a;
	struct vdso_timer *timer;

	if (!check(begin(&a), "a timer that is about to be set"))
		return;
	move_on(&a);
	timer = vdso_timertable_find(a.f, getpid(), a.fd, true);
	vdso_timers_anew(a.f);
	check(timer != NULL && a.f->timers_due_ns != 0, "it is waited for");
	if (timer != NULL)
		timer->noted_until_ns = 1; /* as if it had been long ago */
	vdso_timers_anew(a.f);
	check(a.f->timers_due_ns == 0 && vdso_timertable_find(a.f, getpid(), a.fd, true) == NULL, "but not for good");
	end(&a);
}

int main(void)
{
	test_set_late();
	test_never_set();
	return check_done();
}
