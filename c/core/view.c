#include "view.h"

#include <errno.h>

#include "transform.h"

#define NSEC ((int64_t)VDSO_NSEC_PER_SEC)
#define SHIFTED ((double)(UINT64_C(1) << VDSO_COUNTER_SHIFT))

#define SAMPLES 24 /* reads, of which the tightest counts */
#define SAMPLES_RAW 8
#define GAP_READS 4

uint64_t vdso_view_clock(const struct vdso_view *view, unsigned id)
{
	struct vdso_time now = {0};

	view->source->clock(view->source->context, (int)id, &now);
	return vdso_time_input(now);
}

int vdso_view_sample(struct vdso_view *view, unsigned id, unsigned reads, struct vdso_sample *ret)
{
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < reads; i++) {
		uint64_t before = vdso_view_counter(view), ns = vdso_view_clock(view, id), after = vdso_view_counter(view);

		if (before < view->last_counter || after < before)
			return -ERANGE;
		view->last_counter = after;
		if (after - before < best) {
			best = after - before;
			ret->counter = before + best / 2;
			ret->ns = ns;
		}
	}
	ret->width = (double)best * (view->mono.slope != 0 ? view->mono.slope : 1.0);
	return 0;
}

bool vdso_view_look_at_gap(struct vdso_view *view, unsigned id)
{
	struct vdso_gap *gap = &view->gap[id], old = *gap, seen;

	do {
		uint64_t before = vdso_view_clock(view, VDSO_ID_MONOTONIC);

		seen = (struct vdso_gap){.known = true, .low_ns = INT64_MIN, .high_ns = INT64_MAX};
		for (int i = 0; i < GAP_READS; i++) {
			uint64_t ns = vdso_view_clock(view, id), after = vdso_view_clock(view, VDSO_ID_MONOTONIC);

			/* One ns either way for what the kernel rounds off. */
			if ((int64_t)(ns - after) - 1 > seen.low_ns)
				seen.low_ns = (int64_t)(ns - after) - 1;
			if ((int64_t)(ns - before) + 1 < seen.high_ns)
				seen.high_ns = (int64_t)(ns - before) + 1;
			before = after;
		}
	} while (seen.low_ns > seen.high_ns); /* stepped between the reads */
	*gap = seen;
	if (!old.known)
		return false;
	if (seen.low_ns > old.high_ns || seen.high_ns < old.low_ns)
		return true;
	if (old.low_ns > gap->low_ns)
		gap->low_ns = old.low_ns;
	if (old.high_ns < gap->high_ns)
		gap->high_ns = old.high_ns;
	return false;
}

struct vdso_time vdso_view_beyond(const struct vdso_view *view, unsigned id)
{
	struct vdso_time time = {0};

	if (vdso_clock_is_wall((int)id))
		time = view->wall;
	if (view->gap[id].known)
		time = vdso_time_add(time, 0, view->gap[id].low_ns + (view->gap[id].high_ns - view->gap[id].low_ns) / 2);
	return time;
}

static struct vdso_time at_newest(const struct vdso_view *view, unsigned id)
{
	struct vdso_time more = vdso_view_beyond(view, id);
	uint64_t ns = vdso_track_newest(vdso_view_track(view, id))->ns;

	return vdso_time_add(vdso_time_add((struct vdso_time){0}, more.sec, (int64_t)more.nsec), (int64_t)(ns / NSEC),
			     (int64_t)(ns % NSEC));
}

double vdso_view_error(const struct vdso_view *view, unsigned id, const struct vdso_line *line, uint64_t at)
{
	struct vdso_time expected = at_newest(view, id), actual = vdso_line_shifted(line, at);

	return (double)(expected.sec - actual.sec) * NSEC + (double)expected.nsec - (double)actual.nsec / SHIFTED +
	       vdso_track_ahead(vdso_view_track(view, id), at);
}

uint64_t vdso_view_rate(double slope)
{
	return slope > 0 ? (uint64_t)(slope * SHIFTED + 0.5) : 0;
}

struct vdso_line vdso_view_line(const struct vdso_view *view, unsigned id, uint64_t at, double above, double slope)
{
	double ahead = vdso_track_ahead(vdso_view_track(view, id), at) + above;
	int64_t whole = (int64_t)ahead - (ahead < (double)(int64_t)ahead);
	struct vdso_time time = vdso_time_add(at_newest(view, id), 0, whole);

	return (struct vdso_line){
		.in = at,
		.sec = time.sec,
		.nsec = (time.nsec << VDSO_COUNTER_SHIFT) + (uint64_t)((ahead - (double)whole) * SHIFTED),
		.rate = vdso_view_rate(slope),
	};
}

int vdso_view_look(struct vdso_view *view)
{
	struct vdso_sample mono, raw;
	int err = vdso_view_sample(view, VDSO_ID_MONOTONIC, SAMPLES, &mono);

	if (err == 0)
		err = vdso_view_sample(view, VDSO_ID_RAW, SAMPLES_RAW, &raw);
	if (err == 0) {
		vdso_track_add(&view->mono, &mono);
		vdso_track_add(&view->raw, &raw);
	}
	return err;
}

void vdso_view_forget(struct vdso_view *view)
{
	vdso_track_reset(&view->mono);
	vdso_track_reset(&view->raw);
	view->last_counter = 0;
	vdso_view_look(view);
}
