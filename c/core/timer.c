#include "timer.h"

#include <stdint.h>

#include "transform.h"

#define NSEC ((int64_t)VDSO_NSEC_PER_SEC)

/* Of the two readings between which a timer is asked for its rest, beyond what they bracket. */
#define SLACK_NS 1000

/* No interval of a frozen clock's timer ends before: 30 days. */
#define SILENCE_NS (30 * 86400 * NSEC)

typedef __int128 wide; /* nanoseconds, of any time that a timespec holds */

static wide ns_of(const struct timespec *t)
{
	return (wide)t->tv_sec * NSEC + t->tv_nsec;
}

static wide ns_of_time(struct vdso_time t)
{
	return (wide)t.sec * NSEC + (int64_t)t.nsec;
}

static struct timespec timespec_of(wide ns)
{
	const wide never = (wide)VDSO_TIMER_NEVER_S * NSEC;

	if (ns > never)
		ns = never;
	return (struct timespec){.tv_sec = (time_t)(ns / NSEC), .tv_nsec = (long)(ns % NSEC)};
}

static bool is_valid(const struct timespec *t)
{
	return t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < NSEC;
}

bool vdso_timer_is_valid(const struct itimerspec *setting)
{
	return is_valid(&setting->it_value) && is_valid(&setting->it_interval);
}

bool vdso_timer_is_none(const struct itimerspec *setting)
{
	return setting->it_value.tv_sec == 0 && setting->it_value.tv_nsec == 0;
}

/* So much of the clock's time in the host's, at a rate in 32.32 that is not 0. */
static wide unscaled(wide ns, uint64_t rate)
{
	const wide most = (wide)1 << 94; /* of ns, that can still be shifted */

	return ((ns < most ? ns : most) << 32) / rate;
}

/* The clock has passed it: expires at once, and counts what it has missed since. */
static void translate_past(uint64_t rate, wide since, wide now, wide interval, struct itimerspec *ret)
{
	wide missed = interval != 0 ? since / interval : 0;
	wide step = 0, at = now;

	if (interval != 0 && rate != 0) {
		step = unscaled(interval, rate);
		step += step == 0;
		if (missed > (now - 1) / step) /* no host's time lies so far back */
			missed = (now - 1) / step;
		at = now - missed * step - unscaled(since % interval, rate) % step;
	} else if (interval != 0) {
		/* It counts them, and then waits: the next one is as far off as each of them has to be back. So of more than
		 * some hundred it is told fewer: a clock that stands still is to be silent. */
		if (missed > now / SILENCE_NS - 1)
			missed = now > SILENCE_NS ? now / SILENCE_NS - 1 : 0;
		step = now / (missed + 1);
		at = now - missed * step;
	}
	ret->it_value = timespec_of(at > 0 ? at : 1); /* 0 would stop the timer */
	ret->it_interval = timespec_of(step);
}

void vdso_timer_translate(const struct vdso_clock *clock, struct vdso_time now, const struct itimerspec *wanted,
			  struct itimerspec *ret)
{
	const uint64_t rate = clock->kind == VDSO_KIND_LINE ? clock->line[1].rate : VDSO_RATE_ONE;
	const struct vdso_time at = {.sec = wanted->it_value.tv_sec, .nsec = (uint64_t)wanted->it_value.tv_nsec};
	wide interval = ns_of(&wanted->it_interval), since;
	struct vdso_time shown, host;

	*ret = *wanted;
	if (clock->kind == VDSO_KIND_JUMP)
		return;
	shown = clock->kind == VDSO_KIND_LINE ? vdso_clock_evaluate(clock, now, 0) :
						vdso_time_add(now, clock->offset.sec, (int64_t)clock->offset.nsec);
	since = ns_of_time(shown) - ns_of_time(at);
	if (since >= 0) {
		translate_past(rate, since, ns_of_time(now), interval, ret);
		return;
	}
	if (vdso_clock_reach(clock, now, at, &host) != 0 || host.sec >= VDSO_TIMER_NEVER_S)
		host = (struct vdso_time){.sec = VDSO_TIMER_NEVER_S};
	ret->it_value = (struct timespec){.tv_sec = host.sec, .tv_nsec = (long)host.nsec};
	if (interval != 0 && rate != 0 && rate != VDSO_RATE_ONE) {
		wide step = unscaled(interval, rate);

		ret->it_interval = timespec_of(step + (step == 0));
	}
}

bool vdso_timer_is_still(const struct itimerspec *armed, const struct itimerspec *left, struct vdso_time before,
			 struct vdso_time after, struct itimerspec *wanted)
{
	wide rest = ns_of(&left->it_value), first = ns_of(&armed->it_value), step = ns_of(&armed->it_interval), gone = 0;
	wide earliest = ns_of_time(before) + rest - SLACK_NS, latest = ns_of_time(after) + rest + SLACK_NS;

	if (rest == 0 || ns_of(&left->it_interval) != step)
		return false;
	if (step != 0 && latest > first)
		gone = (latest - first) / step;
	if (first + gone * step < earliest || first + gone * step > latest)
		return false;
	wanted->it_value = timespec_of(ns_of(&wanted->it_value) + gone * ns_of(&wanted->it_interval));
	return true;
}

bool vdso_timer_is_due(const struct itimerspec *armed, struct vdso_time now)
{
	return ns_of(&armed->it_value) <= ns_of_time(now);
}

void vdso_timer_step_back(struct itimerspec *wanted)
{
	wide at = ns_of(&wanted->it_value) - ns_of(&wanted->it_interval);

	wanted->it_value = timespec_of(at > 0 ? at : 1);
}
