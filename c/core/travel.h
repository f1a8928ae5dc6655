/*
 * This process's own clock page: where its image reads it, and a page of our own in that place, which we write.
 *
 * A process has one such place, a region (attachment.h): made when it was attached, or when `vdso run` started it. A page that
 * stands there for a session is lent to us and given back. Functions return 0 or a negative errno.
 */
#ifndef VDSO_CORE_TRAVEL_H
#define VDSO_CORE_TRAVEL_H

#include <stdbool.h>
#include <time.h>

#include "clock.h"
#include "page.h"

struct vdso_travel {
	struct vdso_page page; /* the writer */
	int reader_fd;         /* -1 once it is placed: nothing of ours stays open */
	uint64_t region;       /* 0: not placed yet */
	const uint8_t *site;   /* the jump that leads there; NULL: the image stands in the kernel's place */
	int (*kernel_gettime)(int id, struct timespec *ts);
	uint64_t mark; /* what the process page calls it (process.h) while nobody has put another page in its place */
	void *lent; /* a second mapping of the session's page that ours stands for; NULL: it stands for none */
	bool wake;  /* somebody outside of the process waits for its changes */
	bool away;  /* the session's page is back in its place, and ours is to come again */
};

/* Where this process reads its clock page. 0: it is on the kernel's image. */
int vdso_travel_find(uint64_t *ret);

/* A page of its own that says what the kernel says. Its version begins somewhere: a reader that was interrupted on the page
 * before it, and goes on when ours stands there, finds out by the version. */
int vdso_travel_create(struct vdso_travel *ret);
void vdso_travel_destroy(struct vdso_travel *t);

/* After the process was attached to this page: looks for it. -ENOENT: it is not there. */
int vdso_travel_arrive(struct vdso_travel *t);

/* Puts this page in the place of another, saying the same, and takes over what is lent: in a forked child, where the page
 * is still the parent's. */
int vdso_travel_succeed(struct vdso_travel *t, struct vdso_travel *before);

/* Lends a session's page. -EOPNOTSUPP: it moves more than the date, which ours would not. */
int vdso_travel_borrow(struct vdso_travel *t, uint64_t region);

/*
 * Puts the session's page back, unless the place is another's by now, and ours again. -ESTALE: it is another's.
 *
 * Readers of other threads find out by the head that the page under them is another. One that is interrupted twice in one read,
 * over both exchanges and between the same two loads, would not: the page is the first again. Nothing but a journey that lasts
 * microseconds makes that possible.
 */
int vdso_travel_give_back(struct vdso_travel *t);
int vdso_travel_borrow_again(struct vdso_travel *t);

/* Whether the process still reads its clock where we write it: it may have been detached, attached elsewhere, or forked. */
bool vdso_travel_stands(const struct vdso_travel *t);

/* Whether the process has been attached since to another page, or to the session's anew: what stands there is not ours to touch. */
bool vdso_travel_replaced(const struct vdso_travel *t);

/* Whether the page is the parent's: what it forked is to have one of its own. */
bool vdso_travel_forked(const struct vdso_travel *t);

/* The host's REALTIME in ns: the input of every line. */
int64_t vdso_travel_host_ns(const struct vdso_travel *t);

/*
 * From the next read on the wall clocks show the line: at the host's `in` ns its time, and from there at its rate (32.32).
 * Whatever lags behind `in`, as the coarse clocks do by up to a tick, shows no time before the line's beginning.
 */
int vdso_travel_publish(struct vdso_travel *t, const struct vdso_line *line);

/* Changes the rate without a jump, and returns when it is in force for every reader: some 2 to 12 ms later. *line is the one
 * that is in force, and becomes the new one. -ETIMEDOUT: the machine is too busy. */
int vdso_travel_bend(struct vdso_travel *t, struct vdso_line *line, uint64_t rate);

/* Every clock the kernel's. By VDSO_KIND_JUMP, although it will change again: what comes is a step, before which a reader
 * that is on its way has begun. */
int vdso_travel_home(struct vdso_travel *t);

#endif
