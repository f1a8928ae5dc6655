#include "deadline.h"

#include <linux/audit.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "process.h"
#include "transform.h"

/* The number that follows `key` in a /proc file, after the line "ID: timer" when `timer` is not negative; -1: not found. */
static int find_number(const char *path, const char *key, int timer)
{
	FILE *file = fopen(path, "re");
	bool here = timer < 0;
	char line[256];
	int number = -1, id;

	if (file == NULL)
		return -1;
	while (number < 0 && fgets(line, sizeof(line), file) != NULL) {
		if (timer >= 0 && sscanf(line, "ID: %d", &id) == 1)
			here = id == timer;
		else if (here && strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), "%d", &number);
	}
	fclose(file);
	return number;
}

bool vdso_deadline_is(const struct seccomp_data *data)
{
	if (data->arch != AUDIT_ARCH_X86_64)
		return false;
	switch (data->nr) {
	case SYS_timer_settime:
	case SYS_timerfd_settime:
	case SYS_futex:
	case SYS_clock_nanosleep:
	case SYS_mq_timedsend:
	case SYS_mq_timedreceive:
	case 449: /* futex_waitv */
	case 455: /* futex_wait */
		return true;
	}
	return false;
}

enum { FUTEX_LOCK_PI = 6, FUTEX_WAIT_REQUEUE_PI = 11, FUTEX_WAIT_BITSET = 9, FUTEX_CLOCK_REALTIME = 256 };
enum { NR_FUTEX_WAITV = 449, NR_FUTEX_WAIT = 455 };

static void wait_by(struct vdso_deadline *ret, const struct seccomp_data *data, enum vdso_wait_how how, int clock,
		    unsigned pointer, unsigned mark)
{
	ret->way = VDSO_DEADLINE_WAIT;
	ret->clock = clock;
	ret->at = data->args[pointer];
	ret->plan = VDSO_PLAN(how, (uint32_t)clock, pointer, mark);
}

static void plan_futex(struct vdso_deadline *ret, const struct seccomp_data *data)
{
	uint32_t op = (uint32_t)data->args[1], command = op & 0x7f;
	int clock = (op & FUTEX_CLOCK_REALTIME) != 0 || command == FUTEX_LOCK_PI ? VDSO_ID_REALTIME : VDSO_ID_MONOTONIC;

	/* Which of several bits it is woken by, the call that waits beside the page's head cannot say. */
	if (command == FUTEX_WAIT_BITSET && (uint32_t)data->args[5] == UINT32_MAX)
		wait_by(ret, data, VDSO_WAIT_FUTEX, clock, 3, 5);
	else
		wait_by(ret, data, VDSO_WAIT_TURNS, clock, 3, command == FUTEX_WAIT_REQUEUE_PI ? 5 : 4);
}

static bool can_be_moved(int clock)
{
	return clock == VDSO_ID_REALTIME || clock == VDSO_ID_REALTIME_ALARM || clock == VDSO_ID_TAI ||
	       clock == VDSO_ID_MONOTONIC || clock == VDSO_ID_BOOTTIME || clock == VDSO_ID_BOOTTIME_ALARM;
}

bool vdso_deadline_is_timer(const struct vdso_deadline *d)
{
	return d->way == VDSO_DEADLINE_TIMERFD || d->way == VDSO_DEADLINE_TIMER;
}

void vdso_deadline_plan(const struct seccomp_notif *n, struct vdso_deadline *ret)
{
	const struct seccomp_data *data = &n->data;
	int first = (int)data->args[0];
	char path[64];

	*ret = (struct vdso_deadline){.way = VDSO_DEADLINE_NONE};
	/* The filter has looked at what the arguments show; the timers' do not show the clock. */
	switch (data->nr) {
	case SYS_futex:
		ret->call = "futex";
		plan_futex(ret, data);
		break;
	case SYS_clock_nanosleep:
		ret->call = "clock_nanosleep";
		wait_by(ret, data, VDSO_WAIT_SLEEP, first, 2, 4);
		break;
	case SYS_mq_timedsend:
	case SYS_mq_timedreceive:
		ret->call = data->nr == SYS_mq_timedsend ? "mq_timedsend" : "mq_timedreceive";
		wait_by(ret, data, VDSO_WAIT_TURNS, VDSO_ID_REALTIME, 4, 5);
		break;
	case NR_FUTEX_WAITV:
		ret->call = "futex_waitv";
		wait_by(ret, data, VDSO_WAIT_TURNS, (int)data->args[4], 3, 5);
		break;
	case NR_FUTEX_WAIT: /* uses all its arguments: none is left for the mark */
		ret->call = "futex_wait";
		ret->way = VDSO_DEADLINE_UNKNOWN;
		ret->clock = (int)data->args[5];
		ret->at = data->args[4];
		break;
	case SYS_timer_settime:
		ret->call = "timer_settime";
		snprintf(path, sizeof(path), "/proc/%d/timers", (int)n->pid);
		ret->way = VDSO_DEADLINE_TIMER;
		ret->clock = find_number(path, "ClockID:", first);
		ret->at = data->args[2];
		break;
	case SYS_timerfd_settime:
		ret->call = "timerfd_settime";
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)n->pid, first);
		ret->way = VDSO_DEADLINE_TIMERFD;
		ret->clock = find_number(path, "clockid:", -1);
		ret->at = data->args[2];
		break;
	}
	if (!can_be_moved(ret->clock))
		ret->way = VDSO_DEADLINE_NONE;
}
