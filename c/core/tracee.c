#include "tracee.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "memory.h"
#include "registers.h"

extern const char vdso_bootstrap[] __attribute__((visibility("hidden")));
extern const char vdso_bootstrap_end[] __attribute__((visibility("hidden")));

/* Below the stack pointer, out of the landing's way, within what every exec maps. */
#define ORDER_BELOW_STACK 8192u


static int answer(long ret)
{
	return ret == -1 ? -errno : 0;
}

int vdso_tracee_seize(pid_t tid)
{
	return answer(ptrace(PTRACE_SEIZE, tid, 0L, (long)PTRACE_O_TRACEEXEC));
}

int vdso_tracee_interrupt(pid_t tid)
{
	return answer(ptrace(PTRACE_INTERRUPT, tid, 0L, 0L));
}

int vdso_tracee_continue(pid_t tid, int signal)
{
	return answer(ptrace(PTRACE_CONT, tid, 0L, (long)signal));
}

int vdso_tracee_detach(pid_t tid, int signal)
{
	return answer(ptrace(PTRACE_DETACH, tid, 0L, (long)signal));
}

pid_t vdso_tracee_former(pid_t tid)
{
	unsigned long former = 0;

	return ptrace(PTRACE_GETEVENTMSG, tid, 0L, &former) == 0 ? (pid_t)former : tid;
}

static int open_proc(pid_t tid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, name);
	return open(path, flags | O_CLOEXEC);
}

/* In a vector of that many words, AT_SYSINFO_EHDR, 0 if it has none. False: the vector's end is not among them. */
static bool find_image(const uint64_t *auxv, size_t words, uint64_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i + 1 < words; i += 2) {
		if (auxv[i] == AT_NULL)
			return true;
		if (auxv[i] == AT_SYSINFO_EHDR)
			*ret = auxv[i + 1];
	}
	return false;
}

/* AT_SYSINFO_EHDR of a fresh 64-bit program, 0 if it has none. */
static int read_image_address(pid_t tid, int mem, uint64_t stack, uint64_t *ret)
{
	uint64_t word[512];
	ssize_t size = pread(mem, word, sizeof(word), (off_t)stack);
	size_t words = size > 0 ? (size_t)size / sizeof(word[0]) : 0, at = words != 0 && word[0] < words ? word[0] + 2 : words;
	int fd;

	/* As the kernel has just left it: argc, argv, NULL, envp, NULL, auxv. Opening /proc/PID/auxv takes several times as
	 * long, and is for an argument list or environment that is longer. */
	while (at < words && word[at] != 0)
		at++;
	if (at < words && find_image(word + at + 1, words - at - 1, ret))
		return 0;

	fd = open_proc(tid, "auxv", O_RDONLY);
	if (fd < 0)
		return -errno;
	size = read(fd, word, sizeof(word));
	close(fd);
	if (size < 0)
		return -errno;
	find_image(word, (size_t)size / sizeof(word[0]), ret);
	return 0;
}

/* Where the bootstrap goes, and how ours will stand. */
static int choose_place(const struct vdso_area *area, uint64_t image, int mem, struct vdso_order *order, uint64_t *at)
{
	size_t size = (size_t)(vdso_bootstrap_end - vdso_bootstrap);

	if (image == 0) {
		/* No vDSO, and so no bytes that nobody needs: on the program's own first ones, which the landing puts back. */
		order->place = VDSO_PLACE_AUXV;
		order->covered = order->entry;
		order->covered_size = size;
		*at = order->entry;
		return vdso_memory_read(mem, order->covered_bytes, size, order->entry);
	}
	order->place = area->before >= VDSO_DATA_BYTES && area->image_size >= VDSO_IMAGE_BYTES ? VDSO_PLACE_MOVE
												: VDSO_PLACE_AUXV;
	order->kernel_image = image;
	order->area = image - area->before;
	order->area_size = area->before + area->image_size;
	order->pieces = area->pieces;
	memcpy(order->piece, area->piece, sizeof(order->piece));
	memcpy(order->function, area->function, sizeof(area->function));
	/* The image's last bytes: beyond its contents or, should a kernel fill its pages, over section headers that nobody
	 * reads once our image is the one that is found. */
	*at = image + area->image_size - size;
	return 0;
}

/* An x32 program: 64-bit registers, but an auxiliary vector of other words, in which nothing was found. */
static bool is_x32(pid_t tid)
{
	unsigned char ident[EI_NIDENT] = {0};
	int fd = open_proc(tid, "exe", O_RDONLY);
	bool ret = fd >= 0 && read(fd, ident, sizeof(ident)) == sizeof(ident) && ident[EI_CLASS] == ELFCLASS32;

	if (fd >= 0)
		close(fd);
	return ret;
}

enum vdso_swap_outcome vdso_tracee_order(pid_t tid, const struct vdso_area *area, const struct vdso_swap *swap, int *error)
{
	struct user_regs_struct regs;
	struct vdso_order order = {
		.landing = swap->landing,
		.image_fd = swap->image_fd,
		.clock_fd = swap->clock_fd,
		.flags = swap->flags,
		.strict = swap->strict,
		.counts = swap->counts,
	};
	uint64_t image = 0, at = 0, order_at;
	uint8_t header[64];
	int mem;

	*error = vdso_registers_get(tid, &regs);
	if (*error == -ENOEXEC)
		return VDSO_SWAP_FOREIGN;
	if (*error != 0)
		return VDSO_SWAP_REFUSED;

	mem = vdso_memory_open(tid);
	if (mem < 0) {
		*error = mem;
		return VDSO_SWAP_REFUSED;
	}
	*error = read_image_address(tid, mem, regs.rsp, &image);
	if (*error == 0 && image == 0 && is_x32(tid)) {
		close(mem);
		return VDSO_SWAP_FOREIGN;
	}
	if (*error == 0 && image != 0) {
		*error = vdso_memory_read(mem, header, sizeof(header), image);
		if (*error == 0 && (area->image_size == 0 || memcmp(header, area->header, sizeof(header)) != 0)) {
			close(mem);
			return VDSO_SWAP_FOREIGN;
		}
	}
	order.entry = regs.rip;
	order.stack = regs.rsp;
	order_at = (regs.rsp - ORDER_BELOW_STACK) & ~15ul;
	if (*error == 0)
		*error = choose_place(area, image, mem, &order, &at);
	if (*error == 0)
		*error = vdso_memory_write(tid, mem, &order, sizeof(order), order_at);
	if (*error == 0)
		*error = vdso_memory_write(tid, mem, vdso_bootstrap, (size_t)(vdso_bootstrap_end - vdso_bootstrap), at);
	close(mem);
	if (*error != 0)
		return VDSO_SWAP_REFUSED;

	/* Still inside execve: its return value will overwrite rax, and nothing else. */
	regs.rip = at;
	regs.rbx = order_at;
	*error = vdso_registers_set(tid, &regs);
	return *error == 0 ? VDSO_SWAP_ORDERED : VDSO_SWAP_REFUSED;
}

int vdso_tracee_turn(pid_t tid, uint64_t entry, uint64_t plan)
{
	struct user_regs_struct regs;
	int error = vdso_registers_get(tid, &regs);

	if (error != 0)
		return error;
	if ((int64_t)regs.rax != VDSO_TURNED || (int64_t)regs.orig_rax < 0)
		return -EAGAIN;
	regs.rcx = regs.rip;
	regs.rip = entry;
	regs.rax = regs.orig_rax;
	regs.r11 = plan;
	regs.orig_rax = VDSO_NO_CALL; /* in no system call any more */
	return vdso_registers_set(tid, &regs);
}

void vdso_tracee_refuse(pid_t tid)
{
	/* exit_group(VDSO_STRICT_STATUS), on the first bytes of a program that will not run. */
	static const uint8_t leave_64[] = {0xb8, 231, 0, 0, 0, 0xbf, VDSO_STRICT_STATUS, 0, 0, 0, 0x0f, 0x05};
	static const uint8_t leave_32[] = {0xb8, 252, 0, 0, 0, 0xbb, VDSO_STRICT_STATUS, 0, 0, 0, 0xcd, 0x80};
	struct user_regs_struct regs; /* PTRACE_GETREGS shows a 32-bit program's in the same form */
	bool is_64 = vdso_registers_get(tid, &regs) == 0;
	int mem = vdso_memory_open(tid);

	_Static_assert(sizeof(leave_64) == sizeof(leave_32), "one size");
	if (mem < 0 || ptrace(PTRACE_GETREGS, tid, 0L, &regs) != 0 ||
	    vdso_memory_write(tid, mem, is_64 ? leave_64 : leave_32, sizeof(leave_64), regs.rip) != 0)
		kill(tid, SIGKILL);
	if (mem >= 0)
		close(mem);
}
