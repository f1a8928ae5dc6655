#include "borrow.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"
#include "memory.h"
#include "process.h"
#include "procfs.h"
#include "registers.h"
#include "threads.h"

#define SIGNALS_BYTES 8L
#define CALL_STOP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */
#define EVENT_OF(status) ((unsigned)(status) >> 16)

/* In the data, where nothing else is while a thread is borrowed. */
#define ARGUMENT_AT (offsetof(struct vdso_injection, scratch) + VDSO_SCR_MESSAGE)

_Static_assert(VDSO_SCR_VECTOR - VDSO_SCR_MESSAGE >= VDSO_BORROW_ARGUMENT, "there is room for it");

extern const char vdso_injected_call[] __attribute__((visibility("hidden")));
extern const char vdso_injected_end[] __attribute__((visibility("hidden")));

static uint32_t code_size(void)
{
	return (uint32_t)(vdso_injected_end - vdso_injected_call);
}

static int go_on(const struct vdso_borrow *b)
{
	return ptrace(PTRACE_SYSCALL, b->tid, 0L, 0L) == 0 ? 0 : -errno;
}

/* Whether no thread goes back by what is there: it is a fork's copy, or of one that has ended. */
static bool is_nobodys(pid_t tid, const uint8_t *bytes)
{
	struct vdso_injection there;

	if (memcmp(bytes, vdso_injected_call, code_size()) != 0)
		return false;
	memcpy(&there, bytes + code_size(), sizeof(there));
	if (there.owner <= 0)
		return false;
	return vdso_procfs_start(there.owner) != there.owner_start || syscall(SYS_kcmp, tid, there.owner, KCMP_VM, 0, 0) > 0;
}

static int put_there(struct vdso_borrow *b, uint64_t kernel_image, const struct vdso_area *area, bool alone)
{
	struct vdso_injection data = {
		.mask = b->mask, .fresh = 1, .owner = b->tid, .owner_start = vdso_procfs_start(b->tid)};
	const uint64_t since_ns = vdso_threads_now_ns();
	uint32_t tail = (area->content + 15u) & ~15u;
	uint8_t bytes[VDSO_BORROW_BYTES];

	b->size = VDSO_INJ_SINCE_BYTES + code_size() + (uint32_t)sizeof(data);
	/* The last bytes are the bootstrap's, which some program may still stand in. */
	if (kernel_image == 0 || b->size > sizeof(bytes) || tail + b->size + VDSO_BOOTSTRAP_MAX > area->image_size)
		return -ENOSPC;
	b->original = area->image + tail;
	if (vdso_memory_read(b->mem, bytes, b->size, kernel_image + tail) != 0)
		return -EFAULT;
	if (memcmp(bytes, b->original, b->size) != 0 && !alone && !is_nobodys(b->tid, bytes + VDSO_INJ_SINCE_BYTES))
		return -EBUSY;
	vdso_inject_way_back(&data, &b->before);
	data.scratch.patience_nsec = VDSO_INJ_PATIENCE_NS;
	memcpy(bytes, &since_ns, sizeof(since_ns));
	memcpy(bytes + VDSO_INJ_SINCE_BYTES, vdso_injected_call, code_size());
	memcpy(bytes + VDSO_INJ_SINCE_BYTES + code_size(), &data, sizeof(data));
	if (vdso_memory_write(b->tid, b->mem, bytes, b->size, kernel_image + tail) != 0)
		return -EFAULT;
	b->at = kernel_image + tail;
	return 0;
}

static void take_away(const struct vdso_borrow *b)
{
	vdso_memory_write(b->tid, b->mem, b->original, b->size, b->at);
}

int vdso_borrow_begin(struct vdso_borrow *b, pid_t tid, uint64_t kernel_image, const struct vdso_area *area, int harmless,
		      bool alone)
{
	uint64_t all = UINT64_MAX, abort;
	bool suspended;
	int error;

	*b = (struct vdso_borrow){.tid = tid, .mem = vdso_memory_open(tid)};
	if (b->mem < 0)
		return b->mem;
	vdso_registers_hide_interruption(tid);
	error = vdso_registers_get(tid, &b->before);
	if (error == 0 && ptrace(PTRACE_GETSIGMASK, tid, SIGNALS_BYTES, &b->mask) != 0)
		error = -errno;
	if (error == 0 && !vdso_inject_may_call(tid, harmless, PTRACE_O_TRACESYSGOOD, &suspended))
		error = -EACCES;
	if (error == 0) {
		abort = b->before.orig_rax == VDSO_NO_CALL ? vdso_registers_sequence_abort(tid, b->mem, b->before.rip) : 0;
		if (abort != 0)
			b->before.rip = abort;
		error = put_there(b, kernel_image, area, alone);
	}
	if (error == 0 && ptrace(PTRACE_SETSIGMASK, tid, SIGNALS_BYTES, &all) != 0) {
		error = -errno;
		take_away(b);
	}
	if (error != 0)
		vdso_borrow_lost(b);
	return error;
}

int vdso_borrow_give(struct vdso_borrow *b, const void *bytes, size_t size, uint64_t *at)
{
	*at = b->at + VDSO_INJ_SINCE_BYTES + code_size() + ARGUMENT_AT;
	return vdso_memory_write(b->tid, b->mem, bytes, size, *at);
}

int vdso_borrow_call(struct vdso_borrow *b, long number, const uint64_t argument[6])
{
	struct user_regs_struct regs = b->before;
	int error;

	regs.rip = b->at + VDSO_INJ_SINCE_BYTES;
	regs.rax = (uint64_t)number;
	regs.orig_rax = VDSO_NO_CALL; /* nothing is to be restarted on the way */
	regs.rdi = argument[0];
	regs.rsi = argument[1];
	regs.rdx = argument[2];
	regs.r10 = argument[3];
	regs.r8 = argument[4];
	regs.r9 = argument[5];
	/* By these it finds its way back should we die: whether there is memory to be given back. */
	regs.r12 = regs.r15 = b->room;
	regs.r14 = b->room == 0 ? VDSO_STEP_REGION : 0;
	error = vdso_registers_set(b->tid, &regs);
	return error != 0 ? error : go_on(b);
}

bool vdso_borrow_has_faulted(struct vdso_borrow *b, int status)
{
	if (WSTOPSIG(status) == CALL_STOP)
		return false;
	b->was_stopped |= WSTOPSIG(status) == SIGSTOP;
	return WSTOPSIG(status) != SIGSTOP;
}

enum vdso_borrow_stop vdso_borrow_stopped(struct vdso_borrow *b, int status, int64_t *result)
{
	struct user_regs_struct regs;

	if (EVENT_OF(status) == 0 && WSTOPSIG(status) == CALL_STOP) {
		b->inside = !b->inside;
		if (!b->inside && vdso_registers_get(b->tid, &regs) == 0) {
			*result = (int64_t)regs.rax;
			return VDSO_BORROW_ANSWERED;
		}
	} else if (EVENT_OF(status) == 0 && vdso_borrow_has_faulted(b, status)) {
		return VDSO_BORROW_FAULTED;
	}
	go_on(b);
	return VDSO_BORROW_GOES_ON;
}

void vdso_borrow_use_room(struct vdso_borrow *b, uint64_t room)
{
	b->room = room;
}

int vdso_borrow_return(struct vdso_borrow *b)
{
	if (ptrace(PTRACE_INTERRUPT, b->tid, 0L, 0L) != 0 || ptrace(PTRACE_CONT, b->tid, 0L, 0L) != 0)
		return -errno;
	return 0;
}

void vdso_borrow_end(struct vdso_borrow *b, const int64_t *result)
{
	struct user_regs_struct regs = b->before;

	if (result != NULL) {
		regs.rax = (uint64_t)*result;
		regs.orig_rax = VDSO_NO_CALL;
	}
	vdso_registers_set(b->tid, &regs);
	ptrace(PTRACE_SETSIGMASK, b->tid, SIGNALS_BYTES, &b->mask);
	take_away(b);
	ptrace(PTRACE_DETACH, b->tid, 0L, 0L);
	if (b->was_stopped)
		syscall(SYS_tkill, b->tid, SIGSTOP);
	vdso_borrow_lost(b);
}

void vdso_borrow_lost(struct vdso_borrow *b)
{
	if (b->mem >= 0)
		close(b->mem);
	b->mem = -1;
	b->at = 0;
}
