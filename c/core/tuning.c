#include "tuning.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>

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

/* ---- what is to be done ---- */

static void shift(struct vdso_adjustment *a, int64_t sec, int64_t nsec)
{
	if (sec == 0 && nsec == 0)
		return;
	a->time = VDSO_TIME_SHIFT;
	a->by = vdso_time_add(a->by, sec, nsec);
}

/* The same, to where a clock may be set. */
static int step(struct vdso_adjustment *a, const struct vdso_adjusted *now, int64_t sec, int64_t nsec)
{
	/* Beyond that in either direction there is no clock that it could be added to. */
	if (sec < -2 * SETTABLE_END || sec > 2 * SETTABLE_END || !vdso_tuning_settable(vdso_time_add(now->now, sec, nsec).sec))
		return -EINVAL;
	shift(a, sec, nsec);
	return 0;
}

/* A frequency or a tick is a rate, on top of the session's own. */
static void change_rate(struct vdso_adjustment *a, const struct vdso_adjusted *now, struct vdso_discipline *d)
{
	double pace = (double)d->tick / TICK_USUAL * (1 + (double)d->freq / 65536 / PARTS_PER_MILLION);
	uint64_t rate = (uint64_t)((double)d->base * pace + 0.5);

	if (rate > VDSO_RATE_MAX)
		rate = VDSO_RATE_MAX;
	if (rate == now->rate)
		return;
	a->how = VDSO_RATE_SET;
	a->rate = d->rate = rate;
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

/* What the call comes to, and what it leaves of *d. */
static int plan(struct vdso_adjustment *a, const struct vdso_adjusted *now, struct vdso_discipline *d, const struct timex *t)
{
	const int64_t freq = d->freq, tick = d->tick;
	int err = validate(t);

	if (err == 0 && (t->modes & ADJ_ADJTIME) != 0)
		return step(a, now, t->offset / USEC_PER_SEC, t->offset % USEC_PER_SEC * 1000);
	if (err == 0 && (t->modes & ADJ_SETOFFSET) != 0) {
		err = step(a, now, t->time.tv_sec, t->time.tv_usec * ((t->modes & ADJ_NANO) != 0 ? 1 : 1000));
		forget_errors(d);
	}
	if (err != 0)
		return err;
	take(d, t);
	if ((t->modes & ADJ_OFFSET) != 0 && (d->status & STA_PLL) != 0)
		shift(a, 0, phase(d, t->offset));
	/* A frozen clock is not a daemon's to let go on: it keeps what it is told of a rate for none. */
	if ((t->modes & ADJ_FREQUENCY) != 0 && now->rate != 0)
		d->freq = clamp(t->freq, -FREQUENCY_MAX, FREQUENCY_MAX);
	if ((t->modes & ADJ_TICK) != 0 && now->rate != 0)
		d->tick = t->tick;
	if (d->freq != freq || d->tick != tick)
		change_rate(a, now, d);
	return 0;
}

/* ---- once, also where a follower dies over it ---- */

/* The notification that is being answered. */
static uint64_t call_of(const struct vdso_follower *f)
{
	return ((const struct seccomp_notif *)f->shared->notification)->id;
}

/*
 * Whether a predecessor has carried it out and died before it was answered. What the program's memory says may be the answer
 * by then. The record has it from the moment on in which it takes effect, until as many calls of other followers have been;
 * what the guard keeps has it a moment later, for good.
 */
static bool is_done(const struct vdso_follower *f, const struct vdso_discipline *d)
{
	const uint64_t call = call_of(f);
	bool ret = f->shared->carried_out == call;

	for (unsigned i = 0; i < VDSO_CALLS; i++)
		ret = ret || d->call[i] == call;
	return ret;
}

static int carry_out(struct vdso_follower *f, struct vdso_page *page, const struct vdso_adjustment *planned,
		     struct vdso_discipline *d)
{
	struct vdso_adjustment a = *planned;
	int err;

	memmove(&d->call[1], &d->call[0], sizeof(d->call) - sizeof(d->call[0]));
	d->call[0] = call_of(f);
	a.discipline = d;
	err = vdso_sessions_adjust(page, &a);
	if (err == 0)
		f->shared->carried_out = d->call[0];
	return err;
}

int vdso_tuning_set(struct vdso_follower *f, uint32_t session, struct vdso_time to)
{
	const struct vdso_adjustment a = {.time = VDSO_TIME_AT, .by = to};
	struct vdso_adjusted now;
	struct vdso_page page;
	int err = vdso_sessions_write(f, session, &page);

	if (err != 0)
		return err;
	err = vdso_sessions_now(f, session, &now);
	if (err == 0 && !is_done(f, &now.discipline)) {
		begin(&now.discipline, &now);
		forget_errors(&now.discipline);
		err = carry_out(f, &page, &a, &now.discipline);
	}
	vdso_page_close(&page);
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

static int adjust(struct vdso_follower *f, uint32_t session, const struct timex *t)
{
	struct vdso_adjustment a = {0};
	struct vdso_adjusted now;
	struct vdso_page page;
	int err = vdso_sessions_write(f, session, &page);

	if (err != 0)
		return err;
	err = vdso_sessions_now(f, session, &now);
	if (err == 0 && !is_done(f, &now.discipline)) {
		begin(&now.discipline, &now);
		let_error_grow(&now.discipline);
		err = plan(&a, &now, &now.discipline, t);
		if (err == 0)
			err = carry_out(f, &page, &a, &now.discipline);
	}
	vdso_page_close(&page);
	return err;
}

/* Without waiting for anybody, who may have the page open for writing. */
static int tell(const struct vdso_follower *f, uint32_t session, struct timex *t)
{
	struct vdso_adjusted now;
	struct vdso_discipline *d = &now.discipline;
	int err = vdso_sessions_now(f, session, &now);

	if (err != 0)
		return err;
	begin(d, &now);
	let_error_grow(d);
	report(d, &now, t);
	return (d->status & (STA_UNSYNC | STA_CLOCKERR)) != 0 ? TIME_ERROR : TIME_OK;
}

int vdso_tuning_adjust(struct vdso_follower *f, uint32_t session, struct timex *t)
{
	bool reads = t->modes == 0 || (t->modes & ADJ_OFFSET_SS_READ) == ADJ_OFFSET_SS_READ;
	int err = reads ? 0 : adjust(f, session, t);

	return err != 0 ? err : tell(f, session, t);
}
