/* What is remembered of timers: found again, dropped, and forgotten when nobody has them any more. */
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "procfs.h"
#include "timer.h"
#include "timertable.h"

#define CHECK(condition) check(condition, "line %d: %s", __LINE__, #condition)
#define REAL 100
#define DELETED 100000

static struct vdso_timer timer_of(pid_t program, int id, bool descriptor)
{
	struct vdso_timer ret = {
		.program = program, .task = program, .id = id, .descriptor = descriptor, .start = vdso_procfs_start(program)};

	ret.set.armed.it_value.tv_sec = VDSO_TIMER_NEVER_S;
	return ret;
}

static int make_timer(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_NONE};
	int timer;

	return syscall(SYS_timer_create, CLOCK_REALTIME, &event, &timer) == 0 ? timer : -1;
}

static bool finds_all(const struct vdso_follower *f, const int id[REAL])
{
	bool ret = true;

	for (int i = 0; i < REAL; i++)
		ret = ret && vdso_timertable_find(f, getpid(), id[i], false) != NULL;
	return ret;
}

static void that_are_gone(struct vdso_follower *f)
{
	const pid_t self = getpid();
	int id[REAL], fd = timerfd_create(CLOCK_REALTIME, 0), highest = 0;
	struct vdso_timer timer = timer_of(self, fd, true);
	bool found = true;

	CHECK(vdso_timertable_put(f, &timer) != NULL);
	for (int i = 0; i < REAL; i++) {
		id[i] = make_timer();
		timer = timer_of(self, id[i], false);
		found = found && id[i] >= 0 && vdso_timertable_put(f, &timer) != NULL;
		highest = id[i] > highest ? id[i] : highest;
	}
	for (int i = 1; i <= DELETED; i++) {
		struct vdso_timer *put;

		timer = timer_of(self, highest + i, false);
		put = vdso_timertable_put(f, &timer);
		found = found && put != NULL && vdso_timertable_find(f, self, highest + i, false) == put;
	}
	CHECK(found);
	check(f->shared->timers <= 4 * REAL, "%u entries", f->shared->timers);
	CHECK(finds_all(f, id));
	CHECK(vdso_timertable_find(f, self, fd, true) != NULL);
	CHECK(vdso_timertable_find(f, self, fd + 1, true) == NULL);
	/* As a successor finds them. */
	f->timer_index = (struct vdso_timer_index){0};
	vdso_timertable_index(f);
	CHECK(finds_all(f, id));
	for (int i = 0; i < REAL; i++)
		vdso_timertable_drop(f, vdso_timertable_find(f, self, id[i], false));
	CHECK(vdso_timertable_find(f, self, id[0], false) == NULL && vdso_timertable_find(f, self, fd, true) != NULL);
	close(fd);
}

int main(void)
{
	struct vdso_follower *f = calloc(1, sizeof(*f));

	f->shared = calloc(1, sizeof(*f->shared));
	vdso_timertable_index(f);
	that_are_gone(f);
	free(f->shared);
	free(f);
	return check_done();
}
