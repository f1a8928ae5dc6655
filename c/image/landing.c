/*
 * The swap, carried out inside the process before its first instruction.
 *
 * The follower stops a program once, at its exec, leaves an order below its stack and a few instructions (c/core/bootstrap.S) in
 * the unused tail of the kernel's image, points the program there and lets it go. From then on the process needs nobody:
 * a follower that is killed now leaves nothing half done. The kernel's pages are moved aside, keeping their distances, so
 * that its functions go on working, and ours are mapped where they were. A step that fails is undone and the program runs as
 * if untouched: nobody else is in the address space, and it has not run yet.
 */
#include <stdbool.h>

#include "arch.h"
#include "clock.h"
#include "process.h"
#include "syscalls.h"
#include "wait.h"
#ifdef VDSO_COUNTING
#include "counting.h"
#define BEFORE (VDSO_DATA_BYTES + VDSO_COUNT_PRIVATE_BYTES) /* bytes of the pages in front of the image */
#else
#define BEFORE VDSO_DATA_BYTES
#endif

enum {
	PROT_NONE = 0,
	PROT_READ = 1,
	PROT_WRITE = 2,
	PROT_EXEC = 4,
	MAP_SHARED = 1,
	MAP_PRIVATE = 2,
	MAP_FIXED = 0x10,
	MAP_ANONYMOUS = 0x20,
	MREMAP_MAYMOVE = 1,
	MREMAP_FIXED = 2,
	MADV_WIPEONFORK = 18,
	PR_SET_MM = 35,
	PR_SET_MM_AUXV = 12,
	AT_NULL = 0,
	AT_FLAGS = 8,
	AT_SYSINFO_EHDR = 33,
	E_PERM = 1,
	E_FAULT = 14,
	E_INVAL = 22,
};

/* In rax and rdx. image 0: nothing was changed, and `entry` is the errno. image `here`: the same, but there is no bootstrap
 * to return to, and this copy stays. */
struct landed {
	uint64_t image;
	uint64_t entry;
};

struct landed vdso_land(struct vdso_order *order, uint64_t descriptors, uint64_t here);

ARCH_LANDING;

/* Out of line: the annex has one page, and the landing is run once. */
static __attribute__((noinline)) long call(long number, uint64_t a, uint64_t b, long c, long d, long e)
{
	return arch_syscall(number, (long)a, (long)b, c, d, e, 0);
}

static inline bool failed(uint64_t address)
{
	return address > (uint64_t)-4096;
}

/* 0, or the negative errno that came in the place of an address. */
static __attribute__((noinline)) uint64_t error_of(uint64_t address)
{
	return failed(address) ? address : 0;
}

static uint64_t map(uint64_t at, uint64_t size, long prot, long flags, long fd)
{
	return (uint64_t)call(ARCH_NR_MMAP, at, size, prot, flags, fd);
}

static void unmap(uint64_t at, uint64_t size)
{
	if (at != 0 && !failed(at))
		call(ARCH_NR_MUNMAP, at, size, 0, 0, 0);
}

static uint64_t move(uint64_t from, uint64_t size, uint64_t to)
{
	return (uint64_t)call(ARCH_NR_MREMAP, from, size, (long)size, MREMAP_MAYMOVE | MREMAP_FIXED, (long)to);
}

/*
 * Moves the kernel's pieces, all or none. 0 or a negative errno. Since 6.17 one call moves them all; an earlier kernel
 * answers EFAULT to it, having moved nothing, and so will a piece that has gone already should the call have failed half way.
 */
static uint64_t move_kernel(const struct vdso_order *order, uint64_t from, uint64_t to)
{
	uint32_t pieces = order->pieces;

	if (!failed(move(from, order->area_size, to)))
		return 0;
	for (uint32_t i = 0; i < pieces; i++) {
		uint32_t offset = order->piece[i].offset;
		uint64_t moved = move(from + offset, order->piece[i].size, to + offset);

		if (!failed(moved) || moved == (uint64_t)-E_FAULT)
			continue;
		while (i-- > 0)
			move(to + order->piece[i].offset, order->piece[i].size, from + order->piece[i].offset);
		return moved;
	}
	return 0;
}

static void choose_functions(struct vdso_process *process, const struct vdso_order *order, uint64_t kernel_image,
			     uint64_t here)
{
	/* Addresses in this copy; the image's final place is elsewhere. */
	uint64_t shift = process->image - here;

	process->function[VDSO_FN_CLOCK_GETTIME] = (uint64_t)&call_clock_gettime + shift;
	process->function[VDSO_FN_GETTIMEOFDAY] = (uint64_t)&call_gettimeofday + shift;
	process->function[VDSO_FN_TIME] = (uint64_t)&call_time + shift;
	process->function[VDSO_FN_GETCPU] = (uint64_t)&call_getcpu + shift;
	process->function[VDSO_FN_CLOCK_GETRES] = (uint64_t)&call_clock_getres + shift;
	process->function[VDSO_FN_GETRANDOM] = (uint64_t)&call_nothing + shift;
	process->function[VDSO_FN_SGX_ENTER] = (uint64_t)&call_nothing + shift;
	process->wait = (uint64_t)vdso_wait + shift;
	process->wait_step = (uint64_t)&vdso_wait_step; /* which stays where it is */
	for (uint32_t i = 0; i < VDSO_FN_COUNT; i++)
		if (kernel_image != 0 && order->function[i] != 0)
			process->function[i] = kernel_image + order->function[i];
}

/* Puts back the program's own code, where the bootstrap had no other place. Never writable and executable at once: we run
 * in pages of our own by now. */
static long uncover(const struct vdso_order *order)
{
	uint64_t first = order->covered & -(uint64_t)VDSO_PAGE_BYTES;
	uint64_t size = order->covered + order->covered_size - first;
	long error = call(ARCH_NR_MPROTECT, first, size, PROT_READ | PROT_WRITE, 0, 0);

	if (error != 0)
		return error;
	for (uint64_t i = 0; i < order->covered_size; i++)
		((uint8_t *)order->covered)[i] = order->covered_bytes[i];
	return call(ARCH_NR_MPROTECT, first, size, PROT_READ | PROT_EXEC, 0, 0);
}

static bool clock_page_fits(const struct vdso_page_header *page)
{
	return page->magic == VDSO_PAGE_MAGIC && page->format == VDSO_PAGE_FORMAT && page->slots == VDSO_CLOCK_SLOTS &&
	       page->record_size == sizeof(struct vdso_clock_record) && page->slot_stride == VDSO_CLOCK_STRIDE &&
	       page->schema_hash == VDSO_CLOCK_SCHEMA;
}

static void unmap_counts(uint64_t counts)
{
#ifdef VDSO_COUNTING
	unmap(counts, VDSO_COUNT_BYTES);
#else
	(void)counts;
#endif
}

/* Where the program counts its calls. */
static uint64_t map_counts(struct vdso_process *process, const struct vdso_order *order)
{
#ifdef VDSO_COUNTING
	uint64_t private = (uint64_t)process - VDSO_CLOCK_BYTES - VDSO_COUNT_PRIVATE_BYTES, error;
	int64_t given = order->counts;

	if (given < 0)
		given = call(ARCH_NR_EXECVE, VDSO_ASK_PATH, VDSO_ASK_COUNTS, 0, 0, 0);
	if (given < 0)
		return (uint64_t)given;
	process->counts = map(0, VDSO_COUNT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, given & VDSO_NO_DESCRIPTOR);
	call(ARCH_NR_CLOSE, (uint64_t)given & VDSO_NO_DESCRIPTOR, 0, 0, 0, 0);
	error = error_of(process->counts);
	if (error == 0)
		error = error_of(map(private, VDSO_COUNT_PRIVATE_BYTES, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1));
	if (error == 0)
		error = (uint64_t)call(ARCH_NR_MADVISE, private, VDSO_COUNT_PRIVATE_BYTES, MADV_WIPEONFORK, 0, 0);
	if (error != 0)
		return error;
	process->program = (uint32_t)((uint64_t)given >> 20);
	process->counting = ((const struct vdso_counts *)process->counts)->how;
#else
	(void)process;
	(void)order;
#endif
	return 0;
}

/* Leads whoever reads the auxiliary vector on the stack to our image; PR_GET_AUXV's copy too, where we may change it. */
static bool lead_auxv(uint64_t stack, uint64_t image)
{
	uint64_t *word = (uint64_t *)stack;

	word += 1 + word[0] + 1; /* argc, argv, NULL */
	while (*word++ != 0)     /* envp, NULL */
		;

	uint64_t *auxv = word, *spare = NULL;

	for (; word[0] != AT_NULL; word += 2) {
		if (word[0] == AT_SYSINFO_EHDR)
			break;
		/* Without a vDSO there is no such entry. AT_FLAGS is 0 on every kernel, as it is when absent. */
		if (word[0] == AT_FLAGS && word[1] == 0)
			spare = word;
	}
	if (word[0] == AT_NULL)
		word = spare;
	if (word == NULL)
		return false;
	word[0] = AT_SYSINFO_EHDR;
	word[1] = image;
	while (word[0] != AT_NULL)
		word += 2;
	call(ARCH_NR_PRCTL, PR_SET_MM, PR_SET_MM_AUXV, (long)auxv, (char *)(word + 2) - (char *)auxv, 0);
	return true;
}

struct landed vdso_land(struct vdso_order *order, uint64_t descriptors, uint64_t here)
{
	long image_fd = (long)(descriptors & 0xfffff), clock_fd = (long)(descriptors >> 20 & 0xfffff);
	uint64_t entry = order->entry, stack = order->stack, area = order->area, area_size = order->area_size;
	uint64_t kernel_image = order->kernel_image, image, spot = 0, counts = 0, error;
	bool in_place = order->place == VDSO_PLACE_MOVE && kernel_image - area >= BEFORE;

	/* Where the kernel's pages go, or where ours stand. */
	uint64_t room = in_place ? area_size : BEFORE + VDSO_IMAGE_BYTES;

	spot = map(0, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (order->covered_size != 0 && uncover(order) != 0)
		call(ARCH_NR_EXIT_GROUP, VDSO_STRICT_STATUS, 0, 0, 0, 0); /* no program is left to run */
	error = error_of(spot);
	if (error != 0)
		goto untouched;

	if (in_place) {
		uint64_t moved = move_kernel(order, area, spot);

		if (moved == 0) {
			image = kernel_image;
			kernel_image = kernel_image - area + spot;
		} else if (moved == (uint64_t)-E_PERM) { /* sealed: leave them, and stand elsewhere */
			unmap(spot, room);
			in_place = false;
			room = BEFORE + VDSO_IMAGE_BYTES;
			spot = map(0, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
			error = error_of(spot);
		} else {
			error = moved;
		}
	}
	if (error != 0)
		goto untouched;
	if (!in_place)
		image = spot + BEFORE;

	/* In their places at once, not moved there: a page that was mapped elsewhere first costs a second call. */
	struct vdso_process *process = (struct vdso_process *)(image - VDSO_PAGE_BYTES);

	error = error_of(map(image - VDSO_DATA_BYTES, VDSO_CLOCK_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, clock_fd));
	if (error == 0 && !clock_page_fits((const struct vdso_page_header *)(image - VDSO_DATA_BYTES)))
		error = (uint64_t)-E_INVAL;
	if (error == 0)
		error = error_of(map((uint64_t)process, VDSO_PAGE_BYTES, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1));
	if (error == 0) {
		process->magic = VDSO_PROCESS_MAGIC;
		process->flags = descriptors >> 40;
		process->kernel_image = kernel_image;
		process->image = image;
		choose_functions(process, order, kernel_image, here);
		error = map_counts(process, order);
		counts = process->counts;
	}
	if (error == 0)
		error = (uint64_t)call(ARCH_NR_MPROTECT, (uint64_t)process, VDSO_PAGE_BYTES, PROT_READ, 0, 0);
	if (error == 0)
		error = error_of(map(image, VDSO_IMAGE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, image_fd));
	if (error == 0 && !in_place && !lead_auxv(stack, image))
		error = (uint64_t)-E_INVAL;
	if (error != 0 && in_place) {
		/* The kernel's pages go back, over whatever already stands in their place. */
		unmap(image - BEFORE, BEFORE + VDSO_IMAGE_BYTES);
		move_kernel(order, spot, area);
		spot = 0;
	}
	if (error != 0)
		goto untouched;

	call(ARCH_NR_CLOSE, (uint64_t)image_fd, 0, 0, 0, 0);
	call(ARCH_NR_CLOSE, (uint64_t)clock_fd, 0, 0, 0, 0);
	return (struct landed){image, entry};

untouched:
	unmap_counts(counts);
	unmap(spot, room);
	call(ARCH_NR_CLOSE, (uint64_t)image_fd, 0, 0, 0, 0);
	call(ARCH_NR_CLOSE, (uint64_t)clock_fd, 0, 0, 0, 0);
	if (order->covered_size == 0)
		return (struct landed){0, -error};
	call(ARCH_NR_EXECVE, VDSO_ASK_PATH, VDSO_ASK_FAILED, (long)-error, 0, 0);
	if (order->strict)
		call(ARCH_NR_EXIT_GROUP, VDSO_STRICT_STATUS, 0, 0, 0, 0);
	return (struct landed){here, entry};
}
