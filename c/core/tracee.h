/*
 * One task held by ptrace for the length of its exec, and the swap's order given to it there. Knows nothing of sessions or
 * notifications.
 */
#ifndef VDSO_CORE_TRACEE_H
#define VDSO_CORE_TRACEE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "area.h"

/* Holds the task so that its next successful exec stops it before the new program's first instruction. */
int vdso_tracee_seize(pid_t tid);

/* Ends in a stop: when the exec has failed, on its way back to the program. */
int vdso_tracee_interrupt(pid_t tid);

int vdso_tracee_continue(pid_t tid, int signal);
int vdso_tracee_detach(pid_t tid, int signal);

/* At PTRACE_EVENT_EXEC: the thread id that the exec was called under. */
pid_t vdso_tracee_former(pid_t tid);

enum vdso_swap_outcome {
	VDSO_SWAP_ORDERED,  /* the program will carry it out by itself, once detached */
	VDSO_SWAP_FOREIGN,  /* a 32-bit program, or one whose vDSO is not the one that we know */
	VDSO_SWAP_REFUSED,  /* -> error */
};

struct vdso_swap {
	uint64_t landing;  /* from the image's first byte */
	int32_t image_fd;  /* in the target; -1: it asks */
	int32_t clock_fd;
	int64_t counts; /* as VDSO_ASK_COUNTS answers; negative: it asks, if it has to */
	uint32_t flags;
	bool strict;
};

/* At PTRACE_EVENT_EXEC: leaves the order and the bootstrap, and points the task there. One stop, then detach. */
enum vdso_swap_outcome vdso_tracee_order(pid_t tid, const struct vdso_area *area, const struct vdso_swap *swap, int *error);

/*
 * At the stop on the way back from a call that was answered with VDSO_TURNED: goes on at `entry`, which stands for that call
 * (VDSO_PLAN). 0 or a negative errno; -EAGAIN: it is on its way back from another one, and has not been touched.
 */
#define VDSO_TURNED (-513) /* ERESTARTNOINTR: left alone, the task makes the call again */
int vdso_tracee_turn(pid_t tid, uint64_t entry, uint64_t plan);

/* At PTRACE_EVENT_EXEC: the program ends with VDSO_STRICT_STATUS instead of starting. */
void vdso_tracee_refuse(pid_t tid);

#endif
