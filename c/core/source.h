/*
 * Where a writer of clocks gets its time from: the host's clocks and the counter, or a simulation of both.
 */
#ifndef VDSO_CORE_SOURCE_H
#define VDSO_CORE_SOURCE_H

#include <time.h>

#include "clock.h"

struct vdso_source {
	void *context;
	/* The kernel's clock `id`; 0 or a negative errno. */
	int (*clock)(void *context, int id, struct vdso_time *ret);
	uint64_t (*counter)(void *context);
	void (*sleep)(void *context, uint64_t ns);
	/* Takes the event from step_fd and waits for the next one. Called before the clocks are read again, so that a
	 * step in between is not missed. */
	void (*stepped)(void *context);
	int step_fd; /* readable once REALTIME was set; -1: nobody tells */
	int (*kernel_gettime)(clockid_t id, struct timespec *ret);
};

/*
 * The host's own. Also in a process that runs on an image of ours: that one's clock_gettime would be the session's clock, so
 * the function that it moved aside is used. The source must not be moved afterwards.
 */
void vdso_source_init(struct vdso_source *ret);

/* Has step_fd tell of REALTIME's steps. 0 or a negative errno. */
int vdso_source_watch(struct vdso_source *source);

void vdso_source_deinit(struct vdso_source *source);

#endif
