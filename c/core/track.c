#include "track.h"

/* Beyond a sample's own width: jitter of where in its bracket the clock was read. */
#define JITTER_NS 25.0

static const struct vdso_sample *back(const struct vdso_track *track, unsigned steps)
{
	return &track->sample[(track->newest + VDSO_TRACK_SAMPLES - steps) % VDSO_TRACK_SAMPLES];
}

void vdso_track_reset(struct vdso_track *track)
{
	*track = (struct vdso_track){.cuts = track->cuts};
}

/* Least squares, weighted by the brackets' widths, all relative to the newest sample: doubles hold that exactly. */
static void fit(struct vdso_track *track)
{
	const struct vdso_sample *newest = back(track, 0), *oldest = back(track, track->count - 1);
	double guess, w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0, spread, correction;

	guess = (double)(newest->ns - oldest->ns) / (double)(newest->counter - oldest->counter);
	for (unsigned i = 0; i < track->count; i++) {
		const struct vdso_sample *sample = back(track, i);
		double x = -(double)(newest->counter - sample->counter);
		double y = -(double)(newest->ns - sample->ns) - guess * x;
		double width = sample->width + JITTER_NS;
		double weight = 1.0 / (width * width);

		w += weight;
		wx += weight * x;
		wy += weight * y;
		wxx += weight * x * x;
		wxy += weight * x * y;
	}
	spread = w * wxx - wx * wx;
	correction = spread > 0 ? (w * wxy - wx * wy) / spread : 0;
	track->slope = guess + correction;
	track->lift = (wy - correction * wx) / w;
	track->slope_error = (newest->width + oldest->width) / (double)(newest->ns - oldest->ns);
}

void vdso_track_add(struct vdso_track *track, const struct vdso_sample *sample)
{
	if (track->count != 0 && sample->counter <= vdso_track_newest(track)->counter)
		return;
	if (track->slope != 0) {
		double off = (double)(int64_t)(sample->ns - vdso_track_newest(track)->ns) -
			     vdso_track_ahead(track, sample->counter);
		double elapsed = (double)(int64_t)(sample->ns - vdso_track_newest(track)->ns);
		double allowed = sample->width / 2 + JITTER_NS + track->slope_error * elapsed;

		if (off > allowed || off < -allowed) {
			track->count = 1;
			track->cuts++;
		}
	}
	track->newest = (track->newest + 1) % VDSO_TRACK_SAMPLES;
	track->sample[track->newest] = *sample;
	if (track->count < VDSO_TRACK_SAMPLES)
		track->count++;
	if (track->count >= 2 && vdso_track_newest(track)->ns > back(track, track->count - 1)->ns)
		fit(track);
}
