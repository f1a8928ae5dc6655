/* Changes of rate and nothing else, made of what every change is made of: vdso_clock_publish_ahead(). */
#ifndef VDSO_TESTS_RATES_H
#define VDSO_TESTS_RATES_H

#include <errno.h>
#include <stdbool.h>

#include "transform.h"

struct rates {
	const struct vdso_source *source;
	uint32_t clocks;
	uint64_t rate;
};

/* Whether the mask has a clock that shows the time of `base`. */
static bool names(uint32_t clocks, int base)
{
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
		if ((clocks >> id & 1) != 0 && vdso_clock_base(id) == base)
			return true;
	return false;
}

static int prepare_rates(void *context, const struct vdso_clock_record *old, uint64_t lead, struct vdso_clock_record *ret,
			 uint64_t *latest)
{
	const struct rates *r = context;

	for (int base = 0; base < (int)VDSO_CLOCK_IDS; base++) {
		struct vdso_time now;
		int err;

		if (!names(r->clocks, base))
			continue;
		err = r->source->clock(r->source->context, base, &now);
		if (err != 0)
			return err;
		for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++) {
			uint64_t until;

			if ((r->clocks >> id & 1) == 0 || vdso_clock_base(id) != base)
				continue;
			err = vdso_clock_bend(&old->clock[id], vdso_time_input(now), r->rate, lead, &ret->clock[id], &until);
			if (err != 0)
				return err;
			if (latest[base] == 0 || (int64_t)(until - latest[base]) < 0)
				latest[base] = until;
		}
	}
	return 0;
}

/*
 * Publishes the rate for all clocks in the mask (bit = id). Looks at the time again before the record becomes visible, and
 * starts over when less than half of the lead is left then. Clocks that show one time (vdso_clock_base) change at the same
 * moment and must be named together. lead_ns of at least VDSO_LEAD_NS. -ETIMEDOUT: the machine is too busy for the lead.
 */
static int publish_rate(struct vdso_page *page, const struct vdso_source *source, uint32_t clocks, uint64_t rate,
			uint64_t lead_ns)
{
	struct rates rates = {source, clocks, rate};

	if (lead_ns < VDSO_LEAD_NS || clocks == 0 || clocks >> VDSO_CLOCK_IDS != 0)
		return -EINVAL;
	return vdso_clock_publish_ahead(page, source, prepare_rates, &rates, lead_ns);
}

#endif
