/* What the bootstrap, and an inner command line, ask of the follower: VDSO_ASK_* in process.h. */
#ifndef VDSO_CORE_QUESTION_H
#define VDSO_CORE_QUESTION_H

#include <linux/seccomp.h>

#include "follower.h"

/* A cell for a program that is about to begin, and counts its calls. */
uint32_t vdso_question_program(struct vdso_follower *follower, pid_t pid);

void vdso_question_answer(struct vdso_follower *follower, const struct seccomp_notif *notification);

#endif
