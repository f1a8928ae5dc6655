#include "attach.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "area.h"
#include "attachment.h"
#include "clock.h"
#include "detour.h"
#include "inject.h"
#include "memory.h"
#include "procfs.h"
#include "space.h"
#include "threads.h"

#define MS_NS UINT64_C(1000000)
#define STOP_NS (30 * MS_NS)  /* for all threads to stop */
#define STAND_NS (45 * MS_NS) /* for everything, before they are let go */
#define PAUSE_NS (10 * MS_NS) /* between tries */

#define IMAGE_MAX 32768u /* of what a kernel has in its image: some 8 KiB */
#define PF_KTHREAD 0x00200000u

static const enum vdso_function functions[VDSO_ATTACHED_FUNCTIONS] = {VDSO_FN_CLOCK_GETTIME, VDSO_FN_GETTIMEOFDAY, VDSO_FN_TIME};

static const char *const function_names[VDSO_ATTACHED_FUNCTIONS] = {"clock_gettime", "gettimeofday", "time"};

static const char *const steps[] = {
	[VDSO_STEP_REGION] = "mmap",     [VDSO_STEP_SOCKET] = "socket", [VDSO_STEP_CONNECT] = "connect",
	[VDSO_STEP_RECEIVE] = "recvmsg", [VDSO_STEP_CLOCK] = "mmap",    [VDSO_STEP_IMAGE] = "mmap",
	[VDSO_STEP_DETOURS] = "mmap",    [VDSO_STEP_SEAL] = "mprotect",
};

/* The kernel's image as this process has it, untouched: the same in every process of this kernel. */
struct kernel {
	const uint8_t *image;
	uint64_t size;    /* mapped */
	uint32_t content; /* what a program may need of it: section headers come behind that, and then nothing */
	uint32_t function[VDSO_FN_COUNT];
	struct vdso_site site[VDSO_ATTACHED_FUNCTIONS];
};

/* One try. */
struct attempt {
	const struct vdso_attach *order;
	struct vdso_attach_report *report;
	struct kernel kernel;
	struct vdso_space space;
	struct vdso_threads threads;
	int mem;
	pid_t tid;       /* any thread that stands still */
	uint64_t region; /* ours, in it */
	bool has_clock;  /* its clock page is the one that is wanted */
	bool fresh;      /* nothing is mapped there yet */
	uint8_t detours[VDSO_PAGE_BYTES]; /* what the detours page is to hold */
	struct vdso_detour detour[VDSO_ATTACHED_FUNCTIONS];
	uint8_t image[IMAGE_MAX]; /* what is there of the kernel's */
};

const char *vdso_attach_outcome_name(enum vdso_attach_outcome outcome)
{
	static const char *const names[VDSO_ATTACH_OUTCOMES] = {
		[VDSO_ATTACH_DONE] = "done",
		[VDSO_ATTACH_NO_PROCESS] = "no_process",
		[VDSO_ATTACH_A_THREAD] = "a_thread",
		[VDSO_ATTACH_KERNEL_THREAD] = "kernel_thread",
		[VDSO_ATTACH_ZOMBIE] = "zombie",
		[VDSO_ATTACH_TRACED] = "traced",
		[VDSO_ATTACH_REFUSED] = "refused",
		[VDSO_ATTACH_SECCOMP] = "seccomp",
		[VDSO_ATTACH_FOREIGN] = "foreign",
		[VDSO_ATTACH_CHANGED] = "changed",
		[VDSO_ATTACH_NO_VDSO] = "no_vdso",
		[VDSO_ATTACH_SWAPPED] = "swapped",
		[VDSO_ATTACH_ALREADY] = "already",
		[VDSO_ATTACH_NO_SITE] = "no_site",
		[VDSO_ATTACH_NO_ROOM] = "no_room",
		[VDSO_ATTACH_LATE] = "late",
		[VDSO_ATTACH_SHARED] = "shared",
		[VDSO_ATTACH_CALL_FAILED] = "call_failed",
		[VDSO_ATTACH_FAILED] = "failed",
	};

	return names[outcome];
}

static int answer(struct attempt *a, enum vdso_attach_outcome outcome, int error, int other)
{
	a->report->outcome = (int32_t)outcome;
	a->report->error = error;
	a->report->other = other;
	return -1;
}

static int answer_of(struct attempt *a, enum vdso_attach_outcome outcome, int error, const char *what)
{
	snprintf(a->report->what, sizeof(a->report->what), "%s", what);
	return answer(a, outcome, error, 0);
}

static void pause_ns(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / (1000 * MS_NS)), (long)(ns % (1000 * MS_NS))};

	nanosleep(&ts, NULL);
}

/* ---- what is known before anything is stopped ---- */

static int learn_kernel(struct attempt *a)
{
	struct kernel *k = &a->kernel;
	struct vdso_space own;
	const Elf64_Ehdr *header;
	const Elf64_Phdr *segment;
	int error = vdso_space_read_own(&own);
	uint32_t entry[VDSO_ATTACHED_FUNCTIONS];
	unsigned found;

	if (error != 0)
		return answer(a, VDSO_ATTACH_FAILED, error, 0);
	if (own.image == 0)
		return answer(a, VDSO_ATTACH_NO_VDSO, 0, 0);
	k->image = (const uint8_t *)own.image;
	k->size = own.image_end - own.image;
	vdso_area_functions((const char *)k->image, k->function);
	header = (const void *)k->image;
	segment = (const void *)(k->image + header->e_phoff);
	for (unsigned i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_LOAD && segment[i].p_offset + segment[i].p_filesz > k->content)
			k->content = (uint32_t)(segment[i].p_offset + segment[i].p_filesz);
	if (k->content > k->size)
		k->content = (uint32_t)k->size;
	if (k->content > sizeof(a->image))
		return answer(a, VDSO_ATTACH_NO_ROOM, 0, 0);
	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++)
		entry[i] = k->function[functions[i]];
	found = vdso_sites_find(k->image, k->size, entry, VDSO_ATTACHED_FUNCTIONS, k->site);
	if (found < VDSO_ATTACHED_FUNCTIONS)
		return answer_of(a, VDSO_ATTACH_NO_SITE, 0, function_names[found]);
	return 0;
}

static int look_at_process(struct attempt *a)
{
	pid_t pid = a->order->pid;
	int leader = vdso_procfs_number(pid, "Tgid:"), tracer = vdso_procfs_number(pid, "TracerPid:");

	if (leader == 0)
		return answer(a, VDSO_ATTACH_NO_PROCESS, 0, 0);
	if (leader != pid)
		return answer(a, VDSO_ATTACH_A_THREAD, 0, leader);
	if (vdso_procfs_flags(pid) & PF_KTHREAD)
		return answer(a, VDSO_ATTACH_KERNEL_THREAD, 0, 0);
	if (tracer != 0)
		return answer(a, VDSO_ATTACH_TRACED, 0, tracer);
	return 0;
}

/* A thread that has not ended: the leader may have, before the others. 0: none. */
static pid_t any_thread(pid_t pid)
{
	char path[32];
	struct dirent *entry;
	pid_t ret = 0;
	DIR *dir;

	if (vdso_procfs_state(pid) != 'Z')
		return pid;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir != NULL && ret == 0 && (entry = readdir(dir)) != NULL) {
		pid_t tid = atoi(entry->d_name);
		char state = tid > 0 ? vdso_procfs_state(tid) : 0;

		if (state != 0 && state != 'Z' && state != 'X')
			ret = tid;
	}
	if (dir != NULL)
		closedir(dir);
	return ret;
}

/*
 * The version of the clock page in a region, and whether the one that is to come shows another. A thread may have been
 * interrupted in the image while it read the page, long ago, and goes on when its signal handler has ended: it finds out
 * that the page has been replaced by its version.
 */
static bool shows_change(struct attempt *a, uint64_t region)
{
	uint64_t before = 0, after = 0;
	const uint64_t at = offsetof(struct vdso_page_header, head);

	return vdso_memory_read(a->mem, &before, sizeof(before), region + at) == 0 &&
	       pread(a->order->clock_fd, &after, sizeof(after), (off_t)at) == sizeof(after) && before != after;
}

static bool read_attachment(struct attempt *a, uint64_t region, struct vdso_attachment *ret)
{
	return vdso_memory_read(a->mem, ret, sizeof(*ret), region + VDSO_DETOURS_AT) == 0 && ret->magic == VDSO_ATTACHMENT_MAGIC &&
	       ret->region == region && ret->kernel_image == a->space.image;
}

/* The kernel's image with the jumps into that region. */
static bool patch_image(struct attempt *a, uint64_t region, const uint32_t ours[VDSO_ATTACHED_FUNCTIONS], uint8_t *ret)
{
	memcpy(ret, a->kernel.image, a->kernel.content);
	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++)
		if (!vdso_site_patch(&a->kernel.site[i], a->space.image, region + VDSO_DETOURS_AT + ours[i], ret))
			return false;
	return true;
}

/* Finds the region that the process's jumps lead to. 0 and region 0: there are none, and its image is as the kernel's. */
static int find_active(struct attempt *a)
{
	static uint8_t expected[IMAGE_MAX];
	struct vdso_attachment there;
	uint64_t target;

	a->region = 0;
	if (a->space.image_end - a->space.image != a->kernel.size)
		return answer(a, VDSO_ATTACH_FOREIGN, 0, 0);
	if (vdso_memory_read(a->mem, a->image, a->kernel.content, a->space.image) != 0)
		return answer(a, VDSO_ATTACH_FAILED, -EFAULT, 0);
	if (memcmp(a->image, a->kernel.image, a->kernel.content) == 0)
		return 0;
	if (memcmp(a->image, a->kernel.image, sizeof(Elf64_Ehdr)) != 0)
		return answer(a, VDSO_ATTACH_FOREIGN, 0, 0);
	target = vdso_site_target(&a->kernel.site[0], a->image, a->space.image);
	a->region = (target & -(uint64_t)VDSO_PAGE_BYTES) - VDSO_DETOURS_AT;
	if (target == 0 || !read_attachment(a, a->region, &there) || !patch_image(a, a->region, there.ours, expected) ||
	    memcmp(a->image, expected, a->kernel.content) != 0)
		return answer(a, VDSO_ATTACH_CHANGED, 0, 0);
	return 0;
}

static void choose_region(struct attempt *a)
{
	struct vdso_attachment there;
	struct stat clock;

	a->region = 0;
	a->fresh = a->has_clock = false;
	if (fstat(a->order->clock_fd, &clock) != 0)
		clock.st_ino = 0;
	for (uint32_t i = 0; i < a->space.regions && !a->has_clock; i++) {
		const struct vdso_region *region = &a->space.region[i];

		if (!region->attached || !read_attachment(a, region->at, &there))
			continue;
		a->has_clock = region->inode == clock.st_ino && region->device == clock.st_dev;
		if (a->has_clock || shows_change(a, region->at))
			a->region = region->at;
	}
	if (a->region == 0) {
		a->fresh = true;
		a->region = a->space.room;
	}
}

/* Whether ptrace is refused for a child of ours as well: then it is not about this process. */
static bool refused_to_all(void)
{
	pid_t pid = fork();
	bool ret;

	if (pid == 0) {
		pause_ns(1000 * MS_NS);
		_exit(0);
	}
	ret = pid > 0 && ptrace(PTRACE_SEIZE, pid, 0L, 0L) != 0;
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, __WALL);
	}
	return ret;
}

static struct vdso_inject prepare(struct attempt *a)
{
	uint32_t tail = (a->kernel.content + 15u) & ~15u;

	return (struct vdso_inject){
		.threads = &a->threads,
		.mem = a->mem,
		.region = a->region,
		.fresh = a->fresh,
		.at = a->space.image + tail,
		.room = a->kernel.size > tail ? a->kernel.size - tail : 0,
		.original = a->kernel.image + tail,
		.image_fd = a->order->image_fd,
		.clock_fd = a->order->clock_fd,
		.until_ns = a->threads.since_ns + STAND_NS,
	};
}

static int look_at_space(struct attempt *a)
{
	pid_t tid = any_thread(a->order->pid);
	struct vdso_inject inject;
	int error;

	if (tid == 0)
		return answer(a, VDSO_ATTACH_ZOMBIE, 0, 0);
	error = vdso_space_read(tid, 0, &a->space);
	if (error == 0)
		a->mem = vdso_memory_open(tid);
	if (error == 0 && a->mem < 0)
		error = a->mem;
	if (error == -ESRCH || error == -ENOENT)
		return answer(a, VDSO_ATTACH_NO_PROCESS, 0, 0);
	if (error != 0)
		return answer(a, error == -EACCES || error == -EPERM ? VDSO_ATTACH_REFUSED : VDSO_ATTACH_FAILED, error,
			      (error == -EACCES || error == -EPERM) && refused_to_all());
	for (uint32_t i = 0; i < a->space.regions; i++)
		if (!a->space.region[i].attached)
			return answer(a, VDSO_ATTACH_SWAPPED, 0, 0);
	if (a->space.image == 0)
		return answer(a, VDSO_ATTACH_NO_VDSO, 0, 0);
	if (find_active(a) != 0)
		return -1;
	if ((a->region != 0) != a->order->detach)
		return answer(a, VDSO_ATTACH_ALREADY, 0, 0);
	if (a->order->detach)
		return 0;
	choose_region(a);
	if (a->region == 0)
		return answer(a, VDSO_ATTACH_NO_ROOM, -ENOMEM, 0);
	inject = prepare(a);
	/* Only to find out the same again, nothing has to stand still. */
	if (!a->has_clock && !vdso_inject_is_free(&inject))
		return answer(a, VDSO_ATTACH_LATE, -EAGAIN, 0);
	return 0;
}

/* ---- who else is in the address space ---- */

static bool shares(pid_t tid, pid_t other)
{
	return syscall(SYS_kcmp, tid, other, KCMP_VM, 0L, 0L) == 0;
}

/* Everybody but the process itself (`tid` is a thread of it that has not ended), since a child may have been left to another parent. Where kcmp is not to be had nothing is known. */
static pid_t find_sharer(pid_t pid, pid_t tid)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	pid_t ret = 0;

	while (dir != NULL && ret == 0 && (entry = readdir(dir)) != NULL) {
		pid_t other = atoi(entry->d_name);

		if (other > 0 && other != pid && shares(tid, other))
			ret = other;
	}
	if (dir != NULL)
		closedir(dir);
	return ret;
}

/* Those that have come since, while the process stands still. */
static pid_t find_sharing_child(const struct vdso_threads *threads, pid_t any)
{
	for (size_t i = 0; i < threads->count; i++) {
		pid_t tid = threads->thread[i].tid;
		char path[64];
		FILE *file;
		int child;

		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)threads->pid, (int)tid);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		while (fscanf(file, "%d", &child) == 1)
			if (shares(any, child)) {
				fclose(file);
				return child;
			}
		fclose(file);
	}
	return 0;
}

/* ---- while it stands still ---- */

static int stop(struct attempt *a)
{
	int error = vdso_threads_stop(a->order->pid, STOP_NS, &a->threads);

	a->report->threads = (int32_t)a->threads.count;
	if (error == -ESRCH)
		return answer(a, VDSO_ATTACH_NO_PROCESS, 0, 0);
	if (error == -ETIMEDOUT) {
		a->report->state = (uint32_t)vdso_procfs_state(a->threads.late);
		return answer(a, VDSO_ATTACH_LATE, error, a->threads.late);
	}
	if (error == -EPERM && vdso_procfs_number(a->order->pid, "TracerPid:") > 0)
		return answer(a, VDSO_ATTACH_TRACED, error, vdso_procfs_number(a->order->pid, "TracerPid:"));
	if (error == -EPERM || error == -EACCES)
		return answer(a, VDSO_ATTACH_REFUSED, error, refused_to_all());
	if (error != 0)
		return answer(a, VDSO_ATTACH_FAILED, error, 0);
	for (size_t i = 0; i < a->threads.count; i++)
		if (a->threads.thread[i].stopped && !a->threads.thread[i].gone)
			a->tid = a->threads.thread[i].tid;
	return 0;
}

/* It may have exec'd, or been attached to by somebody else, after it was looked at and before it stood still. */
static int look_again(struct attempt *a)
{
	uint64_t region = a->region;
	pid_t sharer;
	int error;

	close(a->mem);
	a->mem = vdso_memory_open(a->tid);
	if (a->mem < 0)
		return answer(a, VDSO_ATTACH_FAILED, a->mem, 0);
	error = find_active(a);
	if (error != 0 || (a->region != 0) != a->order->detach || (a->order->detach && a->region != region))
		return answer(a, VDSO_ATTACH_LATE, -EAGAIN, 0);
	a->region = region;
	sharer = find_sharing_child(&a->threads, a->tid);
	if (sharer != 0)
		return answer(a, VDSO_ATTACH_SHARED, 0, sharer);
	return 0;
}

static int write_at(struct attempt *a, const void *bytes, size_t size, uint64_t at)
{
	int error = vdso_memory_write(a->tid, a->mem, bytes, size, at);

	return error == 0 ? 0 : answer(a, VDSO_ATTACH_FAILED, error, 0);
}

/* The addresses of our functions, from the image's file. */
static int read_our_functions(struct attempt *a, uint32_t ret[VDSO_FN_COUNT])
{
	void *image = mmap(NULL, VDSO_IMAGE_BYTES, PROT_READ, MAP_PRIVATE, a->order->image_fd, 0);

	if (image == MAP_FAILED)
		return answer(a, VDSO_ATTACH_FAILED, -errno, 0);
	vdso_area_functions(image, ret);
	munmap(image, VDSO_IMAGE_BYTES);
	return 0;
}

/* Everything that the detours page is to hold. */
static int build_detours(struct attempt *a)
{
	struct vdso_attachment head = {VDSO_ATTACHMENT_MAGIC, a->region, a->space.image, a->order->flags, {0}};
	uint32_t ours[VDSO_FN_COUNT] = {0}, at = VDSO_DETOURS_CODE;

	if (read_our_functions(a, ours) != 0)
		return -1;
	memset(a->detours, 0xcc, sizeof(a->detours));
	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++) {
		uint64_t function = a->region + VDSO_DATA_BYTES + ours[functions[i]];

		if (!vdso_site_emit(&a->kernel.site[i], a->kernel.image, a->space.image, function, a->region + VDSO_DETOURS_AT + at,
				    a->detours + at, &a->detour[i]))
			return answer(a, VDSO_ATTACH_NO_ROOM, -ENOMEM, 0);
		a->detour[i].kernel += at;
		a->detour[i].ours += at;
		head.ours[i] = a->detour[i].ours;
		at += a->detour[i].size;
	}
	memcpy(a->detours, &head, sizeof(head));
	return 0;
}

static int write_region(struct attempt *a)
{
	struct vdso_process process = {
		.magic = VDSO_PROCESS_MAGIC,
		.flags = a->order->flags,
		.kernel_image = a->space.image,
		.image = a->region + VDSO_DATA_BYTES,
	};

	/* What the kernel's image lacks stays 0: nobody comes to our image but by a function of the kernel's. */
	for (unsigned i = 0; i < VDSO_FN_COUNT; i++)
		if (a->kernel.function[i] != 0)
			process.function[i] = a->space.image + a->kernel.function[i];
	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++)
		process.function[functions[i]] = a->region + VDSO_DETOURS_AT + a->detour[i].kernel;
	if (write_at(a, a->detours, sizeof(a->detours), a->region + VDSO_DETOURS_AT) != 0)
		return -1;
	return write_at(a, &process, sizeof(process), a->region + VDSO_CLOCK_BYTES);
}

/*
 * All jumps, or none, in one write, from the first byte that they change to the last. A tracer that is killed leaves a process
 * that is wholly attached or not at all.
 */
static int write_sites(struct attempt *a, bool jumps)
{
	static uint8_t changed[IMAGE_MAX];
	uint32_t first = 0, end = a->kernel.content, ours[VDSO_ATTACHED_FUNCTIONS];

	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++)
		ours[i] = a->detour[i].ours;
	if (!jumps)
		memcpy(changed, a->kernel.image, end);
	else if (!patch_image(a, a->region, ours, changed))
		return answer(a, VDSO_ATTACH_NO_ROOM, -ENOMEM, 0);
	/* a->image is what is there: find_active() has just read it. */
	while (first < end && changed[first] == a->image[first])
		first++;
	while (end > first && changed[end - 1] == a->image[end - 1])
		end--;
	return write_at(a, changed + first, end - first, a->space.image + first);
}

/* What a try that was killed has left behind what is needed of the kernel's image goes, unless somebody may still need it. */
static int tidy(struct attempt *a)
{
	struct vdso_inject inject = prepare(a);

	if (!vdso_inject_is_free(&inject))
		return 0;
	return write_at(a, inject.original, inject.room, inject.at);
}

static int inject(struct attempt *a)
{
	struct vdso_inject inject = prepare(a);
	int error = vdso_inject(&inject);

	switch (error) {
	case 0:
		return 0;
	case VDSO_INJECT_LATE:
		return answer(a, VDSO_ATTACH_LATE, -ETIMEDOUT, (int)inject.tid);
	case VDSO_INJECT_NO_ROOM:
		return answer(a, VDSO_ATTACH_NO_ROOM, 0, 0);
	case VDSO_INJECT_SECCOMP:
		return answer(a, VDSO_ATTACH_SECCOMP, 0, 0);
	case VDSO_INJECT_CALL_FAILED:
		/* Something was mapped there after we looked: not worth a word, only another try. */
		if (inject.step == VDSO_STEP_REGION && inject.error == -EEXIST)
			return answer(a, VDSO_ATTACH_LATE, -EAGAIN, 0);
		return answer_of(a, VDSO_ATTACH_CALL_FAILED, inject.error, steps[inject.step]);
	}
	return answer(a, VDSO_ATTACH_FAILED, inject.error, 0);
}

static int change(struct attempt *a)
{
	if (a->order->detach)
		return write_sites(a, false) != 0 ? -1 : tidy(a);
	if (!a->has_clock && inject(a) != 0)
		return -1;
	if (write_region(a) != 0)
		return -1;
	return write_sites(a, true);
}

/* ---- one try, and the tries ---- */

/* In front of whoever is running, where we may: all that time the process stands still. Nothing in a try spins. */
static void hurry(void)
{
	const struct sched_param first = {.sched_priority = 1};

	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first) != 0)
		setpriority(PRIO_PROCESS, 0, -20);
}

static void attempt(const struct vdso_attach *order, struct vdso_attach_report *report)
{
	static struct attempt room; /* larger than a stack should be; this process makes one attempt */
	struct attempt *a = &room;
	pid_t sharer;

	*a = (struct attempt){.order = order, .report = report, .mem = -1};
	if (look_at_process(a) != 0 || learn_kernel(a) != 0 || look_at_space(a) != 0)
		return;
	if (!order->detach && build_detours(a) != 0)
		return;
	sharer = find_sharer(order->pid, any_thread(order->pid));
	if (sharer != 0) {
		answer(a, VDSO_ATTACH_SHARED, 0, sharer);
		return;
	}
	hurry();
	if (stop(a) == 0 && look_again(a) == 0 && change(a) == 0)
		answer(a, VDSO_ATTACH_DONE, 0, 0);
	/* Those that have not stopped are let go by our end; so do not tarry. */
	vdso_threads_release(&a->threads);
	if (a->threads.since_ns != 0) {
		report->stood_ns = vdso_threads_now_ns() - a->threads.since_ns;
		if (report->stood_ns > report->longest_ns)
			report->longest_ns = report->stood_ns;
	}
}

void vdso_attach(const struct vdso_attach *order, struct vdso_attach_report *ret)
{
	uint64_t end = vdso_threads_now_ns() + order->timeout_ns;
	struct vdso_attach_report *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	*ret = (struct vdso_attach_report){.outcome = VDSO_ATTACH_FAILED};
	if (report == MAP_FAILED) {
		ret->error = -errno;
		return;
	}
	*report = *ret;
	for (;;) {
		pid_t parent = getpid(), pid = fork();
		int status = 0;

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() == parent)
				attempt(order, report);
			_exit(0);
		}
		report->tries++;
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
			report->outcome = VDSO_ATTACH_FAILED;
			report->error = pid < 0 ? -errno : -EOWNERDEAD;
		}
		if (report->outcome != VDSO_ATTACH_LATE && report->outcome != VDSO_ATTACH_SHARED)
			break;
		if (vdso_threads_now_ns() + PAUSE_NS >= end)
			break;
		pause_ns(PAUSE_NS);
	}
	*ret = *report;
	munmap(report, sizeof(*report));
}
