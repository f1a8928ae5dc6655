/*
 * One kernel clock seen against the counter: samples, and the straight line through the newest of them.
 *
 * Pure arithmetic: knows no clock and no page, so that it can be fed anything.
 */
#ifndef VDSO_CORE_TRACK_H
#define VDSO_CORE_TRACK_H

#include <stdbool.h>
#include <stdint.h>

#define VDSO_TRACK_SAMPLES 32u

/* The clock read `ns` somewhere within `width` ns around `counter`. */
struct vdso_sample {
	uint64_t counter;
	uint64_t ns;
	double width;
};

struct vdso_track {
	struct vdso_sample sample[VDSO_TRACK_SAMPLES]; /* a ring */
	unsigned count;
	unsigned newest;
	double slope;       /* ns a count; 0 until there are two samples */
	double slope_error; /* what it may be wrong by, as a share of it */
	double lift;        /* the line at the newest sample's counter, less that sample's ns */
	unsigned cuts;      /* times that the past was dropped because the clock's rate had changed */
};

void vdso_track_reset(struct vdso_track *track);

/* Takes a sample later than those before and fits again. What no longer lies on the line makes it forget the past: a clock
 * that is being slewed is better described by its last two samples than by twenty of which most tell of another rate. */
void vdso_track_add(struct vdso_track *track, const struct vdso_sample *sample);

static inline const struct vdso_sample *vdso_track_newest(const struct vdso_track *track)
{
	return &track->sample[track->newest];
}

/* The line at `counter`, in ns beyond vdso_track_newest()->ns. */
static inline double vdso_track_ahead(const struct vdso_track *track, uint64_t counter)
{
	return track->lift + track->slope * (double)(int64_t)(counter - vdso_track_newest(track)->counter);
}

#endif
