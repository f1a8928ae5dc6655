#include "transform.h"

#include <errno.h>
#include <string.h>

#define NSEC ((int64_t)VDSO_NSEC_PER_SEC)
#define NSEC_SHIFTED ((uint64_t)VDSO_NSEC_PER_SEC << VDSO_COUNTER_SHIFT)
#define PUBLISH_TRIES 200

bool vdso_clock_is_wall(int id)
{
	return id == VDSO_ID_REALTIME || id == VDSO_ID_REALTIME_COARSE || id == VDSO_ID_REALTIME_ALARM || id == VDSO_ID_TAI;
}

int vdso_clock_base(int id)
{
	switch (id) {
	case VDSO_ID_REALTIME_COARSE:
	case VDSO_ID_REALTIME_ALARM:
		return VDSO_ID_REALTIME;
	case VDSO_ID_MONOTONIC_COARSE:
		return VDSO_ID_MONOTONIC;
	case VDSO_ID_BOOTTIME_ALARM:
		return VDSO_ID_BOOTTIME;
	default:
		return id;
	}
}

struct vdso_page_shape vdso_clock_shape(void)
{
	return (struct vdso_page_shape){
		.slots = VDSO_CLOCK_SLOTS,
		.record_size = sizeof(struct vdso_clock_record),
		.schema_hash = VDSO_CLOCK_SCHEMA,
	};
}

struct vdso_time vdso_time_add(struct vdso_time time, int64_t sec, int64_t nsec)
{
	int64_t rest = nsec % NSEC + (int64_t)time.nsec;

	sec += nsec / NSEC;
	if (rest < 0) {
		rest += NSEC;
		sec--;
	} else if (rest >= NSEC) {
		rest -= NSEC;
		sec++;
	}
	return (struct vdso_time){.sec = time.sec + sec, .nsec = (uint64_t)rest};
}

int vdso_time_compare(struct vdso_time a, struct vdso_time b)
{
	if (a.sec != b.sec)
		return a.sec < b.sec ? -1 : 1;
	return a.nsec < b.nsec ? -1 : a.nsec > b.nsec;
}

uint64_t vdso_time_input(struct vdso_time time)
{
	return (uint64_t)time.sec * VDSO_NSEC_PER_SEC + time.nsec;
}

void vdso_record_identity(struct vdso_clock_record *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
		if (vdso_clock_is_wall(id))
			ret->clock[id].flags = VDSO_CLOCK_SETTABLE;
}

void vdso_record_offset(struct vdso_clock_record *record, int64_t sec, int64_t nsec)
{
	struct vdso_time offset = vdso_time_add((struct vdso_time){0}, sec, nsec);

	vdso_record_identity(record);
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
		if (vdso_clock_is_wall(id)) {
			record->clock[id].kind = VDSO_KIND_OFFSET;
			record->clock[id].offset = offset;
		}
}

static struct vdso_line line_from(struct vdso_time at, uint64_t in, uint64_t rate)
{
	return (struct vdso_line){.in = in, .sec = at.sec, .nsec = at.nsec, .rate = rate};
}

void vdso_clock_step(struct vdso_clock *clock, struct vdso_time now, struct vdso_time value, uint64_t rate)
{
	uint64_t in = vdso_time_input(now);

	if (rate == VDSO_RATE_ONE) {
		clock->kind = VDSO_KIND_OFFSET;
		clock->offset = vdso_time_add(value, -now.sec, -(int64_t)now.nsec);
		return;
	}
	clock->kind = VDSO_KIND_LINE;
	clock->takeover = in;
	clock->line[0] = line_from(value, in, 0);
	clock->line[1] = line_from(value, in, rate);
}

void vdso_record_spread(struct vdso_clock_record *record, int64_t gap, const struct vdso_time *first)
{
	const struct vdso_clock *real = &record->clock[VDSO_ID_REALTIME];
	struct vdso_clock *coarse = &record->clock[VDSO_ID_REALTIME_COARSE], *tai = &record->clock[VDSO_ID_TAI];

	record->clock[VDSO_ID_REALTIME_ALARM] = *coarse = *tai = *real;
	if (real->kind == VDSO_KIND_OFFSET && first != NULL) {
		coarse->kind = VDSO_KIND_FLOOR;
		coarse->floor = *first;
	}
	if (tai->kind != VDSO_KIND_LINE)
		return;
	tai->takeover += (uint64_t)(gap * NSEC);
	for (int i = 0; i < 2; i++) {
		tai->line[i].in += (uint64_t)(gap * NSEC);
		tai->line[i].sec += gap;
	}
}

struct vdso_time vdso_line_kernel(const struct vdso_line *line, uint64_t in)
{
	int64_t elapsed = (int64_t)(in - line->in);
	__int128 advance = ((__int128)elapsed * (__int128)line->rate) >> 32;

	if (advance > VDSO_ADVANCE_MAX)
		advance = VDSO_ADVANCE_MAX;
	if (advance < ~VDSO_ADVANCE_MAX)
		advance = ~VDSO_ADVANCE_MAX;
	return vdso_time_add((struct vdso_time){.sec = line->sec, .nsec = line->nsec}, 0, (int64_t)advance);
}

struct vdso_time vdso_line_shifted(const struct vdso_line *line, uint64_t counter)
{
	uint64_t nsec = line->nsec + (counter - line->in) * line->rate;

	return (struct vdso_time){.sec = line->sec + (int64_t)(nsec / NSEC_SHIFTED), .nsec = nsec % NSEC_SHIFTED};
}

struct vdso_time vdso_line_counter(const struct vdso_line *line, uint64_t counter)
{
	struct vdso_time time = vdso_line_shifted(line, counter);

	time.nsec >>= VDSO_COUNTER_SHIFT;
	return time;
}

static struct vdso_time moved(const struct vdso_clock *clock, struct vdso_time kernel)
{
	return vdso_time_add(kernel, clock->offset.sec, (int64_t)clock->offset.nsec);
}

static struct vdso_time at_least_floor(const struct vdso_clock *clock, struct vdso_time time)
{
	if (vdso_time_compare(clock->floor, time) <= 0)
		return time;
	if ((clock->flags & VDSO_CLOCK_SETTABLE) != 0 &&
	    vdso_time_compare(clock->floor, vdso_time_add(time, 1, 0)) > 0)
		return time;
	return clock->floor;
}

struct vdso_time vdso_clock_evaluate(const struct vdso_clock *clock, struct vdso_time kernel, uint64_t counter)
{
	uint64_t in = vdso_time_input(kernel);

	switch (clock->kind) {
	case VDSO_KIND_OFFSET:
		return moved(clock, kernel);
	case VDSO_KIND_LINE:
		return vdso_line_kernel(&clock->line[(int64_t)(in - clock->takeover) >= 0], in);
	case VDSO_KIND_COUNTER:
		if (counter - clock->line[0].in < clock->span)
			return vdso_line_counter(&clock->line[counter >= clock->takeover], counter);
		return at_least_floor(clock, moved(clock, kernel));
	case VDSO_KIND_FLOOR:
		return at_least_floor(clock, moved(clock, kernel));
	default:
		return kernel;
	}
}

int vdso_clock_reach(const struct vdso_clock *clock, struct vdso_time kernel, struct vdso_time at, struct vdso_time *ret)
{
	const struct vdso_line *line = &clock->line[1];
	struct vdso_time shown = vdso_clock_evaluate(clock, kernel, 0);
	uint64_t in = vdso_time_input(kernel);
	__int128 ns, wait;

	if (clock->kind != VDSO_KIND_LINE) {
		*ret = at;
		if (clock->kind != VDSO_KIND_JUMP)
			*ret = vdso_time_add(at, -clock->offset.sec, -(int64_t)clock->offset.nsec);
		return 0;
	}
	if (vdso_time_compare(at, shown) <= 0) {
		*ret = vdso_time_add(kernel, at.sec - shown.sec, (int64_t)at.nsec - (int64_t)shown.nsec);
		return 0;
	}
	/* Until the second line takes over, what lies before its beginning is on the first. */
	if ((int64_t)(in - clock->takeover) < 0 &&
	    vdso_time_compare(at, (struct vdso_time){line->sec, line->nsec}) < 0)
		line = &clock->line[0];
	/* Less than 0 where the host's clock has been set back to before the line's beginning. */
	ns = ((__int128)at.sec - line->sec) * NSEC + (int64_t)at.nsec - (int64_t)line->nsec;
	if (line->rate == 0 || (ns < 0 ? -ns : ns) >> 94 != 0)
		return 1;
	/* Towards 0: that is later for what is less, and the others are given one more. */
	wait = ns * ((__int128)1 << 32) / line->rate + (ns >= 0);
	if (wait > INT64_MAX || wait < -INT64_MAX)
		return 1;
	in = line->in + (uint64_t)wait;
	*ret = (struct vdso_time){.sec = (int64_t)(in / VDSO_NSEC_PER_SEC), .nsec = in % VDSO_NSEC_PER_SEC};
	return 0;
}

/* False: it has none. */
static bool quick_of(const struct vdso_line *line, struct vdso_quick *ret)
{
	const __int128 second = (__int128)VDSO_QUICK_SECOND;
	int64_t in = (int64_t)line->in / NSEC - ((int64_t)line->in % NSEC < 0);
	/* From there to line->in, in 2^-32 ns; less than 2^83. */
	__int128 way = (__int128)((int64_t)line->in - in * NSEC) * line->rate, rest = ((__int128)line->nsec << 32) - way;
	int64_t back = (int64_t)(rest / second) - (rest % second < 0);

	if (line->rate >= VDSO_QUICK_RATE_MAX || __builtin_add_overflow(line->sec, back, &ret->sec))
		return false;
	ret->in = in;
	ret->rest = (uint64_t)(rest - back * second);
	ret->part = (uint64_t)(((unsigned __int128)ret->rest << VDSO_QUICK_BITS) / VDSO_QUICK_SECOND);
	ret->step = (line->rate << (VDSO_QUICK_BITS - 32)) / VDSO_NSEC_PER_SEC;
	return true;
}

static void quicken(struct vdso_clock_record *record)
{
	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id++) {
		struct vdso_clock *clock = &record->clock[id];

		clock->flags &= ~VDSO_CLOCK_QUICK;
		if (clock->kind == VDSO_KIND_LINE && quick_of(&clock->line[1], &clock->quick))
			clock->flags |= VDSO_CLOCK_QUICK;
	}
}

int vdso_clock_publish(struct vdso_page *page, struct vdso_clock_record *record, bool wake)
{
	quicken(record);
	return vdso_page_publish(page, record, wake);
}

int vdso_clock_stage(struct vdso_page *page, struct vdso_clock_record *record)
{
	quicken(record);
	return vdso_page_stage(page, record);
}

static bool pending(const struct vdso_clock *clock, uint64_t in)
{
	return clock->kind == VDSO_KIND_LINE && (int64_t)(in - clock->takeover) < 0;
}

int vdso_clock_set_rate(const struct vdso_clock *clock, uint64_t in, uint64_t rate, uint64_t lead,
			struct vdso_clock *ret)
{
	struct vdso_clock next = *clock;

	if (clock->kind == VDSO_KIND_OFFSET) {
		struct vdso_time zero = {.sec = (int64_t)(in / VDSO_NSEC_PER_SEC), .nsec = in % VDSO_NSEC_PER_SEC};

		next.kind = VDSO_KIND_LINE;
		next.line[0] = line_from(vdso_time_add(zero, clock->offset.sec, (int64_t)clock->offset.nsec), in,
					 VDSO_RATE_ONE);
	} else if (clock->kind != VDSO_KIND_LINE) {
		return -EINVAL;
	} else if (!pending(clock, in)) {
		next.line[0] = clock->line[1];
	} else if (clock->takeover - in <= lead / 2) {
		/* Some reader will be on its second line before anything published now is seen. */
		return -EAGAIN;
	}
	next.takeover = in + lead;
	next.line[1] = line_from(vdso_line_kernel(&next.line[0], next.takeover), next.takeover, rate);
	*ret = next;
	return 0;
}

int vdso_clock_bend(const struct vdso_clock *clock, uint64_t in, uint64_t rate, uint64_t lead, struct vdso_clock *ret,
		    uint64_t *latest)
{
	int err = vdso_clock_set_rate(clock, in, rate, lead, ret);

	*latest = in + lead / 2;
	/* Forgetting a takeover is only good for as long as it is well ahead. */
	if (err == 0 && pending(clock, in) && (int64_t)(clock->takeover - lead / 4 - *latest) < 0)
		*latest = clock->takeover - lead / 4;
	return err;
}

static bool in_time(const struct vdso_source *source, const uint64_t *latest)
{
	for (int base = 0; base < (int)VDSO_CLOCK_IDS; base++) {
		struct vdso_time now;

		if (latest[base] != 0 && (source->clock(source->context, base, &now) != 0 ||
					  (int64_t)(vdso_time_input(now) - latest[base]) > 0))
			return false;
	}
	return true;
}

int vdso_clock_publish_ahead(struct vdso_page *page, const struct vdso_source *source, vdso_prepare *prepare, void *context,
			     uint64_t lead_ns)
{
	struct vdso_clock_record old, next;
	uint64_t version;

	if (page->header->record_size != sizeof(old))
		return -EINVAL;
	if (vdso_page_get(page, 0, &old, &version) != VDSO_PAGE_OK)
		return -ENODATA;
	for (int tries = 0; tries < PUBLISH_TRIES; tries++) {
		uint64_t latest[VDSO_CLOCK_IDS] = {0};
		int err;

		next = old;
		err = prepare(context, &old, lead_ns, &next, latest);
		if (err == -EAGAIN) {
			source->sleep(source->context, lead_ns / 8);
			continue;
		}
		if (err != 0 || memcmp(&next, &old, sizeof(next)) == 0)
			return err;
		err = vdso_clock_stage(page, &next);
		if (err != 0)
			return err;
		if (in_time(source, latest))
			/* Whoever waits does so for the clocks. */
			return vdso_page_finish(page, memcmp(next.clock, old.clock, sizeof(next.clock)) != 0);
	}
	return -ETIMEDOUT;
}
