#include "resolution.h"

#include <errno.h>
#include <time.h>

#define STEPS_ENOUGH 1000u /* of a clock that is finer than a read: some 20 us */
#define STEPS_COARSE 2u    /* one may be of two ticks, while we did not run */
#define READS_BETWEEN 64u  /* looks at the limit */
#define COARSE_NS 100000   /* a clock whose least step in so many reads is this has ticks */

static int64_t read_ns(int clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now) != 0)
		return -1;
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t vdso_resolution_step(int clock, uint64_t limit_ns)
{
	int64_t start = read_ns(CLOCK_MONOTONIC), last = read_ns(clock), least = 0;
	unsigned steps = 0;

	if (last < 0)
		return -EINVAL;
	while (steps < (least < COARSE_NS ? STEPS_ENOUGH : STEPS_COARSE) &&
	       (uint64_t)(read_ns(CLOCK_MONOTONIC) - start) < limit_ns)
		for (unsigned i = 0; i < READS_BETWEEN; i++) {
			int64_t now = read_ns(clock), step = now - last;

			last = now;
			if (step <= 0) /* it stands still, or was set back */
				continue;
			steps++;
			if (least == 0 || step < least)
				least = step;
		}
	return least;
}
