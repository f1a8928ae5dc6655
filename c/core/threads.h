/*
 * All threads of a running process, stopped at once by ptrace and let go again. Knows nothing of what is done meanwhile.
 *
 * Only for a process that does nothing else with its children: what waitpid() reports of anybody is taken.
 */
#ifndef VDSO_CORE_THREADS_H
#define VDSO_CORE_THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vdso_thread {
	pid_t tid;
	bool stopped;
	bool gone;
};

struct vdso_threads {
	pid_t pid;
	struct vdso_thread *thread;
	size_t count;
	size_t room;
	size_t running;    /* that have not stopped, and not ended */
	uint64_t since_ns; /* CLOCK_MONOTONIC: when the first was interrupted */
	pid_t late;        /* -ETIMEDOUT: one that has not stopped; -EPERM: that must not be traced */
};

uint64_t vdso_threads_now_ns(void);

/*
 * Stops every thread that the process has, those that appear meanwhile included, outside of any system call of theirs but for
 * its return. Signals that are met on the way are passed on. 0; -ESRCH: the process has gone; -ETIMEDOUT: `patience_ns` have
 * gone by since the first was interrupted; -EAGAIN: a follower of ours holds one, for a moment; -EPERM. When it fails, ending
 * this process lets go those that have not stopped: nothing else does.
 */
int vdso_threads_stop(pid_t pid, uint64_t patience_ns, struct vdso_threads *ret);

/* Waits until one that has been told to go on has stopped again. -ETIMEDOUT at that time, -ESRCH. */
int vdso_threads_await(struct vdso_threads *threads, struct vdso_thread *thread, uint64_t until_ns);

void vdso_threads_go_on(struct vdso_threads *threads, struct vdso_thread *thread);

/* Lets one that has been told to go on, and has stopped on the way, go on: it had been stopped by a signal, or is now. */
void vdso_threads_keep_going(struct vdso_threads *threads, struct vdso_thread *thread);

void vdso_threads_release(struct vdso_threads *threads);

#endif
