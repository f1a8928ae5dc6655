/* The command as the follower's own child: where Yama lets only an ancestor trace. */
#ifndef VDSO_CORE_COMMAND_H
#define VDSO_CORE_COMMAND_H

#include "follower.h"

/*
 * Starts follower->command under follower->filter, in the caller's process group and session (which the caller leaves
 * afterwards, for one of its own), and lets it exec once it can be held. 0 or a negative errno.
 */
int vdso_command_start(struct vdso_follower *follower);

/* Gives up what the command line has lent: its standard streams, session, directory, and every descriptor that is not the
 * follower's own or `also`. */
void vdso_command_leave(const struct vdso_follower *follower, int also);

#endif
