#include "setting.h"

#include <errno.h>
#include <linux/audit.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "adjust.h"
#include "argument.h"
#include "notification.h"
#include "sessions.h"
#include "transform.h"

#define X32_BIT 0x40000000
#define USEC_PER_SEC 1000000
#define PARTS_PER_MILLION 1e6

/* The kernel's own bounds (kernel/time/timekeeping.c, ntp.c; USER_HZ is 100). */
#define SETTABLE_END (INT64_C(9223372036) - INT64_C(30) * 365 * 86400)
#define TICK_MIN 9000
#define TICK_MAX 11000
#define TICK_USUAL 10000
#define FREQUENCY_MAX (INT64_C(500) << 16)
#define TOLERANCE (INT64_C(500) << 16)
#define ERROR_UNKNOWN 16000000
#define ZONE_MAX (15 * 60)

#ifndef ADJ_ADJTIME
#define ADJ_ADJTIME 0x8000
#endif
#ifndef ADJ_OFFSET_READONLY
#define ADJ_OFFSET_READONLY 0x2000
#endif

enum call { NONE, CLOCK_SETTIME, SETTIMEOFDAY, STIME, ADJTIMEX, CLOCK_ADJTIME };

/* How the call's arguments lie in the program's memory. */
enum layout { WIDE, NARROW };

static enum call call_of(const struct seccomp_data *data, enum layout *layout)
{
	*layout = WIDE;
	if (data->arch == AUDIT_ARCH_X86_64) {
		switch (data->nr & ~X32_BIT) {
		case SYS_clock_settime:
			return CLOCK_SETTIME;
		case SYS_settimeofday:
			return SETTIMEOFDAY;
		case SYS_adjtimex:
			return ADJTIMEX;
		case SYS_clock_adjtime:
			return CLOCK_ADJTIME;
		}
		return NONE;
	}
	if (data->arch != AUDIT_ARCH_I386)
		return NONE;
	if (data->nr == 404) /* clock_settime64 */
		return CLOCK_SETTIME;
	if (data->nr == 405) /* clock_adjtime64 */
		return CLOCK_ADJTIME;
	*layout = NARROW;
	switch (data->nr) {
	case 25:
		return STIME;
	case 79:
		return SETTIMEOFDAY;
	case 124:
		return ADJTIMEX;
	case 264:
		return CLOCK_SETTIME;
	case 343:
		return CLOCK_ADJTIME;
	}
	return NONE;
}

bool vdso_setting_is(const struct seccomp_data *data)
{
	enum layout layout;

	return call_of(data, &layout) != NONE;
}

/* ---- adjustments ---- */

static int adjust(struct vdso_follower *f, uint32_t session, const struct vdso_adjustment *adjustment)
{
	struct vdso_source source;
	struct vdso_page page;
	int err = vdso_sessions_write(f, session, &page);

	vdso_source_init(&source);
	if (err == 0) {
		err = vdso_adjust(&page, &source, adjustment);
		vdso_page_close(&page);
	}
	vdso_source_deinit(&source);
	/* A keeper's page is nobody else's to write, and its time not to be set. */
	return err == -EOPNOTSUPP || err == -EBUSY ? -EPERM : err == -ERANGE ? -EINVAL : err;
}

static int set(struct vdso_follower *f, uint32_t session, int64_t sec, int64_t nsec)
{
	struct vdso_adjustment adjustment = {.time = VDSO_TIME_AT, .by = {.sec = sec, .nsec = (uint64_t)nsec}};

	if (sec < 0 || sec >= SETTABLE_END || nsec < 0 || nsec >= (int64_t)VDSO_NSEC_PER_SEC)
		return -EINVAL;
	return adjust(f, session, &adjustment);
}

static int shift(struct vdso_follower *f, uint32_t session, int64_t sec, int64_t nsec)
{
	struct vdso_adjustment adjustment = {
		.time = VDSO_TIME_SHIFT,
		.by = vdso_time_add((struct vdso_time){0}, sec, nsec),
	};

	return adjust(f, session, &adjustment);
}

/* What the session says now, for programs that are told with an answer. */
static int look(struct vdso_follower *f, uint32_t session, struct vdso_adjusted *ret)
{
	struct vdso_clock_record record;
	struct vdso_source source;
	uint64_t version;
	int err;

	if (!vdso_sessions_look(f, session, &record, &version))
		return -ENODATA;
	vdso_source_init(&source);
	err = vdso_adjust_look(&record, &source, ret);
	vdso_source_deinit(&source);
	return err;
}

/* ---- adjtimex ---- */

/* As 32-bit programs have it (include/linux/time32.h). */
struct narrow_timex {
	uint32_t modes;
	int32_t offset, freq, maxerror, esterror, status, constant, precision, tolerance;
	int32_t sec, usec;
	int32_t tick, ppsfreq, jitter, shift, stabil, jitcnt, calcnt, errcnt, stbcnt, tai;
	int32_t unused[11];
};

_Static_assert(sizeof(struct narrow_timex) == 128 && sizeof(struct timex) == 208, "the kernel's layouts");

static void widen(const struct narrow_timex *from, struct timex *to)
{
	*to = (struct timex){
		.modes = from->modes,
		.offset = from->offset,
		.freq = from->freq,
		.maxerror = from->maxerror,
		.esterror = from->esterror,
		.status = from->status,
		.constant = from->constant,
		.time = {from->sec, from->usec},
		.tick = from->tick,
	};
}

static void narrow(const struct timex *from, struct narrow_timex *to)
{
	*to = (struct narrow_timex){
		.modes = from->modes,
		.offset = (int32_t)from->offset,
		.freq = (int32_t)from->freq,
		.maxerror = (int32_t)from->maxerror,
		.esterror = (int32_t)from->esterror,
		.status = from->status,
		.constant = (int32_t)from->constant,
		.precision = (int32_t)from->precision,
		.tolerance = (int32_t)from->tolerance,
		.sec = (int32_t)from->time.tv_sec,
		.usec = (int32_t)from->time.tv_usec,
		.tick = (int32_t)from->tick,
		.tai = from->tai,
	};
}

static struct vdso_discipline *discipline_of(struct vdso_follower *f, uint32_t session)
{
	struct vdso_discipline *d = &f->shared->session[session].discipline;

	if (d->tick == 0) /* as a kernel begins, whom nobody has disciplined */
		*d = (struct vdso_discipline){
			.tick = TICK_USUAL, .status = STA_UNSYNC, .maxerror = ERROR_UNKNOWN, .esterror = ERROR_UNKNOWN, .constant = 2};
	return d;
}

static double pace(const struct vdso_discipline *d)
{
	return (double)d->tick / TICK_USUAL * (1 + (double)d->freq / 65536 / PARTS_PER_MILLION);
}

/* A frequency or a tick is a rate, on top of the session's own. */
static int change_pace(struct vdso_follower *f, uint32_t session, double before, double after)
{
	struct vdso_adjustment adjustment = {.how = VDSO_RATE_SET};
	struct vdso_adjusted now;
	int err = look(f, session, &now);

	if (err != 0 || before == after)
		return err;
	adjustment.rate = (uint64_t)((double)now.rate / before * after + 0.5);
	if (now.rate == 0) /* frozen: it is not a daemon's to let it go on */
		return 0;
	return adjust(f, session, &adjustment);
}

static int discipline(struct vdso_follower *f, uint32_t session, struct timex *t)
{
	struct vdso_discipline *d = discipline_of(f, session), next = *d;
	bool nano = (t->modes & ADJ_NANO) != 0 || ((t->modes & ADJ_MICRO) == 0 && (d->status & STA_NANO) != 0);
	int64_t unit = nano ? 1 : 1000;
	int err = 0;

	if ((t->modes & ADJ_ADJTIME) != 0) {
		if ((t->modes & ADJ_OFFSET_SINGLESHOT & ~ADJ_ADJTIME) == 0)
			return -EINVAL;
		/* A host slews by it; here it is done at once, and nothing is left of it. */
		if ((t->modes & ADJ_OFFSET_READONLY) == 0)
			err = shift(f, session, t->offset / USEC_PER_SEC, t->offset % USEC_PER_SEC * 1000);
		t->offset = 0;
		return err;
	}
	if ((t->modes & ADJ_TICK) != 0 && (t->tick < TICK_MIN || t->tick > TICK_MAX))
		return -EINVAL;
	if ((t->modes & ADJ_SETOFFSET) != 0) {
		bool fine = (t->modes & ADJ_NANO) != 0;

		if (t->time.tv_usec < 0 || t->time.tv_usec >= (fine ? (int64_t)VDSO_NSEC_PER_SEC : USEC_PER_SEC))
			return -EINVAL;
		err = shift(f, session, t->time.tv_sec, t->time.tv_usec * (fine ? 1 : 1000));
	}
	if (err == 0 && (t->modes & ADJ_OFFSET) != 0) {
		int status = (t->modes & ADJ_STATUS) != 0 ? t->status : d->status;
		int64_t most = INT64_C(500000000) / unit;
		int64_t by = t->offset > most ? most : t->offset < -most ? -most : t->offset;

		if ((status & STA_PLL) != 0)
			err = shift(f, session, 0, by * unit);
	}
	if ((t->modes & ADJ_STATUS) != 0)
		next.status = (t->status & ~STA_RONLY) | (next.status & STA_RONLY);
	if ((t->modes & ADJ_NANO) != 0)
		next.status |= STA_NANO;
	if ((t->modes & ADJ_MICRO) != 0)
		next.status &= ~STA_NANO;
	if ((t->modes & ADJ_FREQUENCY) != 0)
		next.freq = t->freq > FREQUENCY_MAX ? FREQUENCY_MAX : t->freq < -FREQUENCY_MAX ? -FREQUENCY_MAX : t->freq;
	if ((t->modes & ADJ_TICK) != 0)
		next.tick = t->tick;
	if ((t->modes & ADJ_MAXERROR) != 0)
		next.maxerror = t->maxerror;
	if ((t->modes & ADJ_ESTERROR) != 0)
		next.esterror = t->esterror;
	if ((t->modes & ADJ_TIMECONST) != 0)
		next.constant = t->constant;
	if ((t->modes & ADJ_TAI) != 0)
		next.tai = (int32_t)t->constant;
	if (err == 0)
		err = change_pace(f, session, pace(d), pace(&next));
	if (err == 0)
		*d = next;
	return err;
}

/* The answer, and the state that the call returns. */
static int report(struct vdso_follower *f, uint32_t session, struct timex *t)
{
	const struct vdso_discipline *d = discipline_of(f, session);
	struct vdso_adjusted now;
	int err = look(f, session, &now);

	if (err != 0)
		return err;
	if ((t->modes & ADJ_ADJTIME) == 0)
		t->offset = 0;
	t->freq = d->freq;
	t->maxerror = d->maxerror;
	t->esterror = d->esterror;
	t->status = d->status;
	t->constant = d->constant;
	t->precision = 1;
	t->tolerance = TOLERANCE;
	t->tick = d->tick;
	t->tai = d->tai;
	t->ppsfreq = t->jitter = t->stabil = t->jitcnt = t->calcnt = t->errcnt = t->stbcnt = 0;
	t->shift = 0;
	t->time.tv_sec = now.now.sec;
	t->time.tv_usec = (suseconds_t)((d->status & STA_NANO) != 0 ? now.now.nsec : now.now.nsec / 1000);
	return (d->status & (STA_UNSYNC | STA_CLOCKERR)) != 0 ? TIME_ERROR : TIME_OK;
}

static int64_t adjtimex_call(struct vdso_follower *f, uint32_t session, struct vdso_argument *memory, uint64_t at,
			     enum layout layout)
{
	struct narrow_timex small;
	struct timex t;
	int64_t state;
	int err;

	err = layout == NARROW ? vdso_argument_read(memory, at, &small, sizeof(small)) : vdso_argument_read(memory, at, &t, sizeof(t));
	if (err != 0)
		return err;
	if (layout == NARROW)
		widen(&small, &t);
	err = t.modes != 0 ? discipline(f, session, &t) : 0;
	if (err != 0)
		return err;
	state = report(f, session, &t);
	if (state < 0)
		return state;
	if (layout == NARROW)
		narrow(&t, &small);
	err = layout == NARROW ? vdso_argument_write(memory, at, &small, sizeof(small)) : vdso_argument_write(memory, at, &t, sizeof(t));
	return err != 0 ? err : state;
}

/* ---- the calls ---- */

/* Two words of the program's, of its size: a timespec, a timeval, a time zone (whose words are ints). */
static int read_pair(struct vdso_argument *memory, uint64_t at, bool wide, int64_t ret[2])
{
	int32_t small[2];
	int err;

	if (wide)
		return vdso_argument_read(memory, at, ret, 2 * sizeof(ret[0]));
	err = vdso_argument_read(memory, at, small, sizeof(small));
	ret[0] = small[0];
	ret[1] = small[1];
	return err;
}

static int set_timeofday(struct vdso_follower *f, uint32_t session, struct vdso_argument *memory, const __u64 *args,
			 enum layout layout)
{
	int64_t time[2] = {0}, zone[2] = {0};
	int err = args[0] != 0 ? read_pair(memory, args[0], layout == WIDE, time) : 0;

	if (err == 0 && args[1] != 0)
		err = read_pair(memory, args[1], false, zone);
	if (err != 0)
		return err;
	if (args[0] != 0 && (time[1] < 0 || time[1] >= USEC_PER_SEC))
		return -EINVAL;
	if (zone[0] < -ZONE_MAX || zone[0] > ZONE_MAX)
		return -EINVAL;
	/* The kernel's time zone is the host's, and nothing that a session has. */
	return args[0] != 0 ? set(f, session, time[0], time[1] * 1000) : 0;
}

static int set_clock(struct vdso_follower *f, uint32_t session, struct vdso_argument *memory,
		     const struct seccomp_data *data, enum layout layout)
{
	const __u64 *args = data->args;
	int64_t time[2];
	int err;

	if ((int32_t)args[0] < 0) /* a device's clock, or a process's CPU time */
		return -EPERM;
	if ((int32_t)args[0] != VDSO_ID_REALTIME)
		return -EINVAL;
	err = read_pair(memory, args[1], layout == WIDE, time);
	/* A 32-bit program's word above the nanoseconds may be anything. */
	if (err == 0 && data->arch == AUDIT_ARCH_I386)
		time[1] = (int64_t)((uint64_t)time[1] & UINT32_MAX);
	return err != 0 ? err : set(f, session, time[0], time[1]);
}

static int64_t carry_out(struct vdso_follower *f, uint32_t session, struct vdso_argument *memory, const struct seccomp_data *data)
{
	const __u64 *args = data->args;
	enum layout layout;
	int32_t seconds;
	int err;

	switch (call_of(data, &layout)) {
	case CLOCK_SETTIME:
		return set_clock(f, session, memory, data, layout);
	case SETTIMEOFDAY:
		return set_timeofday(f, session, memory, args, layout);
	case STIME:
		err = vdso_argument_read(memory, args[0], &seconds, sizeof(seconds));
		return err != 0 ? err : set(f, session, seconds, 0);
	case ADJTIMEX:
		return adjtimex_call(f, session, memory, args[0], layout);
	case CLOCK_ADJTIME:
		if ((int32_t)args[0] < 0)
			return -EPERM;
		if ((int32_t)args[0] != VDSO_ID_REALTIME)
			return (int32_t)args[0] < (int32_t)VDSO_CLOCK_IDS ? -EOPNOTSUPP : -EINVAL;
		return adjtimex_call(f, session, memory, args[1], layout);
	default:
		return -ENOSYS;
	}
}

void vdso_setting_answer(struct vdso_follower *f, const struct seccomp_notif *n)
{
	struct vdso_argument memory;
	int64_t ret = vdso_argument_open((pid_t)n->pid, &memory);

	if (ret == 0) {
		/* Whose memory it is is certain once it is open and the task still waits. */
		if (vdso_notification_waits(f->listener, n->id))
			ret = carry_out(f, vdso_sessions_of(f, (pid_t)n->pid), &memory, &n->data);
		vdso_argument_close(&memory);
	} else {
		vdso_follower_warn_closed(f, (pid_t)n->pid, (int)ret);
	}
	vdso_notification_answer(f->listener, n->id, ret < 0 ? 0 : ret, ret < 0 ? (int32_t)ret : 0);
}
