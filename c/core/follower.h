/*
 * The follower: answers the exec notifications of every program under the session's filter, holds each task for the length
 * of its exec, and gives it the order to swap. Single-threaded; nothing of Python is in its process.
 *
 * What it must not forget when it is killed is in memory that it shares with its guard: the notification being read (the
 * kernel writes it there), and one entry for each task between its notification and its landing. A successor reads
 * them and goes on.
 */
#ifndef VDSO_CORE_FOLLOWER_H
#define VDSO_CORE_FOLLOWER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "area.h"
#include "membership.h"
#include "sleep.h"
#include "watch.h"

#define VDSO_FOLLOWER_TASKS 8192u /* a burst of execs: those that have been ordered queue behind all that wait */
#define VDSO_FOLLOWER_SESSIONS 64u
#define VDSO_ON_HOST VDSO_FOLLOWER_SESSIONS /* in a session's place, whose page is not there: the host's clock */
#define VDSO_FOLLOWER_WARNED 256u
#define VDSO_FOLLOWER_TIMERS 16384u
#define VDSO_FOLLOWER_STANDINGS 1024u
#define VDSO_FOLLOWER_LENDERS 64u

enum vdso_task_phase {
	VDSO_TASK_NONE,
	VDSO_TASK_NOTIFIED, /* its notification `id` waits for an answer */
	VDSO_TASK_WAITING,  /* as NOTIFIED, until the thread of its process that is held has got through or failed */
	VDSO_TASK_HELD,     /* let go on into the kernel's exec, and held by ptrace */
	VDSO_TASK_LATE,     /* held again by a follower whose predecessor died holding it: its exec may be over */
	VDSO_TASK_DIRECT,   /* held without a notification: the first exec of a program that is not followed */
	VDSO_TASK_ORDERED,  /* detached, and about to ask for its descriptors */
	VDSO_TASK_TURNED,   /* held on its way back from a call that was not carried out, to be turned to the image's wait */
	VDSO_TASK_LENT,     /* held, or about to be, to make calls for us (errand.h) */
	VDSO_TASK_GIVING,   /* it has asked, and may have been given some */
	VDSO_TASK_COUNTED,  /* the same, for where it counts */
};

struct vdso_task {
	int32_t tid;
	uint32_t phase;
	uint64_t id;
	uint32_t session;
	int32_t error; /* why it was given less than it asked for */
	uint64_t plan; /* of a task that is to be turned, and where to; 0: it is in an exec */
	uint64_t entry;
};

struct vdso_follower_session {
	uint64_t inode; /* of the clock page's file: how a process shows which session it is on */
	bool counter;   /* tsc mode: refused in another time namespace than the keeper's */
	bool strict;    /* its programs run swapped or not at all */
	bool asked;     /* a program has brought it, for what it execs */
};

struct vdso_timer_setting {
	struct itimerspec wanted; /* its next time by the session's clock, and its interval */
	struct itimerspec armed;  /* what the kernel is given for them */
};

/* A timer that was set in a program's stead, to be set anew when its session's clock changes. */
struct vdso_timer {
	int32_t program; /* 0: none */
	int32_t task;    /* whose descriptors `id` is among: the program's, or those of a thread that has its own */
	int32_t id;      /* of a descriptor, or of a timer of the process's */
	bool descriptor;
	bool lost; /* not found where it was set from: to be searched for, or forgotten */
	int32_t clock, flags;
	uint32_t session;
	uint64_t start;   /* of the program: tells its id from the id's reuse */
	uint64_t version; /* of the record that it was set by */
	uint64_t noted_until_ns; /* CLOCK_MONOTONIC: until then its program's call, which we have let go on, may not have set it yet */
	struct vdso_timer_setting set;
	/* What it is about to be set to: a successor of ours finds the timer at the one or the other. */
	struct vdso_timer_setting next;
};

/* Where in shared->timer which one is (timertable.h). Numbers are one more than an index; 0: none. */
struct vdso_timer_index {
	uint32_t bucket[VDSO_FOLLOWER_TIMERS];
	uint32_t next[VDSO_FOLLOWER_TIMERS]; /* in the same bucket, or that is free too */
	uint32_t free;
	uint32_t live;     /* how many there are */
	uint32_t sweep_at; /* that many, and those are looked for that are gone; */
	uint64_t sweep_ns; /* CLOCK_MONOTONIC: not before then */
};

/* How a task stood when it was last looked at: standing.h finds out whether it still does. */
struct vdso_standing {
	int32_t tid;
	uint64_t round;
	struct vdso_membership member;
};

/* A program whose threads cannot be borrowed just now (errand.c). Times are CLOCK_MONOTONIC's. */
struct vdso_lender {
	int32_t program;          /* 0: none */
	uint64_t busy_since_ns;   /* what a predecessor of ours has left in it was first seen; 0: nothing is there */
	uint64_t beyond_until_ns; /* its timers are left to the kernel until then */
};

/* One warning that has been given: to whom, and which. */
struct vdso_warned {
	int32_t program;
	int32_t about;
};

struct vdso_follower_shared {
	uint64_t notification[64]; /* struct seccomp_notif, of whatever size this kernel's is; id 0: none is being read */
	struct vdso_task task[VDSO_FOLLOWER_TASKS];
	uint32_t tasks; /* none is in use from this index on */
	struct vdso_follower_session session[VDSO_FOLLOWER_SESSIONS + 1]; /* the last for VDSO_ON_HOST */
	uint32_t sessions;
	bool attached; /* the filter has been put into a running process: what is on no session is on the host's clock */
	struct {
		int32_t program;
		uint64_t start; /* of the program: tells its id from the id's reuse */
	} adopted[VDSO_FOLLOWER_SESSIONS]; /* by session: who has asked for it, for its next exec */
	struct vdso_timer timer[VDSO_FOLLOWER_TIMERS];
	uint32_t timers; /* none is in use from this index on */
	struct vdso_lender lender[VDSO_FOLLOWER_LENDERS]; /* a successor begins no patience of its own with them */
	uint32_t nevers; /* counts times that are never: each is another one, by which its timer is known again */
	struct vdso_warned warned[VDSO_FOLLOWER_WARNED];
	uint32_t warnings;
	uint64_t carried_out; /* the notification that has set a clock last, or told adjtimex something, answered or not */
	int32_t command; /* what exec'd first: whoever started it reads its standard error stream */
	int32_t child; /* the command, where we are its parent; 0 once it has ended */
};

struct vdso_follower {
	struct vdso_follower_shared *shared;
	struct vdso_area area;
	int listener; /* -1: nothing is followed, one program is swapped by ptrace alone */
	int image_fd;
	int clock_fd[VDSO_FOLLOWER_SESSIONS + 1];
	int guard;    /* socket: what the guard has to keep for a successor */
	int control;  /* socket to the command line while it waits for us; -1 */
	int way;      /* where the listener comes from, when it does not come by `control`; -1 */
	int release;  /* socket to a command that waits to be held before it execs; -1 */
	int life;     /* held, and nothing more: a keeper sees by its hang-up that we are gone; -1 */
	int counts_fd; /* where programs count their calls; -1: they do not, and the image is the plain one */
	struct vdso_counts *counts; /* it */
	int ended;    /* of the one program that is not followed: the session, and `life`, hang on it; -1 */
	uint64_t landing;
	pid_t direct; /* a task to hold from the outset, 0: none */
	unsigned filter; /* VDSO_FILTER_*, for the command where we start it */
	char **command;  /* what to start, NULL: the command line becomes the command */
	bool no_new_privs; /* set for following's sake, and setuid programs lose their privilege by it */
	bool soon;  /* a task waits until another tracer of ours has done with it */
	bool front; /* the command line waits for the command, whose parent we are */
	sigset_t mask; /* the caller's, for the command: the terminal's signals are not for us */
	char time_namespace[64];
	const uint8_t *kernel_image; /* as this process has it, untouched; NULL: there is none */
	struct vdso_standing standing[VDSO_FOLLOWER_STANDINGS];
	uint64_t round; /* counts what is reported to us: within one, a task stands as it stood */
	struct vdso_membership likely[VDSO_MEMBER_KINDS]; /* of each kind, the one that was found last */
	uint64_t missing; /* the inode of a page that nobody was found to hold, */
	uint64_t missing_until_ns; /* and until when (CLOCK_MONOTONIC) nobody is searched for again */
	uint64_t tidy_at_ns; /* when sessions are to be let go that nobody is on; 0: not before the next renewal */
	dev_t page_device; /* of the kernel's file system for memory, where every clock page is */
	struct vdso_watch watch;
	struct vdso_errand *errands; /* threads that are lent to us (errand.c) */
	struct vdso_sleep sleep;
	struct vdso_timer_index timer_index;
	uint64_t timers_due_ns;      /* CLOCK_MONOTONIC: when to try again to set timers anew; 0: nothing is to be tried */
	bool timers_passed_over;     /* some that the clock has left behind, because of an errand that is under way */
};

/* One line a message, from the follower to a waiting command line. */
struct vdso_follower_message {
	char what; /* 'W' waits for the listener, 'R' ready, 'P' the command's pid, 'S' stopped by a signal, 'C' continued, 'E' wait status, 'X' errno, 'F' the
	            filter's errno */
	int32_t value;
};

/* Whether the program has not been told of it yet; from now on it has. */
bool vdso_follower_first_time(struct vdso_follower *follower, int32_t program, int32_t about);

/* The same without telling it. */
bool vdso_follower_is_told(const struct vdso_follower *follower, int32_t program, int32_t about);

/* What comes of a program that cannot be swapped, for a warning. */
const char *vdso_follower_fate(const struct vdso_follower *follower, bool strict);

/* One line a program, that its memory may not be looked into; any other error of vdso_argument_open() is no news. */
void vdso_follower_warn_closed(struct vdso_follower *follower, pid_t tid, int error);

/* Runs until no program is left under the filter. Returns an exit status; `again`: a predecessor was killed. */
int vdso_follower_run(struct vdso_follower *follower, bool again);

int vdso_follower_tell(const struct vdso_follower *follower, char what, int32_t value);

#endif
