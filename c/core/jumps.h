/*
 * The jumps of an attempt: where they go into the kernel's image, whether they are there, and all the bytes that they need in
 * the process. Functions answer for the attempt (-1) when they cannot.
 */
#ifndef VDSO_CORE_JUMPS_H
#define VDSO_CORE_JUMPS_H

#include "attempt.h"

/* From this process's own image of the kernel's, which nobody has changed. */
int vdso_jumps_plan(struct vdso_attempt *attempt);

/* False: what is mapped there in the process has not been put there by attaching it. */
bool vdso_jumps_read(struct vdso_attempt *attempt, uint64_t region, struct vdso_attachment *ret);

/* The region that the process's jumps lead to. 0 and region 0: there are none, and its image is as the kernel's. */
int vdso_jumps_find(struct vdso_attempt *attempt);

/* Everything that the detours page is to hold. Before the process stands still. */
int vdso_jumps_build(struct vdso_attempt *attempt);

/* While it stands still, once its region is mapped. */
int vdso_jumps_write_region(struct vdso_attempt *attempt);

/*
 * All jumps, or none, in one write, from the first byte that they change to the last: a tracer that is killed leaves a process
 * that is wholly attached or not at all.
 */
int vdso_jumps_write(struct vdso_attempt *attempt, bool jumps);

int vdso_jumps_write_at(struct vdso_attempt *attempt, const void *bytes, size_t size, uint64_t at);

#endif
