#include "keeper.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transform.h"

#define RAW_READS 8
#define PUBLISH_TRIES 8

/* Above the kernel's clock when a line starts anew: covers what a fit over VDSO_KEEPER_FIT_NS can be wrong by. */
#define MARGIN_NS 500.0

/* The clocks that are MONOTONIC's line and a gap, and all that have lines. Both sets begin with REALTIME, id 0. */
#define GAPPED (1u << VDSO_ID_REALTIME | 1u << VDSO_ID_BOOTTIME | 1u << VDSO_ID_TAI)
#define KEPT (GAPPED | 1u << VDSO_ID_MONOTONIC | 1u << VDSO_ID_RAW)

static unsigned after(unsigned id, uint32_t clocks)
{
	do
		id++;
	while (id < VDSO_CLOCK_IDS && (clocks >> id & 1) == 0);
	return id;
}

/* ---- lines ---- */

static void set_end(struct vdso_clock *clock, uint64_t end)
{
	clock->span = end - clock->line[0].in;
	clock->floor = vdso_time_add(vdso_line_counter(&clock->line[1], end), 0, 1);
}

/* Goes on from the second line, which is in force by now, and bends towards the kernel's clock at the takeover. */
static void go_on(const struct vdso_keeper *k, unsigned id, uint64_t now, uint64_t takeover, struct vdso_clock *clock)
{
	const struct vdso_line old = clock->line[1];
	struct vdso_time there = vdso_line_shifted(&old, takeover);
	double bend = vdso_view_error(&k->view, id, &old, takeover) / (1.5 * (double)k->tick_ns);

	bend = bend > VDSO_KEEPER_SLEW ? VDSO_KEEPER_SLEW : bend < -VDSO_KEEPER_SLEW ? -VDSO_KEEPER_SLEW : bend;
	clock->line[0] = old;
	clock->line[1] = (struct vdso_line){
		.in = takeover,
		.sec = there.sec,
		.nsec = there.nsec,
		.rate = vdso_view_rate(vdso_view_track(&k->view, id)->slope * (1.0 + bend)),
	};
	clock->takeover = takeover;
	set_end(clock, now + vdso_view_counts(&k->view, VDSO_KEEPER_SPAN_NS));
}

/* A clock that was stepped: MONOTONIC's lines as they are, and the gap. */
static void rebase(const struct vdso_keeper *k, unsigned id, struct vdso_clock_record *record)
{
	struct vdso_clock *clock = &record->clock[id];
	const struct vdso_clock *mono = &record->clock[VDSO_ID_MONOTONIC];
	struct vdso_time more = vdso_view_beyond(&k->view, id);

	clock->takeover = mono->takeover;
	clock->span = mono->span;
	clock->floor = vdso_time_add(mono->floor, more.sec, (int64_t)more.nsec);
	for (int i = 0; i < 2; i++) {
		const struct vdso_line *from = &mono->line[i];
		uint64_t point = from->nsec & ((UINT64_C(1) << VDSO_COUNTER_SHIFT) - 1);
		struct vdso_time start = vdso_time_add(
			(struct vdso_time){.sec = from->sec, .nsec = from->nsec >> VDSO_COUNTER_SHIFT}, more.sec,
			(int64_t)more.nsec);

		clock->line[i] = (struct vdso_line){
			.in = from->in,
			.sec = start.sec,
			.nsec = (start.nsec << VDSO_COUNTER_SHIFT) | point,
			.rate = from->rate,
		};
	}
}

/* ---- publishing ---- */

static int publish(struct vdso_keeper *k, const struct vdso_clock_record *record)
{
	int err = vdso_page_publish(k->page, record, false);

	if (err == 0)
		k->record = *record;
	return err;
}

/* Publishes unless the counter is past `latest` by now (-EAGAIN). */
static int publish_until(struct vdso_keeper *k, const struct vdso_clock_record *record, uint64_t latest)
{
	int err = vdso_page_stage(k->page, record);

	if (err != 0)
		return err;
	if (vdso_view_counter(&k->view) > latest) {
		k->reanchored++;
		return -EAGAIN;
	}
	err = vdso_page_finish(k->page, false);
	if (err == 0)
		k->record = *record;
	return err;
}

/* Leaves the readers on the kernel's clock, above all that the lines can have told them. */
static void lose(struct vdso_keeper *k)
{
	struct vdso_clock_record next = k->record;

	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, KEPT)) {
		struct vdso_clock *clock = &next.clock[id];

		if (clock->kind == VDSO_KIND_COUNTER) {
			/* Nobody knows what was read on a counter that is wrong, but it was on the line: at most its end. */
			struct vdso_time end = vdso_line_counter(&clock->line[1], clock->line[0].in + clock->span);

			if (vdso_time_compare(clock->floor, end) < 0)
				clock->floor = end;
		} else if (clock->kind != VDSO_KIND_FLOOR) {
			clock->floor = (struct vdso_time){0};
		}
		clock->kind = VDSO_KIND_FLOOR;
	}
	publish(k, &next);
	k->state = VDSO_KEEPER_LOST;
	k->losses++;
	k->tick_ns = VDSO_KEEPER_FIRST_TICK_NS;
}

/* The same for a line that the kernel's clock has left while the counter is right: what it can have told by now is known,
 * and waiting for the end of the span would be waiting for nothing. */
static void lose_line(struct vdso_keeper *k)
{
	struct vdso_clock_record next = k->record;

	for (int i = 0; i < PUBLISH_TRIES; i++) {
		uint64_t soon = vdso_view_counter(&k->view) + vdso_view_counts(&k->view, VDSO_LEAD_NS);

		for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, KEPT)) {
			const struct vdso_clock *clock = &k->record.clock[id];

			next.clock[id].floor = vdso_line_counter(&clock->line[soon >= clock->takeover], soon);
			next.clock[id].kind = VDSO_KIND_FLOOR;
		}
		if (publish_until(k, &next, soon - vdso_view_counts(&k->view, VDSO_LEAD_NS) / 2) == 0)
			break;
	}
	lose(k);
}

static void give_up(struct vdso_keeper *k, const char *reason)
{
	lose(k);
	k->state = VDSO_KEEPER_OFF;
	k->tick_ns = VDSO_KEEPER_TICK_NS;
	snprintf(k->reason, sizeof(k->reason), "%s", reason);
}

/* A new line, from a takeover on that is ahead of every reader: until then they stay on the kernel's clock. */
static void rejoin(struct vdso_keeper *k)
{
	struct vdso_clock_record next = k->record;
	uint64_t now, takeover;

	if (k->view.mono.slope == 0 || k->view.raw.slope == 0)
		return;
	now = vdso_view_counter(&k->view);
	takeover = now + vdso_view_counts(&k->view, 2.0 * VDSO_LEAD_NS);
	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, KEPT)) {
		struct vdso_clock *clock = &next.clock[id];
		const struct vdso_track *track = vdso_view_track(&k->view, id);
		double margin = MARGIN_NS + 2 * vdso_track_newest(track)->width +
				(double)(k->view.gap[id].high_ns - k->view.gap[id].low_ns);
		/* Slow enough to be under the kernel's clock, or at it, when the span ends, should this keeper die now:
		 * the floor is of no help there, it is in force already and cannot be ahead. */
		double slope = track->slope *
			       (1.0 - 2.0 * (margin / VDSO_KEEPER_SPAN_NS + track->slope_error) - 1e-6);
		struct vdso_line reached = vdso_view_line(&k->view, id, now, 0, track->slope);

		if (vdso_clock_is_wall((int)id))
			clock->floor = (struct vdso_time){0};
		else if (vdso_time_compare(clock->floor, vdso_line_counter(&reached, now)) >= 0)
			return; /* the kernel's clock is not there yet */
		clock->line[0] = clock->line[1] = vdso_view_line(&k->view, id, takeover, margin, slope);
		clock->takeover = takeover;
		clock->span = vdso_view_counts(&k->view, VDSO_KEEPER_SPAN_NS);
		clock->kind = VDSO_KIND_COUNTER;
	}
	if (publish_until(k, &next, now + vdso_view_counts(&k->view, VDSO_LEAD_NS)) != 0)
		return; /* the next tick will */
	k->state = VDSO_KEEPER_LOCKED;
	k->tick_ns = VDSO_KEEPER_FIRST_TICK_NS;
}

/* ---- the life of a keeper ---- */

void vdso_keeper_init(struct vdso_keeper *ret, const struct vdso_source *source, struct vdso_page *page,
		      int64_t offset_sec, int64_t offset_nsec)
{
	*ret = (struct vdso_keeper){
		.view = {.source = source, .wall = vdso_time_add((struct vdso_time){0}, offset_sec, offset_nsec)},
		.page = page,
		.tick_ns = VDSO_KEEPER_FIRST_TICK_NS,
	};
}

int vdso_keeper_prepare(struct vdso_keeper *k)
{
	int err = vdso_view_look(&k->view);

	if (err != 0)
		snprintf(k->reason, sizeof(k->reason), "the counter goes backwards");
	return err;
}

static void first_record(struct vdso_keeper *k)
{
	bool moved = k->view.wall.sec != 0 || k->view.wall.nsec != 0;
	struct vdso_clock_record *record = &k->record;

	vdso_record_offset(record, k->view.wall.sec, (int64_t)k->view.wall.nsec);
	for (int id = 0; id < (int)VDSO_CLOCK_IDS && !moved; id++)
		record->clock[id].kind = VDSO_KIND_JUMP;
}

/* Every clock on a line, from now on: there are no readers yet. */
static int first_lines(struct vdso_keeper *k)
{
	struct vdso_clock_record next = k->record;
	uint64_t now = vdso_view_counter(&k->view);

	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, KEPT)) {
		struct vdso_clock *clock = &next.clock[id];

		clock->kind = VDSO_KIND_COUNTER;
		clock->line[0] = clock->line[1] = vdso_view_line(&k->view, id, now, 0, vdso_view_track(&k->view, id)->slope);
		clock->takeover = now;
		set_end(clock, now + vdso_view_counts(&k->view, VDSO_KEEPER_SPAN_NS));
	}
	k->state = VDSO_KEEPER_LOCKED;
	return publish(k, &next);
}

/* Whether the lines in the record hold long enough to go on from, and lie on the kernel's clocks. */
static bool lines_hold(const struct vdso_keeper *k, uint64_t now)
{
	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, KEPT)) {
		const struct vdso_clock *clock = &k->record.clock[id];

		if (clock->kind != VDSO_KIND_COUNTER || now - clock->line[0].in >= clock->span ||
		    clock->span - (now - clock->line[0].in) < vdso_view_counts(&k->view, (double)k->tick_ns))
			return false;
	}
	return true;
}

static bool lines_are_right(const struct vdso_keeper *k, uint64_t now)
{
	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, KEPT)) {
		const struct vdso_clock *clock = &k->record.clock[id];

		/* The walls are rebased when they are wrong. */
		if (!vdso_clock_is_wall((int)id) &&
		    fabs(vdso_view_error(&k->view, id, &clock->line[now >= clock->takeover], now)) > VDSO_KEEPER_ERROR_MAX_NS)
			return false;
	}
	return true;
}

/* By the lines in the record: what a look at the gaps reported may have been a predecessor's to publish. */
static void rebase_the_stepped(struct vdso_keeper *k, struct vdso_clock_record *record, uint64_t now)
{
	const struct vdso_clock *mono = &record->clock[VDSO_ID_MONOTONIC];
	double common = vdso_view_error(&k->view, VDSO_ID_MONOTONIC, &mono->line[now >= mono->takeover], now);

	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, GAPPED)) {
		const struct vdso_clock *clock = &record->clock[id];
		double off = vdso_view_error(&k->view, id, &clock->line[now >= clock->takeover], now) - common;

		/* Less is slewed. Only a clock that was set, or a suspended BOOTTIME, jumps. */
		if (fabs(off) > 1000 && (vdso_clock_is_wall((int)id) || off > 0)) {
			rebase(k, id, record);
			k->steps++;
		}
	}
}

int vdso_keeper_start(struct vdso_keeper *k)
{
	uint64_t since = vdso_view_clock(&k->view, VDSO_ID_MONOTONIC) - vdso_track_newest(&k->view.mono)->ns;
	const struct vdso_clock *mono;
	uint64_t version, until;
	int err;

	if (since < VDSO_KEEPER_FIT_NS)
		k->view.source->sleep(k->view.source->context, VDSO_KEEPER_FIT_NS - since);
	err = vdso_view_look(&k->view);
	if (err == 0 && (k->view.mono.slope < 0.05 || k->view.mono.slope > 1000 || k->view.raw.slope == 0 ||
			 fabs(k->view.mono.slope / k->view.raw.slope - 1) > 0.1))
		err = -EIO;
	if (err != 0) {
		snprintf(k->reason, sizeof(k->reason), err == -ERANGE ? "the counter goes backwards"
			 : "the counter does not run at a steady rate");
		return err;
	}
	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, GAPPED))
		vdso_view_look_at_gap(&k->view, id);
	if (vdso_page_get(k->page, 0, &k->record, &version) != VDSO_PAGE_OK) {
		first_record(k);
		return first_lines(k);
	}
	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, KEPT))
		if (vdso_clock_is_wall((int)id))
			k->record.clock[id].offset = k->view.wall;
	/* A predecessor that began anew and died: its lines are about to begin. */
	mono = &k->record.clock[VDSO_ID_MONOTONIC];
	until = mono->line[0].in - vdso_view_counter(&k->view);
	if (mono->kind == VDSO_KIND_COUNTER && until < vdso_view_counts(&k->view, VDSO_KEEPER_TICK_NS))
		k->view.source->sleep(k->view.source->context, (uint64_t)((double)until * k->view.mono.slope) + 1000);
	k->resumed = lines_hold(k, vdso_view_counter(&k->view)) && lines_are_right(k, vdso_view_counter(&k->view));
	if (k->resumed) {
		struct vdso_clock_record next = k->record;

		k->state = VDSO_KEEPER_LOCKED;
		rebase_the_stepped(k, &next, vdso_view_counter(&k->view));
		return publish(k, &next);
	}
	lose(k);
	rejoin(k);
	return 0;
}

/* What a tick's look at the clocks comes to. */
enum verdict { FINE, SUSPENDED, BROKEN };

static enum verdict look_around(struct vdso_keeper *k)
{
	const struct vdso_sample *before = vdso_track_newest(&k->view.raw);
	int64_t slept = k->view.gap[VDSO_ID_BOOTTIME].high_ns;
	struct vdso_sample raw;
	double elapsed, off;

	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, GAPPED))
		vdso_view_look_at_gap(&k->view, id);
	if (k->view.gap[VDSO_ID_BOOTTIME].low_ns - slept > VDSO_KEEPER_ERROR_MAX_NS)
		return SUSPENDED;
	if (vdso_view_sample(&k->view, VDSO_ID_RAW, RAW_READS, &raw) != 0)
		return BROKEN;
	/* RAW is not slewed: where it disagrees, it is the counter that has changed. */
	if (k->view.raw.count >= 2) {
		elapsed = (double)(raw.ns - before->ns);
		off = fabs(elapsed - vdso_track_ahead(&k->view.raw, raw.counter));
		if (off > VDSO_KEEPER_RATE_MAX * elapsed + raw.width + 10000 ||
		    off > VDSO_KEEPER_ERROR_MAX_NS + 2 * k->view.raw.slope_error * elapsed)
			return BROKEN;
	}
	return vdso_view_look(&k->view) == 0 ? FINE : BROKEN;
}

static void tick_locked(struct vdso_keeper *k)
{
	for (int i = 0; i < PUBLISH_TRIES; i++) {
		struct vdso_clock_record next = k->record;
		uint64_t now = vdso_view_counter(&k->view);
		uint64_t lead = vdso_view_counts(&k->view, (double)k->tick_ns / 2), takeover = now + lead;

		rebase_the_stepped(k, &next, now);
		if (now < next.clock[VDSO_ID_MONOTONIC].takeover) {
			/* The second line is not in force yet, so nothing can go on from it. */
			if (memcmp(&next, &k->record, sizeof(next)) != 0)
				publish(k, &next);
			return;
		}
		for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, KEPT))
			go_on(k, id, now, takeover, &next.clock[id]);
		if (publish_until(k, &next, takeover - lead / 2) != 0)
			continue;
		/* Between the look at the counter and the store of head lies an instant in which the machine may take this
		 * process off the processor for longer than the lead. It shows here, and cannot be undone. */
		if (vdso_view_counter(&k->view) > takeover)
			k->overtaken++;
		break;
	}
	k->tick_ns = k->tick_ns * 2 < VDSO_KEEPER_TICK_NS ? k->tick_ns * 2 : VDSO_KEEPER_TICK_NS;
}

void vdso_keeper_tick(struct vdso_keeper *k)
{
	enum verdict verdict;

	k->ticks++;
	vdso_page_beat(k->page, vdso_view_clock(&k->view, VDSO_ID_MONOTONIC));
	if (k->state == VDSO_KEEPER_OFF || k->state == VDSO_KEEPER_NEW)
		return;
	verdict = look_around(k);
	if (verdict == BROKEN) {
		give_up(k, "the counter no longer agrees with the kernel's clock");
		return;
	}
	if (verdict == SUSPENDED) {
		vdso_view_forget(&k->view);
		lose(k);
		return;
	}
	if (k->state == VDSO_KEEPER_LOST) {
		rejoin(k);
		return;
	}
	/* A takeover ahead is a rejoin's, whose lines have not begun. */
	if (vdso_view_counter(&k->view) < k->record.clock[VDSO_ID_MONOTONIC].line[0].in)
		return;
	if (!lines_hold(k, vdso_view_counter(&k->view))) {
		lose(k);
		rejoin(k);
	} else if (!lines_are_right(k, vdso_view_counter(&k->view))) {
		/* The kernel's rate has changed by more than a slew can follow. */
		lose_line(k);
		vdso_view_forget(&k->view);
	} else {
		tick_locked(k);
	}
}

void vdso_keeper_step(struct vdso_keeper *k)
{
	struct vdso_clock_record next = k->record;
	bool stepped = false;

	k->view.source->stepped(k->view.source->context);
	for (unsigned id = 0; id < VDSO_CLOCK_IDS; id = after(id, GAPPED)) {
		/* BOOTTIME's gap tells the next tick of a suspension, which sets REALTIME too. */
		if (!vdso_clock_is_wall((int)id) || !vdso_view_look_at_gap(&k->view, id))
			continue;
		stepped = true;
		k->steps++;
		if (k->state == VDSO_KEEPER_LOCKED)
			rebase(k, id, &next);
		else
			next.clock[id].floor = (struct vdso_time){0};
	}
	if (stepped)
		publish(k, &next);
}

bool vdso_keeper_unwanted(const struct pollfd *life)
{
	char byte;

	if ((life->revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
		return true;
	/* A pidfd is readable when its process ends, and cannot be read; bytes in a pipe mean nothing. */
	return (life->revents & POLLIN) != 0 && read(life->fd, &byte, 1) <= 0 && errno != EAGAIN && errno != EINTR;
}

void vdso_keeper_run(struct vdso_keeper *k, int life_fd)
{
	struct pollfd wait[2] = {
		{.fd = k->view.source->step_fd, .events = POLLIN},
		{.fd = life_fd, .events = POLLIN},
	};
	uint64_t due = vdso_view_clock(&k->view, VDSO_ID_MONOTONIC) + k->tick_ns;

	for (;;) {
		int64_t left = (int64_t)(due - vdso_view_clock(&k->view, VDSO_ID_MONOTONIC));
		struct timespec timeout = {.tv_nsec = left > 0 ? (long)(left < 999999999 ? left : 999999999) : 0};
		int ready = ppoll(wait, 2, &timeout, NULL);

		if (ready < 0)
			continue;
		if (life_fd >= 0 && vdso_keeper_unwanted(&wait[1]))
			return;
		if ((wait[0].revents & POLLIN) != 0)
			vdso_keeper_step(k);
		if ((int64_t)(due - vdso_view_clock(&k->view, VDSO_ID_MONOTONIC)) > 0)
			continue;
		vdso_keeper_tick(k);
		due = vdso_view_clock(&k->view, VDSO_ID_MONOTONIC) + k->tick_ns;
	}
}
