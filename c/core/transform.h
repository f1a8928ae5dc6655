/*
 * What a clock record says, and how a new one follows from the one in force.
 *
 * Arithmetic on records, and the publication of a change of rate. Where the time comes from is source.h's, how a record
 * reaches its readers is page.h's. Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef VDSO_CORE_TRANSFORM_H
#define VDSO_CORE_TRANSFORM_H

#include <stdbool.h>

#include "clock.h"
#include "page.h"
#include "source.h"

#define VDSO_RATE_ONE (UINT64_C(1) << 32) /* VDSO_KIND_LINE's rate in 32.32 */

/* Clock ids as the kernel's ABI numbers them (uapi/linux/time.h). */
enum {
	VDSO_ID_REALTIME = 0,
	VDSO_ID_MONOTONIC = 1,
	VDSO_ID_RAW = 4,
	VDSO_ID_REALTIME_COARSE = 5,
	VDSO_ID_MONOTONIC_COARSE = 6,
	VDSO_ID_BOOTTIME = 7,
	VDSO_ID_REALTIME_ALARM = 8,
	VDSO_ID_BOOTTIME_ALARM = 9,
	VDSO_ID_TAI = 11,
};

/* The clocks that tell the date. */
bool vdso_clock_is_wall(int id);

/* The clock whose time `id` shows: COARSE and ALARM clocks are other views of one that has a finer or simpler name. */
int vdso_clock_base(int id);

/* The shape of a page that holds a clock record. */
struct vdso_page_shape vdso_clock_shape(void);

/* time + sec + nsec; nsec may be negative and any size. */
struct vdso_time vdso_time_add(struct vdso_time time, int64_t sec, int64_t nsec);
int vdso_time_compare(struct vdso_time a, struct vdso_time b);

/* As VDSO_KIND_LINE takes it: nanoseconds, modulo 2^64. */
uint64_t vdso_time_input(struct vdso_time time);

/* Every clock the kernel's own. */
void vdso_record_identity(struct vdso_clock_record *ret);

/* The wall clocks moved by sec and nsec (any sign), the others untouched. Offset 0 is an offset too, which can change. */
void vdso_record_offset(struct vdso_clock_record *record, int64_t sec, int64_t nsec);

/*
 * A step: the clock shows `value` at the kernel's time `now`, from the next read on, and goes on from there at `rate` (32.32).
 * A reading of the kernel's clock that is older, as the coarse clocks' are by up to a tick, shows nothing before it; at rate 1
 * that is vdso_record_spread()'s to see to.
 */
void vdso_clock_step(struct vdso_clock *clock, struct vdso_time now, struct vdso_time value, uint64_t rate);

/*
 * The other wall clocks as REALTIME: its other views, of which COARSE shows nothing before `first` (NULL: it may), and TAI,
 * which is `gap` seconds ahead in the kernel and here.
 */
void vdso_record_spread(struct vdso_clock_record *record, int64_t gap, const struct vdso_time *first);

/* A line over a kernel clock's ns, rounded down; an advance of more than 62 bits of ns (146 years) stands still there, as in
 * the image. */
struct vdso_time vdso_line_kernel(const struct vdso_line *line, uint64_t in);

/*
 * A line over the counter, in VDSO_COUNTER_SHIFT'ed ns: the rest after the point is kept, so that a line can go on exactly
 * where another one ends. nsec stays below VDSO_NSEC_PER_SEC << VDSO_COUNTER_SHIFT. For up to 64 s of advance.
 */
struct vdso_time vdso_line_shifted(const struct vdso_line *line, uint64_t counter);
struct vdso_time vdso_line_counter(const struct vdso_line *line, uint64_t counter);

/*
 * When the clock will show `at`, by the kernel's clock, which now shows `kernel`; rounded up to a ns. A time that it has passed
 * lies as far back from `kernel`, however fast the clock runs: a timer with an interval counts from there what it has missed.
 * 0, or 1: never, or so late that the kernel could not count so far.
 */
int vdso_clock_reach(const struct vdso_clock *clock, struct vdso_time kernel, struct vdso_time at, struct vdso_time *ret);

/* As vdso_page_publish() and vdso_page_stage(), which know nothing of clocks: each LINE is given its quick form. */
int vdso_clock_publish(struct vdso_page *page, struct vdso_clock_record *record, bool wake);
int vdso_clock_stage(struct vdso_page *page, struct vdso_clock_record *record);

/* What a reader that has both inputs at once would answer. */
struct vdso_time vdso_clock_evaluate(const struct vdso_clock *clock, struct vdso_time kernel, uint64_t counter);

/*
 * A new rate (32.32) from `lead` ns after the input `in` on, continuing what `clock` says exactly. A takeover of `clock`
 * that is still more than half a lead away is forgotten; a nearer one must be waited for (-EAGAIN). -EINVAL: the clock is
 * not computed from the kernel's by a line or an offset.
 */
int vdso_clock_set_rate(const struct vdso_clock *clock, uint64_t in, uint64_t rate, uint64_t lead,
			struct vdso_clock *ret);

/* The same, and in *latest the input at which it is too late to make it known. */
int vdso_clock_bend(const struct vdso_clock *clock, uint64_t in, uint64_t rate, uint64_t lead, struct vdso_clock *ret,
		    uint64_t *latest);

/*
 * Makes the next record of the one in force: *ret begins as a copy of it, and latest[base] as 0, which stands for a clock
 * that need not be looked at again. -EAGAIN: too near a takeover, to be tried again.
 */
typedef int vdso_prepare(void *context, const struct vdso_clock_record *old, uint64_t lead, struct vdso_clock_record *ret,
			 uint64_t *latest);

/*
 * Publishes what `prepare` makes, and wakes who waits for it if it changes a clock. Looks at the time again before the record
 * becomes visible, and starts over where it is too late by then. -ETIMEDOUT: the machine is too busy for the lead.
 */
int vdso_clock_publish_ahead(struct vdso_page *page, const struct vdso_source *source, vdso_prepare *prepare, void *context,
			     uint64_t lead_ns);


#endif
