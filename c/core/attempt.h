/* One try to attach or detach a process: what is known, and what has been done. Shared by the files that make it. */
#ifndef VDSO_CORE_ATTEMPT_H
#define VDSO_CORE_ATTEMPT_H

#include "attach.h"
#include "attachment.h"
#include "detour.h"
#include "process.h"
#include "space.h"
#include "threads.h"

#define VDSO_KERNEL_IMAGE_MAX 32768u /* of what a kernel has in its image: some 8 KiB */

/* The kernel's image as this process has it, untouched: the same in every process of this kernel. */
struct vdso_kernel {
	const uint8_t *image;
	uint64_t size;    /* mapped */
	uint32_t content; /* what a program may need of it: section headers come behind that, and then nothing */
	uint32_t function[VDSO_FN_COUNT];
	struct vdso_site site[VDSO_ATTACHED_FUNCTIONS];
};

/* One try. */
struct vdso_attempt {
	const struct vdso_attach *order;
	struct vdso_attach_report *report;
	struct vdso_kernel kernel;
	struct vdso_space space;
	struct vdso_threads threads;
	int mem;
	pid_t tid;       /* any thread that stands still */
	uint64_t region; /* ours, in it */
	uint64_t there;  /* the one that its jumps lead to, as it was found: to be detached, or to be followed from now on */
	bool has_clock;  /* its clock page is the one that is wanted */
	bool fresh;      /* nothing is mapped there yet */
	uint64_t counts; /* where its calls are counted; 0: nowhere */
	uint32_t counting; /* VDSO_COUNT_* */
	bool filtered;   /* a filter of ours has been put in, now or before */
	int harmless;    /* vdso_process.filters, as it was or is to be */
	unsigned filter; /* vdso_process.filter, the same */
	uint32_t followed; /* VDSO_FOLLOWED_* */
	uint8_t detours[VDSO_PAGE_BYTES]; /* what the detours page is to hold */
	struct vdso_detour detour[VDSO_ATTACHED_FUNCTIONS];
	struct vdso_annex annex; /* of our image */
	uint8_t image[VDSO_KERNEL_IMAGE_MAX]; /* what is there of the kernel's */
};

/* What came of it, and -1. */
int vdso_attempt_answer(struct vdso_attempt *attempt, enum vdso_attach_outcome outcome, int error, int other);
int vdso_attempt_answer_of(struct vdso_attempt *attempt, enum vdso_attach_outcome outcome, int error, const char *what);

#endif
