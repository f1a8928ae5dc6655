/*
 * The host's clocks as seen from the counter: tracks of MONOTONIC and RAW, and what the other clocks have beyond MONOTONIC.
 *
 * Looks and predicts; publishes nothing.
 */
#ifndef VDSO_CORE_VIEW_H
#define VDSO_CORE_VIEW_H

#include <stdbool.h>

#include "clock.h"
#include "source.h"
#include "track.h"

/* A clock less MONOTONIC: constant between steps, known to lie between two bounds that close in with every look. */
struct vdso_gap {
	bool known;
	int64_t low_ns;
	int64_t high_ns;
};

struct vdso_view {
	const struct vdso_source *source;
	struct vdso_time wall; /* the session's offset of the wall clocks */
	struct vdso_track mono, raw;
	struct vdso_gap gap[VDSO_CLOCK_IDS];
	uint64_t last_counter;
};

static inline uint64_t vdso_view_counter(const struct vdso_view *view)
{
	return view->source->counter(view->source->context);
}

/* The kernel's clock now, in ns. */
uint64_t vdso_view_clock(const struct vdso_view *view, unsigned id);

/* Counts in so many ns. The track of MONOTONIC must have a slope. */
static inline uint64_t vdso_view_counts(const struct vdso_view *view, double ns)
{
	return (uint64_t)(ns / view->mono.slope);
}

static inline const struct vdso_track *vdso_view_track(const struct vdso_view *view, unsigned id)
{
	return id == 4u ? &view->raw : &view->mono;
}

/* The tightest of some reads of the clock between two of the counter. -ERANGE: the counter went back. */
int vdso_view_sample(struct vdso_view *view, unsigned id, unsigned reads, struct vdso_sample *ret);

/* One more sample on both tracks. -ERANGE as above. */
int vdso_view_look(struct vdso_view *view);

/* Closes in on the gap. True: the clock has been stepped since, and the bounds are new. */
bool vdso_view_look_at_gap(struct vdso_view *view, unsigned id);

/* Drops the tracks, and takes the counter as it is now, even if that is less than before. */
void vdso_view_forget(struct vdso_view *view);

/* What the clock has beyond its track: the gap, and the session's offset. */
struct vdso_time vdso_view_beyond(const struct vdso_view *view, unsigned id);

/* What a counter line lacks of the clock at `at`, in ns. */
double vdso_view_error(const struct vdso_view *view, unsigned id, const struct vdso_line *line, uint64_t at);

/* A line that starts `above` ns above the clock at `at`, with `slope` ns a count. */
struct vdso_line vdso_view_line(const struct vdso_view *view, unsigned id, uint64_t at, double above, double slope);

/* ns a count as a counter line's rate. */
uint64_t vdso_view_rate(double slope);

#endif
