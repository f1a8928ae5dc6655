/* A clock image mapped into the caller's own process beside the kernel's vDSO, as the swap would have it: for tests,
 * measurements, and everything that wants to read a session without running on it. */
#ifndef VDSO_CORE_LOCAL_H
#define VDSO_CORE_LOCAL_H

#include <stdint.h>

#include "process.h"

struct vdso_local {
	char *base;                        /* of the pages; the image is VDSO_DATA_BYTES further on */
	uintptr_t function[VDSO_FN_COUNT]; /* ours, in the order of enum vdso_function */
	uintptr_t kernel[VDSO_FN_COUNT];   /* the kernel's own, 0 where it has none */
	char *counts;                      /* NULL: nothing is counted */
};

/* 0 or a negative errno. The descriptors stay the caller's. flags: VDSO_PROCESS_*. */
int vdso_local_map(int image_fd, int clock_fd, uint64_t flags, struct vdso_local *ret);

/* Has a counting image, mapped so, count its calls there. Once. 0 or a negative errno. */
int vdso_local_count(struct vdso_local *local, int counts_fd);

void vdso_local_unmap(struct vdso_local *local);

#endif
