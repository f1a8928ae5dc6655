/* Starting a follower, from the command line's side: beside a process that becomes the command, or in front of it. */
#ifndef VDSO_CORE_LAUNCH_H
#define VDSO_CORE_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct vdso_launch {
	const char *follower; /* path of the program */
	int image_fd;
	int clock_fd;    /* of the session's clock page, read-only */
	unsigned filter; /* VDSO_FILTER_* */
	int life_fd;     /* kept open until the last program under the filter is gone; -1: none */
	int counts_fd;   /* for the counting image (count.h); -1: nothing is counted */
	bool counter;
	bool strict;
	char **command; /* NULL: the caller will exec it */
};

enum vdso_launch_step {
	VDSO_LAUNCH_START,  /* the follower could not be started */
	VDSO_LAUNCH_FILTER, /* seccomp refused: nothing was changed, try without */
	VDSO_LAUNCH_HOLD,   /* ptrace refused, or the follower died */
};

/*
 * Without a command: returns 0 once the caller, now under the filter, may exec; its next exec is swapped. With one: runs
 * it, waits, and returns its wait status in *status. Else a negative errno, and *step says whose.
 */
int vdso_launch(const struct vdso_launch *launch, int *status, enum vdso_launch_step *step);

/*
 * Starts a program in a session of its own that is nobody's child, with the given descriptors open under the numbers they
 * have. 0 or a negative errno, the program's exec's among them.
 */
int vdso_launch_apart(const char *path, char *const argv[], const int *fds, size_t count);

/* Asks a follower above us to take the session of this clock page for our next exec. False: there is none above us. */
bool vdso_launch_adopt(int clock_fd, bool counter, bool strict, int *error);

#endif
