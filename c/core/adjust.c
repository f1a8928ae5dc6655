#include "adjust.h"

#include <errno.h>
#include <string.h>

#include "transform.h"

#define NSEC ((int64_t)VDSO_NSEC_PER_SEC)

/* A reader that has seen a JUMP looks at nothing afterwards: it is given this long to have come back before the clock becomes
 * a line. One that is stopped between the two for longer comes back with the host's time, once. */
#define GRACE_NS UINT64_C(50000000)

/* Until the coarse clocks, which lag by up to a tick of 10 ms, are past a takeover as well. */
#define SETTLE_STEP_NS UINT64_C(1000000)
#define SETTLE_STEPS 50

/* An advance of 2^60 ns is 36 years; 2^62, 146, end the line. */
#define RENEW_NS ((__int128)1 << 60)

static const int own_ids[] = {VDSO_ID_MONOTONIC,      VDSO_ID_MONOTONIC_COARSE, VDSO_ID_RAW,
			      VDSO_ID_BOOTTIME, VDSO_ID_BOOTTIME_ALARM};

#define LENGTH(array) (sizeof(array) / sizeof(array[0]))

static struct vdso_time difference(struct vdso_time a, struct vdso_time b)
{
	return vdso_time_add(a, -b.sec, -(int64_t)b.nsec);
}

static struct vdso_time sum(struct vdso_time a, struct vdso_time b)
{
	return vdso_time_add(a, b.sec, (int64_t)b.nsec);
}

static uint64_t rate_of(const struct vdso_clock *clock)
{
	return clock->kind == VDSO_KIND_LINE ? clock->line[1].rate : VDSO_RATE_ONE;
}

static uint64_t thawed(const struct vdso_clock *clock)
{
	return rate_of(clock) != 0 ? rate_of(clock) : clock->thaw != 0 ? clock->thaw : VDSO_RATE_ONE;
}

static uint64_t wanted_rate(const struct vdso_clock *clock, const struct vdso_adjustment *a)
{
	return a->how == VDSO_RATE_SET ? a->rate : a->how == VDSO_RATE_THAW ? thawed(clock) : rate_of(clock);
}

bool vdso_adjust_is_counter(const struct vdso_clock_record *record)
{
	uint32_t kind = record->clock[VDSO_ID_REALTIME].kind;

	return kind == VDSO_KIND_COUNTER || kind == VDSO_KIND_FLOOR;
}

static bool has_all(const struct vdso_clock_record *record)
{
	return !vdso_adjust_is_counter(record) && record->clock[VDSO_ID_MONOTONIC].kind != VDSO_KIND_JUMP;
}

/* A clock that nobody has moved is one that is moved by nothing. */
static struct vdso_clock as_moved(const struct vdso_clock *clock)
{
	struct vdso_clock ret = *clock;

	if (ret.kind == VDSO_KIND_JUMP) {
		ret.kind = VDSO_KIND_OFFSET;
		ret.offset = (struct vdso_time){0};
	}
	return ret;
}

/* TAI less REALTIME, in whole seconds, as the kernel has it; a clock's own line keeps to what it began with. */
static int64_t tai_gap(const struct vdso_clock_record *old, const struct vdso_source *source, bool step)
{
	const struct vdso_clock *real = &old->clock[VDSO_ID_REALTIME], *tai = &old->clock[VDSO_ID_TAI];
	struct vdso_time a, b;

	if (!step && real->kind == VDSO_KIND_LINE && tai->kind == VDSO_KIND_LINE)
		return (int64_t)(tai->line[0].in - real->line[0].in) / NSEC;
	if (source->clock(source->context, VDSO_ID_REALTIME, &a) != 0 ||
	    source->clock(source->context, VDSO_ID_TAI, &b) != 0)
		return 0;
	a = vdso_time_add(difference(b, a), 0, NSEC / 2);
	return a.sec;
}

/* The view that lags, by up to a tick; the clock itself where it has none. */
static int coarse_of(int base)
{
	return base == VDSO_ID_REALTIME ? VDSO_ID_REALTIME_COARSE : base == VDSO_ID_MONOTONIC ? VDSO_ID_MONOTONIC_COARSE : base;
}

/* A new rate from a lead on, and how long there is for making it known. */
static int change_rate(const struct vdso_clock_record *record, int base, const struct vdso_source *source, uint64_t rate,
		       uint64_t lead, struct vdso_clock *ret, uint64_t *latest)
{
	const struct vdso_clock *lagging = &record->clock[coarse_of(base)];
	struct vdso_clock moved = as_moved(&record->clock[base]);
	struct vdso_time now, coarse;
	int err = source->clock(source->context, coarse_of(base), &coarse);

	if (err == 0)
		err = source->clock(source->context, base, &now);
	if (err != 0)
		return err;
	/* Who reads the coarse clock is on the first line still, which a new record would no longer have. */
	if (moved.kind == VDSO_KIND_LINE && (int64_t)(vdso_time_input(now) - moved.takeover) >= 0 &&
	    (int64_t)(vdso_time_input(coarse) - moved.takeover) < 0)
		return -EAGAIN;
	/* Nor would it have the floor that a step has put under it. */
	if (lagging->kind == VDSO_KIND_FLOOR && vdso_time_compare(lagging->floor, sum(coarse, lagging->offset)) > 0)
		return -EAGAIN;
	return vdso_clock_bend(&moved, vdso_time_input(now), rate, lead, ret, latest);
}

static int adjust_wall(const struct vdso_clock_record *old, const struct vdso_source *source,
		       const struct vdso_adjustment *a, uint64_t lead, struct vdso_clock_record *ret, uint64_t *latest)
{
	struct vdso_clock clock = as_moved(&old->clock[VDSO_ID_REALTIME]), next = clock;
	uint64_t rate = wanted_rate(&clock, a);
	bool step = a->time != VDSO_TIME_KEEP;
	struct vdso_time now, value;
	int err = source->clock(source->context, VDSO_ID_REALTIME, &now);

	if (err != 0)
		return err;
	if (lead != 0 && !step) {
		if (rate == rate_of(&clock))
			return 0;
		err = change_rate(old, VDSO_ID_REALTIME, source, rate, lead, &next, &latest[VDSO_ID_REALTIME]);
		if (err != 0)
			return err;
	} else {
		value = vdso_clock_evaluate(&clock, now, 0);
		if (a->time == VDSO_TIME_AT)
			value = a->by;
		else if (a->time == VDSO_TIME_OFFSET)
			value = sum(now, a->by);
		else if (a->time == VDSO_TIME_SHIFT)
			value = sum(value, a->by);
		if (value.sec < VDSO_FIRST_SECOND || value.sec > VDSO_LAST_SECOND)
			return -ERANGE;
		vdso_clock_step(&next, now, value, rate);
	}
	next.thaw = rate != 0 ? 0 : thawed(&clock);
	ret->clock[VDSO_ID_REALTIME] = next;
	/* A shift or an offset names no time before which none may be shown, and a floor costs each coarse reading some ns. */
	vdso_record_spread(ret, tai_gap(old, source, step), a->time == VDSO_TIME_AT ? &value : NULL);
	return 0;
}

/* The clocks that are not the date's: a change of rate, from their own value on, and nothing else. */
static int adjust_own(const struct vdso_clock_record *old, const struct vdso_source *source,
		      const struct vdso_adjustment *a, uint64_t lead, struct vdso_clock_record *ret, uint64_t *latest)
{
	for (size_t i = 0; i < LENGTH(own_ids); i++) {
		const struct vdso_clock *clock = &old->clock[own_ids[i]];
		struct vdso_clock *next = &ret->clock[own_ids[i]];
		int base = vdso_clock_base(own_ids[i]), err;
		uint64_t rate = wanted_rate(clock, a);
		struct vdso_time now;

		if (rate == rate_of(clock))
			continue;
		if (base != own_ids[i]) { /* the same lines as its base, which comes before it */
			*next = ret->clock[base];
			continue;
		}
		err = source->clock(source->context, base, &now);
		if (err != 0)
			return err;
		if (lead == 0)
			vdso_clock_step(next, now, vdso_clock_evaluate(clock, now, 0), rate);
		else
			err = change_rate(old, base, source, rate, lead, next, &latest[base]);
		if (err != 0)
			return err;
		next->thaw = rate != 0 ? 0 : thawed(clock);
	}
	return 0;
}

struct work {
	const struct vdso_source *source;
	const struct vdso_adjustment *adjustment;
};

static int prepare(void *context, const struct vdso_clock_record *old, uint64_t lead, struct vdso_clock_record *ret,
		   uint64_t *latest)
{
	const struct work *w = context;
	int err = adjust_wall(old, w->source, w->adjustment, lead, ret, latest);

	if (err == 0 && has_all(old))
		err = adjust_own(old, w->source, w->adjustment, lead, ret, latest);
	if (w->adjustment->discipline != NULL)
		ret->discipline = *w->adjustment->discipline;
	return err;
}

int vdso_adjust_first(const struct vdso_source *source, bool all, const struct vdso_adjustment *a,
		      struct vdso_clock_record *ret)
{
	uint64_t latest[VDSO_CLOCK_IDS];
	struct vdso_clock_record plain;
	struct work work = {source, a};

	if (a->how == VDSO_RATE_SET && a->rate > VDSO_RATE_MAX)
		return -ERANGE;
	vdso_record_offset(&plain, 0, 0);
	for (size_t i = 0; all && i < LENGTH(own_ids); i++)
		plain.clock[own_ids[i]].kind = VDSO_KIND_OFFSET;
	*ret = plain;
	return prepare(&work, &plain, 0, ret, latest);
}

int vdso_adjust(struct vdso_page *page, const struct vdso_source *source, const struct vdso_adjustment *a)
{
	struct vdso_clock_record record;
	struct work work = {source, a};
	uint64_t version;
	int err;

	if (a->how == VDSO_RATE_SET && a->rate > VDSO_RATE_MAX)
		return -ERANGE;
	if (page->header->record_size != sizeof(record) || vdso_page_get(page, 0, &record, &version) != VDSO_PAGE_OK)
		return -ENODATA;
	if (vdso_adjust_is_counter(&record))
		return -EOPNOTSUPP;
	if (record.clock[VDSO_ID_REALTIME].kind == VDSO_KIND_JUMP && a->time == VDSO_TIME_KEEP &&
	    wanted_rate(&record.clock[VDSO_ID_REALTIME], a) != VDSO_RATE_ONE) {
		for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
			if (vdso_clock_is_wall(id))
				record.clock[id] = as_moved(&record.clock[id]);
		err = vdso_clock_publish(page, &record, true);
		if (err != 0)
			return err;
		source->sleep(source->context, GRACE_NS);
	}
	return vdso_clock_publish_ahead(page, source, prepare, &work, VDSO_LEAD_NS);
}

/* A line of rate 1 in force, as an offset. False: not in force yet. */
static bool settle_clock(struct vdso_clock *clock, struct vdso_time now)
{
	const struct vdso_line *line = &clock->line[1];
	struct vdso_time in = {.sec = (int64_t)(line->in / VDSO_NSEC_PER_SEC), .nsec = line->in % VDSO_NSEC_PER_SEC};

	if (clock->kind != VDSO_KIND_LINE || line->rate != VDSO_RATE_ONE)
		return true;
	if ((int64_t)(vdso_time_input(now) - clock->takeover) <= 0)
		return false;
	clock->offset = difference((struct vdso_time){line->sec, line->nsec}, in);
	clock->kind = VDSO_KIND_OFFSET;
	return true;
}

int vdso_adjust_settle(struct vdso_page *page, const struct vdso_source *source)
{
	struct vdso_clock_record record, next;
	uint64_t version;

	for (int step = 0; step < SETTLE_STEPS; step++) {
		bool settled = true;

		if (vdso_page_get(page, 0, &record, &version) != VDSO_PAGE_OK)
			return -ENODATA;
		next = record;
		for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++) {
			struct vdso_time now;

			/* An ALARM clock need not be there; its base says the same. */
			if (source->clock(source->context, id, &now) != 0 &&
			    source->clock(source->context, vdso_clock_base(id), &now) != 0)
				continue;
			settled = settle_clock(&next.clock[id], now) && settled;
		}
		if (settled)
			return memcmp(&next, &record, sizeof(next)) == 0 ? 0 : vdso_clock_publish(page, &next, true);
		source->sleep(source->context, SETTLE_STEP_NS);
	}
	return -ETIMEDOUT;
}

static bool is_old(const struct vdso_clock *clock, uint64_t in)
{
	__int128 advance = (__int128)(int64_t)(in - clock->line[1].in) * (__int128)clock->line[1].rate >> 32;

	return clock->kind == VDSO_KIND_LINE && advance > RENEW_NS;
}

static int prepare_renewal(void *context, const struct vdso_clock_record *old, uint64_t lead, struct vdso_clock_record *ret,
			   uint64_t *latest)
{
	const struct vdso_source *source = context;
	struct vdso_time now;
	int err;

	for (int base = 0; base < (int)VDSO_CLOCK_IDS; base++) {
		const struct vdso_clock *clock = &old->clock[base];

		if (vdso_clock_base(base) != base || base == VDSO_ID_TAI || clock->kind != VDSO_KIND_LINE)
			continue;
		err = source->clock(source->context, base, &now);
		if (err != 0)
			return err;
		if (!is_old(clock, vdso_time_input(now)))
			continue;
		err = change_rate(old, base, source, clock->line[1].rate, lead, &ret->clock[base], &latest[base]);
		if (err != 0)
			return err;
		if (base == VDSO_ID_REALTIME)
			vdso_record_spread(ret, tai_gap(old, source, false), NULL);
		for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
			if (vdso_clock_base(id) == base)
				ret->clock[id] = ret->clock[base];
	}
	return 0;
}

int vdso_adjust_renew(struct vdso_page *page, const struct vdso_source *source)
{
	return vdso_clock_publish_ahead(page, source, prepare_renewal, (void *)(uintptr_t)source, VDSO_LEAD_NS);
}

bool vdso_adjust_wants_renewal(const struct vdso_clock_record *record)
{
	/* Twice as fast takes 18 years to the limit; nobody waits for that. */
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
		if (record->clock[id].kind == VDSO_KIND_LINE && record->clock[id].line[1].rate > 2 * VDSO_RATE_ONE)
			return true;
	return false;
}

int vdso_adjust_look(const struct vdso_clock_record *record, const struct vdso_source *source, struct vdso_adjusted *ret)
{
	const struct vdso_clock *clock = &record->clock[VDSO_ID_REALTIME];
	int err = source->clock(source->context, VDSO_ID_REALTIME, &ret->host);

	if (err != 0)
		return err;
	ret->all = has_all(record);
	ret->counter = vdso_adjust_is_counter(record);
	ret->rate = rate_of(clock);
	ret->thawed = thawed(clock);
	/* A keeper's line is the kernel's clock and the offset, but for some ns. */
	ret->now = clock->kind == VDSO_KIND_JUMP ? ret->host :
		   ret->counter ? sum(ret->host, clock->offset) : vdso_clock_evaluate(clock, ret->host, 0);
	ret->discipline = record->discipline;
	ret->moved = vdso_time_compare(ret->now, ret->host) != 0 || ret->rate != VDSO_RATE_ONE;
	return 0;
}
