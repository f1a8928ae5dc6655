/* The one run of injected code (injected.S) in a process whose threads all stand still: maps the region in it. */
#ifndef VDSO_CORE_INJECT_H
#define VDSO_CORE_INJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "attachment.h"
#include "filter.h"
#include "registers.h"
#include "threads.h"

/* Bytes of code and data, at the most: so many, and more, follow the segments of the images of Linux 6.1 to 7.2. */
#define VDSO_INJECT_LARGEST 2080u

struct vdso_inject {
	struct vdso_threads *threads; /* all stopped, and stopped again afterwards */
	int mem;
	uint64_t region;
	bool fresh;    /* nothing of the region is mapped yet; else the clock page alone is replaced */
	uint64_t at;   /* of bytes in an executable mapping that nobody needs; */
	uint64_t room; /* and how many */
	const uint8_t *original; /* what they are to be afterwards */
	int image_fd;
	int clock_fd;
	int counts_fd;      /* -1: nothing is counted */
	uint64_t counts_at; /* 0: anywhere. -> where the counts are mapped */
	int follower_fd; /* where the listener goes; -1: it is not to be followed */
	unsigned filter; /* VDSO_FILTER_*, then */
	bool counter;    /* the session's clock is a keeper's */
	int harmless;    /* as vdso_inject_may_call() has it */
	uint64_t until_ns; /* by when it has to be done */
	pid_t tid;         /* -> the thread that ran it */
	bool is_back;      /* -> and stands where it stood before */
	bool uneven;       /* -> its threads have not all the same filters: none can be put into all of them */
	bool suspended;    /* -> its seccomp filter was, for us */
	uint32_t followed; /* -> VDSO_FOLLOWED_* */
	int error;         /* -> a negative errno */
	int step;          /* -> VDSO_STEP_*, of a call inside the process that failed */
};

enum vdso_inject_outcome {
	VDSO_INJECT_DONE,
	VDSO_INJECT_LATE,        /* not done by then */
	VDSO_INJECT_NO_ROOM,
	VDSO_INJECT_SECCOMP,     /* a filter of the process's own may end it for our calls */
	VDSO_INJECT_CALL_FAILED, /* error, step */
	VDSO_INJECT_FAILED,      /* error */
};

/* How much room it takes. A process is followed, or its calls are counted, but not both. */
uint32_t vdso_inject_bytes(bool follow, bool count);

/* False: what a try that was killed or too late has put there may still be needed by a thread. */
bool vdso_inject_is_free(struct vdso_inject *inject);

enum vdso_inject_outcome vdso_inject(struct vdso_inject *inject);

/*
 * A filter of the process's own sees our calls, and may end the process for them. Those that are known let them through: ours; a
 * container's, which this process runs under as well; all of them, if there are `harmless`. Others are suspended for the stopped
 * thread that makes the calls, which takes CAP_SYS_ADMIN. True: it may, and has these PTRACE_O_*.
 */
bool vdso_inject_may_call(pid_t tid, int harmless, long options, bool *suspended);

/* What a thread goes back with should nobody put it back. The kernel's own way is better: it knows about signals. */
void vdso_inject_way_back(struct vdso_injection *data, const struct user_regs_struct *before);

#endif
