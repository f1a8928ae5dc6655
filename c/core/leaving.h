/* Programs that end, or make room for another: what they have mapped is noted before it has gone, for whoever asks who
 * called (filter.h, EXITS). */
#ifndef VDSO_CORE_LEAVING_H
#define VDSO_CORE_LEAVING_H

#include <linux/seccomp.h>

#include "follower.h"

bool vdso_leaving_is(const struct seccomp_data *data);

/* Of a task that waits to be let into its exec. */
void vdso_leaving_note(struct vdso_follower *follower, pid_t tid);

/* The program ends. */
void vdso_leaving_answer(struct vdso_follower *follower, const struct seccomp_notif *notification);

#endif
