/* What the bootstrap, and an inner command line, ask of the follower: VDSO_ASK_* in process.h. */
#ifndef VDSO_CORE_QUESTION_H
#define VDSO_CORE_QUESTION_H

#include <linux/seccomp.h>

#include "follower.h"

void vdso_question_answer(struct vdso_follower *follower, const struct seccomp_notif *notification);

#endif
