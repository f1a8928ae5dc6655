#include "setting.h"

#include <errno.h>
#include <linux/audit.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>

#include "adjust.h"
#include "argument.h"
#include "filter.h"
#include "notification.h"
#include "procfs.h"
#include "sessions.h"
#include "transform.h"
#include "tuning.h"
#include "warning.h"

#define X32_BIT 0x40000000
#define ABOUT_SETTING 10005 /* what a program is told once: follower.c has the others */
#define USEC_PER_SEC 1000000
#define ZONE_MAX (15 * 60) /* minutes, as in the kernel (kernel/time/time.c) */

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

/* In the place of a session: the program reads the host's clock, which is not to be set, and nor is one that it does not
 * read. */
#define NO_SESSION UINT32_MAX

static int set(struct vdso_follower *f, uint32_t session, int64_t sec, int64_t nsec)
{
	if (!vdso_tuning_settable(sec) || nsec < 0 || nsec >= (int64_t)VDSO_NSEC_PER_SEC)
		return -EINVAL;
	if (session == NO_SESSION)
		return -EPERM;
	return vdso_tuning_set(f, session, (struct vdso_time){.sec = sec, .nsec = (uint64_t)nsec});
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

/* The host's, which may be read. Never with what the program says is to be set. */
static int read_host(struct timex *t)
{
	int state;

	if (t->modes != 0 && t->modes != ADJ_OFFSET_SS_READ)
		return -EPERM;
	*t = (struct timex){.modes = t->modes == 0 ? 0 : ADJ_OFFSET_SS_READ};
	state = adjtimex(t);
	return state < 0 ? -errno : state;
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
	state = session == NO_SESSION ? read_host(&t) : vdso_tuning_adjust(f, session, &t);
	if (state < 0)
		return state;
	if (layout == NARROW)
		narrow(&t, &small);
	err = layout == NARROW ? vdso_argument_write(memory, at, &small, sizeof(small)) :
				 vdso_argument_write(memory, at, &t, sizeof(t));
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
	if (args[0] == 0 && session == NO_SESSION)
		return -EPERM;
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

static int64_t carry_out(struct vdso_follower *f, uint32_t session, struct vdso_argument *memory,
			 const struct seccomp_data *data)
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

/*
 * The session whose clock the task's program reads. One that was left on the host's (--no-follow, a tracer's) would set a clock
 * that it does not see; what is only counted is on the host's too. 32-bit programs of a session that is followed do: what they
 * start sees it.
 */
static uint32_t session_of(struct vdso_follower *f, const struct seccomp_notif *n)
{
	bool foreign = n->data.arch == AUDIT_ARCH_I386 && (f->filter & VDSO_FILTER_EXEC) != 0;

	if (f->counts != NULL || (!foreign && !vdso_sessions_swapped(f, (pid_t)n->pid)))
		return NO_SESSION;
	return vdso_sessions_of(f, (pid_t)n->pid);
}

void vdso_setting_answer(struct vdso_follower *f, const struct seccomp_notif *n)
{
	struct vdso_argument memory;
	char name[32];
	int64_t ret = vdso_argument_open((pid_t)n->pid, &memory);

	if (ret == 0) {
		/* Whose memory it is is certain once it is open and the task still waits. */
		if (vdso_notification_waits(f->listener, n->id))
			ret = carry_out(f, session_of(f, n), &memory, &n->data);
		vdso_argument_close(&memory);
	} else {
		vdso_follower_warn_closed(f, (pid_t)n->pid, (int)ret);
	}
	if (ret == -EPERM && f->counts != NULL && vdso_follower_first_time(f, (int32_t)n->pid, ABOUT_SETTING)) {
		vdso_procfs_name((pid_t)n->pid, name, sizeof(name));
		vdso_warn((pid_t)n->pid, "%s (pid %d) may not set the clock while it is counted from its start", name, (int)n->pid);
	}
	vdso_notification_answer(f->listener, n->id, ret < 0 ? 0 : ret, ret < 0 ? (int32_t)ret : 0);
}
