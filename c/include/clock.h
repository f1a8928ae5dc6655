/*
 * The clock record: per clock id, how its time is computed. The image reads it, a session or the keeper writes it.
 *
 * The slot rule proves that a record is whole. For a clock it also matters when the *input* is read (the counter, or the
 * kernel's own clock): a reader that holds an older record and reads its input late would compute on a line that has
 * ended. So each clock carries two lines and the input at which the second takes over, VDSO_LEAD_NS or more after the
 * record's publication, and a reader accepts only if `head` still stands once it has its input. Every reader then computes
 * the same function of the input, whichever record it holds.
 */
#ifndef VDSO_CLOCK_H
#define VDSO_CLOCK_H

#include "layout.h"
#include "protocol.h"

#define VDSO_CLOCK_IDS 12u /* CLOCK_REALTIME (0) to CLOCK_TAI (11); other ids go to the kernel's own function */
#define VDSO_CLOCK_SLOTS 4u
#define VDSO_CLOCK_SCHEMA 0x34304b434f4c4356u /* "VCLOCK04": changes with any member below */

#define VDSO_NSEC_PER_SEC 1000000000u
#define VDSO_LEAD_NS 2000000u

/* A LINE over a kernel clock stands still beyond this much advance, 146 years, rather than turn over. */
#define VDSO_ADVANCE_MAX ((INT64_C(1) << 62) - 1)

/* The counter's lines: 2^28 gives 4e-9 of rate a step at 1 GHz and 1e-8 at 3 GHz, and 17 s before 64 bits overflow. */
#define VDSO_COUNTER_SHIFT 28u

/* How one clock is computed. "Kernel" is the kernel's own vDSO function, moved aside but still mapped. */
enum vdso_clock_kind {
	/* The kernel's clock: one jump, and nothing checked afterwards. Who has seen this may come back with the kernel's time
	 * however long after the record has been replaced. What replaces it is therefore a step, which such a reading has begun
	 * before; a mere change of rate comes only some time after an OFFSET has. */
	VDSO_KIND_JUMP = 0,
	/* The kernel's clock plus `offset`. A change of offset is a step: it needs no lead and holds from the next read. */
	VDSO_KIND_OFFSET = 1,
	/* A line over the kernel's clock: input in ns of that clock, rate in 32.32, line.nsec in ns. */
	VDSO_KIND_LINE = 2,
	/* A line over the counter: input in counts, rate = mult, line.nsec in ns << VDSO_COUNTER_SHIFT. Good for `span`
	 * counts from line[0].in on; outside, the larger of the kernel's clock plus `offset`, and `floor`. */
	VDSO_KIND_COUNTER = 3,
	/* The larger of the kernel's clock plus `offset`, and `floor`: what is left of COUNTER when the counter cannot be
	 * trusted. */
	VDSO_KIND_FLOOR = 4,
};

/* The clock may be set: a floor more than a second ahead of the kernel's clock is a clock set back, not a reading to keep. */
#define VDSO_CLOCK_SETTABLE 1u
/* A LINE whose `quick` says the same as its line[1]. */
#define VDSO_CLOCK_QUICK 2u

struct vdso_time {
	int64_t sec;
	uint64_t nsec; /* 0 to 999,999,999 */
};

/* out = (sec, nsec) + (input - in) * rate, as the kind says. */
struct vdso_line {
	uint64_t in;
	int64_t sec;
	uint64_t nsec;
	uint64_t rate;
};

/*
 * line[1] of a LINE as it is read with the least to do once the kernel's nanoseconds are there, which come last. With s seconds
 * and n nanoseconds of that clock, and (s - in) * rate = a + f / 2^32 seconds, the time is
 *
 *	sec + a seconds and f * 10^9 + rest + n * rate  2^-32 ns,
 *
 * exactly. The whole seconds in the latter are f * 2^10 + part + n * step  2^-42 s, or one more. Only for s, in and rate whose
 * product has 63 bits.
 */
struct vdso_quick {
	int64_t in;    /* the whole second before line[1].in */
	int64_t sec;   /* at that, the line shows this, */
	uint64_t rest; /* and so many 2^-32 ns, less than a second; */
	uint64_t part; /* the same in 2^-42 s, rounded down */
	uint64_t step; /* 2^-42 s a ns, rounded down */
};

#define VDSO_QUICK_BITS 42
#define VDSO_QUICK_RATE_MAX (UINT64_C(1) << 53) /* and not reached: n * step has 63 bits */
#define VDSO_QUICK_SECOND ((uint64_t)VDSO_NSEC_PER_SEC << 32)

/* Two cache lines: what every kind needs is in the first. */
struct vdso_clock {
	uint32_t kind;
	uint32_t flags;
	uint64_t takeover; /* input from which line[1] holds */
	union {
		struct {
			uint64_t span; /* COUNTER: valid counts from line[0].in on */
			struct vdso_time offset;
			struct vdso_time floor;
		};
		struct vdso_quick quick; /* LINE; made at its publication */
	};
	uint64_t thaw; /* the rate that a frozen LINE goes back to; 0: 1. Readers do not look at it */
	struct vdso_line line[2];
};

_Static_assert(sizeof(struct vdso_clock) == 2 * VDSO_LINE, "a clock is two lines");

#define VDSO_CALLS 7u

/*
 * What adjtimex has been told of a session's clock (tuning.h). No reading of the clock looks at it; in the record it changes
 * together with what it has been told for. All 0: nothing yet.
 */
struct vdso_discipline {
	int64_t freq, tick, maxerror, esterror, constant;
	int32_t status, tai;
	uint64_t base; /* the session's rate without frequency and tick, in 32.32 */
	uint64_t rate; /* and with them, as it was set: another one is somebody else's, for whom they are none */
	uint64_t since_ns; /* CLOCK_MONOTONIC: from when on maxerror grows */
	/* The calls that have set the clock or told it something, by their notifications, the newest first: each listener counts
	 * on from a random number of 64 bits. Whoever answers one that its predecessor has carried out finds it here. */
	uint64_t call[VDSO_CALLS];
};

struct vdso_clock_record {
	struct vdso_clock clock[VDSO_CLOCK_IDS];
	struct vdso_discipline discipline;
};

_Static_assert(sizeof(struct vdso_discipline) == 2 * VDSO_LINE, "what adjtimex is told is two lines");

/* The same arithmetic as the protocol's, with K and the record's size known to the compiler: the image's quick path. */
#define VDSO_CLOCK_STRIDE \
	((sizeof(struct vdso_clock_record) + 8u + VDSO_LINE - 1u) / VDSO_LINE * VDSO_LINE)

struct vdso_clock_slot {
	struct vdso_clock_record record;
	char pad[VDSO_CLOCK_STRIDE - sizeof(struct vdso_clock_record) - 8u];
	uint64_t version;
};

struct vdso_clock_page {
	struct vdso_page_header header;
	struct vdso_clock_slot slot[VDSO_CLOCK_SLOTS];
};

_Static_assert(sizeof(struct vdso_clock_page) <= VDSO_CLOCK_BYTES, "the page has room for it");
_Static_assert(sizeof(struct vdso_clock_slot) == VDSO_CLOCK_STRIDE, "the slot is one stride");

#endif
