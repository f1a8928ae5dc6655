/*
 * Where clock calls are counted: a memfd of one `vdso stat`, mapped shared and writable into every program that it counts, and
 * so read to the end when a program is killed. The counting image writes it, the follower and `vdso stat` read it, and trust
 * nothing in it: a program may write there what it likes.
 *
 * A thread has a cell of its own, so that counting is one instruction, which neither a signal nor a move to another CPU can come
 * into. The threads of an address space have their cells in one region, at a place that comes from their thread pointer. Which
 * region that is says a private page in front of the clock page; the kernel wipes it in a forked child, whose threads have its
 * parent's thread pointers and not their cells.
 */
#ifndef VDSO_COUNTING_H
#define VDSO_COUNTING_H

#include "layout.h"

#define VDSO_COUNT_BYTES 16777216 /* of the memfd, as programs have it mapped */
#define VDSO_COUNT_LEFT_BYTES 8388608 /* behind that: what programs have left, for us alone */
#define VDSO_COUNT_CELL_SHIFT 8   /* bytes of a cell, as a power of two */
#define VDSO_COUNT_CELLS 49151
#define VDSO_COUNT_SAMPLES 4096
#define VDSO_COUNT_PRIVATE_BYTES 4096

/* 2^64 by the golden ratio: what it multiplies is spread over all bits above. */
#define VDSO_COUNT_STEP 0x9e3779b97f4a7c15

/* Which count of a cell: a clock's id for clock_gettime, and these. */
#define VDSO_COUNT_IDS 12
#define VDSO_COUNT_CPU 12      /* clock_gettime of a process's or thread's CPU time, by a negative id */
#define VDSO_COUNT_DEVICE 13   /* of a device's clock, by a descriptor in a negative id */
#define VDSO_COUNT_AUXILIARY 14
#define VDSO_COUNT_UNKNOWN 15
#define VDSO_COUNT_GETTIMEOFDAY 16
#define VDSO_COUNT_TIME 17
#define VDSO_COUNT_GETCPU 18
#define VDSO_COUNT_GETRES 19
#define VDSO_COUNT_GETRANDOM 20
#define VDSO_COUNT_RAW 21 /* in cell 0: system calls of threads for which there was no cell left */
#define VDSO_COUNT_SLOTS 28

/* How a program counts. */
#define VDSO_COUNT_NOT 0 /* not any more: whoever counted has ended, or the process has been left */
#define VDSO_COUNT_BY_THREAD 1
#define VDSO_COUNT_TOGETHER 2  /* a CPU or kernel that does not say what the thread pointer is: all threads in one cell */

/* Offsets that the image's entries, which are assembly, use. */
#define VDSO_COUNT_KEY 16         /* in a cell */
#define VDSO_COUNT_CHECK 24
#define VDSO_COUNT_CALLS 32
#define VDSO_COUNT_THRESHOLD 128  /* in the memfd */
#define VDSO_COUNT_REGION 0       /* in the private page */
#define VDSO_COUNT_TID_OFFSET 8
#define VDSO_COUNT_TID_MASK 16
#define VDSO_COUNT_SHIFT 24 /* 32, less VDSO_COUNT_CELL_SHIFT */
#define VDSO_COUNT_SPREADING -1640531535 /* 2^32 by the golden ratio, as a signed number */

#ifndef __ASSEMBLER__

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VDSO_COUNTS_MAGIC 0x544e554f4f534456u /* "VDSOOUNT" */

enum vdso_count_kind {
	VDSO_CELL_FREE,
	VDSO_CELL_PROGRAM, /* pid: who execs it; calls: of threads that have no cell of their own, added with a lock */
	VDSO_CELL_THREAD, /* or of several, one after the other, in the same memory: what each has counted say notes */
	VDSO_CELL_RAW,     /* system calls that the thread made by itself, as the follower saw them */
	/* A note: how far a thread's cell had counted when it came to another thread. tid: who had counted last; 0: several, too
	 * many to tell them apart. */
	VDSO_CELL_NOTE,
};

struct vdso_count_cell {
	uint32_t kind;    /* stored last */
	int32_t pid;      /* in the process's own namespace, but for a program's */
	int32_t tid;
	uint32_t program; /* the cell of the program that it runs; of a program: itself */
	union {
		char name[16]; /* of a program; not ended by a 0 where it is as long */
		struct {
			uint64_t key;   /* its thread's pointer, complemented: none has 0 */
			union {
				struct {
					uint32_t check; /* what must stand where the C library keeps a thread's id */
					uint32_t note;  /* the last, of its former threads; 0: it has been of this one alone */
				};
				uint64_t check_note; /* both, which change together */
			};
		};
		struct {
			uint32_t before;   /* of a note: the one before, or 0 */
			uint32_t spare;    /* one that is not in use, or 0 */
			int32_t successor; /* who counts from there on */
			uint32_t pad;
		};
	};
	uint64_t calls[VDSO_COUNT_SLOTS];
};

/* One sampled call: what Sample in src/vdso/measure/sample.py says of it. */
#define VDSO_SAMPLE_STACK 512
#define VDSO_SAMPLE_FRAME 392
#define VDSO_SAMPLE_BUSY UINT64_MAX

struct vdso_count_sample {
	uint64_t number; /* counted from 1; 0: never written; VDSO_SAMPLE_BUSY: being written */
	int32_t pid;
	int32_t tid;
	uint32_t program;
	uint32_t slot;
	int32_t clock; /* as it was given */
	uint32_t raw;  /* 1: a system call that the thread made by itself; of its registers there are rip and rsp, then */
	uint64_t weight;
	uint64_t rip, rsp, rbp, rbx, r12, r13, r14, r15;
	uint32_t stack_size;
	uint32_t frame_size;
	uint8_t stack[VDSO_SAMPLE_STACK];
	uint8_t frame[VDSO_SAMPLE_FRAME];
	uint64_t pad1;
};

struct vdso_counts {
	uint64_t magic;
	uint32_t how;  /* VDSO_COUNT_* for every program that begins */
	uint32_t followed; /* what is exec'd counts too, and system calls past the vDSO are seen, if that was asked for */
	uint64_t began_ns; /* by CLOCK_MONOTONIC: the first program that was given a cell; 0: none was */
	uint64_t pad1[5];
	uint32_t next; /* cells handed out, and those that were wanted beyond the last */
	uint32_t pad2;
	uint64_t pad3[7];
	/* Of vdso_count_is_sampled(): 2^64 by the weight; 0: no call is sampled. Alone in its line. */
	uint64_t threshold;
	uint64_t pad4[7];
	uint64_t samples; /* begun */
	uint64_t weight;  /* what each stands for, but a cell's first call, which stands for itself */
	uint64_t pad5[6];
	struct vdso_count_cell cell[VDSO_COUNT_CELLS];
	struct vdso_count_sample sample[VDSO_COUNT_SAMPLES];
};

/* What programs had mapped when they ended: a struct vdso_count_maps each, one behind the other. */
struct vdso_count_left {
	uint64_t used; /* bytes */
	uint8_t bytes[VDSO_COUNT_LEFT_BYTES - 8];
};

struct vdso_count_maps {
	int32_t pid;
	uint32_t size; /* of the text that follows, as /proc/PID/maps has it; the next one begins at a multiple of 8 */
};

/* The private page. */
struct vdso_count_private {
	/* Where the address space's cells begin, in bytes from the memfd's first, and in the high half how many there are, as a
	 * power of two. 0: there are none yet. One word, to be seen whole. */
	uint64_t region;
	uint64_t tid_offset; /* from a thread's pointer to its id, where the C library keeps that */
	uint32_t tid_mask;   /* all ones; 0: it is not known where */
	int32_t pid;
	uint32_t successors; /* threads that have taken another one's place */
};

/* A thread's cell in a region of 2^bits cells: by bits that differ however thread pointers do, of stacks, of memory blocks or of a
 * runtime's own. */
#define VDSO_COUNT_HOME(pointer, bits) \
	((uint32_t)(pointer) * (uint32_t)VDSO_COUNT_SPREADING >> (VDSO_COUNT_SHIFT - (bits)) >> VDSO_COUNT_CELL_SHIFT)

/*
 * Whether a call is sampled, by how many its cell has counted before: the first, and of the others as many as the threshold is of
 * 2^64, at random. A program calls from places in a fixed order, for ever: numbers that had any pattern of their own, and be it
 * that of the multiples of the golden ratio, would prefer some of them. Nor may the threads of a program, who do the same,
 * be sampled at the same calls: `salt` is the cell's.
 */
static inline bool vdso_count_is_sampled(uint64_t before, uint64_t salt, uint64_t threshold)
{
	uint64_t mixed = (before + salt) * VDSO_COUNT_STEP;

	mixed = (mixed ^ mixed >> 32) * VDSO_COUNT_STEP;
	return threshold != 0 && (before == 0 || mixed < threshold);
}

_Static_assert(sizeof(struct vdso_count_cell) == 1u << VDSO_COUNT_CELL_SHIFT && offsetof(struct vdso_count_cell, key) == VDSO_COUNT_KEY &&
		       offsetof(struct vdso_count_cell, check) == VDSO_COUNT_CHECK &&
		       offsetof(struct vdso_count_cell, calls) == VDSO_COUNT_CALLS &&
		       offsetof(struct vdso_counts, threshold) == VDSO_COUNT_THRESHOLD &&
		       offsetof(struct vdso_count_private, region) == VDSO_COUNT_REGION &&
		       offsetof(struct vdso_count_private, tid_offset) == VDSO_COUNT_TID_OFFSET &&
		       offsetof(struct vdso_count_private, tid_mask) == VDSO_COUNT_TID_MASK,
	       "the image's entries go by these");
_Static_assert(sizeof(struct vdso_count_sample) == 1024 && sizeof(struct vdso_counts) <= VDSO_COUNT_BYTES &&
		       sizeof(struct vdso_count_private) <= VDSO_COUNT_PRIVATE_BYTES,
	       "they fit");

#endif
#endif
