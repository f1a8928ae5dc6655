/* The command line as it waits in front of a command that it could not become: signals, stops and the exit go through. */
#ifndef VDSO_CORE_FRONT_H
#define VDSO_CORE_FRONT_H

#include <stdbool.h>

/*
 * Waits on the follower's control socket until the command has ended. Signals sent to this process are passed on to the
 * command; what the terminal sends reaches it anyway. Returns the wait status, or a negative errno; -ECONNRESET: the
 * follower has gone. With *filter_refused nothing was run, and may be tried again without a filter.
 */
int vdso_front_wait(int control, bool *filter_refused);

/* Ends this process as `status` says the command ended: by the same signal, without a core of our own. */
_Noreturn void vdso_front_end(int status);

#endif
