/*
 * The clock image: the functions that a program's libc finds in place of the kernel's.
 *
 * Freestanding: no libc, no relocations, no writable data, nothing thread-local, small frames (Go calls us on small
 * stacks). Whatever the clock page does not move is one jump to the kernel's own function.
 */
#include "reading.h"

#define EXPORT __attribute__((visibility("default"), used))
#define HERE (&vdso_pages)
enum { ID_REALTIME = 0, ID_REALTIME_COARSE = 5 };

/*
 * `out` = sec and nsec, nsec up to some seconds' worth. Only for words that still() has been asked about: in a slot that has
 * been written anew meanwhile they can be another kind's, and these rounds thousands of millions.
 */
static inline void carry(struct vdso_time *out, int64_t sec, uint64_t nsec)
{
	while (nsec >= VDSO_NSEC_PER_SEC) {
		nsec -= VDSO_NSEC_PER_SEC;
		sec++;
		/* Keeps the compiler from making a division of it: it is never more than a few rounds. */
		__asm__("" : "+r"(nsec));
	}
	out->sec = sec;
	out->nsec = nsec;
}

/* The kernel's clock and the offset. False: the record has been replaced, and `out` is as it was. */
static inline bool add_offset(uint64_t head, const struct vdso_clock *clock, struct vdso_time *out)
{
	int64_t sec = LOAD(clock->offset.sec);
	uint64_t nsec = LOAD(clock->offset.nsec);

	if (unlikely(!still(HERE, head)))
		return false;
	carry(out, out->sec + sec, out->nsec + nsec);
	return true;
}

/* Keeps what fell back from the counter to the kernel's clock from stepping back. */
static inline void raise_to_floor(const struct vdso_clock *clock, struct vdso_time *out)
{
	struct vdso_time floor = {LOAD(clock->floor.sec), LOAD(clock->floor.nsec)};

	if (floor.sec < out->sec || (floor.sec == out->sec && floor.nsec <= out->nsec))
		return;
	if ((LOAD(clock->flags) & VDSO_CLOCK_SETTABLE) != 0 &&
	    (floor.sec - out->sec > 1 || (floor.sec - out->sec == 1 && floor.nsec > out->nsec)))
		return; /* set back by whoever may: following it is right */
	*out = floor;
}

/* The kernel's clock, and the offset, in the place of a counter that cannot answer. */
static __attribute__((noinline, cold)) int without_counter(uint64_t head, const struct vdso_clock *clock, uint32_t id,
							   struct vdso_time *out)
{
	bool counter = LOAD(clock->kind) == VDSO_KIND_COUNTER && (HERE->process.flags & VDSO_PROCESS_NO_COUNTER) == 0;
	uint64_t first = LOAD(clock->line[0].in);
	bool early = counter && arch_counter() < first;
	int error = kernel_clock(HERE, id, out);

	if (error != 0)
		return error;
	/* Read before the line began, or not at all: the line starts above every earlier reading of the kernel's clock,
	 * and above no later one. */
	if (early && arch_counter() >= first)
		return AGAIN;
	if (!add_offset(head, clock, out))
		return AGAIN;
	if ((HERE->process.flags & VDSO_PROCESS_NO_COUNTER) == 0)
		raise_to_floor(clock, out);
	return still(HERE, head) ? 0 : AGAIN;
}

static int answer_clock_gettime(int id, struct timespec *ts);

/* What a LINE shows by its quick form. False: the line itself has to be asked. */
static inline bool quick_at(const struct vdso_clock *clock, const struct vdso_time *host, struct timespec *out)
{
	const struct vdso_quick *quick = &clock->quick;
	uint64_t rate = LOAD(clock->line[1].rate), fraction, second, rest;
	int64_t advance;

	if (unlikely((LOAD(clock->flags) & VDSO_CLOCK_QUICK) == 0))
		return false;
	if (unlikely(__builtin_mul_overflow((int64_t)((uint64_t)host->sec - (uint64_t)LOAD(quick->in)), (int64_t)rate, &advance)))
		return false;
	fraction = (uint32_t)advance;
	second = ((fraction << (VDSO_QUICK_BITS - 32)) + LOAD(quick->part) + host->nsec * LOAD(quick->step)) >> VDSO_QUICK_BITS;
	/* Each product may go beyond 64 bits; the difference is less than two seconds. */
	rest = fraction * VDSO_NSEC_PER_SEC + LOAD(quick->rest) + host->nsec * rate - second * VDSO_QUICK_SECOND;
	if (unlikely(rest >= VDSO_QUICK_SECOND)) {
		rest -= VDSO_QUICK_SECOND;
		second++;
	}
	out->tv_sec = (int64_t)((uint64_t)LOAD(quick->sec) + (uint64_t)(advance >> 32) + second);
	out->tv_nsec = (int64_t)(rest >> 32);
	return true;
}

static __attribute__((noinline, cold)) struct timespec slowly_at(const struct vdso_clock *clock, uint64_t input)
{
	return line_at(line_for(clock, input), input);
}

/* This and with_offset() are entered by a jump from clock_gettime. Where the record has been replaced meanwhile all is done
 * anew, one call deeper: that again and again a writer comes between is nothing that happens more than a few times. */
static __attribute__((noinline)) int on_kernel_line(uint64_t head, const struct vdso_clock *clock, struct timespec *out,
						    uint32_t id)
{
	struct timespec shown;
	struct vdso_time host;
	int error = kernel_clock(HERE, id, &host);

	if (unlikely(error != 0))
		return error;
	if (unlikely((int64_t)(input_of(&host) - LOAD(clock->takeover)) < 0) || !quick_at(clock, &host, &shown))
		shown = slowly_at(clock, input_of(&host));
	if (unlikely(!still(HERE, head)))
		return answer_clock_gettime((int)id, out);
	*out = shown;
	return 0;
}

/*
 * The quick path: 0 and the time, or AGAIN for anything out of the ordinary, which answer() then looks at in full.
 *
 * The line is loaded after the counter, not before: RDTSCP waits for every load in front of it, and these need not be
 * waited for. Input and line are both read between two looks at the head, which is all that the protocol asks.
 */
static inline int on_counter_line(uint64_t head, const struct vdso_clock *clock, struct vdso_time *out)
{
	if (unlikely((HERE->process.flags & VDSO_PROCESS_NO_COUNTER) != 0))
		return AGAIN;

	uint64_t input = arch_counter();
	uint64_t first = LOAD(clock->line[0].in);
	/* The second line holds nearly always, but for the lead after each publication. */
	uint64_t in = LOAD(clock->line[1].in);
	uint64_t nsec = LOAD(clock->line[1].nsec);
	uint64_t rate = LOAD(clock->line[1].rate);
	int64_t sec = LOAD(clock->line[1].sec);

	/* One comparison for both ends: below `first` the difference wraps. */
	if (unlikely(input - first >= LOAD(clock->span)))
		return AGAIN;

	if (unlikely(input < LOAD(clock->takeover))) {
		in = first;
		nsec = LOAD(clock->line[0].nsec);
		rate = LOAD(clock->line[0].rate);
		sec = LOAD(clock->line[0].sec);
	}
	if (unlikely(!still(HERE, head)))
		return AGAIN;
	carry(out, sec, (nsec + (input - in) * rate) >> VDSO_COUNTER_SHIFT);
	return 0;
}

static __attribute__((noinline)) int with_offset(uint64_t head, const struct vdso_clock *clock, struct timespec *out,
						 uint32_t id)
{
	struct vdso_time now;
	int error = kernel_clock(HERE, id, &now);

	if (unlikely(error != 0))
		return error;
	if (unlikely(!add_offset(head, clock, &now)))
		return answer_clock_gettime((int)id, out);
	out->tv_sec = now.sec;
	out->tv_nsec = (int64_t)now.nsec;
	return 0;
}

/* Every kind, and every corner of it. JUMP: the clock is the kernel's. Else the kernel's error, or 0 and the time. */
static __attribute__((noinline)) int answer(uint32_t id, struct vdso_time *out)
{
	int ret;

	do {
		uint64_t head = head_now(HERE);
		const struct vdso_clock *clock = clock_in(HERE, head, id);
		uint32_t kind = LOAD(clock->kind);

		if (kind == VDSO_KIND_JUMP)
			return JUMP;
		if (kind == VDSO_KIND_OFFSET)
			return with_offset(head, clock, (struct timespec *)out, id);
		if (kind == VDSO_KIND_LINE)
			return on_kernel_line(head, clock, (struct timespec *)out, id);
		if (kind == VDSO_KIND_COUNTER && on_counter_line(head, clock, out) == 0)
			return 0;
		ret = without_counter(head, clock, id, out);
	} while (unlikely(ret == AGAIN));
	return ret;
}

static __attribute__((noinline)) int answer_clock_gettime(int id, struct timespec *ts)
{
	struct vdso_time now;
	int ret = answer((uint32_t)id, &now);

	if (ret == JUMP)
		return KERNEL(HERE, clock_function, VDSO_FN_CLOCK_GETTIME)(id, ts);
	if (ret == 0) {
		ts->tv_sec = now.sec;
		ts->tv_nsec = (int64_t)now.nsec;
	}
	return ret;
}

EXPORT int VDSO_NAME(clock_gettime)(int id, struct timespec *ts)
{
	/* CPU-time, dynamic and unknown ids, and the negative ones, are the kernel's to answer. */
	if (unlikely((uint32_t)id >= VDSO_CLOCK_IDS))
		return KERNEL(HERE, clock_function, VDSO_FN_CLOCK_GETTIME)(id, ts);

	uint64_t head = head_now(HERE);
	const struct vdso_clock *clock = clock_in(HERE, head, (uint32_t)id);
	uint32_t kind = LOAD(clock->kind);

	if (kind == VDSO_KIND_JUMP)
		return KERNEL(HERE, clock_function, VDSO_FN_CLOCK_GETTIME)(id, ts);

	if (kind == VDSO_KIND_COUNTER) {
		struct vdso_time now;

		if (on_counter_line(head, clock, &now) == 0) {
			ts->tv_sec = now.sec;
			ts->tv_nsec = (int64_t)now.nsec;
			return 0;
		}
	} else if (kind == VDSO_KIND_OFFSET) {
		return with_offset(head, clock, ts, (uint32_t)id);
	} else if (kind == VDSO_KIND_LINE) {
		return on_kernel_line(head, clock, ts, (uint32_t)id);
	}
	return answer_clock_gettime(id, ts);
}

EXPORT int VDSO_NAME(gettimeofday)(struct timeval *tv, void *tz)
{
	struct vdso_time now;
	int ret = tv == NULL ? JUMP : answer(ID_REALTIME, &now);

	if (ret == JUMP)
		return KERNEL(HERE, timeofday_function, VDSO_FN_GETTIMEOFDAY)(tv, tz);
	if (ret == 0) {
		tv->tv_sec = now.sec;
		tv->tv_usec = (int64_t)((uint32_t)now.nsec / 1000u);
		if (tz != NULL)
			ret = KERNEL(HERE, timeofday_function, VDSO_FN_GETTIMEOFDAY)(NULL, tz);
	}
	return ret;
}

/* As the kernel's: the seconds of the coarse clock, which may lag the fine one by a tick. */
EXPORT int64_t VDSO_NAME(time)(int64_t *t)
{
	struct vdso_time now;
	int ret = answer(ID_REALTIME_COARSE, &now);

	if (ret == JUMP)
		return KERNEL(HERE, time_function, VDSO_FN_TIME)(t);
	if (ret != 0)
		return ret;
	if (t != NULL)
		*t = now.sec;
	return now.sec;
}

EXPORT int VDSO_NAME(clock_getres)(int id, struct timespec *ts)
{
	return KERNEL(HERE, clock_function, VDSO_FN_CLOCK_GETRES)(id, ts);
}

EXPORT long VDSO_NAME(getcpu)(unsigned *cpu, unsigned *node, void *unused)
{
	return KERNEL(HERE, getcpu_function, VDSO_FN_GETCPU)(cpu, node, unused);
}

/* Where the kernel has none this is -ENOSYS, for the query of the parameters too: libc then makes the system call. */
EXPORT long VDSO_NAME(getrandom)(void *buffer, size_t len, unsigned flags, void *state, size_t state_len)
{
	return KERNEL(HERE, getrandom_function, VDSO_FN_GETRANDOM)(buffer, len, flags, state, state_len);
}

#define SAME_AS(name) __attribute__((visibility("default"), weak, alias(name)))
int clock_gettime(int id, struct timespec *ts) SAME_AS("__vdso_clock_gettime");
int gettimeofday(struct timeval *tv, void *tz) SAME_AS("__vdso_gettimeofday");
int64_t time(int64_t *t) SAME_AS("__vdso_time");
int clock_getres(int id, struct timespec *ts) SAME_AS("__vdso_clock_getres");
long getcpu(unsigned *cpu, unsigned *node, void *unused) SAME_AS("__vdso_getcpu");
long getrandom(void *buffer, size_t len, unsigned flags, void *state, size_t state_len) SAME_AS("__vdso_getrandom");
