#include "following.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "jumps.h"
#include "membership.h"
#include "memory.h"
#include "procfs.h"
#include "registers.h"

#define FUTEX_COMMAND 0x7fu /* without PRIVATE and CLOCK_REALTIME */
enum { FUTEX_WAIT_BITSET = 9, FUTEX_WAIT_REQUEUE_PI = 11 };

void vdso_following_recall(struct vdso_attempt *a, pid_t tid)
{
	struct vdso_process process;

	/* One that this very order has put in, in a try that then came too late, is there by now. */
	a->harmless = a->report->harmless;
	a->filtered = a->harmless != 0 && vdso_procfs_number(tid, "Seccomp_filters:") == a->harmless;
	a->filter = a->filtered ? a->order->filter : 0;
	for (uint32_t i = 0; i < a->space.regions; i++) {
		if (!a->space.region[i].attached || !vdso_membership_process(a->mem, a->space.region[i].at, &process))
			continue;
		a->filtered |= (process.flags & VDSO_PROCESS_FILTERED) != 0;
		a->filter |= process.filter;
		if (a->harmless < (int)process.filters)
			a->harmless = (int)process.filters;
	}
}

bool vdso_following_may_lack(struct vdso_attempt *a)
{
	struct stat clock;

	if (a->order->follower_fd < 0 || fstat(a->order->clock_fd, &clock) != 0)
		return false;
	for (uint32_t i = 0; i < a->space.regions; i++)
		if (a->space.region[i].at == a->there && a->space.region[i].inode == clock.st_ino && a->space.region[i].device == clock.st_dev)
			return true;
	return false;
}

int vdso_following_begin(struct vdso_attempt *a)
{
	struct vdso_process process;

	if (!vdso_membership_process(a->mem, a->there, &process))
		return vdso_attempt_answer(a, VDSO_ATTACH_FAILED, -EFAULT, 0);
	if ((process.flags & VDSO_PROCESS_FOLLOWED) != 0 && a->followed == VDSO_FOLLOWED_BEFORE)
		return vdso_attempt_answer(a, VDSO_ATTACH_ALREADY, 0, 0);
	process.flags |= VDSO_PROCESS_FOLLOWED | VDSO_PROCESS_FILTERED;
	process.filters = (uint32_t)a->harmless;
	process.filter = a->filter;
	if (vdso_jumps_write_at(a, &process, sizeof(process), a->there + VDSO_CLOCK_BYTES) != 0)
		return -1;
	vdso_following_make_again(a);
	return 0;
}

int vdso_following_judge(struct vdso_attempt *a, const struct vdso_inject *inject)
{
	bool before = inject->followed == VDSO_FOLLOWED_BEFORE;
	unsigned listening;

	if (inject->followed == VDSO_FOLLOWED_UNKNOWN && inject->suspended) {
		/* Nobody was asked, and it was found out by looking: what may be suspended may be looked at. */
		listening = vdso_filter_listening(inject->tid);
		before = (listening & VDSO_FILTER_EXEC) != 0 && (listening & VDSO_FILTER_DEADLINES) != 0;
		if (listening != 0 && !before)
			return vdso_attempt_answer_of(a, VDSO_ATTACH_CALL_FAILED,
						      (listening & VDSO_FILTER_EXEC) != 0 ? -EOPNOTSUPP : -ENOEXEC, "ask");
		if (before)
			a->filter = listening;
	}
	if (a->order->follower_fd >= 0 && !before && inject->followed != VDSO_FOLLOWED_ANEW && inject->followed != VDSO_FOLLOWED_LOST)
		return vdso_attempt_answer(a, VDSO_ATTACH_LISTENER, -EBUSY, 0);
	a->followed = before ? VDSO_FOLLOWED_BEFORE : inject->followed;
	a->filtered |= a->followed != VDSO_FOLLOWED_NOT;
	a->harmless = inject->suspended ? 0 : vdso_procfs_number(a->tid, "Seccomp_filters:");
	if (a->followed == VDSO_FOLLOWED_ANEW || a->followed == VDSO_FOLLOWED_LOST)
		a->filter = a->order->filter;
	a->report->filter = a->filter;
	a->report->followed = a->followed;
	return 0;
}

void vdso_following_make_again(struct vdso_attempt *a)
{
	for (size_t i = 0; i < a->threads.count; i++) {
		const struct vdso_thread *thread = &a->threads.thread[i];
		struct user_regs_struct regs;
		uint32_t command;

		if (!thread->stopped || thread->gone || vdso_registers_get(thread->tid, &regs) != 0)
			continue;
		command = (uint32_t)regs.rsi & FUTEX_COMMAND;
		/* Of those that have an absolute time it is futex() alone that restart_syscall() goes on with. */
		if (regs.orig_rax != SYS_futex || (int64_t)regs.rax != VDSO_RESTART_BLOCK ||
		    (command != FUTEX_WAIT_BITSET && command != FUTEX_WAIT_REQUEUE_PI))
			continue;
		regs.rax = (uint64_t)VDSO_RESTART_NOHAND;
		vdso_registers_set(thread->tid, &regs);
	}
}

static int turn_back(struct vdso_attempt *a, pid_t tid, struct user_regs_struct *regs)
{
	static const uint8_t syscall_bytes[] = {0x0f, 0x05};
	struct vdso_turned_frame frame;
	uint8_t there[sizeof(syscall_bytes)];

	if (vdso_memory_read(a->mem, &frame, sizeof(frame), regs->rbp) != 0 ||
	    vdso_memory_read(a->mem, there, sizeof(there), frame.back - sizeof(there)) != 0 ||
	    memcmp(there, syscall_bytes, sizeof(there)) != 0)
		return -EFAULT;
	regs->rsp = regs->rbp + VDSO_TURNED_STACK;
	regs->rbp = frame.rbp;
	regs->rip = frame.back - sizeof(there);
	regs->rax = frame.number;
	regs->rdi = frame.arg[0];
	regs->rsi = frame.arg[1];
	regs->rdx = frame.arg[2];
	regs->r10 = frame.arg[3];
	regs->r8 = frame.arg[4];
	regs->r9 = frame.arg[5];
	regs->orig_rax = VDSO_NO_CALL;
	return vdso_registers_set(tid, regs);
}

int vdso_following_turn_back(struct vdso_attempt *a)
{
	const uint64_t image = a->region + VDSO_DATA_BYTES, annex_at = image + VDSO_IMAGE_BYTES;
	struct vdso_process process;
	struct vdso_annex annex;

	if (!vdso_membership_process(a->mem, a->region, &process) || (process.flags & VDSO_PROCESS_FOLLOWED) == 0 ||
	    vdso_memory_read(a->mem, &annex, sizeof(annex), annex_at) != 0)
		return 0;
	for (size_t i = 0; i < a->threads.count; i++) {
		const struct vdso_thread *thread = &a->threads.thread[i];
		struct user_regs_struct regs;
		int64_t result;

		if (!thread->stopped || thread->gone || vdso_registers_get(thread->tid, &regs) != 0)
			continue;
		result = (int64_t)regs.rax;
		if (regs.rip == image + annex.waited && regs.orig_rax != VDSO_NO_CALL && result <= VDSO_RESTART_SYS &&
		    result >= VDSO_RESTART_BLOCK) {
			if (turn_back(a, thread->tid, &regs) == 0)
				continue;
		} else if (regs.rip - (image + annex.wait) >= annex.wait_end - annex.wait && regs.rip - annex_at >= VDSO_ANNEX_BYTES) {
			continue;
		}
		/* About to make another call, or with one's result, which must not be lost. */
		return vdso_attempt_answer(a, VDSO_ATTACH_LATE, -EAGAIN, 0);
	}
	return 0;
}
