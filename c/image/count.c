/*
 * The slow way of counting: a thread's first call, threads that have no cell of their own, and sampled calls.
 *
 * Runs on the program's stack, anywhere where it reads a clock: in signal handlers, between vfork and exec, in a sandbox. Makes
 * no system call but getpid and gettid, once a thread, and takes no lock. A signal handler may come in between any two
 * instructions and count as well.
 */
#include "count.h"

#include "arch.h"

/* Cells of a region, as a power of two: one at first, which is enough for most programs. */
#define REGION_GROWS 3u /* by so much, when two threads want the same cell */
#define REGION_LAST 9u
#define PROBED 8u           /* cells that a thread may be in, from its own on, once the region does not grow any more */
#define SUCCESSORS_MAX 256u /* notes that an address space may take for former threads, each by its own id */
#define TID_WITHIN 1024u    /* bytes of the thread's descriptor in which its id is looked for */

#define NEAR 4096u           /* of a goroutine's stack pointer, where its frame pointer leads */
#define FAR 65536u           /* of this stack, where another one's frame pointer does */

#define SALT_SHIFT 32u /* of a count's address: no two counts come to the same numbers within so many bits of calls */

enum { FUTEX_WAIT_PRIVATE = 128, E_FAULT = 14 };

#define LOAD(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)
#define STORE(word, value) __atomic_store_n(&(word), value, __ATOMIC_RELAXED)

/* In front of the image, put there by the linker script. */
extern const struct vdso_process vdso_process __attribute__((visibility("hidden")));
extern struct vdso_count_private vdso_private __attribute__((visibility("hidden")));

static struct vdso_counts *counts(void)
{
	return (struct vdso_counts *)vdso_process.counts;
}

/* The first of so many cells in a row; NULL: they are all handed out. */
static struct vdso_count_cell *take_cells(uint32_t count)
{
	uint32_t first = LOAD(counts()->next);

	if (first < VDSO_COUNT_CELLS)
		first = __atomic_fetch_add(&counts()->next, count, __ATOMIC_RELAXED);
	return first < VDSO_COUNT_CELLS - count ? &counts()->cell[first] : 0;
}

static int32_t call(long number)
{
	return (int32_t)arch_syscall(number, 0, 0, 0, 0, 0, 0);
}

/* The C library keeps the thread's id somewhere in the descriptor that the thread pointer leads to, at the same place for
 * every thread: found once, for the address space. */
static void find_tid(uint64_t pointer, int32_t tid)
{
	uint64_t end = (pointer & -(uint64_t)VDSO_PAGE_BYTES) + VDSO_PAGE_BYTES;

	if (end - pointer > TID_WITHIN)
		end = pointer + TID_WITHIN;
	for (uint64_t at = pointer; at + 4 <= end; at += 4)
		if (*(const int32_t *)at == tid) {
			STORE(vdso_private.tid_offset, at - pointer);
			STORE(vdso_private.tid_mask, UINT32_MAX);
			return;
		}
}

static uint32_t check(uint64_t pointer)
{
	return *(const uint32_t *)(pointer + LOAD(vdso_private.tid_offset)) & LOAD(vdso_private.tid_mask);
}

/* Writes who it is to a cell that has the thread's key: nobody else does. */
static void sign(struct vdso_count_cell *cell, uint64_t pointer, int32_t tid)
{
	cell->pid = LOAD(vdso_private.pid);
	cell->tid = tid;
	cell->program = vdso_process.program;
	STORE(cell->check, check(pointer));
	__atomic_store_n(&cell->kind, VDSO_CELL_THREAD, __ATOMIC_RELEASE); /* pairs with the acquire in vdso_counts_cell() */
}

/* NULL: there is none of that number. */
static struct vdso_count_cell *note_at(uint32_t number)
{
	return number != 0 && number < VDSO_COUNT_CELLS ? &counts()->cell[number] : 0;
}

/* Whose the cell is now. */
static int32_t owner(const struct vdso_count_cell *cell)
{
	const struct vdso_count_cell *note = cell->kind == VDSO_CELL_THREAD ? note_at(LOAD(cell->note)) : 0;

	return note == 0 ? cell->tid : note->successor;
}

/* That one, if no signal handler of ours is writing it, or was when it left by a jump. */
static bool claim(struct vdso_count_cell *note)
{
	uint32_t kind = VDSO_CELL_NOTE;

	return note != 0 && __atomic_compare_exchange_n(&note->kind, &kind, VDSO_CELL_FREE, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/*
 * Writes down what the cell has counted until now, behind the note `last`. A cell takes two notes at the most for threads that are
 * too many to tell them apart: of these the newer says all that the older did. 0: there is no cell left for it.
 */
static uint32_t write_note(const struct vdso_count_cell *cell, uint32_t last, int32_t successor)
{
	struct vdso_count_cell *former = note_at(last), *note;
	bool several = LOAD(vdso_private.successors) >= SUCCESSORS_MAX ||
		       __atomic_fetch_add(&vdso_private.successors, 1, __ATOMIC_RELAXED) >= SUCCESSORS_MAX;
	bool again = several && former != 0 && former->tid == 0;

	note = again ? note_at(former->spare) : 0;
	if (!claim(note)) {
		note = take_cells(1);
	} else if (LOAD(cell->note) != last) { /* a signal handler has noted it there meanwhile */
		STORE(note->kind, VDSO_CELL_NOTE);
		return last;
	}
	if (note == 0)
		return 0;
	note->pid = cell->pid;
	note->tid = several ? 0 : owner(cell);
	note->program = cell->program;
	note->before = again ? former->before : last;
	note->spare = again ? last : 0;
	note->successor = successor;
	for (uint32_t i = 0; i < VDSO_COUNT_SLOTS; i++)
		STORE(note->calls[i], LOAD(cell->calls[i]));
	__atomic_store_n(&note->kind, VDSO_CELL_NOTE, __ATOMIC_RELEASE); /* pairs with the acquire in vdso_counts_cell() */
	return (uint32_t)(note - counts()->cell);
}

/*
 * Another thread has the thread pointer of one that has ended. The cell goes on counting up, and what it had counted for that one
 * is noted elsewhere: one store makes the note count, so that the program's end at any moment neither loses nor doubles a call,
 * nor does a signal handler, which may come to be the first that notes and counts. False: there is no cell left for the note.
 */
static bool succeed(struct vdso_count_cell *cell, uint64_t pointer)
{
	uint64_t before = LOAD(cell->check_note);
	uint32_t note = (uint32_t)(before >> 32);
	int32_t tid = call(ARCH_NR_GETTID);

	if (check(pointer) != 0 && check(pointer) != (uint32_t)tid)
		STORE(vdso_private.tid_mask, 0); /* it was not the thread's id after all */
	if (LOAD(cell->kind) != VDSO_CELL_THREAD) {
		sign(cell, pointer, tid);
		return true;
	}
	if (owner(cell) != tid && (note = write_note(cell, note, tid)) == 0)
		return false;
	/* Pairs with the acquire in vdso_counts_cell(). Fails where a signal handler has done it. */
	__atomic_compare_exchange_n(&cell->check_note, &before, (uint64_t)note << 32 | check(pointer), false, __ATOMIC_RELEASE,
				    __ATOMIC_RELAXED);
	return true;
}

/* The thread's, in that place. NULL: another one has it. */
static struct vdso_count_cell *mine(struct vdso_count_cell *cell, uint64_t pointer)
{
	uint64_t there = LOAD(cell->key);

	if (there == 0 && __atomic_compare_exchange_n(&cell->key, &there, ~pointer, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		int32_t tid = call(ARCH_NR_GETTID);

		if (LOAD(vdso_private.pid) == 0)
			STORE(vdso_private.pid, call(ARCH_NR_GETPID));
		if (LOAD(vdso_private.tid_mask) == 0)
			find_tid(pointer, tid);
		sign(cell, pointer, tid);
		return cell;
	}
	if (there != ~pointer)
		return 0;
	return LOAD(cell->check) == check(pointer) || succeed(cell, pointer) ? cell : 0;
}

/* Whoever has a cell in the former one leaves it there, with what it has counted. */
static void grow(uint64_t region)
{
	uint32_t bits = region == 0 ? 0 : (uint32_t)(region >> 32) + REGION_GROWS;
	struct vdso_count_cell *first = take_cells(1u << bits);

	if (first != 0)
		__atomic_compare_exchange_n(&vdso_private.region, &region,
					    (uint64_t)bits << 32 | ((uint64_t)first - vdso_process.counts), false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
}

/* The thread's cell; NULL: it can have none. */
static struct vdso_count_cell *own_cell(void)
{
	uint64_t pointer = arch_thread_pointer();

	if (pointer == 0) /* and so has every other thread of a program without a C library */
		return 0;
	for (;;) {
		uint64_t region = LOAD(vdso_private.region);
		uint32_t bits = (uint32_t)(region >> 32), home = VDSO_COUNT_HOME(pointer, bits);
		struct vdso_count_cell *first = (struct vdso_count_cell *)(vdso_process.counts + (uint32_t)region);

		for (uint32_t i = 0; region != 0 && i < (bits == REGION_LAST ? PROBED : 1); i++) {
			struct vdso_count_cell *cell = mine(&first[(home + i) % (1u << bits)], pointer);

			if (cell != 0)
				return cell;
		}
		if (bits == REGION_LAST)
			return 0;
		grow(region);
		if (LOAD(vdso_private.region) == region)
			return 0;
	}
}

/* Whether the page can be read: asked of the kernel, by a wait that ends at once, which any sandbox allows. */
static bool is_readable(uint64_t page)
{
	const int64_t at_once[2] = {0, 0};

	return arch_syscall(ARCH_NR_FUTEX, (long)page, FUTEX_WAIT_PRIVATE, -1, (long)at_once, 0, 0) != -E_FAULT;
}

/* As many of the bytes from there on as can be read, of which the first are known to be. */
static uint32_t copy(uint64_t from, uint32_t most, uint8_t *to)
{
	uint64_t size = -from % VDSO_PAGE_BYTES;

	if (size == 0 || size >= most || is_readable(from + size))
		size = most;
	for (uint64_t i = 0; i < size; i++)
		to[i] = ((const uint8_t *)from)[i];
	return (uint32_t)size;
}

/*
 * Go's runtime reads clocks on a stack that holds nothing of its caller, whose own stack pointer is in r12 then and whose frame
 * pointer stays. In any other program the two may be anything.
 */
static bool is_elsewhere(const struct vdso_count_frame *frame, uint64_t rsp)
{
	return frame->rbp % 8 == 0 && frame->r12 % 8 == 0 && frame->rbp - frame->r12 < NEAR && frame->rbp - rsp + FAR > 2 * FAR &&
	       frame->rbp < (uint64_t)1 << 47 && is_readable(frame->rbp & -(uint64_t)VDSO_PAGE_BYTES);
}

static void fill(const struct vdso_count_frame *frame, struct vdso_count_sample *sample)
{
	uint64_t rsp = (uint64_t)&frame->back + sizeof(frame->back);

	sample->clock = (int32_t)frame->rdi;
	sample->rip = frame->back;
	sample->rsp = rsp;
	sample->rbp = frame->rbp;
	sample->rbx = frame->rbx;
	sample->r12 = frame->r12;
	sample->r13 = frame->r13;
	sample->r14 = frame->r14;
	sample->r15 = frame->r15;
	sample->stack_size = copy(rsp, VDSO_SAMPLE_STACK, sample->stack);
	sample->frame_size = is_elsewhere(frame, rsp) ? copy(frame->rbp, VDSO_SAMPLE_FRAME, sample->frame) : 0;
}

static void take_sample(const struct vdso_count_frame *frame, const struct vdso_count_cell *cell, uint32_t slot, uint64_t weight)
{
	uint64_t number = __atomic_fetch_add(&counts()->samples, 1, __ATOMIC_RELAXED) + 1;
	struct vdso_count_sample *sample = &counts()->sample[number % VDSO_COUNT_SAMPLES];
	uint64_t there = LOAD(sample->number);

	/* Whoever was here a round ago and has not finished keeps it, and this one is lost. */
	if (there == VDSO_SAMPLE_BUSY ||
	    !__atomic_compare_exchange_n(&sample->number, &there, VDSO_SAMPLE_BUSY, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	sample->pid = cell->pid;
	sample->tid = owner(cell);
	sample->program = vdso_process.program;
	sample->slot = slot;
	sample->weight = weight;
	fill(frame, sample);
	__atomic_store_n(&sample->number, number, __ATOMIC_RELEASE); /* pairs with the acquire in vdso_counts_sample() */
}

void vdso_count(const struct vdso_count_frame *frame, uint32_t slot, struct vdso_count_cell *cell)
{
	uint64_t before;

	if (vdso_process.counting == VDSO_COUNT_NOT)
		return;
	if (cell != 0) {
		before = LOAD(cell->calls[slot]) - 1;
	} else if (vdso_process.counting == VDSO_COUNT_BY_THREAD && (cell = own_cell()) != 0) {
		before = LOAD(cell->calls[slot]);
		arch_count(&cell->calls[slot]);
	} else {
		cell = &counts()->cell[vdso_process.program];
		before = __atomic_fetch_add(&cell->calls[slot], 1, __ATOMIC_RELAXED);
	}
	if (vdso_count_is_sampled(before, (uint64_t)&cell->calls[slot] << SALT_SHIFT, LOAD(counts()->threshold)))
		take_sample(frame, cell, slot, before == 0 ? 1 : LOAD(counts()->weight));
}
