/*
 * Tells by a descriptor that a session's clock has been changed. Who changes it wakes the futex that is its page's head, and
 * no poll() waits for one: a thread does, and sleeps until then.
 */
#ifndef VDSO_CORE_WATCH_H
#define VDSO_CORE_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "page.h"

#define VDSO_WATCH_PAGES 64u

struct vdso_watch {
	bool running;
	int changed; /* an eventfd: readable once a page has been changed; -1 */
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	struct vdso_page page[VDSO_WATCH_PAGES];
	bool open[VDSO_WATCH_PAGES];
	uint32_t seen[VDSO_WATCH_PAGES]; /* of the heads, their low halves */
	_Atomic uint32_t order;         /* a futex: the pages are others now, or it is to end */
	_Atomic bool end;
};

/* 0 or a negative errno. A fork leaves the thread to the parent: stop it before, and start one on either side that needs it. */
int vdso_watch_start(struct vdso_watch *watch);
void vdso_watch_stop(struct vdso_watch *watch);

/* Watches that page (a descriptor of it) in the place of whatever had the index. 0 or a negative errno. */
int vdso_watch_page(struct vdso_watch *watch, uint32_t index, int fd);

/* Lets go of the page that has the index. */
void vdso_watch_forget(struct vdso_watch *watch, uint32_t index);

/* Takes the event. True: something has been changed since it was last taken. */
bool vdso_watch_take(struct vdso_watch *watch);

#endif
