/*
 * What an attached process holds of ours: a region of pages that stays until the process execs or ends, and, for the length
 * of one stop, the code that maps it (c/core/injected.S).
 */
#ifndef VDSO_ATTACHMENT_H
#define VDSO_ATTACHMENT_H

#include "layout.h"

/* In front of it, for the counting image, its private page (counting.h). */
/* [clock page, 2 pages][process page][image, 2 pages][annex][detours][scratch page] */
#define VDSO_DETOURS_AT (VDSO_DATA_BYTES + VDSO_FILE_BYTES)
#define VDSO_SCRATCH_AT (VDSO_DETOURS_AT + VDSO_PAGE_BYTES)
#define VDSO_REGION_BYTES (VDSO_SCRATCH_AT + VDSO_PAGE_BYTES)

/* In front of the injected code: CLOCK_MONOTONIC when it was put there, in nanoseconds. */
#define VDSO_INJ_SINCE_BYTES 8

/* What the injected code reads: behind itself, so that it needs no stack and no register of the program's. */
#define VDSO_INJ_REGION 0
#define VDSO_INJ_FRESH 8
#define VDSO_INJ_MASK 16
#define VDSO_INJ_REGISTERS 24
#define VDSO_INJ_RIP 152
#define VDSO_INJ_FLAGS 160
#define VDSO_INJ_EINTR_RAX 168
#define VDSO_INJ_EINTR_RIP 176
#define VDSO_INJ_COUNTS 184
#define VDSO_INJ_FILTER 192
#define VDSO_INJ_ASK 200
#define VDSO_INJ_SCRATCH 208
#define VDSO_INJ_BYTES (VDSO_INJ_SCRATCH + VDSO_SCR_BYTES + 16)

/* In the scratch page, whose beginning the injected code copies from behind itself. */
#define VDSO_SCR_STATE 0
#define VDSO_SCR_STEP 4
#define VDSO_SCR_POLL 8
#define VDSO_SCR_PATIENCE 24
#define VDSO_SCR_MESSAGE 40
#define VDSO_SCR_VECTOR 96
#define VDSO_SCR_CONTROL 112
#define VDSO_SCR_FDS 128
#define VDSO_SCR_OFFERED 140
#define VDSO_SCR_NAME_SIZE 152
#define VDSO_SCR_NAME 160
#define VDSO_SCR_COUNTS 184
#define VDSO_SCR_FOLLOWED 192
#define VDSO_SCR_NO_NEW_PRIVS 196
#define VDSO_SCR_PROGRAM 200
#define VDSO_SCR_BYTES 216
#define VDSO_SCR_FD_COUNT 5 /* at VDSO_SCR_FDS: what came, or the listener, and what was offered */
#define VDSO_SCR_FILTER 512 /* of the page: the filter, while it is needed */

/* VDSO_SCR_STATE: what it waits for. Negative: the errno of the step that failed. */
#define VDSO_INJ_OFFERS 1 /* the descriptors, over the second of the two sockets */
#define VDSO_INJ_DONE 2   /* to be put back where it was */
#define VDSO_INJ_KEEPS 3  /* somebody to take the listener, which it could not send; then a byte, over the same socket */

#define VDSO_INJ_ASKS (1LL << 62) /* in VDSO_INJ_ASK, so that it is not 0 */

/* VDSO_SCR_STEP, and in r14 while there is no scratch page. */
#define VDSO_STEP_REGION 1
#define VDSO_STEP_SOCKET 2
#define VDSO_STEP_CONNECT 3
#define VDSO_STEP_RECEIVE 4
#define VDSO_STEP_CLOCK 5
#define VDSO_STEP_IMAGE 6
#define VDSO_STEP_DETOURS 7
#define VDSO_STEP_SEAL 8
#define VDSO_STEP_ASK 9
#define VDSO_STEP_FILTER 10
#define VDSO_STEP_PRIVATE 11
#define VDSO_STEP_COUNTS 12

#define VDSO_COUNTS_ANYWHERE 1 /* VDSO_INJ_COUNTS: there are none there yet; 0: nothing is counted; else where they are */

/* VDSO_SCR_FOLLOWED */
#define VDSO_FOLLOWED_NOT 0
#define VDSO_FOLLOWED_ANEW 1    /* a filter has been put in, and its listener sent to the follower */
#define VDSO_FOLLOWED_BEFORE 2  /* a follower that is above the process already has taken the session */
#define VDSO_FOLLOWED_UNKNOWN 3 /* a filter above the process has a listener, whosever it is */
#define VDSO_FOLLOWED_LOST 4    /* a filter has been put in, and its listener could not be sent: what it notifies fails with ENOSYS */

/* How long it waits for us before it goes back by itself: twice this at the most, since we must have died. */
#define VDSO_INJ_PATIENCE_NS 20000000

#ifndef __ASSEMBLER__

#include <stddef.h>
#include <stdint.h>

#define VDSO_ATTACHMENT_MAGIC 0x434154544f534456u /* "VDSOTTAC" */
#define VDSO_ATTACHED_FUNCTIONS 3u /* clock_gettime, gettimeofday, time: the others never change */

/* The detours page's beginning; the detours' code follows at VDSO_DETOURS_CODE. */
struct vdso_attachment {
	uint64_t magic;
	uint64_t region;       /* its own address */
	uint64_t kernel_image; /* where the kernel's is */
	uint64_t flags;        /* VDSO_PROCESS_* */
	uint32_t ours[VDSO_ATTACHED_FUNCTIONS]; /* where the jumps lead to, in this page */
};

#define VDSO_DETOURS_CODE 64u
_Static_assert(sizeof(struct vdso_attachment) <= VDSO_DETOURS_CODE, "the code follows it");

struct vdso_scratch {
	int32_t state;
	int32_t step;
	int32_t poll_fd;
	int16_t poll_events;
	int16_t poll_ready;
	uint64_t byte;
	int64_t patience_sec;
	int64_t patience_nsec;
	/* struct msghdr, iovec and control message, as the 64-bit kernel has them */
	uint64_t message_name;
	uint32_t message_name_size;
	uint32_t pad0;
	uint64_t message_vector;
	uint64_t message_vectors;
	uint64_t message_control;
	uint64_t message_control_size;
	int32_t message_flags;
	uint32_t pad1;
	uint64_t vector_at;
	uint64_t vector_size;
	uint64_t control_size;
	int32_t control_level;
	int32_t control_type;
	/* Image, clock page and, where calls are to be counted, the counts, or the way to the follower; -1. Closed at the end. */
	int32_t control_fd[3];
	int32_t offered[2];
	uint32_t pad2;
	/* Where it connects to, a struct sockaddr_un's beginning; size 0: it offers a socket pair. */
	uint64_t name_size;
	uint8_t name[24];
	uint64_t counts; /* where they have been mapped */
	uint32_t followed;     /* VDSO_FOLLOWED_* */
	uint32_t no_new_privs; /* 1: set, since the filter could not be had without it, or not to be set. The follower is sent it */
	/* struct sock_fprog, as the 64-bit kernel has it */
	uint64_t program_length;
	uint64_t program_at;
};

_Static_assert(offsetof(struct vdso_scratch, poll_fd) == VDSO_SCR_POLL && offsetof(struct vdso_scratch, offered) == VDSO_SCR_OFFERED &&
		       offsetof(struct vdso_scratch, patience_sec) == VDSO_SCR_PATIENCE &&
		       offsetof(struct vdso_scratch, message_name) == VDSO_SCR_MESSAGE &&
		       offsetof(struct vdso_scratch, vector_at) == VDSO_SCR_VECTOR &&
		       offsetof(struct vdso_scratch, control_size) == VDSO_SCR_CONTROL &&
		       offsetof(struct vdso_scratch, control_fd) == VDSO_SCR_FDS &&
		       offsetof(struct vdso_scratch, name_size) == VDSO_SCR_NAME_SIZE &&
		       offsetof(struct vdso_scratch, name) == VDSO_SCR_NAME &&
		       offsetof(struct vdso_scratch, counts) == VDSO_SCR_COUNTS &&
		       offsetof(struct vdso_scratch, followed) == VDSO_SCR_FOLLOWED &&
		       offsetof(struct vdso_scratch, no_new_privs) == VDSO_SCR_NO_NEW_PRIVS &&
		       offsetof(struct vdso_scratch, program_length) == VDSO_SCR_PROGRAM && sizeof(struct vdso_scratch) == VDSO_SCR_BYTES,
	       "the injected code reads the scratch page by these offsets");

/* rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8 to r15. */
#define VDSO_INJ_REGISTER_COUNT 16u

struct vdso_injection {
	uint64_t region;
	uint64_t fresh; /* 1: nothing of the region is there yet; 0: the clock page alone is replaced */
	uint64_t mask;  /* the signals that the thread had blocked */
	uint64_t reg[VDSO_INJ_REGISTER_COUNT];
	uint64_t rip;
	uint64_t flags;
	/* In the place of rax and rip should a signal be waiting: a call that is made again only when no handler runs. */
	uint64_t eintr_rax;
	uint64_t eintr_rip;
	uint64_t counts; /* VDSO_COUNTS_ANYWHERE, 0, or an address */
	uint64_t filter; /* the flags of seccomp(SECCOMP_SET_MODE_FILTER); 0: it is not to be followed */
	uint64_t ask;    /* what VDSO_ASK_JOIN takes beside the descriptor, and VDSO_INJ_ASKS; 0: nobody is asked */
	struct vdso_scratch scratch;
	/* Whose way back it is, where a thread is borrowed (borrow.c): tells a fork's copy from what is still needed. */
	uint64_t owner_start;
	int32_t owner;
};

_Static_assert(offsetof(struct vdso_injection, fresh) == VDSO_INJ_FRESH && offsetof(struct vdso_injection, mask) == VDSO_INJ_MASK &&
		       offsetof(struct vdso_injection, reg) == VDSO_INJ_REGISTERS && offsetof(struct vdso_injection, rip) == VDSO_INJ_RIP &&
		       offsetof(struct vdso_injection, flags) == VDSO_INJ_FLAGS &&
		       offsetof(struct vdso_injection, eintr_rax) == VDSO_INJ_EINTR_RAX &&
		       offsetof(struct vdso_injection, eintr_rip) == VDSO_INJ_EINTR_RIP &&
		       offsetof(struct vdso_injection, counts) == VDSO_INJ_COUNTS &&
		       offsetof(struct vdso_injection, filter) == VDSO_INJ_FILTER && offsetof(struct vdso_injection, ask) == VDSO_INJ_ASK &&
		       offsetof(struct vdso_injection, scratch) == VDSO_INJ_SCRATCH && sizeof(struct vdso_injection) == VDSO_INJ_BYTES,
	       "the injected code reads its data by these offsets");

#endif
#endif
