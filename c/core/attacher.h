/*
 * Two of us at one process: who attaches to it or detaches it traces its threads for a moment, in which its follower cannot. One
 * says by its name how far it is, the other reads it.
 */
#ifndef VDSO_CORE_ATTACHER_H
#define VDSO_CORE_ATTACHER_H

#include <stdbool.h>
#include <sys/types.h>

/* Of this process: before it seizes threads, and once it has interrupted all that it has seized. */
void vdso_attacher_seizes(void);
void vdso_attacher_has_interrupted(void);

enum vdso_attacher {
	VDSO_ATTACHER_NONE,   /* somebody else traces the task, or nobody */
	VDSO_ATTACHER_SEIZES, /* one of ours, which is about to interrupt it */
	VDSO_ATTACHER_HOLDS,  /* the same, and it will stop on its way back from the system call that it is in */
};

/* Who traces a task. */
enum vdso_attacher vdso_attacher_of(pid_t tid);

/* Whether a follower traces the task: it will not for long. */
bool vdso_attacher_follower_of(pid_t tid);

#endif
