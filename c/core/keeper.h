/*
 * The timekeeper: keeps the lines over the counter on the kernel's clocks.
 *
 * Each tick it compares MONOTONIC and MONOTONIC_RAW with the counter and publishes, for every clock it keeps, the line in
 * force and the one that goes on from it at the takeover, bent so that the error is gone about a tick later. REALTIME, TAI
 * and BOOTTIME are MONOTONIC's line plus a gap; a set clock is a step and holds at once.
 *
 * What is never done: hand out a smaller MONOTONIC than before. Where a line cannot go on (the keeper slept for longer than
 * a span, the machine was suspended, the kernel's rate jumped), readers are left on the kernel's clock above a floor until a
 * new line can start at or above it. A counter that goes wrong by itself is given up for good.
 */
#ifndef VDSO_CORE_KEEPER_H
#define VDSO_CORE_KEEPER_H

#include <poll.h>
#include <stdbool.h>

#include "clock.h"
#include "page.h"
#include "source.h"
#include "view.h"

#define VDSO_KEEPER_TICK_NS 50000000u
#define VDSO_KEEPER_FIRST_TICK_NS 8000000u /* doubles up to the full one: a short history predicts a short while */
#define VDSO_KEEPER_FIT_NS 10000000u       /* between the first two samples */
#define VDSO_KEEPER_SPAN_NS 1000000000u    /* how long a line holds without its keeper */
#define VDSO_KEEPER_SLEW 500e-6            /* beyond the fitted rate */
#define VDSO_KEEPER_RATE_MAX 1000e-6       /* RAW against the counter: more is a broken counter */
#define VDSO_KEEPER_ERROR_MAX_NS 1000000   /* a line that is off by more is not slewed but left */

enum vdso_keeper_state {
	VDSO_KEEPER_NEW,
	VDSO_KEEPER_LOCKED, /* lines are published */
	VDSO_KEEPER_LOST,   /* readers are on the kernel's clock until a line can start again */
	VDSO_KEEPER_OFF,    /* and stay there: the counter cannot be trusted */
};

struct vdso_keeper {
	struct vdso_view view;
	struct vdso_page *page;
	struct vdso_clock_record record; /* as published last */
	enum vdso_keeper_state state;
	uint64_t tick_ns;
	char reason[96]; /* why the counter was refused or given up */
	/* For people and tests. */
	unsigned ticks, steps, losses, reanchored, overtaken;
	bool resumed; /* a predecessor's line was still good and went on */
};

void vdso_keeper_init(struct vdso_keeper *ret, const struct vdso_source *source, struct vdso_page *page,
		      int64_t offset_sec, int64_t offset_nsec);

/*
 * First look at the clocks, then, VDSO_KEEPER_FIT_NS or more later (start waits for what is left of it), the second and the
 * first record. In between there is time for something else. 0, or a negative errno with the reason in keeper->reason.
 */
int vdso_keeper_prepare(struct vdso_keeper *keeper);
int vdso_keeper_start(struct vdso_keeper *keeper);

void vdso_keeper_tick(struct vdso_keeper *keeper);

/* REALTIME was set: the wall clocks follow at once. */
void vdso_keeper_step(struct vdso_keeper *keeper);

/* Whether whoever a keeper is kept for has gone, by what poll() said of it: a pipe's other end, or a pidfd's process. */
bool vdso_keeper_unwanted(const struct pollfd *life);

/* Ticks until life_fd (the read end of a pipe, or a pidfd) says that nobody is left. life_fd < 0: for ever. */
void vdso_keeper_run(struct vdso_keeper *keeper, int life_fd);

#endif
