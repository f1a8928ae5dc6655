/* A wait, between the code that makes its system calls (ARCH_WAIT, in assembly) and the code that says which (wait.c). */
#ifndef VDSO_IMAGE_WAIT_H
#define VDSO_IMAGE_WAIT_H

/* Offsets in struct vdso_waiting, for the assembly. */
#define VDSO_WAITING_RET 56
#define VDSO_WAITING_CALLS 64
#define VDSO_WAITING_BYTES 160

#ifndef __ASSEMBLER__

#include "reading.h"

/* The program's call, as the assembly lays it on the stack: what it was turned with. */
struct vdso_turned {
	uint64_t number;
	uint64_t arg[6];
	uint64_t back;
	uint64_t plan;
};

/* struct futex_waitv, Linux 5.16 */
struct vdso_waiter {
	uint64_t value, address;
	uint32_t flags, reserved;
};

struct vdso_waiting {
	uint64_t number; /* the next system call, and its arguments */
	uint64_t arg[6];
	int64_t ret; /* of the last one; in the end, the program's answer */
	uint32_t calls; /* made so far */
	uint32_t how;   /* enum vdso_wait_how */
	uint64_t head;  /* that the deadline was translated under */
	struct timespec until;
	struct vdso_waiter both[2];
};

_Static_assert(offsetof(struct vdso_waiting, ret) == VDSO_WAITING_RET && offsetof(struct vdso_waiting, calls) == VDSO_WAITING_CALLS &&
		       sizeof(struct vdso_waiting) <= VDSO_WAITING_BYTES && VDSO_WAITING_BYTES % 16 == 0,
	       "the assembly makes room for it and reads it by these offsets");

/* True: make the call that is in *waiting, put what it returns into `ret`, and come again. False: `ret` is the answer. */
__attribute__((visibility("hidden"))) bool vdso_wait_step(struct vdso_waiting *waiting, const struct vdso_turned *turned,
							   const struct vdso_pages *pages);

#endif
#endif
