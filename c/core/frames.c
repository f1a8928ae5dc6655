#include "frames.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "memory.h"

#define PAGE 4096u
#define STACK_LARGEST (256u * 1024)
#define STACK_LEAST (16u * 1024)
#define ALL_STACKS (16u * 1024 * 1024) /* some milliseconds, in which everybody stands still */
#define STACKS 4u                      /* of one thread: its own, and those that a handler may have on the side */

/*
 * What of struct sigcontext surrounds the instruction pointer, in words: the stack pointer before it, behind it the flags, and
 * then cs, gs, fs and ss in one word. That one is the same in every 64-bit program, and next to nowhere else.
 */
enum { SP = -1, SEGMENTS = 2, WORDS_BEHIND = SEGMENTS };
#define USER_SEGMENTS UINT64_C(0x002b000000000033)

static const struct vdso_frames_move *find(const struct vdso_frames_move *moves, unsigned count, uint64_t at)
{
	for (unsigned i = 0; i < count; i++)
		if (moves[i].from == at)
			return &moves[i];
	return NULL;
}

static int move_thread(pid_t tid, const struct vdso_frames_move *moves, unsigned count, uint64_t *sp)
{
	struct user_regs_struct regs;
	struct iovec iov = {&regs, sizeof(regs)};
	const struct vdso_frames_move *move;

	if (ptrace(PTRACE_GETREGSET, tid, (long)NT_PRSTATUS, &iov) != 0)
		return -errno;
	if (iov.iov_len != sizeof(regs))
		return -ENOEXEC;
	*sp = regs.rsp;
	move = find(moves, count, regs.rip);
	if (move == NULL)
		return 0;
	regs.rip = move->to;
	return ptrace(PTRACE_SETREGSET, tid, (long)NT_PRSTATUS, &iov) == 0 ? 0 : -errno;
}

/* The bytes from there up to the first page that cannot be read, `size` at the most. */
static size_t read_stack(int mem, uint64_t at, uint8_t *ret, size_t size)
{
	size_t done = 0;

	while (done < size) {
		size_t part = PAGE - (at + done) % PAGE;

		if (part > size - done)
			part = size - done;
		if (vdso_memory_read(mem, ret + done, part, at + done) != 0)
			break;
		done += part;
	}
	return done;
}

static int move_frames(pid_t tid, int mem, uint64_t sp, size_t limit, const struct vdso_frames_move *moves, unsigned count)
{
	static uint64_t word[STACK_LARGEST / sizeof(uint64_t)];
	uint64_t stack[STACKS] = {sp & -(uint64_t)sizeof(*word)};
	unsigned stacks = 1;

	for (unsigned s = 0; s < stacks; s++) {
		size_t words = read_stack(mem, stack[s], (uint8_t *)word, limit) / sizeof(*word);

		for (size_t i = 1; i + WORDS_BEHIND < words; i++) {
			const struct vdso_frames_move *move;
			uint64_t from;
			int error;

			if (word[i + SEGMENTS] != USER_SEGMENTS)
				continue;
			from = word[i + SP] & -(uint64_t)sizeof(*word);
			if (from - stack[s] >= words * sizeof(*word) && stacks < STACKS)
				stack[stacks++] = from;
			move = find(moves, count, word[i]);
			if (move == NULL)
				continue;
			error = vdso_memory_write(tid, mem, &move->to, sizeof(move->to), stack[s] + i * sizeof(*word));
			if (error != 0)
				return error;
		}
	}
	return 0;
}

int vdso_frames_move(const struct vdso_threads *threads, int mem, const struct vdso_frames_move *moves, unsigned count)
{
	size_t limit = ALL_STACKS / (threads->count + 1) & -(size_t)PAGE;

	if (limit > STACK_LARGEST)
		limit = STACK_LARGEST;
	if (limit < STACK_LEAST)
		limit = STACK_LEAST;
	for (size_t i = 0; i < threads->count; i++) {
		const struct vdso_thread *thread = &threads->thread[i];
		uint64_t sp = 0;
		int error;

		if (!thread->stopped || thread->gone)
			continue;
		error = move_thread(thread->tid, moves, count, &sp);
		if (error == 0)
			error = move_frames(thread->tid, mem, sp, limit, moves, count);
		if (error != 0 && error != -ESRCH)
			return error;
	}
	return 0;
}
