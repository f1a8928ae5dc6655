/*
 * Attaches a running process to a clock page, and detaches it: jumps in the kernel's image, which stays where it is
 * (detour.h), lead to an image of ours in a region of its own (attachment.h).
 */
#ifndef VDSO_CORE_ATTACH_H
#define VDSO_CORE_ATTACH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What came of it. */
enum vdso_attach_outcome {
	VDSO_ATTACH_DONE,
	VDSO_ATTACH_NO_PROCESS,
	VDSO_ATTACH_A_THREAD,      /* other: the process that it belongs to */
	VDSO_ATTACH_KERNEL_THREAD,
	VDSO_ATTACH_ZOMBIE,
	VDSO_ATTACH_TRACED,        /* other: by whom */
	VDSO_ATTACH_REFUSED,       /* error: what ptrace said; other 1: ptrace is refused for a child of ours as well */
	VDSO_ATTACH_SECCOMP,       /* it has a seccomp filter that might end it for the calls that have to be made */
	VDSO_ATTACH_LISTENER,      /* it has one with a listener that is not ours: there cannot be two */
	VDSO_ATTACH_FOLLOWER,      /* the follower that was to take the listener has ended; nothing has been done */
	VDSO_ATTACH_GAINED,        /* it may set the host's clock, and was said not to */
	VDSO_ATTACH_FOREIGN,       /* its vDSO is not the one that this kernel gives to 64-bit programs */
	VDSO_ATTACH_CHANGED,       /* somebody else has written into its vDSO */
	VDSO_ATTACH_NO_VDSO,
	VDSO_ATTACH_SWAPPED,       /* at its exec; what: "run"; "stat", which counts it, or "left" by that */
	VDSO_ATTACH_ALREADY,       /* it is attached, or (detach) it is not; what: "left", by `vdso stat` */
	VDSO_ATTACH_NO_SITE,       /* what: the function that has no place for a jump */
	VDSO_ATTACH_NO_ROOM,       /* nothing free in a jump's reach, or (error 0) no unused bytes behind the kernel's image */
	VDSO_ATTACH_LATE,          /* other: a thread that did not stop in time, and `state`; 0: it changed while we looked */
	VDSO_ATTACH_SHARED,        /* other: a process that has the same address space */
	VDSO_ATTACH_CALL_FAILED,   /* error: of the call made inside the process; what: which */
	VDSO_ATTACH_FAILED,        /* error: something went wrong on our side */
	VDSO_ATTACH_OUTCOMES,
};

struct vdso_attach_report {
	int32_t outcome; /* enum vdso_attach_outcome */
	int32_t error;   /* a negative errno, or 0 */
	int32_t other;
	int32_t threads;
	uint32_t tries;
	uint32_t state;     /* of a thread that was late: its letter in /proc */
	uint64_t stood_ns;  /* for how long the process stood still, the last time */
	uint64_t longest_ns; /* and at the longest, of all tries */
	uint32_t followed;   /* VDSO_FOLLOWED_* (attachment.h) */
	uint32_t filter;     /* VDSO_FILTER_* of that filter, as far as it is known */
	int32_t harmless;    /* from one try to the next: that many filters, the last of them of our own putting in */
	char what[32];       /* a name, where the outcome has one */
};

struct vdso_attach {
	pid_t pid;
	bool detach;     /* the descriptors are then not looked at */
	int clock_fd;    /* a clock page, opened for reading */
	int image_fd;    /* vdso-clock.so, or vdso-count.so */
	int counts_fd;   /* for the latter: where it counts (count.h); -1 */
	uint32_t program; /* and the program's cell there */
	int follower_fd; /* where the listener goes, to a vdso-follower --attached; -1: it is not to be followed, nor one that counts */
	int talk_fd;     /* another socket of that follower's, by whose hang-up it has ended; -1: it is taken to be there */
	unsigned filter; /* VDSO_FILTER_*, then */
	bool powerless;  /* it may not set the host's clock, and is not attached if it can by then */
	bool counter;    /* the session's clock is a keeper's */
	uint64_t flags;  /* VDSO_PROCESS_* */
	uint64_t timeout_ns; /* for how long it is tried again while the process cannot be stopped; 0: once */
};

/* In small letters, such as "no_process". */
const char *vdso_attach_outcome_name(enum vdso_attach_outcome outcome);

/* Tries in child processes, one after the other, so that whatever they hold is let go with them. */
void vdso_attach(const struct vdso_attach *order, struct vdso_attach_report *ret);

#endif
