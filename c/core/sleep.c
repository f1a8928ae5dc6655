#include "sleep.h"

#include <linux/audit.h>
#include <sys/syscall.h>

#include "notification.h"
#include "page.h"
#include "procfs.h"
#include "sessions.h"
#include "transform.h"
#include "warning.h"

#define ABSOLUTE 1u /* TIMER_ABSTIME */

/* What the warning is about; calls have their numbers. */
#define ABOUT_SLEEP 10001

static bool is_absolute(const struct seccomp_data *data)
{
	return data->nr == SYS_clock_nanosleep && (data->args[1] & ABSOLUTE) != 0;
}

bool vdso_sleep_is(const struct seccomp_data *data)
{
	if (data->arch != AUDIT_ARCH_X86_64)
		return false;
	switch (data->nr) {
	case SYS_nanosleep:
		return true;
	case SYS_poll:
	case SYS_ppoll:
		return (uint32_t)data->args[1] == 0;
	case SYS_select:
	case SYS_pselect6:
		return (uint32_t)data->args[0] == 0;
	case SYS_clock_nanosleep:
		return !is_absolute(data) || (int)data->args[0] == VDSO_ID_MONOTONIC;
	}
	return false;
}

bool vdso_sleep_answer(struct vdso_follower *f, const struct seccomp_notif *n)
{
	uint32_t session = vdso_sessions_of(f, (pid_t)n->pid);
	struct vdso_clock_record record;
	struct vdso_page page;
	bool changed = false;
	uint64_t version;

	if (vdso_page_open_reader(f->clock_fd[session], 0, &page) == 0) {
		bool good = vdso_page_get(&page, 0, &record, &version) == VDSO_PAGE_OK;
		const struct vdso_clock *clock = &record.clock[VDSO_ID_REALTIME];

		vdso_page_close(&page);
		if (good && is_absolute(&n->data) && record.clock[VDSO_ID_MONOTONIC].kind != VDSO_KIND_JUMP)
			return false;
		changed = good && clock->kind == VDSO_KIND_LINE && clock->line[1].rate != VDSO_RATE_ONE;
	}
	if (changed) {
		pid_t program = vdso_procfs_number((pid_t)n->pid, "Tgid:");
		char name[32];

		if (vdso_follower_first_time(f, program, ABOUT_SLEEP)) {
			vdso_procfs_name(program, name, sizeof(name));
			vdso_warn(program, "%s (pid %d) sleeps for a length of time: that is the host's, whatever the rate of the clock",
				  name, (int)program);
		}
	}
	vdso_notification_go_on(f->listener, n->id);
	return true;
}
