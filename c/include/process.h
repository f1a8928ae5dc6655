/*
 * The process page, private to a swapped process and written once at its swap, and the order that the follower leaves for
 * the code that carries the swap out inside the process (c/image/landing.c).
 */
#ifndef VDSO_PROCESS_H
#define VDSO_PROCESS_H

#include "layout.h"

#define VDSO_BOOTSTRAP_MAX 320 /* bytes of c/core/bootstrap.S, at the most */

/* Offsets in the process page that the image's assembly uses. */
#define VDSO_PROCESS_FUNCTION 16
#define VDSO_PROCESS_WAIT_STEP 96
#define VDSO_PROCESS_COUNTS 104
#define VDSO_PROCESS_COUNTING 112

#ifndef __ASSEMBLER__

#include <stddef.h>
#include <stdint.h>

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

/*
 * In an argument register that a system call does not use: the call is the image's own, and means what it says. One for all
 * sessions, since one filter may hold programs of several.
 */
#define VDSO_MARK 0x6b72616d6f736476u

/*
 * A task whose call has a deadline on the session's clock is turned to vdso_process.wait, as if the image were the kernel: the
 * number in rax, the arguments in their registers, where to go on in rcx, and in r11 a plan:
 */
#define VDSO_PLAN(how, clock, pointer, mark) \
	((uint64_t)(how) << 24 | (uint64_t)(mark) << 16 | (uint64_t)(pointer) << 8 | (uint64_t)(clock))
#define VDSO_PLAN_HOW(plan) ((uint32_t)((plan) >> 24 & 0xff))
#define VDSO_PLAN_MARK(plan) ((uint32_t)((plan) >> 16 & 0xff))   /* the argument that takes the mark */
#define VDSO_PLAN_POINTER(plan) ((uint32_t)((plan) >> 8 & 0xff)) /* the argument that leads to the deadline */
#define VDSO_PLAN_CLOCK(plan) ((uint32_t)((plan)&0xff))          /* that the deadline is on */

enum vdso_wait_how {
	VDSO_WAIT_FUTEX, /* beside the page's head, so that every change of the clock is seen at once */
	VDSO_WAIT_SLEEP, /* on the page's head alone */
	VDSO_WAIT_TURNS, /* by the call itself, for VDSO_TURN_NS at the most, and again */
};
#define VDSO_TURN_NS 50000000

/* This process may not use the counter: its time namespace is not the keeper's. */
#define VDSO_PROCESS_NO_COUNTER 1u
/* The image is mapped beside the kernel's vDSO, for whoever calls it by name: the program does not run on it. */
#define VDSO_PROCESS_LOCAL 2u
/* Attached, and a follower answers for its session; without it the process is attached and nothing more. */
#define VDSO_PROCESS_FOLLOWED 4u
/* Attached, once at least, with a filter of ours put in, which stays. */
#define VDSO_PROCESS_FILTERED 8u

struct vdso_process {
	uint64_t magic;
	uint64_t flags;
	/* Where the kernel's functions are now. Never 0: what the kernel lacks, or left unreachable, is the image's own
	 * system call. */
	uint64_t function[VDSO_FN_COUNT];
	uint64_t kernel_image; /* the kernel's own image, moved aside or still where it was; 0: the kernel gave none */
	uint64_t image;        /* ours */
	uint64_t wait;         /* in it: where a task is turned whose deadline is on the session's clock; 0: nowhere */
	uint64_t wait_step;    /* in the annex: what that asks for the system calls to make */
	/* The counting image's alone (counting.h): 0 in the plain one's. */
	uint64_t counts;   /* where the memfd is mapped, behind the private pages */
	uint32_t counting; /* VDSO_COUNT_* */
	uint32_t program;  /* the program's cell */
	/* Of a process that is attached, or has travelled on a session; 0 in others. */
	uint64_t clock;   /* the inode of the clock page's file; of the session's, while it travels */
	/* Of an attached process; 0 in others. */
	uint32_t filters; /* how many seccomp filters it had when all of them were known to let the injected code's calls through */
	uint32_t filter;  /* what that of ours notifies, as far as it is known: VDSO_FILTER_* (filter.h) */
	/* Of a process that has travelled: which of its pages it has put here last. 0 again when it is attached to another one. */
	uint64_t traveller;
};

/* What the annex begins with: offsets from the image's first byte in its file. Where the landing is says e_entry. */
struct vdso_annex {
	uint32_t wait;
	uint32_t wait_step;
	uint32_t waited;   /* where the system calls of a wait return to, in the image */
	uint32_t wait_end; /* the first byte behind the code that makes them */
};

_Static_assert(offsetof(struct vdso_process, function) == VDSO_PROCESS_FUNCTION &&
		       offsetof(struct vdso_process, wait_step) == VDSO_PROCESS_WAIT_STEP &&
		       offsetof(struct vdso_process, counts) == VDSO_PROCESS_COUNTS &&
		       offsetof(struct vdso_process, counting) == VDSO_PROCESS_COUNTING,
	       "the image's assembly has these offsets");

/* What the code that makes a wait's system calls has on its stack from rbp on: the program's own rbp, then the call that it stands for. */
struct vdso_turned_frame {
	uint64_t rbp;
	uint64_t number;
	uint64_t arg[6];
	uint64_t back; /* behind the program's syscall instruction */
	uint64_t plan;
};
#define VDSO_TURNED_STACK 208 /* from rbp to the program's own stack pointer */

/* Pieces of the kernel's area that are moved one by one: [vvar], [vvar_vclock], [vdso], and room for a later kernel's. */
#define VDSO_MAX_PIECES 6u

#endif

/*
 * What the bootstrap asks of the follower: an execve with a path that no program passes. The second argument says what,
 * the third goes with it.
 */
#define VDSO_ASK_PATH 0x7664736f0a536b01
#define VDSO_ASK_DESCRIPTORS 1 /* -> image | clock page << 20 | VDSO_PROCESS_* << 40; negative: no swap */
#define VDSO_NO_DESCRIPTOR 0xfffffL /* in the place of one that could not be given */
#define VDSO_ASK_FAILED 2      /* with the errno: nothing was changed, and the program runs on the host's clock */
#define VDSO_ASK_ADOPT 3       /* with a descriptor of a session's clock page, for what the caller execs next; and: */
#define VDSO_ADOPT_COUNTER (1L << 32) /* it is a tsc clock */
#define VDSO_ADOPT_STRICT (1L << 33)  /* its programs run swapped or not at all */
#define VDSO_ASK_COUNTS 4 /* -> descriptor | the program's cell << 20; negative: it is not counted */
#define VDSO_ASK_JOIN 5   /* as VDSO_ASK_ADOPT, for the caller as it is: it is being attached */

#define VDSO_STRICT_STATUS 125 /* exit status of a program that may only run swapped, and could not be */

/* Offsets that the bootstrap, which is assembly, reads. */
#define VDSO_ORDER_ENTRY 0
#define VDSO_ORDER_LANDING 8
#define VDSO_ORDER_IMAGE_FD 16
#define VDSO_ORDER_CLOCK_FD 20
#define VDSO_ORDER_FLAGS 24
#define VDSO_ORDER_STRICT 28
#define VDSO_ORDER_COVERED_SIZE 160

#ifndef __ASSEMBLER__

/* Ways of standing where the program's libc will look. */
enum vdso_place {
	VDSO_PLACE_MOVE = 0, /* the kernel's pages are moved aside and ours take their place */
	VDSO_PLACE_AUXV = 1, /* ours stand elsewhere and AT_SYSINFO_EHDR leads to them: sealed, too small, or no vDSO */
};

/* What the follower leaves for the landing, on the stack well below the program's own. */
struct vdso_order {
	uint64_t entry;   /* the program's first instruction */
	uint64_t landing; /* of the landing, from the image's first byte */
	int32_t image_fd; /* -1: ask for both, and for the flags */
	int32_t clock_fd;
	uint32_t flags;  /* VDSO_PROCESS_*, with the descriptors */
	uint32_t strict; /* end the process rather than run it on the host's clock */
	uint64_t stack;  /* the stack pointer at the entry: argc, argv, envp, auxv */
	uint64_t area;   /* first byte of the kernel's pages */
	uint64_t area_size;    /* of them all together; 0: the kernel gave none */
	uint64_t kernel_image; /* in the area */
	uint32_t place;        /* enum vdso_place; MOVE becomes AUXV when the pages turn out to be sealed */
	uint32_t pieces;
	struct {
		uint32_t offset; /* from area */
		uint32_t size;
	} piece[VDSO_MAX_PIECES];
	uint32_t function[VDSO_FN_COUNT + 1]; /* from kernel_image; 0: the kernel lacks it */
	/* Where there is no vDSO the bootstrap stands on the program's own code, which the landing puts back. */
	uint64_t covered;
	uint64_t covered_size;
	uint8_t covered_bytes[VDSO_BOOTSTRAP_MAX];
	int64_t counts; /* for the counting image: as VDSO_ASK_COUNTS answers; negative: ask */
};

_Static_assert(offsetof(struct vdso_order, entry) == VDSO_ORDER_ENTRY &&
		       offsetof(struct vdso_order, landing) == VDSO_ORDER_LANDING &&
		       offsetof(struct vdso_order, image_fd) == VDSO_ORDER_IMAGE_FD &&
		       offsetof(struct vdso_order, clock_fd) == VDSO_ORDER_CLOCK_FD &&
		       offsetof(struct vdso_order, flags) == VDSO_ORDER_FLAGS &&
		       offsetof(struct vdso_order, strict) == VDSO_ORDER_STRICT &&
		       offsetof(struct vdso_order, covered_size) == VDSO_ORDER_COVERED_SIZE,
	       "the bootstrap reads the order by these offsets");

#endif
#endif
