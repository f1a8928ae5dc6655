/*
 * How the image's functions read the pages in front of it: one record between two looks at the head, and the kernel's clocks
 * by its own functions, wherever they are now.
 */
#ifndef VDSO_IMAGE_READING_H
#define VDSO_IMAGE_READING_H

#include <stdbool.h>

#include "arch.h"
#include "clock.h"
#include "process.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

struct timespec {
	int64_t tv_sec;
	int64_t tv_nsec;
};

struct timeval {
	int64_t tv_sec;
	int64_t tv_usec;
};

typedef int clock_function(int id, struct timespec *ts);
typedef int timeofday_function(struct timeval *tv, void *tz);
typedef int64_t time_function(int64_t *t);
typedef long getcpu_function(unsigned *cpu, unsigned *node, void *unused);
typedef long getrandom_function(void *buffer, size_t len, unsigned flags, void *state, size_t state_len);

/* In front of the image, put there by the linker script. The code in the annex is told where. */
struct vdso_pages {
	union {
		struct vdso_clock_page clock;
		char clock_room[VDSO_CLOCK_BYTES];
	};
	struct vdso_process process;
};

extern const struct vdso_pages vdso_pages __attribute__((visibility("hidden")));

/* A record's words are read while a writer may be storing them. */
#define LOAD(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)

#define KERNEL(pages, type, index) ((type *)(pages)->process.function[index])

/* Beside the kernel's errors, which are 0 or negative. */
enum { JUMP = 1, AGAIN = 2 };

static inline uint64_t head_now(const struct vdso_pages *pages)
{
	return atomic_load_explicit(&pages->clock.header.head, memory_order_acquire);
}

/* Called once the input has been read: the record that was used is still the newest. That says more than the slot's
 * version does, since no writer touches a slot while it is the head, and a dead one leaves the head standing. */
static inline bool still(const struct vdso_pages *pages, uint64_t head)
{
	/* Pairs with the release fence in vdso_page_begin(). */
	atomic_thread_fence(memory_order_acquire);
	return likely(atomic_load_explicit(&pages->clock.header.head, memory_order_relaxed) == head);
}

/* Keeps the compiler from making a computation of a choice. */
static inline const struct vdso_clock *hidden(const struct vdso_clock *clock)
{
	__asm__("" : "+r"(clock));
	return clock;
}

/*
 * By branches, which the processor predicts: it loads from the record while the head itself is still on its way, and every
 * reading of the counter, here or in the kernel's function, waits for those loads.
 */
static inline const struct vdso_clock *clock_in(const struct vdso_pages *pages, uint64_t head, uint32_t id)
{
	const struct vdso_clock *clock = pages->clock.slot[0].record.clock;

	_Static_assert(VDSO_CLOCK_SLOTS == 4, "two bits tell the slot");
	if ((head & 1) != 0 && (head & 2) != 0)
		clock = hidden(pages->clock.slot[3].record.clock);
	else if ((head & 1) != 0)
		clock = hidden(pages->clock.slot[1].record.clock);
	else if ((head & 2) != 0)
		clock = hidden(pages->clock.slot[2].record.clock);
	return clock + id;
}

static inline int kernel_clock(const struct vdso_pages *pages, uint32_t id, struct vdso_time *out)
{
	struct timespec ts;
	int error = KERNEL(pages, clock_function, VDSO_FN_CLOCK_GETTIME)((int)id, &ts);

	out->sec = ts.tv_sec;
	out->nsec = (uint64_t)ts.tv_nsec;
	return error;
}

/* As a LINE takes it. */
static inline uint64_t input_of(const struct vdso_time *kernel)
{
	return (uint64_t)kernel->sec * VDSO_NSEC_PER_SEC + kernel->nsec;
}

/* The line that holds at that input. */
static inline const struct vdso_line *line_for(const struct vdso_clock *clock, uint64_t input)
{
	return unlikely((int64_t)(input - LOAD(clock->takeover)) < 0) ? &clock->line[0] : &clock->line[1];
}

/* What a LINE says. */
static inline struct timespec line_at(const struct vdso_line *line, uint64_t input)
{
	/* A rate is below 2^53: one signed multiplication. */
	__int128 product = (__int128)(int64_t)(input - LOAD(line->in)) * (int64_t)LOAD(line->rate);
	int64_t nsec = (int64_t)(product >> 32), high = (int64_t)(product >> 64);

	/* All from the sign on must be copies of it, and one bit more, which leaves room for the anchor's nsec. Else it stands
	 * at the end, or the beginning. */
	if (unlikely((uint64_t)(high + (INT64_C(1) << 30)) >> 31 != 0))
		nsec = high >> 63 ^ VDSO_ADVANCE_MAX;
	nsec += (int64_t)LOAD(line->nsec);

	int64_t sec = nsec / (int64_t)VDSO_NSEC_PER_SEC;

	nsec -= sec * (int64_t)VDSO_NSEC_PER_SEC;
	if (unlikely(nsec < 0)) { /* before the anchor */
		nsec += VDSO_NSEC_PER_SEC;
		sec--;
	}
	return (struct timespec){sec + LOAD(line->sec), nsec};
}

#endif
