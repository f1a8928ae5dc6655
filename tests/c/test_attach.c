/*
 * Attaching, to the instruction: lengths of instructions; jumps into this kernel's image, and into those that stand in the
 * files named by VDSO_IMAGES (separated by colons), put there and taken away while a call stands at each of its instructions in
 * turn; and a thread of which every register is in use while code is injected into it.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "area.h"
#include "attach.h"
#include "attachment.h"
#include "borrow.h"
#include "decode.h"
#include "descriptor.h"
#include "detour.h"
#include "filter.h"
#include "frames.h"
#include "image.h"
#include "inject.h"
#include "memory.h"
#include "notification.h"
#include "space.h"

#define OFFSET_SEC 86400000
#define AHEAD_SEC 1000000 /* what our function adds in the steps below */

/* ---- lengths ---- */

static const struct {
	const char *text;
	uint8_t bytes[15];
	uint8_t length;
	uint8_t rip_at;
	uint8_t branch_at;
} encodings[] = {
	{"push %rbp", {0x55}, 1, 0, 0},
	{"push %r14", {0x41, 0x56}, 2, 0, 0},
	{"mov %rsp,%rbp", {0x48, 0x89, 0xe5}, 3, 0, 0},
	{"endbr64", {0xf3, 0x0f, 0x1e, 0xfa}, 4, 0, 0},
	{"lea x(%rip),%r10", {0x4c, 0x8d, 0x15, 1, 2, 3, 4}, 7, 3, 0},
	{"cmpl $x,y(%rip)", {0x81, 0x3d, 1, 2, 3, 4, 5, 6, 7, 8}, 10, 2, 0},
	{"cmpb $x,y(%rip)", {0x80, 0x3d, 1, 2, 3, 4, 5}, 7, 2, 0},
	{"ja rel32", {0x0f, 0x87, 1, 2, 3, 4}, 6, 0, 2},
	{"ja rel8", {0x77, 1}, 2, 0, 1},
	{"jmp rel32", {0xe9, 1, 2, 3, 4}, 5, 0, 1},
	{"call rel32", {0xe8, 1, 2, 3, 4}, 5, 0, 1},
	{"mov $imm64,%rax", {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, 10, 0, 0},
	{"mov $imm32,%eax", {0xb8, 1, 2, 3, 4}, 5, 0, 0},
	{"mov $imm16,%ax", {0x66, 0xb8, 1, 2}, 4, 0, 0},
	{"movabs moffs,%eax", {0xa1, 1, 2, 3, 4, 5, 6, 7, 8}, 9, 0, 0},
	{"mov x(,%rax,8),%rcx", {0x48, 0x8b, 0x0c, 0xc5, 1, 2, 3, 4}, 8, 0, 0},
	{"mov x(%rsp),%rcx", {0x48, 0x8b, 0x4c, 0x24, 1}, 5, 0, 0},
	{"testb $x,y(%rsi)", {0xf6, 0x46, 0x1d, 1}, 4, 0, 0},
	{"neg %ecx", {0xf7, 0xd9}, 2, 0, 0},
	{"test $imm32,%ecx", {0xf7, 0xc1, 1, 2, 3, 4}, 6, 0, 0},
	{"rdtscp", {0x0f, 0x01, 0xf9}, 3, 0, 0},
	{"lfence", {0x0f, 0xae, 0xe8}, 3, 0, 0},
	{"syscall", {0x0f, 0x05}, 2, 0, 0},
	{"shrd $x,%rax,%rdx", {0x48, 0x0f, 0xac, 0xc2, 1}, 5, 0, 0},
	{"imul $imm32,%rax,%rax", {0x48, 0x69, 0xc0, 1, 2, 3, 4}, 7, 0, 0},
	{"enter", {0xc8, 1, 2, 3}, 4, 0, 0},
	{"pshufd $x,%xmm1,%xmm0", {0x66, 0x0f, 0x70, 0xc1, 1}, 5, 0, 0},
	{"palignr $x,%xmm1,%xmm0", {0x66, 0x0f, 0x3a, 0x0f, 0xc1, 1}, 6, 0, 0},
	{"pshufb %xmm1,%xmm0", {0x66, 0x0f, 0x38, 0x00, 0xc1}, 5, 0, 0},
	{"vmovdqa x(%rip),%xmm0", {0xc5, 0xf9, 0x6f, 0x05, 1, 2, 3, 4}, 8, 4, 0},
	{"vpalignr $x,%ymm1,%ymm0,%ymm0", {0xc4, 0xe3, 0x7d, 0x0f, 0xc1, 1}, 6, 0, 0},
	{"vzeroupper", {0xc5, 0xf8, 0x77}, 3, 0, 0},
	{"vpaddd %zmm1,%zmm0,%zmm0", {0x62, 0xf1, 0x7d, 0x48, 0xfe, 0xc1}, 6, 0, 0},
	{"(invalid)", {0x06}, 0, 0, 0},
	{"(32-bit address)", {0x67, 0x8b, 0x00}, 0, 0, 0},
};

static void test_lengths(void)
{
	for (unsigned i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
		struct vdso_instruction found;
		bool known = vdso_decode(encodings[i].bytes, sizeof(encodings[i].bytes), &found), short_of;

		check(known == (encodings[i].length != 0) &&
			      (!known || (found.length == encodings[i].length && found.rip_at == encodings[i].rip_at &&
					  found.branch_at == encodings[i].branch_at)),
		      "%s: %u bytes", encodings[i].text, known ? found.length : 0);
		short_of = known && vdso_decode(encodings[i].bytes, (size_t)encodings[i].length - 1, &found);
		if (short_of)
			check(false, "%s: beyond its end", encodings[i].text);
	}
}

/* ---- every instruction of every image ---- */

#define DATA_PAGES 16u /* in front of an image: zeros, by which its clock has no mode and it makes the system call */
#define IMAGE_ROOM 16384u

struct subject {
	const char *name;
	uint8_t image[IMAGE_ROOM];
	size_t size;
	uint32_t function[VDSO_FN_COUNT];
	uint8_t *at; /* mapped, behind its data pages */
	uint8_t *code;
};

static int ahead_clock_gettime(int id, struct timespec *ts)
{
	int ret = (int)syscall(SYS_clock_gettime, id, ts);

	ts->tv_sec += AHEAD_SEC;
	return ret;
}

static int ahead_gettimeofday(struct timeval *tv, void *tz)
{
	int ret = (int)syscall(SYS_gettimeofday, tv, tz);

	tv->tv_sec += AHEAD_SEC;
	return ret;
}

static time_t ahead_time(time_t *t)
{
	time_t ret = AHEAD_SEC;

	if (t != NULL)
		*t = ret;
	return ret;
}

static const enum vdso_function patched[] = {VDSO_FN_CLOCK_GETTIME, VDSO_FN_GETTIMEOFDAY, VDSO_FN_TIME};
static const char *const patched_names[] = {"clock_gettime", "gettimeofday", "time"};
enum { PATCHED = 3 };

/* function(first, second), with a value in every register that it has to preserve. 0 in *kept: it has not. */
long call_checked(void *function, long first, long second, long *kept);
__asm__(".text\n"
	".globl call_checked\n"
	"call_checked:\n"
	"	push %rbx\n"
	"	push %rbp\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	push %rcx\n" /* kept; and the stack is aligned again */
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov $0x1111, %ebx\n"
	"	mov $0x2222, %ebp\n"
	"	mov $0x3333, %r12d\n"
	"	mov $0x4444, %r13d\n"
	"	mov $0x5555, %r14d\n"
	"	mov $0x6666, %r15d\n"
	"	call *%rax\n"
	"	xor $0x1111, %rbx\n"
	"	xor $0x2222, %rbp\n"
	"	xor $0x3333, %r12\n"
	"	xor $0x4444, %r13\n"
	"	xor $0x5555, %r14\n"
	"	xor $0x6666, %r15\n"
	"	or %rbp, %rbx\n"
	"	or %r12, %rbx\n"
	"	or %r13, %rbx\n"
	"	or %r14, %rbx\n"
	"	or %r15, %rbx\n"
	"	pop %rcx\n"
	"	xor %edx, %edx\n"
	"	test %rbx, %rbx\n"
	"	sete %dl\n"
	"	mov %rdx, (%rcx)\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	ret\n");

enum reading { WRONG, KERNELS, OURS };

/* What a call of the function gave. The data being zeros, time() gives 0. */
static enum reading call_once(unsigned which, void *function)
{
	int64_t before = kernel_ns(CLOCK_REALTIME), after, value;
	long kept = 0, ret;

	if (which == 0) {
		struct timespec ts = {0};

		ret = (int)call_checked(function, CLOCK_REALTIME, (long)&ts, &kept);
		value = ns_of(&ts);
	} else if (which == 1) {
		struct timeval tv = {0};

		ret = (int)call_checked(function, (long)&tv, 0, &kept);
		value = (int64_t)tv.tv_sec * 1000000000 + (int64_t)tv.tv_usec * 1000 + 999;
	} else {
		time_t t = -1, returned = call_checked(function, (long)&t, 0, &kept);

		return !kept || t != returned ? WRONG : t == 0 ? KERNELS : t == AHEAD_SEC ? OURS : WRONG;
	}
	after = kernel_ns(CLOCK_REALTIME) + 999;
	if (ret != 0 || !kept)
		return WRONG;
	if (value >= before && value <= after)
		return KERNELS;
	value -= (int64_t)AHEAD_SEC * 1000000000;
	return value >= before && value <= after ? OURS : WRONG;
}

static bool map_subject(struct subject *s)
{
	size_t data = DATA_PAGES * 4096, size = data + IMAGE_ROOM + 4096;
	uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED)
		return false;
	s->at = base + data;
	s->code = s->at + IMAGE_ROOM;
	memcpy(s->at, s->image, s->size);
	memset(s->code, 0xcc, 4096);
	vdso_area_functions((const char *)s->at, s->function);
	return true;
}

/* The image of a stopped child, made from one into the other. */
static void poke_image(struct subject *s, pid_t pid, const uint8_t *from, const uint8_t *to)
{
	long word;

	for (size_t i = 0; i < s->size; i += sizeof(word))
		if (memcmp(from + i, to + i, sizeof(word)) != 0) {
			memcpy(&word, to + i, sizeof(word));
			ptrace(PTRACE_POKETEXT, pid, s->at + i, word);
		}
}

/* As detaching does it before the bytes are put back. */
static void move_away(struct subject *s, pid_t pid, const struct vdso_site *site)
{
	struct vdso_thread thread = {.tid = pid, .stopped = true};
	struct vdso_threads threads = {.pid = pid, .thread = &thread, .count = 1};
	struct vdso_frames_move move = {(uint64_t)s->at + site->by, (uint64_t)s->at + site->at};
	int mem = vdso_memory_open(pid);

	if (mem < 0 || (site->by != site->at && vdso_frames_move(&threads, mem, &move, 1) != 0))
		check(false, "%s: moved away", s->name);
	if (mem >= 0)
		close(mem);
}

/*
 * A child that makes one call, and a jump put into the function when the call has executed `steps` of its instructions; or
 * taken away, when it has been there until then. Returns what the child read, or -1 once the call has ended before that.
 */
static int call_with_jump(struct subject *s, unsigned which, const struct vdso_site *site, const uint8_t *changed, unsigned steps,
			  bool away)
{
	uint64_t entry = (uint64_t)s->at + site->entry;
	struct user_regs_struct regs;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0L, 0L);
		raise(SIGSTOP);
		_exit(call_once(which, (void *)entry));
	}
	waitpid(pid, &status, 0);
	/* Up to the entry by a breakpoint, which is taken away again. */
	long word = ptrace(PTRACE_PEEKTEXT, pid, entry, 0L);

	ptrace(PTRACE_POKETEXT, pid, entry, (word & ~0xffl) | 0xcc);
	ptrace(PTRACE_CONT, pid, 0L, 0L);
	waitpid(pid, &status, 0);
	ptrace(PTRACE_POKETEXT, pid, entry, word);
	ptrace(PTRACE_GETREGS, pid, 0L, &regs);
	regs.rip = entry;
	ptrace(PTRACE_SETREGS, pid, 0L, &regs);
	if (away)
		poke_image(s, pid, s->image, changed);
	for (unsigned i = 0; i < steps; i++) {
		ptrace(PTRACE_SINGLESTEP, pid, 0L, 0L);
		waitpid(pid, &status, 0);
		ptrace(PTRACE_GETREGS, pid, 0L, &regs);
		if (regs.rip < (uint64_t)s->at || regs.rip >= (uint64_t)s->at + s->size) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -1;
		}
	}
	if (away)
		move_away(s, pid, site);
	poke_image(s, pid, away ? changed : s->image, away ? s->image : changed);
	ptrace(PTRACE_CONT, pid, 0L, 0L);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : WRONG;
}

static void test_image(struct subject *s)
{
	void *const ours[PATCHED] = {(void *)ahead_clock_gettime, (void *)ahead_gettimeofday, (void *)ahead_time};
	struct vdso_site site[PATCHED];
	struct vdso_detour detour[PATCHED];
	static uint8_t changed[IMAGE_ROOM];
	uint32_t entry[PATCHED], size = 0;
	unsigned found;

	if (!check(map_subject(s), "%s: mapped", s->name))
		return;
	for (unsigned i = 0; i < PATCHED; i++)
		entry[i] = s->function[patched[i]];
	found = vdso_sites_find(s->image, s->size, entry, PATCHED, site);
	if (!check(found == PATCHED, "%s: %u of %u have a place", s->name, found, PATCHED))
		return;
	for (unsigned i = 0; i < PATCHED; i++) {
		/* Our function is out of a jump's reach of wherever mmap has put it: by way of a word. */
		static const uint8_t through[] = {0xff, 0x25, 0, 0, 0, 0};
		uint8_t *far = s->code + 3072 + i * 16;

		memcpy(far, through, sizeof(through));
		memcpy(far + sizeof(through), &ours[i], sizeof(ours[i]));
		if (!check(vdso_site_emit(&site[i], s->image, (uint64_t)s->at, (uint64_t)far, (uint64_t)s->code + size, s->code + size,
					  &detour[i]) &&
				   detour[i].size <= VDSO_DETOUR_MAX,
			   "%s: %s, at +%u for %u bytes, %s", s->name, patched_names[i], site[i].at - site[i].entry, site[i].length,
			   site[i].by == site[i].at ? "by a long jump" : "by a short jump and a long one"))
			return;
		detour[i].kernel += size;
		detour[i].ours += size;
		size += detour[i].size;
	}
	mprotect(s->at, IMAGE_ROOM + 4096, PROT_READ | PROT_EXEC);
	for (unsigned i = 0; i < PATCHED; i++) {
		unsigned steps = 0, kernels = 0, by_ours = 0, wrong = 0;
		int got;

		check(call_once(i, s->at + site[i].entry) == KERNELS, "%s: %s as it is", s->name, patched_names[i]);
		check(call_once(i, s->code + detour[i].kernel) == KERNELS, "%s: %s by the copy of its beginning", s->name,
		      patched_names[i]);
		memcpy(changed, s->image, s->size);
		vdso_site_patch(&site[i], (uint64_t)s->at, (uint64_t)s->code + detour[i].ours, changed);
		while (steps < 1000 && (got = call_with_jump(s, i, &site[i], changed, steps, false)) >= 0) {
			kernels += got == KERNELS;
			by_ours += got == OURS;
			wrong += got != KERNELS && got != OURS;
			steps++;
		}
		check(wrong == 0 && by_ours > 0 && kernels > 0,
		      "%s: %s, a jump put there at each of %u instructions: %u go on, %u go over to ours, %u go wrong", s->name,
		      patched_names[i], steps, kernels, by_ours, wrong);
		for (steps = wrong = 0; steps < 1000 && (got = call_with_jump(s, i, &site[i], changed, steps, true)) >= 0; steps++)
			wrong += got != KERNELS;
		check(wrong == 0 && steps > 0, "%s: %s, the jump taken away at each of %u instructions: %u do not go on", s->name,
		      patched_names[i], steps, wrong);
	}
}

/* Behind what a program may need of it. A kernel of a later day may have less: this one and those that are named must not. */
static void test_unused(const struct subject *s)
{
	const size_t size = (s->size + 4095) & ~(size_t)4095;
	const uint32_t content = (vdso_area_content(s->image, s->size) + 15u) & ~15u;
	const uint32_t plain = vdso_inject_bytes(false, false), follow = vdso_inject_bytes(true, false);
	const uint32_t count = vdso_inject_bytes(false, true), room = (uint32_t)size - content;

	check(plain <= room && follow <= room && count <= room && follow <= VDSO_INJECT_LARGEST && count <= VDSO_INJECT_LARGEST,
	      "%s: %u bytes unused; to attach it takes %u, to follow %u, to count %u", s->name, room, plain, follow, count);
	check(VDSO_BORROW_BYTES + VDSO_BOOTSTRAP_MAX <= room, "%s: and to borrow a thread %u", s->name,
	      VDSO_BORROW_BYTES + VDSO_BOOTSTRAP_MAX);
}

static void test_images(void)
{
	static struct subject s;
	const char *list = getenv("VDSO_IMAGES");
	struct vdso_space own;
	char path[4096];

	if (vdso_space_read_file("/proc/self/maps", &own) != 0 || own.image == 0) {
		check(true, "this kernel gives no vDSO");
		return;
	}
	s.name = "this kernel";
	s.size = own.image_end - own.image;
	if (s.size <= sizeof(s.image)) {
		memcpy(s.image, (const void *)own.image, s.size);
		test_image(&s);
		test_unused(&s);
	}
	while (list != NULL && *list != '\0') {
		size_t length = strcspn(list, ":");
		int fd;

		snprintf(path, sizeof(path), "%.*s", (int)length, list);
		fd = open(path, O_RDONLY);
		memset(&s, 0, sizeof(s));
		s.name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
		s.size = fd >= 0 ? (size_t)read(fd, s.image, sizeof(s.image)) : 0;
		if (check(s.size > sizeof(Elf64_Ehdr), "%s: read", s.name)) {
			test_image(&s);
			test_unused(&s);
		}
		list += length + (list[length] == ':');
	}
}

/* ---- room near by ---- */

#define PIE "55550000a000-555500020000 r-xp 00000000 fe:00 12 /bin/program\n"
#define VVAR(at) at "4000-" at "8000 r--p 00000000 00:00 0 [vvar]\n"
#define VDSO(at) at "8000-" at "a000 r-xp 00000000 00:00 0 [vdso]\n"
#define VSYSCALL "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n"

static const struct {
	const char *what;
	const char *maps;
	uint64_t room; /* 0: none */
} spaces[] = {
	{"among libraries, as since 6.16",
	 PIE "7f0000000000-7f0000010000 r-xp 00000000 fe:00 13 /lib/libc.so.6\n" VVAR("7f000002") VDSO("7f000002")
	     "7f000002a000-7f0000040000 r-xp 00000000 fe:00 14 /lib/ld.so\n"
	     "7ffd810ca000-7ffd810eb000 rw-p 00000000 00:00 0 [stack]\n" VSYSCALL,
	 0x7f000001b000},
	{"above the stack, as before", PIE "7ffd810ca000-7ffd810eb000 rw-p 00000000 00:00 0 [stack]\n" VVAR("7ffd811b") VDSO("7ffd811b") VSYSCALL,
	 0x7ffd811bb000},
	{"close above the stack", PIE "7ffd810ca000-7ffd811b2000 rw-p 00000000 00:00 0 [stack]\n" VVAR("7ffd811b") VDSO("7ffd811b") VSYSCALL,
	 0x7ffd811bb000},
	{"at the end of everything, and what the stack may grow into is left",
	 PIE "7fffffe00000-7fffffff4000 rw-p 00000000 00:00 0 [stack]\n" VVAR("7fffffff") VDSO("7fffffff") VSYSCALL, 0x7fffbfdf8000},
	{"in a row of others", PIE "7e0000000000-7f0000024000 rw-p 00000000 00:00 0 \n" VVAR("7f000002") VDSO("7f000002")
			       "7f000002a000-7ff000000000 rw-p 00000000 00:00 0 \n", 0},
	{"none in the process", PIE, 0},
};

static struct vdso_space space_of(const char *maps)
{
	char path[] = "/tmp/vdso-maps-XXXXXX";
	struct vdso_space ret;
	int fd = mkstemp(path);
	size_t size = strlen(maps);

	if (fd < 0 || write(fd, maps, size) != (ssize_t)size || vdso_space_read_file(path, &ret) != 0)
		fail(path);
	close(fd);
	unlink(path);
	return ret;
}

/* A program's that `vdso run` has started, where the kernel maps its vDSO above the stack. */
#define SWAPPED \
	"7ffcc93b4000-7ffcc93d5000 rw-p 00000000 00:00 0 [stack]\n" \
	"7ffcc93e3000-7ffcc93e5000 r--s 00000000 00:01 1024 /memfd:vdso-clock:121 (deleted)\n" \
	"7ffcc93e5000-7ffcc93e6000 r--p 00000000 00:00 0 \n" \
	"7ffcc93e6000-7ffcc93e8000 r-xp 00000000 fe:00 39323 /lib/vdso-clock.so\n"

static void test_regions(void)
{
	static const char *const maps[] = {PIE SWAPPED, PIE SWAPPED VSYSCALL};

	for (unsigned i = 0; i < 2; i++) {
		struct vdso_space found = space_of(maps[i]);

		check(found.regions == 1 && found.region[0].at == 0x7ffcc93e3000 && found.region[0].inode == 1024 &&
			      !found.region[0].attached,
		      "an image of ours %s: %u", i == 0 ? "behind everything" : "in front of a vsyscall page", found.regions);
	}
}

static void test_room(void)
{
	for (unsigned i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
		struct vdso_space found = space_of(spaces[i].maps);

		check(found.room == spaces[i].room, "an image %s: room at %llx", spaces[i].what, (unsigned long long)found.room);
	}
}

/* ---- a thread that uses every register ---- */

/* Spins until the word at *stop is not 0, and returns 0 if ever a register was not what it had been, else 1. No stack. */
long spin_checked(_Atomic int *stop);
__asm__(".text\n"
	".globl spin_checked\n"
	"spin_checked:\n"
	"	push %rbx\n"
	"	push %rbp\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov $0x101, %eax\n"
	"	mov $0x102, %ebx\n"
	"	mov $0x103, %ecx\n"
	"	mov $0x104, %edx\n"
	"	mov $0x105, %esi\n"
	"	mov $0x107, %ebp\n"
	"	mov $0x108, %r8d\n"
	"	mov $0x109, %r9d\n"
	"	mov $0x10a, %r10d\n"
	"	mov $0x10b, %r11d\n"
	"	mov $0x10c, %r12d\n"
	"	mov $0x10d, %r13d\n"
	"	mov $0x10e, %r14d\n"
	"	mov $0x10f, %r15d\n"
	"	movq %r15, %xmm7\n"
	"	stc\n"
	"1:	jnc 2f\n" /* lea, mov and jcc leave the flags alone; inc too leaves the carry */
	"	lea -0x101(%rax), %rax\n"
	"	lea (%rax,%rbx), %rax\n"
	"	lea -0x102(%rax), %rax\n"
	"	lea (%rax,%rcx), %rax\n"
	"	lea -0x103(%rax), %rax\n"
	"	lea (%rax,%rdx), %rax\n"
	"	lea -0x104(%rax), %rax\n"
	"	lea (%rax,%rsi), %rax\n"
	"	lea -0x105(%rax), %rax\n"
	"	lea (%rax,%rbp), %rax\n"
	"	lea -0x107(%rax), %rax\n"
	"	lea (%rax,%r8), %rax\n"
	"	lea -0x108(%rax), %rax\n"
	"	lea (%rax,%r9), %rax\n"
	"	lea -0x109(%rax), %rax\n"
	"	lea (%rax,%r10), %rax\n"
	"	lea -0x10a(%rax), %rax\n"
	"	lea (%rax,%r11), %rax\n"
	"	lea -0x10b(%rax), %rax\n"
	"	lea (%rax,%r12), %rax\n"
	"	lea -0x10c(%rax), %rax\n"
	"	lea (%rax,%r13), %rax\n"
	"	lea -0x10d(%rax), %rax\n"
	"	lea (%rax,%r14), %rax\n"
	"	lea -0x10e(%rax), %rax\n"
	"	lea (%rax,%r15), %rax\n"
	"	lea -0x10f(%rax), %rax\n"
	"	lea 0x101(%rax), %rax\n"
	"	jnc 2f\n"
	"	cmpl $0, (%rdi)\n"
	"	jne 3f\n"
	"	cmp $0x101, %rax\n"
	"	jne 2f\n"
	"	movq %xmm7, %r15\n"
	"	stc\n"
	"	jmp 1b\n"
	"2:	xor %eax, %eax\n"
	"	jmp 4f\n"
	"3:	mov $1, %eax\n"
	"4:	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	ret\n");

static struct vdso_attach_report attach_to(pid_t pid, int image_fd, int page_fd, int follower_fd)
{
	struct vdso_attach order = {.pid = pid,
				    .image_fd = image_fd,
				    .clock_fd = page_fd,
				    .counts_fd = -1,
				    .follower_fd = follower_fd,
				    .talk_fd = -1,
				    .filter = VDSO_FILTER_EXEC,
				    .timeout_ns = 20000000000u};
	struct vdso_attach_report report;

	order.detach = page_fd < 0;
	vdso_attach(&order, &report);
	return report;
}

/* And that takes every session that it is asked to take. */
static pid_t answer(int listener)
{
	pid_t pid = fork();

	while (pid == 0) {
		union {
			struct seccomp_notif notification;
			char room[512];
		} got = {.room = {0}};

		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &got) == 0)
			vdso_notification_answer(listener, got.notification.id, 0, 0);
		else if (errno != EINTR && errno != ENOENT)
			_exit(0);
	}
	return pid;
}

static void test_registers(unsigned rounds, bool follow)
{
	struct vdso_clock_record record;
	struct vdso_page_shape shape = vdso_clock_shape();
	_Atomic int *stop = shared(4096);
	int image_fd = open(getenv("VDSO_CLOCK_IMAGE"), O_RDONLY | O_CLOEXEC), listener = -1, status;
	unsigned failed = 0, anew = 0, before = 0;
	pid_t pid = fork(), follower = 0;

	if (pid == 0) {
		struct timespec ts;
		long good = spin_checked(stop);

		clock_gettime(CLOCK_REALTIME, &ts);
		_exit(good && llabs(kernel_ns(CLOCK_REALTIME) - ns_of(&ts)) < 60000000000 ? 0 : 1);
	}
	vdso_record_offset(&record, OFFSET_SEC, 0);
	for (unsigned i = 0; i < rounds; i++) {
		struct vdso_attach_report report;
		int page_fd, way[2] = {-1, -1}, got;

		if (vdso_page_create_memfd("vdso-clock", &shape, &page_fd) != 0 || 
		    (follow && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, way) != 0))
			fail("a page and a follower");
		for (unsigned k = 0; k <= i % 7; k++) /* another version than the last one's: its place is used again */
			publish(page_fd, &record);
		report = attach_to(pid, image_fd, page_fd, way[0]);
		failed += report.outcome != VDSO_ATTACH_DONE;
		anew += report.followed == VDSO_FOLLOWED_ANEW;
		before += report.followed == VDSO_FOLLOWED_BEFORE;
		got = follow ? vdso_descriptor_receive(way[1], MSG_DONTWAIT, NULL) : -1;
		if (got >= 0) {
			listener = got;
			follower = answer(listener);
		}
		failed += attach_to(pid, image_fd, -1, -1).outcome != VDSO_ATTACH_DONE;
		close(page_fd);
		close(way[0]);
		close(way[1]);
	}
	atomic_store(stop, 1);
	waitpid(pid, &status, 0);
	check(failed == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0,
	      "%u rounds with a thread that has something in every register%s: %u failed, status %x", rounds, follow ? ", followed" : "",
	      failed, (unsigned)status);
	check(anew == follow && before == (follow ? rounds - 1 : 0) && (listener >= 0) == follow,
	      "a filter put in %u times, and found there %u times", anew, before);
	if (follower > 0) {
		kill(follower, SIGKILL);
		waitpid(follower, NULL, 0);
	}
	close(image_fd);
	close(listener);
}

int main(int argc, char **argv)
{
	test_lengths();
	test_images();
	test_regions();
	test_room();
	test_registers(soak(argc, argv) ? 2000 : 50, false);
	test_registers(soak(argc, argv) ? 2000 : 50, true);
	return check_done();
}
