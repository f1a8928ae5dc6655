/*
 * A session's clock, adjusted while programs run on it: a step, a change of rate, or both in one record.
 *
 * What is meant as a step (a set, an offset, a shift) holds from the next read on. What is meant to be continuous (a rate, a
 * freeze, and whatever happens to a clock that is not the date's) takes a lead and starts where the old line is. Functions
 * return 0 or a negative errno.
 */
#ifndef VDSO_CORE_ADJUST_H
#define VDSO_CORE_ADJUST_H

#include <stdbool.h>

#include "clock.h"
#include "page.h"
#include "source.h"

/* The limits of a broken-down time, whose year is an int: no clock is set to what no program can print. */
#define VDSO_FIRST_SECOND INT64_C(-67768040609740800)
#define VDSO_LAST_SECOND INT64_C(67768036191676799)

#define VDSO_RATE_MAX (UINT64_C(1000000) << 32) /* a line's rate, in 32.32 */

enum vdso_adjust_time {
	VDSO_TIME_KEEP,
	VDSO_TIME_AT,     /* REALTIME is `by` */
	VDSO_TIME_OFFSET, /* the host's REALTIME and `by` */
	VDSO_TIME_SHIFT,  /* what it is and `by` */
};

enum vdso_adjust_rate {
	VDSO_RATE_KEEP,
	VDSO_RATE_SET,  /* to `rate`; 0 freezes, and remembers what the rate was */
	VDSO_RATE_THAW, /* what it was before it became 0 */
};

struct vdso_adjustment {
	enum vdso_adjust_time time;
	enum vdso_adjust_rate how;
	struct vdso_time by; /* seconds of any sign, nsec below a second */
	uint64_t rate;
	const struct vdso_discipline *discipline; /* NULL: stays */
};

/* What a session's clock says, at one instant. */
struct vdso_adjusted {
	struct vdso_time host; /* REALTIME */
	struct vdso_time now;  /* the session's REALTIME */
	uint64_t rate;         /* the one that is, or is about to be, in force */
	uint64_t thawed;       /* the one that a thaw goes back to */
	bool all;              /* MONOTONIC, BOOTTIME and RAW are scaled too */
	bool counter;          /* a keeper's, which nobody else writes */
	bool moved;            /* anything of it is not the host's */
	struct vdso_discipline discipline;
};

/* The first record of a page that nobody reads yet. `all`: MONOTONIC and its like follow the rate. */
int vdso_adjust_first(const struct vdso_source *source, bool all, const struct vdso_adjustment *adjustment,
		      struct vdso_clock_record *ret);

/*
 * Publishes the adjustment and wakes whoever waits for the page's head. -EOPNOTSUPP: a keeper's clock; -ERANGE: beyond
 * VDSO_FIRST_SECOND or VDSO_LAST_SECOND, or a rate above VDSO_RATE_MAX; -ETIMEDOUT: the machine is too busy for the lead.
 */
int vdso_adjust(struct vdso_page *page, const struct vdso_source *source, const struct vdso_adjustment *adjustment);

/* Waits some milliseconds until a rate of 1 is in force everywhere, and makes an offset of it, which is quicker to read. */
int vdso_adjust_settle(struct vdso_page *page, const struct vdso_source *source);

/* Starts lines anew where they are, if they began so long ago that their advance would leave 62 bits of ns. */
int vdso_adjust_renew(struct vdso_page *page, const struct vdso_source *source);

/* Whether a line of the record runs so fast that it has to be looked at every VDSO_RENEW_S seconds. */
#define VDSO_RENEW_S 300
bool vdso_adjust_wants_renewal(const struct vdso_clock_record *record);

/* A keeper's: its time is not to be set. */
bool vdso_adjust_is_counter(const struct vdso_clock_record *record);

int vdso_adjust_look(const struct vdso_clock_record *record, const struct vdso_source *source, struct vdso_adjusted *ret);

#endif
