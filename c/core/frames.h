/*
 * Where the threads of a process that stands still are to go on, now and when they return from their signal handlers: moved
 * from one instruction to another that does the same. Knows nothing of why.
 */
#ifndef VDSO_CORE_FRAMES_H
#define VDSO_CORE_FRAMES_H

#include "threads.h"

struct vdso_frames_move {
	uint64_t from;
	uint64_t to;
};

/*
 * In the registers of every thread, and in the signal frames that lie on its stacks: on the one that it is on, and on those
 * that the frames found there lead back to. Looks at the nearest 256 KiB of each, less where there are many threads. 0 or a
 * negative errno.
 */
int vdso_frames_move(const struct vdso_threads *threads, int mem, const struct vdso_frames_move *moves, unsigned count);

#endif
