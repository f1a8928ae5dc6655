#include "deadline.h"

#include <linux/audit.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

/* The clocks that an offset moves. */
static bool is_wall(int clock)
{
	return clock == 0 || clock == 8 || clock == 11;
}

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

const char *vdso_deadline_call(const struct seccomp_notif *notification)
{
	int pid = (int)notification->pid, first = (int)notification->data.args[0];
	char path[64];

	/* The filter has looked at what the arguments show; these two do not show the clock. */
	switch (notification->data.nr) {
	case SYS_timer_settime:
		snprintf(path, sizeof(path), "/proc/%d/timers", pid);
		return is_wall(find_number(path, "ClockID:", first)) ? "timer_settime" : NULL;
	case SYS_timerfd_settime:
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, first);
		return is_wall(find_number(path, "clockid:", -1)) ? "timerfd_settime" : NULL;
	case SYS_futex:
		return "futex";
	case SYS_clock_nanosleep:
		return "clock_nanosleep";
	case SYS_mq_timedsend:
		return "mq_timedsend";
	case SYS_mq_timedreceive:
		return "mq_timedreceive";
	case 449:
		return "futex_waitv";
	case 455:
		return "futex_wait";
	default:
		return NULL;
	}
}
