/*
 * What an attempt has to do with filters and followers: whose filters the process has, what the process page says of it
 * afterwards, and the calls that wait by the kernel's clock already.
 */
#ifndef VDSO_CORE_FOLLOWING_H
#define VDSO_CORE_FOLLOWING_H

#include "attempt.h"
#include "inject.h"

/* What earlier attachments have left word of, in any of its regions. The thread is one that has not ended. */
void vdso_following_recall(struct vdso_attempt *attempt, pid_t tid);

/* Whether it is attached to that very page, and may lack the follower that it is to have: one that it had may have ended. */
bool vdso_following_may_lack(struct vdso_attempt *attempt);

/* The last step for one that was attached already. 0, or -1 and an answer: its follower is there. */
int vdso_following_begin(struct vdso_attempt *attempt);

/* After the injected code has run: 0, or -1 and an answer (the filter above the process is somebody else's). */
int vdso_following_judge(struct vdso_attempt *attempt, const struct vdso_inject *inject);

/*
 * Waits for an absolute time that are to be made again as the calls they were, so that the filter sees them: left to the kernel,
 * they would be taken up where they are.
 */
void vdso_following_make_again(struct vdso_attempt *attempt);

/*
 * Before a process is detached: threads that wait in our image make the call again that they were turned from, and this time the
 * kernel carries it out. 0, or -1 and an answer: one is on its way, and has to be waited for.
 */
int vdso_following_turn_back(struct vdso_attempt *attempt);

#endif
