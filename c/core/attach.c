#include "attach.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "attacher.h"
#include "attempt.h"
#include "clock.h"
#include "counting.h"
#include "following.h"
#include "inject.h"
#include "jumps.h"
#include "membership.h"
#include "memory.h"
#include "privilege.h"
#include "procfs.h"
#include "sharing.h"

#define MS_NS UINT64_C(1000000)
#define STOP_NS (30 * MS_NS)  /* for all threads to stop */
#define STAND_NS (45 * MS_NS) /* for everything, before they are let go */
#define PAUSE_NS (10 * MS_NS) /* between tries */

#define PF_KTHREAD 0x00200000u

static const char *const steps[] = {
	[VDSO_STEP_REGION] = "mmap",     [VDSO_STEP_SOCKET] = "socket", [VDSO_STEP_CONNECT] = "connect",
	[VDSO_STEP_RECEIVE] = "recvmsg", [VDSO_STEP_CLOCK] = "mmap",    [VDSO_STEP_IMAGE] = "mmap",
	[VDSO_STEP_DETOURS] = "mmap",    [VDSO_STEP_SEAL] = "mprotect", [VDSO_STEP_PRIVATE] = "mmap",
	[VDSO_STEP_COUNTS] = "mmap",     [VDSO_STEP_ASK] = "ask",       [VDSO_STEP_FILTER] = "seccomp",
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
		[VDSO_ATTACH_LISTENER] = "listener",
		[VDSO_ATTACH_FOLLOWER] = "follower",
		[VDSO_ATTACH_GAINED] = "gained",
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

int vdso_attempt_answer(struct vdso_attempt *a, enum vdso_attach_outcome outcome, int error, int other)
{
	a->report->outcome = (int32_t)outcome;
	a->report->error = error;
	a->report->other = other;
	return -1;
}

int vdso_attempt_answer_of(struct vdso_attempt *a, enum vdso_attach_outcome outcome, int error, const char *what)
{
	snprintf(a->report->what, sizeof(a->report->what), "%s", what);
	return vdso_attempt_answer(a, outcome, error, 0);
}

static void pause_ns(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / (1000 * MS_NS)), (long)(ns % (1000 * MS_NS))};

	nanosleep(&ts, NULL);
}

/* ---- what is known before anything is stopped ---- */

static int look_at_process(struct vdso_attempt *a)
{
	pid_t pid = a->order->pid;
	int leader = vdso_procfs_number(pid, "Tgid:"), tracer = vdso_procfs_number(pid, "TracerPid:");

	if (leader == 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_NO_PROCESS, 0, 0);
	if (leader != pid)
		return vdso_attempt_answer(a, VDSO_ATTACH_A_THREAD, 0, leader);
	if (vdso_procfs_flags(pid) & PF_KTHREAD)
		return vdso_attempt_answer(a, VDSO_ATTACH_KERNEL_THREAD, 0, 0);
	if (vdso_attacher_follower_of(pid))
		return vdso_attempt_answer(a, VDSO_ATTACH_LATE, -EAGAIN, 0);
	if (tracer != 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_TRACED, 0, tracer);
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
static bool shows_change(struct vdso_attempt *a, uint64_t region)
{
	uint64_t before = 0, after = 0;
	const uint64_t at = offsetof(struct vdso_page_header, head);

	return vdso_memory_read(a->mem, &before, sizeof(before), region + at) == 0 &&
	       pread(a->order->clock_fd, &after, sizeof(after), (off_t)at) == sizeof(after) && before != after;
}

static void choose_region(struct vdso_attempt *a)
{
	struct vdso_attachment there;
	struct stat clock, image;

	a->region = 0;
	a->fresh = a->has_clock = false;
	if (fstat(a->order->clock_fd, &clock) != 0 || fstat(a->order->image_fd, &image) != 0)
		clock.st_ino = image.st_ino = 0;
	for (uint32_t i = 0; i < a->space.regions && !a->has_clock; i++) {
		const struct vdso_region *region = &a->space.region[i];

		if (!region->attached || !vdso_jumps_read(a, region->at, &there) || region->image_inode != image.st_ino ||
		    region->image_device != image.st_dev)
			continue;
		a->has_clock = region->inode == clock.st_ino && region->device == clock.st_dev;
		if (a->has_clock || shows_change(a, region->at))
			a->region = region->at;
	}
	if (a->region == 0) {
		a->fresh = true;
		a->region = a->space.room;
	} else if (a->order->counts_fd >= 0 && vdso_memory_read(a->mem, &a->counts, sizeof(a->counts),
								a->region + VDSO_CLOCK_BYTES + VDSO_PROCESS_COUNTS) != 0) {
		a->counts = 0;
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

static struct vdso_inject prepare(struct vdso_attempt *a)
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
		.counts_fd = a->order->counts_fd,
		.counts_at = a->counts,
		.follower_fd = a->order->follower_fd,
		.filter = a->order->filter,
		.counter = a->order->counter,
		.harmless = a->harmless,
		.until_ns = a->threads.since_ns + STAND_NS,
	};
}

/* Its process page's address, and what that says; 0: it was not swapped at its exec. */
static uint64_t find_swapped(struct vdso_attempt *a, struct vdso_process *ret)
{
	for (uint32_t i = 0; i < a->space.regions; i++) {
		uint64_t at = a->space.region[i].at;

		if (a->space.region[i].attached)
			continue;
		if (!vdso_membership_process(a->mem, at, ret))
			memset(ret, 0, sizeof(*ret));
		if ((ret->flags & VDSO_PROCESS_LOCAL) == 0)
			return at + VDSO_CLOCK_BYTES;
	}
	return 0;
}

/*
 * Of one that counts since its exec: its image stays, and has the kernel's answers, and stops to count. That takes one word,
 * which no thread has to stand still for.
 */
static int answer_swapped(struct vdso_attempt *a, pid_t tid, uint64_t at, const struct vdso_process *process)
{
	const uint32_t not = VDSO_COUNT_NOT;
	int error;

	if (process->counts == 0)
		return vdso_attempt_answer_of(a, VDSO_ATTACH_SWAPPED, 0, "run");
	if (process->counting == VDSO_COUNT_NOT)
		return vdso_attempt_answer_of(a, a->order->detach ? VDSO_ATTACH_ALREADY : VDSO_ATTACH_SWAPPED, 0, "left");
	if (!a->order->detach)
		return vdso_attempt_answer_of(a, VDSO_ATTACH_SWAPPED, 0, "stat");
	error = vdso_memory_write(tid, a->mem, &not, sizeof(not), at + VDSO_PROCESS_COUNTING);
	vdso_attempt_answer_of(a, error == 0 ? VDSO_ATTACH_DONE : VDSO_ATTACH_FAILED, error, "stat");
	return -1;
}

/* Its threads have to run code of ours: to map what is not there yet, or to put a filter in. */
static bool needs_injection(const struct vdso_attempt *a)
{
	return !a->has_clock || a->order->follower_fd >= 0;
}

static int look_at_space(struct vdso_attempt *a)
{
	pid_t tid = any_thread(a->order->pid);
	struct vdso_process process;
	struct vdso_inject inject;
	uint64_t swapped;
	int error;

	if (tid == 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_ZOMBIE, 0, 0);
	error = vdso_space_read(tid, &a->space);
	if (error == 0)
		a->mem = vdso_memory_open(tid);
	if (error == 0 && a->mem < 0)
		error = a->mem;
	if (error == -ESRCH || error == -ENOENT)
		return vdso_attempt_answer(a, VDSO_ATTACH_NO_PROCESS, 0, 0);
	if (error != 0)
		return vdso_attempt_answer(a, error == -EACCES || error == -EPERM ? VDSO_ATTACH_REFUSED : VDSO_ATTACH_FAILED, error,
			      (error == -EACCES || error == -EPERM) && refused_to_all());
	swapped = find_swapped(a, &process);
	if (swapped != 0)
		return answer_swapped(a, tid, swapped, &process);
	if (a->space.image == 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_NO_VDSO, 0, 0);
	if (vdso_jumps_find(a) != 0)
		return -1;
	a->there = a->region;
	if (a->order->detach)
		return a->there != 0 ? 0 : vdso_attempt_answer(a, VDSO_ATTACH_ALREADY, 0, 0);
	vdso_following_recall(a, tid);
	if (a->there == 0)
		choose_region(a);
	else if (vdso_following_may_lack(a))
		a->has_clock = true;
	else
		return vdso_attempt_answer(a, VDSO_ATTACH_ALREADY, 0, 0);
	if (a->region == 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_NO_ROOM, -ENOMEM, 0);
	inject = prepare(a);
	/* Only to find out the same again, nothing has to stand still. */
	if (needs_injection(a) && !vdso_inject_is_free(&inject))
		return vdso_attempt_answer(a, VDSO_ATTACH_LATE, -EAGAIN, 0);
	return 0;
}

/* ---- while it stands still ---- */

static int stop(struct vdso_attempt *a)
{
	int error = vdso_threads_stop(a->order->pid, STOP_NS, &a->threads);

	a->report->threads = (int32_t)a->threads.count;
	if (error == -ESRCH)
		return vdso_attempt_answer(a, VDSO_ATTACH_NO_PROCESS, 0, 0);
	if (error == -ETIMEDOUT) {
		a->report->state = (uint32_t)vdso_procfs_state(a->threads.late);
		return vdso_attempt_answer(a, VDSO_ATTACH_LATE, error, a->threads.late);
	}
	if (error == -EAGAIN)
		return vdso_attempt_answer(a, VDSO_ATTACH_LATE, error, 0);
	if (error == -EPERM && vdso_procfs_number(a->threads.late, "TracerPid:") > 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_TRACED, error, vdso_procfs_number(a->threads.late, "TracerPid:"));
	if (error == -EPERM || error == -EACCES)
		return vdso_attempt_answer(a, VDSO_ATTACH_REFUSED, error, refused_to_all());
	if (error != 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_FAILED, error, 0);
	for (size_t i = 0; i < a->threads.count; i++)
		if (a->threads.thread[i].stopped && !a->threads.thread[i].gone)
			a->tid = a->threads.thread[i].tid;
	return 0;
}

/* It may have exec'd, or been attached to by somebody else, after it was looked at and before it stood still. */
static int look_again(struct vdso_attempt *a)
{
	uint64_t region = a->region;
	pid_t sharer;
	int error;

	close(a->mem);
	a->mem = vdso_memory_open(a->tid);
	if (a->mem < 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_FAILED, a->mem, 0);
	error = vdso_jumps_find(a);
	if (error != 0 || a->region != a->there)
		return vdso_attempt_answer(a, VDSO_ATTACH_LATE, -EAGAIN, 0);
	a->region = region;
	sharer = vdso_sharing_find_child(&a->threads, a->tid);
	if (sharer != 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_SHARED, 0, sharer);
	return 0;
}

/* What a try that was killed has left behind what is needed of the kernel's image goes, unless somebody may still need it. */
static int tidy(struct vdso_attempt *a)
{
	struct vdso_inject inject = prepare(a);

	if (!vdso_inject_is_free(&inject))
		return 0;
	return vdso_jumps_write_at(a, inject.original, inject.room, inject.at);
}

static int inject(struct vdso_attempt *a)
{
	struct vdso_inject inject = prepare(a);
	int filters = vdso_procfs_number(a->tid, "Seccomp_filters:"), error = vdso_inject(&inject);

	a->counts = inject.counts_at;
	/* Should it have come too late, the filter may be there all the same by the next try. */
	if (inject.follower_fd >= 0 && !inject.suspended)
		a->report->harmless = filters + 1;
	switch (error) {
	case 0:
		return vdso_following_judge(a, &inject);
	case VDSO_INJECT_LATE:
		return vdso_attempt_answer(a, VDSO_ATTACH_LATE, -ETIMEDOUT, (int)inject.tid);
	case VDSO_INJECT_NO_ROOM:
		return vdso_attempt_answer(a, VDSO_ATTACH_NO_ROOM, 0, 0);
	case VDSO_INJECT_SECCOMP:
		return vdso_attempt_answer(a, VDSO_ATTACH_SECCOMP, 0, 0);
	case VDSO_INJECT_CALL_FAILED:
		/* Something was mapped there after we looked: not worth a word, only another try. */
		if (inject.step == VDSO_STEP_REGION && inject.error == -EEXIST)
			return vdso_attempt_answer(a, VDSO_ATTACH_LATE, -EAGAIN, 0);
		return vdso_attempt_answer_of(a, VDSO_ATTACH_CALL_FAILED, inject.error, steps[inject.step]);
	}
	return vdso_attempt_answer(a, VDSO_ATTACH_FAILED, inject.error, 0);
}

/* What was counted there before, by whoever, counts for nothing now. */
static int begin_counting(struct vdso_attempt *a)
{
	const struct vdso_count_private none = {0};

	if (pread(a->order->counts_fd, &a->counting, sizeof(a->counting), offsetof(struct vdso_counts, how)) != sizeof(a->counting))
		return vdso_attempt_answer(a, VDSO_ATTACH_FAILED, -EIO, 0);
	return vdso_jumps_write_at(a, &none, sizeof(none), a->region - VDSO_COUNT_PRIVATE_BYTES);
}

/* It may have come to it since whoever attaches has looked. */
static bool sets_clock(const struct vdso_threads *threads)
{
	for (size_t i = 0; i < threads->count; i++)
		if (!threads->thread[i].gone && vdso_privilege_sets_clock(threads->thread[i].tid))
			return true;
	return false;
}

/* The follower that waits for the listener: while there is no filter yet, nothing needs one. */
static bool has_ended(int follower)
{
	struct pollfd end = {.fd = follower, .events = 0};

	return poll(&end, 1, 0) != 0;
}

static int change(struct vdso_attempt *a)
{
	if (a->order->detach) {
		if (vdso_following_turn_back(a) != 0 || vdso_jumps_write(a, false) != 0)
			return -1;
		return tidy(a);
	}
	if (a->order->powerless && sets_clock(&a->threads))
		return vdso_attempt_answer(a, VDSO_ATTACH_GAINED, 0, 0);
	if (a->order->follower_fd >= 0 && has_ended(a->order->talk_fd))
		return vdso_attempt_answer(a, VDSO_ATTACH_FOLLOWER, 0, 0);
	if (needs_injection(a) && inject(a) != 0)
		return -1;
	if (a->there != 0)
		return vdso_following_begin(a);
	if (a->order->counts_fd >= 0 && begin_counting(a) != 0)
		return -1;
	if (vdso_jumps_write_region(a) != 0 || vdso_jumps_write(a, true) != 0)
		return -1;
	if (a->followed != VDSO_FOLLOWED_NOT)
		vdso_following_make_again(a);
	return 0;
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
	static struct vdso_attempt room; /* larger than a stack should be; this process makes one attempt */
	struct vdso_attempt *a = &room;
	pid_t sharer;

	*a = (struct vdso_attempt){.order = order, .report = report, .mem = -1};
	report->state = 0;
	report->what[0] = '\0';
	if (look_at_process(a) != 0 || vdso_jumps_plan(a) != 0 || look_at_space(a) != 0)
		return;
	if (!order->detach && a->there == 0 && vdso_jumps_build(a) != 0)
		return;
	sharer = vdso_sharing_find(order->pid, any_thread(order->pid));
	if (sharer != 0) {
		vdso_attempt_answer(a, VDSO_ATTACH_SHARED, 0, sharer);
		return;
	}
	hurry();
	if (stop(a) == 0 && look_again(a) == 0 && change(a) == 0)
		vdso_attempt_answer(a, VDSO_ATTACH_DONE, 0, 0);
	/* Those that have not stopped are let go by our end; so do not tarry. */
	vdso_threads_release(&a->threads);
	if (a->threads.since_ns != 0) {
		report->stood_ns = vdso_threads_now_ns() - a->threads.since_ns;
		if (report->stood_ns > report->longest_ns)
			report->longest_ns = report->stood_ns;
	}
}

/*
 * Waits that long for a SIGINT, which is blocked, also in the one that tries: it ends the tries and never one of them, which
 * would leave a part of it in the process.
 */
static bool interrupted(uint64_t within_ns)
{
	struct timespec ts = {(time_t)(within_ns / (1000 * MS_NS)), (long)(within_ns % (1000 * MS_NS))};
	sigset_t interrupts;

	sigemptyset(&interrupts);
	sigaddset(&interrupts, SIGINT);
	return sigtimedwait(&interrupts, NULL, &ts) == SIGINT;
}

void vdso_attach(const struct vdso_attach *order, struct vdso_attach_report *ret)
{
	uint64_t end = vdso_threads_now_ns() + order->timeout_ns;
	struct vdso_attach_report *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	*ret = (struct vdso_attach_report){.outcome = VDSO_ATTACH_FAILED, .error = -EINTR};
	if (report == MAP_FAILED) {
		ret->error = -errno;
		return;
	}
	*report = *ret;
	for (uint64_t pause = 0; !interrupted(pause); pause = PAUSE_NS) {
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
	}
	*ret = *report;
	munmap(report, sizeof(*report));
}
