/*
 * The process page, private to a swapped process and written once at its swap, and the order that the follower leaves for
 * the code that carries the swap out inside the process (c/image/landing.c).
 */
#ifndef VDSO_PROCESS_H
#define VDSO_PROCESS_H

#include <stdint.h>

#include "layout.h"

#define VDSO_PROCESS_MAGIC 0x434f52504f534456u /* "VDSOPROC" */

/* The kernel's functions, in the order of vdso_process.function. */
enum vdso_function {
	VDSO_FN_CLOCK_GETTIME,
	VDSO_FN_GETTIMEOFDAY,
	VDSO_FN_TIME,
	VDSO_FN_GETCPU,
	VDSO_FN_CLOCK_GETRES,
	VDSO_FN_GETRANDOM,
	VDSO_FN_SGX_ENTER,
	VDSO_FN_COUNT,
};

/* This process may not use the counter: its time namespace is not the keeper's. */
#define VDSO_PROCESS_NO_COUNTER 1u

struct vdso_process {
	uint64_t magic;
	uint64_t flags;
	/* Where the kernel's functions are now. Never 0: what the kernel lacks, or left unreachable, is the image's own
	 * system call. */
	uint64_t function[VDSO_FN_COUNT];
	uint64_t kernel_image; /* the kernel's own image, moved aside or still where it was; 0: the kernel gave none */
	uint64_t image;        /* ours */
};

/* Pieces of the kernel's area that are moved one by one: [vvar], [vvar_vclock], [vdso], and room for a later kernel's. */
#define VDSO_MAX_PIECES 6u

/* The order asks for the descriptors by an execve that no program makes: this path pointer, and what is wanted. */
#define VDSO_ASK_PATH 0x76647364736f0001u
#define VDSO_ASK_DESCRIPTORS 1u /* -> image | clock page << 20 | flags << 40; a negative errno: no swap */
#define VDSO_ASK_FAILED 2u      /* third argument: the errno; nothing was changed */
#define VDSO_ASK_ADOPT 3u       /* third argument: a session's clock page, for what the caller execs next */

/* Ways of standing where the program's libc will look. */
enum vdso_place {
	VDSO_PLACE_MOVE, /* the kernel's pages are moved aside and ours take their place */
	VDSO_PLACE_AUXV, /* ours stand elsewhere and AT_SYSINFO_EHDR leads to them: sealed, too small, or no vDSO */
};

struct vdso_order {
	uint64_t entry;       /* the program's first instruction */
	uint64_t stack;       /* its stack pointer there: argc, argv, envp, auxv */
	uint64_t area;        /* first byte of the kernel's pages */
	uint64_t area_size;   /* of them all together, the image last; 0: the kernel gave none */
	uint64_t kernel_image;
	uint32_t place;       /* enum vdso_place: MOVE may still become AUXV when the pages turn out to be sealed */
	uint32_t strict;      /* end the process rather than run it on the host's clock */
	int32_t image_fd;     /* -1: ask for both */
	int32_t clock_fd;
	uint32_t flags;       /* VDSO_PROCESS_* , when the descriptors are given here */
	uint32_t pieces;
	struct {
		uint32_t offset; /* from area */
		uint32_t size;
	} piece[VDSO_MAX_PIECES];
	uint32_t function[VDSO_FN_COUNT + 1]; /* from kernel_image, 0: the kernel lacks it */
};

#endif
