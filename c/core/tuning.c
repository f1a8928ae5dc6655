#include "tuning.h"

#include <errno.h>

#include "sessions.h"
#include "threads.h"
#include "transform.h"

#define USEC_PER_SEC INT64_C(1000000)
#define NSEC ((int64_t)VDSO_NSEC_PER_SEC)
#define PARTS_PER_MILLION 1e6

/* The kernel's own bounds (USER_HZ is 100). */
#define SETTABLE_END (INT64_C(9223372036) - INT64_C(30) * 365 * 86400)
#define TICK_MIN 9000
#define TICK_MAX 11000
#define TICK_USUAL 10000
#define FREQUENCY_MAX (INT64_C(500) << 16)
#define FREQUENCY_END (INT64_MAX / (INT64_C(1000) << 16)) /* beyond it the kernel's arithmetic would turn over */
#define TOLERANCE (INT64_C(500) << 16)
#define PHASE_MAX INT64_C(500000000) /* ns */
#define ERROR_MAX INT64_C(16000000)  /* us: unknown */
#define ERROR_GROWS 500              /* us a second */
#define CONSTANT_MAX 10
#define TAI_MAX 100000

#ifndef ADJ_ADJTIME
#define ADJ_ADJTIME 0x8000
#endif
#ifndef ADJ_OFFSET_READONLY
#define ADJ_OFFSET_READONLY 0x2000
#endif
#define SINGLESHOT (ADJ_OFFSET_SINGLESHOT & ~ADJ_ADJTIME)

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
	return value < low ? low : value > high ? high : value;
}

bool vdso_tuning_settable(int64_t sec)
{
	return sec >= 0 && sec < SETTABLE_END;
}

/* ---- what is remembered ---- */

static struct vdso_discipline *discipline_in(const struct vdso_page *page)
{
	return (struct vdso_discipline *)((char *)page->header + VDSO_DISCIPLINE_AT);
}

/* As a kernel begins, whom nobody has disciplined; that of a clock which says `now` from then on. */
static void begin(struct vdso_discipline *d, const struct vdso_adjusted *now)
{
	if (d->tick == 0)
		*d = (struct vdso_discipline){.status = STA_UNSYNC, .maxerror = ERROR_MAX, .esterror = ERROR_MAX, .constant = 2};
	if (d->tick == 0 || d->rate != now->thawed) {
		/* `vdso time` has given it a rate, or reset it: that is the rate, and what it was told of one is over. */
		d->freq = 0;
		d->tick = TICK_USUAL;
		d->base = d->rate = now->thawed;
	}
}

static void forget_errors(struct vdso_discipline *d)
{
	d->status |= STA_UNSYNC;
	d->maxerror = d->esterror = ERROR_MAX;
}

void vdso_tuning_set(const struct vdso_follower *f, uint32_t session, struct vdso_page *page)
{
	struct vdso_discipline *d = discipline_in(page);
	struct vdso_adjusted now;

	if (vdso_sessions_now(f, session, &now) != 0)
		return;
	begin(d, &now);
	forget_errors(d);
}

/* An error grows until somebody says that it has not. */
static void let_error_grow(struct vdso_discipline *d)
{
	uint64_t now_ns = vdso_threads_now_ns(), seconds = (now_ns - d->since_ns) / VDSO_NSEC_PER_SEC;

	d->since_ns += seconds * VDSO_NSEC_PER_SEC;
	d->maxerror = seconds > ERROR_MAX / ERROR_GROWS ? ERROR_MAX + 1 : d->maxerror + ERROR_GROWS * (int64_t)seconds;
	if (d->maxerror > ERROR_MAX) {
		d->maxerror = ERROR_MAX;
		d->status |= STA_UNSYNC;
	}
}

/* ---- adjustments ---- */

static int shift(struct vdso_page *page, int64_t sec, int64_t nsec)
{
	struct vdso_adjustment adjustment = {
		.time = VDSO_TIME_SHIFT,
		.by = vdso_time_add((struct vdso_time){0}, sec, nsec),
	};

	return vdso_sessions_adjust(page, &adjustment);
}

/* The same, to where a clock may be set. */
static int step(struct vdso_page *page, const struct vdso_adjusted *now, int64_t sec, int64_t nsec)
{
	/* Beyond that in either direction there is no clock that it could be added to. */
	if (sec < -2 * SETTABLE_END || sec > 2 * SETTABLE_END || !vdso_tuning_settable(vdso_time_add(now->now, sec, nsec).sec))
		return -EINVAL;
	return shift(page, sec, nsec);
}

/* A frequency or a tick is a rate, on top of the session's own. */
static int change_rate(struct vdso_page *page, const struct vdso_adjusted *now, struct vdso_discipline *d)
{
	double pace = (double)d->tick / TICK_USUAL * (1 + (double)d->freq / 65536 / PARTS_PER_MILLION);
	struct vdso_adjustment adjustment = {.how = VDSO_RATE_SET, .rate = (uint64_t)((double)d->base * pace + 0.5)};

	if (adjustment.rate > VDSO_RATE_MAX)
		adjustment.rate = VDSO_RATE_MAX;
	if (adjustment.rate == now->rate)
		return 0;
	d->rate = adjustment.rate;
	return vdso_sessions_adjust(page, &adjustment);
}

/* ---- the call ---- */

static int validate(const struct timex *t)
{
	int64_t most = (t->modes & ADJ_NANO) != 0 ? NSEC : USEC_PER_SEC;

	if ((t->modes & ADJ_ADJTIME) != 0)
		return (t->modes & SINGLESHOT) == 0 ? -EINVAL : 0;
	if ((t->modes & ADJ_TICK) != 0 && (t->tick < TICK_MIN || t->tick > TICK_MAX))
		return -EINVAL;
	if ((t->modes & ADJ_SETOFFSET) != 0 && (t->time.tv_usec < 0 || t->time.tv_usec >= most))
		return -EINVAL;
	if ((t->modes & ADJ_FREQUENCY) != 0 && (t->freq < -FREQUENCY_END || t->freq > FREQUENCY_END))
		return -EINVAL;
	return 0;
}

/* What has no effect on the clock itself, in the kernel's order: the later ones are in the units that the earlier ones set. */
static void take(struct vdso_discipline *d, const struct timex *t)
{
	if ((t->modes & ADJ_STATUS) != 0) {
		if ((d->status & STA_PLL) != 0 && (t->status & STA_PLL) == 0)
			d->status = STA_UNSYNC;
		d->status = (t->status & ~STA_RONLY) | (d->status & STA_RONLY);
	}
	if ((t->modes & ADJ_NANO) != 0)
		d->status |= STA_NANO;
	if ((t->modes & ADJ_MICRO) != 0)
		d->status &= ~STA_NANO;
	if ((t->modes & ADJ_MAXERROR) != 0) {
		d->maxerror = clamp(t->maxerror, 0, ERROR_MAX);
		d->since_ns = vdso_threads_now_ns();
	}
	if ((t->modes & ADJ_ESTERROR) != 0)
		d->esterror = clamp(t->esterror, 0, ERROR_MAX);
	if ((t->modes & ADJ_TIMECONST) != 0) {
		d->constant = clamp(t->constant, 0, CONSTANT_MAX);
		if ((d->status & STA_NANO) == 0)
			d->constant = clamp(d->constant + 4, 0, CONSTANT_MAX);
	}
	if ((t->modes & ADJ_TAI) != 0 && t->constant >= 0 && t->constant <= TAI_MAX)
		d->tai = (int32_t)t->constant;
}

/* In ns: what a phase-locked loop is told that the clock is off. */
static int64_t phase(const struct vdso_discipline *d, int64_t offset)
{
	if ((d->status & STA_NANO) == 0)
		offset = clamp(offset, -USEC_PER_SEC, USEC_PER_SEC) * 1000;
	return clamp(offset, -PHASE_MAX, PHASE_MAX);
}

static int adjust(struct vdso_page *page, const struct vdso_adjusted *now, struct vdso_discipline *d, const struct timex *t)
{
	struct vdso_discipline next = *d;
	int err = validate(t);

	if (err == 0 && (t->modes & ADJ_ADJTIME) != 0)
		return (t->modes & ADJ_OFFSET_READONLY) != 0 ? 0 :
							       step(page, now, t->offset / USEC_PER_SEC,
								    t->offset % USEC_PER_SEC * 1000);
	if (err == 0 && (t->modes & ADJ_SETOFFSET) != 0) {
		err = step(page, now, t->time.tv_sec, t->time.tv_usec * ((t->modes & ADJ_NANO) != 0 ? 1 : 1000));
		forget_errors(&next);
	}
	if (err != 0)
		return err;
	take(&next, t);
	if ((t->modes & ADJ_OFFSET) != 0 && (next.status & STA_PLL) != 0)
		err = shift(page, 0, phase(&next, t->offset));
	/* A frozen clock is not a daemon's to let go on: it keeps what it is told of a rate for none. */
	if ((t->modes & ADJ_FREQUENCY) != 0 && now->rate != 0)
		next.freq = clamp(t->freq, -FREQUENCY_MAX, FREQUENCY_MAX);
	if ((t->modes & ADJ_TICK) != 0 && now->rate != 0)
		next.tick = t->tick;
	if (err == 0 && (next.freq != d->freq || next.tick != d->tick))
		err = change_rate(page, now, &next);
	if (err == 0)
		*d = next;
	return err;
}

static void report(const struct vdso_discipline *d, const struct vdso_adjusted *now, struct timex *t)
{
	bool fine = (d->status & STA_NANO) != 0;

	*t = (struct timex){
		.modes = t->modes,
		.freq = d->freq,
		.maxerror = d->maxerror,
		.esterror = d->esterror,
		.status = d->status,
		.constant = d->constant,
		.precision = 1,
		.tolerance = TOLERANCE,
		.tick = d->tick,
		.tai = d->tai,
		.time = {now->now.sec, (suseconds_t)(fine ? now->now.nsec : now->now.nsec / 1000)},
	};
}

/* With the page open for writing; NULL: nobody but its keeper may, who tells it nothing. */
static int adjust_and_report(const struct vdso_follower *f, uint32_t session, struct vdso_page *page, struct timex *t)
{
	struct vdso_discipline none = {0}, *d = page != NULL ? discipline_in(page) : &none;
	struct vdso_adjusted now;
	int err = vdso_sessions_now(f, session, &now);

	if (err != 0)
		return err;
	begin(d, &now);
	let_error_grow(d);
	if (t->modes != 0) {
		err = page != NULL || t->modes == ADJ_OFFSET_SS_READ ? adjust(page, &now, d, t) : -EPERM;
		if (err == 0)
			err = vdso_sessions_now(f, session, &now);
		if (err != 0)
			return err;
	}
	report(d, &now, t);
	return (d->status & (STA_UNSYNC | STA_CLOCKERR)) != 0 ? TIME_ERROR : TIME_OK;
}

int vdso_tuning_adjust(struct vdso_follower *f, uint32_t session, struct timex *t)
{
	struct vdso_page page;
	bool open = vdso_sessions_write(f, session, &page) == 0;
	int ret = adjust_and_report(f, session, open ? &page : NULL, t);

	if (open)
		vdso_page_close(&page);
	return ret;
}
