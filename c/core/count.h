/*
 * The counts of a `vdso stat` (counting.h): made, mapped, written by the follower, and read. Programs write there too, and any
 * of them may write nonsense: what is read is bounded here, and its meaning is not vouched for.
 */
#ifndef VDSO_CORE_COUNT_H
#define VDSO_CORE_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "counting.h"

/* A new, empty memfd of a size that stays. 0 or a negative errno. */
int vdso_counts_create(int *fd);

/* NULL, and errno, where it cannot be, or is none. */
struct vdso_counts *vdso_counts_map(int fd);

/* The same to be read alone; unmapped as those are. */
const struct vdso_counts *vdso_counts_view(int fd);
void vdso_counts_unmap(const struct vdso_counts *counts);

/* A cell for a program that is about to begin, 0 where there is none left: that one counts for all of these. */
uint32_t vdso_counts_program(struct vdso_counts *counts, pid_t pid, const char *name);

/*
 * One system call of a thread's that did not come through the image. One caller at a time. False: the thread is new, and pid 0.
 */
bool vdso_counts_raw(struct vdso_counts *counts, pid_t pid, pid_t tid, uint32_t slot);

/*
 * Whether the last call that vdso_counts_raw() has counted of the thread's there is to be sampled: then all but the place that
 * it was made from, which is to be filled in.
 */
bool vdso_counts_raw_sampled(const struct vdso_counts *counts, pid_t tid, uint32_t slot, struct vdso_count_sample *ret);
void vdso_counts_put_sample(struct vdso_counts *counts, const struct vdso_count_sample *sample);

/* The slot of a clock_gettime with that id. */
uint32_t vdso_counts_slot(int32_t id);

/* Cells below this may have something in them. */
uint32_t vdso_counts_used(const struct vdso_counts *counts);

/* A copy of one of these. False: nothing is in it yet. */
bool vdso_counts_cell(const struct vdso_counts *counts, uint32_t index, struct vdso_count_cell *ret);

/* Several threads may have counted in it, one after the other. `part` becomes what the last of them has, and `cell`, a copy, what
 * is left of it. False: nothing is. */
bool vdso_counts_part(const struct vdso_counts *counts, struct vdso_count_cell *cell, struct vdso_count_cell *part);

/* Takes samples of one call in so many from now on, on average; 0: of none. */
void vdso_counts_sample_one_in(struct vdso_counts *counts, uint64_t calls);

/*
 * The sample of that number, counted from 1. False: it has not been written yet, or has been lost since. Numbers up to
 * vdso_counts_sampled() have been given out.
 */
bool vdso_counts_sample(const struct vdso_counts *counts, uint64_t number, struct vdso_count_sample *ret);
uint64_t vdso_counts_sampled(const struct vdso_counts *counts);

/* Keeps what a program had mapped when it ended, as long as there is room. */
void vdso_counts_leave(struct vdso_counts *counts, pid_t pid, const char *text, size_t size);

/* The next text that was kept, from *at on, which is 0 at first. NULL: there is none. */
const char *vdso_counts_left(const struct vdso_counts *counts, uint64_t *at, pid_t *pid, size_t *size);

/* Programs that begin from now on are not counted, and left on the kernel's image. */
void vdso_counts_end(struct vdso_counts *counts);
bool vdso_counts_ended(const struct vdso_counts *counts);

/* Gives its memory back, which ends it too, whoever has it mapped: what is still counted there begins at 0. */
void vdso_counts_discard(int fd);

#endif
