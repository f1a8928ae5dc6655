#include "threads.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "attacher.h"
#include "process.h"
#include "procfs.h"
#include "registers.h"

#define EVENT_OF(status) ((unsigned)(status) >> 16)
#define EVENT_STOP 128u /* PTRACE_EVENT_STOP, which older headers lack */
#define CROWD 16u
#define SEIZE_TRIES 3
#define NS_PER_S UINT64_C(1000000000)

/* Of the kernel's flags in /proc/TID/stat: threads that run in the kernel on the process's behalf, as io_uring's do. They run
 * nothing of the program's, and cannot be traced. */
#define PF_IO_WORKER 0x10u
#define PF_USER_WORKER 0x4000u

uint64_t vdso_threads_now_ns(void)
{
	struct timespec ts = {0};

	/* The host's: we may have been started on a session that scales this clock too, or answers the system calls for it. */
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts, 0L, 0L, 0L, VDSO_MARK);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static struct vdso_thread *find(struct vdso_threads *t, pid_t tid)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->thread[i].tid == tid && !t->thread[i].gone)
			return &t->thread[i];
	return NULL;
}

static int add(struct vdso_threads *t, pid_t tid)
{
	if (t->count == t->room) {
		size_t room = t->room * 2 + 64;
		void *more = realloc(t->thread, room * sizeof(*t->thread));

		if (more == NULL)
			return -ENOMEM;
		t->thread = more;
		t->room = room;
	}
	t->thread[t->count++] = (struct vdso_thread){.tid = tid};
	t->running++;
	return 0;
}

static int seize(struct vdso_threads *t, pid_t tid)
{
	int error = 0;

	for (int tries = 0; tries < SEIZE_TRIES; tries++) {
		if (ptrace(PTRACE_SEIZE, tid, 0L, 0L) == 0)
			return add(t, tid);
		error = -errno;
		if (error != -EPERM)
			break;
		if (vdso_attacher_follower_of(tid))
			return -EAGAIN;
		if (vdso_procfs_number(tid, "TracerPid:") > 0)
			break;
		/* or no more */
	}
	if (error == -ESRCH)
		return 0;
	if (error != -EPERM)
		return error;
	/* One that has ended, or has gone since: a thread, or a leader that the others have outlived. */
	if (vdso_procfs_has_ended(tid))
		return 0;
	if ((vdso_procfs_flags(tid) & (PF_IO_WORKER | PF_USER_WORKER)) != 0)
		return 0;
	t->late = tid;
	return error;
}

/* Seizes those that are not yet, and interrupts them. How many there were, or a negative errno. */
static int take_new(struct vdso_threads *t)
{
	size_t before = t->count;
	struct dirent *entry;
	char path[32];
	int error = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)t->pid);
	dir = opendir(path);
	if (dir == NULL)
		return errno == ENOENT ? -ESRCH : -errno;
	vdso_attacher_seizes();
	while (error == 0 && (entry = readdir(dir)) != NULL) {
		pid_t tid = atoi(entry->d_name);

		if (tid > 0 && find(t, tid) == NULL)
			error = seize(t, tid);
	}
	closedir(dir);
	if (error != 0)
		return error;
	if (t->since_ns == 0 && t->count != 0)
		t->since_ns = vdso_threads_now_ns();
	for (size_t i = before; i < t->count; i++)
		ptrace(PTRACE_INTERRUPT, t->thread[i].tid, 0L, 0L);
	vdso_attacher_has_interrupted();
	return (int)(t->count - before);
}

static void take_status(struct vdso_threads *t, pid_t tid, int status)
{
	struct vdso_thread *thread = find(t, tid);

	if (thread == NULL)
		return;
	if (!WIFSTOPPED(status)) {
		t->running -= !thread->stopped;
		thread->gone = true;
	} else if (EVENT_OF(status) == EVENT_STOP) {
		t->running -= !thread->stopped;
		thread->stopped = true;
		vdso_registers_hide_interruption(tid);
	} else if (EVENT_OF(status) == 0)
		/* A signal on its way to the program. It is taken, and the interruption is still to come: whoever is let go
		 * with a signal in hand could not be made to do anything for us without losing it. */
		ptrace(PTRACE_CONT, tid, 0L, (long)WSTOPSIG(status));
	else
		ptrace(PTRACE_CONT, tid, 0L, 0L);
}

/*
 * Takes what there is to report, and waits for it if there is nothing. False: that time has come. With many still to come it
 * looks now and then: to be woken by each would keep them from running to their stop.
 */
static bool reap(struct vdso_threads *t, uint64_t until_ns)
{
	const struct timespec moment = {.tv_nsec = 200000};
	uint64_t now;
	struct timespec rest;
	sigset_t set;
	int status;
	pid_t tid;

	tid = waitpid(-1, &status, __WALL | WNOHANG);
	if (tid > 0) {
		do
			take_status(t, tid, status);
		while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0);
		return true;
	}
	now = vdso_threads_now_ns();
	if (now >= until_ns)
		return false;
	if (t->running > CROWD) {
		nanosleep(&moment, NULL);
		return true;
	}
	rest.tv_sec = (time_t)((until_ns - now) / NS_PER_S);
	rest.tv_nsec = (long)((until_ns - now) % NS_PER_S);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigtimedwait(&set, NULL, &rest);
	return true;
}

static struct vdso_thread *any_running(struct vdso_threads *t)
{
	for (size_t i = 0; i < t->count; i++)
		if (!t->thread[i].stopped && !t->thread[i].gone)
			return &t->thread[i];
	return NULL;
}

static bool any_stopped(const struct vdso_threads *t)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->thread[i].stopped && !t->thread[i].gone)
			return true;
	return false;
}

int vdso_threads_stop(pid_t pid, uint64_t patience_ns, struct vdso_threads *ret)
{
	sigset_t set;
	int more;

	*ret = (struct vdso_threads){.pid = pid};
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* Only running threads start others: once all that are listed have stopped, and the list holds no more, that is all. */
	while ((more = take_new(ret)) != 0) {
		struct vdso_thread *running;

		if (more < 0)
			return more;
		while ((running = any_running(ret)) != NULL)
			if (!reap(ret, ret->since_ns + patience_ns)) {
				ret->late = running->tid;
				return -ETIMEDOUT;
			}
	}
	return any_stopped(ret) ? 0 : -ESRCH;
}

int vdso_threads_await(struct vdso_threads *t, struct vdso_thread *thread, uint64_t until_ns)
{
	while (!thread->stopped && !thread->gone)
		if (!reap(t, until_ns)) {
			t->late = thread->tid;
			return -ETIMEDOUT;
		}
	return thread->gone ? -ESRCH : 0;
}

void vdso_threads_go_on(struct vdso_threads *t, struct vdso_thread *thread)
{
	thread->stopped = false;
	t->running++;
	ptrace(PTRACE_CONT, thread->tid, 0L, 0L);
}

void vdso_threads_keep_going(struct vdso_threads *t, struct vdso_thread *thread)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
		take_status(t, tid, status);
	if (thread->stopped && !thread->gone) {
		vdso_threads_go_on(t, thread);
	}
}

void vdso_threads_release(struct vdso_threads *t)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->thread[i].stopped && !t->thread[i].gone)
			ptrace(PTRACE_DETACH, t->thread[i].tid, 0L, 0L);
	free(t->thread);
	t->thread = NULL;
	t->count = t->room = 0;
}
