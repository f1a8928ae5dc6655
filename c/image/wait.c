/*
 * Waits for an absolute time of the session's clock, inside the program, in the place of the system call that it made.
 *
 * A program that computes a deadline from a moved clock and hands it to the kernel would wait by another clock. The follower
 * turns such a task here. The deadline is translated into the host's time, the program's own timespec left as it is; when the
 * clock is set, frozen or let go meanwhile, it is translated anew: the wait ends when the session's clock has got there.
 *
 * What is here says which system call comes next, and stands in the annex, at no known distance from the image and its pages:
 * whoever unwinds finds nothing about it. The calls are made where the task is turned to (ARCH_WAIT), in the image, so that a
 * thread that waits can be unwound: by a debugger, and by pthread_cancel().
 */
#include "wait.h"

#include "reading.h"

enum {
	ID_REALTIME = 0,
	ID_MONOTONIC = 1,
	ID_BOOTTIME = 7,
	ID_REALTIME_ALARM = 8,
	ID_BOOTTIME_ALARM = 9,
	ID_TAI = 11,
	FUTEX_WAIT_BITSET = 9,
	FUTEX_PRIVATE = 128,
	FUTEX_CLOCK_REALTIME = 256,
	FUTEX2_SIZE_U32 = 2,
	E_PERM = 1,
	E_AGAIN = 11,
	E_NOSYS = 38,
	E_TIMEDOUT = 110,
};

/* What the kernel takes for never, short of what it would turn over. */
#define FAR_SEC INT64_C(9000000000)
#define ANY_BIT UINT32_MAX

static bool is_wall(uint32_t id)
{
	return (1u << ID_REALTIME | 1u << ID_REALTIME_ALARM | 1u << ID_TAI) >> id & 1;
}

/* The clock, of those that futexes know, that waits for `id`. */
static uint32_t waiting_id(uint32_t id)
{
	return is_wall(id) ? ID_REALTIME : ID_MONOTONIC;
}

/* Less than a second either way, and never before 1970, which the kernel would refuse. */
static void take_off(struct timespec *t, int64_t sec, int64_t nsec)
{
	t->tv_sec -= sec;
	t->tv_nsec -= nsec;
	if (t->tv_nsec < 0) {
		t->tv_nsec += VDSO_NSEC_PER_SEC;
		t->tv_sec--;
	} else if (t->tv_nsec >= (int64_t)VDSO_NSEC_PER_SEC) {
		t->tv_nsec -= VDSO_NSEC_PER_SEC;
		t->tv_sec++;
	}
	if (t->tv_sec < 0)
		*t = (struct timespec){0, 0};
}

static bool before(int64_t sec, int64_t nsec, int64_t other_sec, int64_t other_nsec)
{
	return sec < other_sec || (sec == other_sec && nsec < other_nsec);
}

/* How many ns of its input after its beginning a line has gone so many ns on, rounded to later; both may be before it.
 * False: never. */
static bool input_for(int64_t ns, uint64_t rate, int64_t *ret)
{
	uint64_t way = ns < 0 ? -(uint64_t)ns : (uint64_t)ns, quotient;

	if (way >> 32 >= rate)
		return false;
	quotient = arch_divide(way >> 32, way << 32, rate);
	if (quotient >= INT64_MAX)
		return false;
	*ret = ns < 0 ? -(int64_t)quotient : (int64_t)quotient + 1;
	return true;
}

/* When a line gets there, by the kernel's own clock. False: never. */
static bool line_reaches(const struct vdso_pages *pages, const struct vdso_clock *clock, uint32_t id, struct timespec *at)
{
	const struct vdso_line *line;
	struct timespec shown;
	struct vdso_time now;
	int64_t sec, ns, wait;
	uint64_t in;

	if (kernel_clock(pages, id, &now) != 0)
		return false;
	line = line_for(clock, input_of(&now));
	shown = line_at(line, input_of(&now));
	if (!before(shown.tv_sec, shown.tv_nsec, at->tv_sec, at->tv_nsec)) {
		*at = (struct timespec){0, 0}; /* long ago */
		return true;
	}
	/* Until the second line takes over, what lies before its beginning is on the first. */
	if (!before(at->tv_sec, at->tv_nsec, LOAD(clock->line[1].sec), (int64_t)LOAD(clock->line[1].nsec)))
		line = &clock->line[1];
	/* Less than 0 where the host's clock has been set back to before the line's beginning. */
	sec = (int64_t)((uint64_t)at->tv_sec - (uint64_t)LOAD(line->sec));
	ns = at->tv_nsec - (int64_t)LOAD(line->nsec);
	if (sec > FAR_SEC || sec < -FAR_SEC)
		return false;
	ns += sec * (int64_t)VDSO_NSEC_PER_SEC;
	if (!input_for(ns, LOAD(line->rate), &wait))
		return false;
	in = LOAD(line->in) + (uint64_t)wait;
	at->tv_sec = (int64_t)(in / VDSO_NSEC_PER_SEC);
	at->tv_nsec = (int64_t)(in % VDSO_NSEC_PER_SEC);
	return true;
}

/*
 * The deadline in `at` as the host's, by the kernel's clock `id`, and the head that it was computed under. FAR_SEC: the clock
 * stands still before it.
 */
static void translate(const struct vdso_pages *pages, uint32_t id, struct timespec *at, uint64_t *head)
{
	const struct timespec given = *at;
	bool ever;

	do {
		const struct vdso_clock *clock = clock_in(pages, *head = head_now(pages), id);
		uint32_t kind = LOAD(clock->kind);

		*at = given;
		ever = given.tv_sec < INT64_MAX / 2;
		if (ever && kind == VDSO_KIND_LINE) {
			ever = line_reaches(pages, clock, id, at);
		} else if (ever && kind != VDSO_KIND_JUMP) {
			take_off(at, LOAD(clock->offset.sec), (int64_t)LOAD(clock->offset.nsec));
		}
	} while (!still(pages, *head));
	if (!ever)
		*at = (struct timespec){FAR_SEC, 0};
}

/* From the clock `id` to the one that waits for it. */
static void convert(const struct vdso_pages *pages, uint32_t id, struct timespec *at)
{
	struct vdso_time from, to;

	if (id == waiting_id(id) || kernel_clock(pages, id, &from) != 0 || kernel_clock(pages, waiting_id(id), &to) != 0)
		return;
	take_off(at, from.sec - to.sec, (int64_t)from.nsec - (int64_t)to.nsec);
}

/*
 * The system call that stands for the program's, until the host's time `until`. What changes the clock wakes waits that have
 * the page's head in them; the others look again after VDSO_TURN_NS.
 */
static void prepare(struct vdso_waiting *w, const struct vdso_turned *turned, const struct vdso_pages *pages)
{
	const uint64_t head_word = (uint64_t)&pages->clock.header.head;
	const uint32_t id = VDSO_PLAN_CLOCK(turned->plan);
	const struct timespec *deadline = w->until.tv_sec < FAR_SEC ? &w->until : NULL;

	if (w->how == VDSO_WAIT_SLEEP) {
		w->number = ARCH_NR_FUTEX;
		w->arg[0] = head_word;
		w->arg[1] = FUTEX_WAIT_BITSET | (is_wall(id) ? FUTEX_CLOCK_REALTIME : 0);
		w->arg[2] = (uint32_t)w->head;
		w->arg[3] = (uint64_t)deadline;
		w->arg[4] = VDSO_MARK;
		w->arg[5] = ANY_BIT;
	} else if (w->how == VDSO_WAIT_FUTEX) {
		w->both[0] = (struct vdso_waiter){.value = (uint32_t)w->head, .address = head_word, .flags = FUTEX2_SIZE_U32};
		w->both[1] = (struct vdso_waiter){
			.value = (uint32_t)turned->arg[2],
			.address = turned->arg[0],
			.flags = FUTEX2_SIZE_U32 | ((uint32_t)turned->arg[1] & FUTEX_PRIVATE),
		};
		w->number = ARCH_NR_FUTEX_WAITV;
		w->arg[0] = (uint64_t)w->both;
		w->arg[1] = 2;
		w->arg[2] = 0;
		w->arg[3] = (uint64_t)deadline;
		w->arg[4] = waiting_id(id);
		w->arg[5] = VDSO_MARK;
	} else {
		w->number = turned->number;
		for (int i = 0; i < 6; i++)
			w->arg[i] = turned->arg[i];
		w->arg[VDSO_PLAN_POINTER(turned->plan)] = (uint64_t)&w->until;
		w->arg[VDSO_PLAN_MARK(turned->plan)] = VDSO_MARK;
	}
}

/* What the last call says of the wait. True: it is over, with what is in `ret`. */
static bool is_over(struct vdso_waiting *w, const struct vdso_pages *pages)
{
	/* Before Linux 5.16; or a container's filter that does not know the call. */
	if ((w->ret == -E_NOSYS || w->ret == -E_PERM) && w->how == VDSO_WAIT_FUTEX) {
		w->how = VDSO_WAIT_TURNS;
		return false;
	}
	if (w->how == VDSO_WAIT_FUTEX && w->ret == 1) { /* the program's word */
		w->ret = 0;
		return true;
	}
	if (w->how != VDSO_WAIT_TURNS && (w->ret == 0 || (w->ret == -E_AGAIN && head_now(pages) != w->head)))
		return false; /* the clock has been changed */
	return w->ret != -E_TIMEDOUT;
}

bool vdso_wait_step(struct vdso_waiting *w, const struct vdso_turned *turned, const struct vdso_pages *pages)
{
	const struct timespec *at = (const struct timespec *)turned->arg[VDSO_PLAN_POINTER(turned->plan)];
	const uint32_t id = VDSO_PLAN_CLOCK(turned->plan);
	struct vdso_time now;

	if (w->calls++ == 0)
		w->how = VDSO_PLAN_HOW(turned->plan);
	else if (is_over(w, pages))
		return false;

	w->until = *at;
	translate(pages, id, &w->until, &w->head);
	convert(pages, id, &w->until);
	kernel_clock(pages, waiting_id(id), &now);
	if (w->calls > 1 && w->ret == -E_TIMEDOUT && !before(now.sec, (int64_t)now.nsec, w->until.tv_sec, w->until.tv_nsec)) {
		if (w->how == VDSO_WAIT_SLEEP)
			w->ret = 0;
		return false;
	}
	if (w->how == VDSO_WAIT_TURNS) {
		struct timespec turn = {now.sec, (int64_t)now.nsec};

		take_off(&turn, 0, -VDSO_TURN_NS);
		if (before(turn.tv_sec, turn.tv_nsec, w->until.tv_sec, w->until.tv_nsec))
			w->until = turn;
	}
	prepare(w, turned, pages);
	return true;
}
