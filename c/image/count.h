/* Counting a call that does not go by the quick way of arch/x86_64_counting.S. */
#ifndef VDSO_IMAGE_COUNT_H
#define VDSO_IMAGE_COUNT_H

#include <stdbool.h>

#include "counting.h"
#include "process.h"
#include "syscalls.h"

/* As the entries lay them on the stack. */
struct vdso_count_frame {
	uint64_t rbx, r12, r13, r14, r15;
	uint64_t rdi; /* the clock, where the function takes one */
	uint64_t rax; /* what it has answered */
	uint64_t rbp;
	uint64_t back; /* in who has called it; its stack follows */
};

/* `counted`, in that cell already: it may have to be sampled. Else the cell is to be found. */
HIDDEN void vdso_count(const struct vdso_count_frame *frame, uint32_t slot, struct vdso_count_cell *counted);

#endif
