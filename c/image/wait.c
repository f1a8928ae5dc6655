/*
 * Waits for an absolute time of the session's clock, inside the program, in the place of the system call that it made.
 *
 * A program that computes a deadline from a moved clock and hands it to the kernel would wait by another clock. The follower
 * turns such a task here. The deadline is translated into the host's time, the program's own timespec left as it is; when the
 * clock is set, frozen or let go meanwhile, it is translated anew: the wait ends when the session's clock has got there.
 */
#include "reading.h"
#include "syscalls.h"

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
	E_AGAIN = 11,
	E_NOSYS = 38,
	E_TIMEDOUT = 110,
};

/* What the kernel takes for never, short of what it would turn over. */
#define FAR_SEC INT64_C(9000000000)
#define ANY_BIT UINT32_MAX

/* As ARCH_WAIT lays them on the stack. */
struct call {
	uint64_t number;
	uint64_t arg[6];
	uint64_t back;
	uint64_t plan;
};

struct waiter {
	uint64_t value, address;
	uint32_t flags, reserved;
};

HIDDEN long vdso_wait_call(const struct call *call);
ARCH_WAIT;

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
static __attribute__((noinline)) void take_off(struct timespec *t, int64_t sec, int64_t nsec)
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

/* So many ns of a line's output as ns of its input, rounded up; UINT64_MAX: never. */
static uint64_t input_for(uint64_t ns, uint64_t rate)
{
	if (ns >> 32 >= rate)
		return UINT64_MAX;

	uint64_t ret = arch_divide(ns >> 32, ns << 32, rate) + 1;

	return ret > INT64_MAX ? UINT64_MAX : ret;
}

/* When a line gets there, by the kernel's own clock. False: never. */
static __attribute__((noinline)) bool line_reaches(const struct vdso_clock *clock, uint32_t id, struct timespec *at)
{
	const struct vdso_line *line = &clock->line[1];
	struct vdso_time now;
	int64_t sec, ns;
	uint64_t in;

	if (kernel_clock(id, &now) != 0)
		return false;
	/* Until the second line takes over, what lies before its beginning is on the first. */
	if ((int64_t)((uint64_t)now.sec * VDSO_NSEC_PER_SEC + now.nsec - LOAD(clock->takeover)) < 0 &&
	    before(at->tv_sec, at->tv_nsec, LOAD(line->sec), (int64_t)LOAD(line->nsec)))
		line = &clock->line[0];
	sec = at->tv_sec - LOAD(line->sec);
	ns = at->tv_nsec - (int64_t)LOAD(line->nsec);
	if (sec > FAR_SEC)
		return false;
	if (sec < -FAR_SEC || (ns += sec * (int64_t)VDSO_NSEC_PER_SEC) <= 0) {
		*at = (struct timespec){0, 0}; /* long ago */
		return true;
	}
	in = input_for((uint64_t)ns, LOAD(line->rate));
	if (in == UINT64_MAX)
		return false;
	in += LOAD(line->in);
	at->tv_sec = (int64_t)(in / VDSO_NSEC_PER_SEC);
	at->tv_nsec = (int64_t)(in % VDSO_NSEC_PER_SEC);
	return true;
}

/*
 * The deadline in `at` as the host's, by the kernel's clock `id`, and the head that it was computed under. FAR_SEC: the clock
 * stands still before it.
 */
static void translate(uint32_t id, struct timespec *at, uint64_t *head)
{
	const struct timespec given = *at;
	bool ever;

	do {
		const struct vdso_clock *clock = clock_in(*head = head_now(), id);
		uint32_t kind = LOAD(clock->kind);

		*at = given;
		ever = given.tv_sec < INT64_MAX / 2;
		if (ever && kind == VDSO_KIND_LINE) {
			ever = line_reaches(clock, id, at);
		} else if (ever && kind != VDSO_KIND_JUMP) {
			take_off(at, LOAD(clock->offset.sec), (int64_t)LOAD(clock->offset.nsec));
		}
	} while (!still(*head));
	if (!ever)
		*at = (struct timespec){FAR_SEC, 0};
}

/* From the clock `id` to the one that waits for it. */
static void convert(uint32_t id, struct timespec *at)
{
	struct vdso_time from, to;

	if (id == waiting_id(id) || kernel_clock(id, &from) != 0 || kernel_clock(waiting_id(id), &to) != 0)
		return;
	take_off(at, from.sec - to.sec, (int64_t)from.nsec - (int64_t)to.nsec);
}

/*
 * Makes the system call that stands for the program's, until the host's time until[1]: 0 or more, or a negative errno. What
 * changes the clock wakes waits that have the page's head in them; the others look again after VDSO_TURN_NS.
 */
static long call_once(const struct call *call, enum vdso_wait_how how, uint64_t head, struct timespec until[2])
{
	const uint64_t head_word = (uint64_t)&vdso_clock_page.header.head;
	const uint32_t id = VDSO_PLAN_CLOCK(call->plan);
	const struct timespec *deadline = until[1].tv_sec < FAR_SEC ? &until[1] : NULL;
	struct waiter both[2];
	uint64_t arg[6];
	long number;

	if (how == VDSO_WAIT_SLEEP) {
		number = ARCH_NR_FUTEX;
		arg[0] = head_word;
		arg[1] = FUTEX_WAIT_BITSET | (is_wall(id) ? FUTEX_CLOCK_REALTIME : 0);
		arg[2] = (uint32_t)head;
		arg[3] = (uint64_t)deadline;
		arg[4] = VDSO_MARK;
		arg[5] = ANY_BIT;
	} else if (how == VDSO_WAIT_FUTEX) {
		both[0] = (struct waiter){.value = (uint32_t)head, .address = head_word, .flags = FUTEX2_SIZE_U32};
		both[1] = (struct waiter){
			.value = (uint32_t)call->arg[2],
			.address = call->arg[0],
			.flags = FUTEX2_SIZE_U32 | ((uint32_t)call->arg[1] & FUTEX_PRIVATE),
		};
		number = ARCH_NR_FUTEX_WAITV;
		arg[0] = (uint64_t)both;
		arg[1] = 2;
		arg[2] = 0;
		arg[3] = (uint64_t)deadline;
		arg[4] = waiting_id(id);
		arg[5] = VDSO_MARK;
	} else {
		number = (long)call->number;
		for (int i = 0; i < 6; i++)
			arg[i] = call->arg[i];
		arg[VDSO_PLAN_POINTER(call->plan)] = (uint64_t)(how == VDSO_WAIT_TIMER ? until : until + 1);
		arg[VDSO_PLAN_MARK(call->plan)] = VDSO_MARK;
	}
	return arch_syscall(number, (long)arg[0], (long)arg[1], (long)arg[2], (long)arg[3], (long)arg[4], (long)arg[5]);
}

long vdso_wait_call(const struct call *call)
{
	const struct timespec *at = (const struct timespec *)call->arg[VDSO_PLAN_POINTER(call->plan)];
	const uint32_t id = VDSO_PLAN_CLOCK(call->plan);
	enum vdso_wait_how how = VDSO_PLAN_HOW(call->plan);
	bool timer = how == VDSO_WAIT_TIMER;
	long ret = 0;

	for (;;) {
		struct timespec until[2] = {at[0], at[timer]}; /* a timer's has its interval in front */
		struct vdso_time now;
		uint64_t head;

		translate(id, &until[1], &head);
		if (timer) {
			until[1].tv_nsec += until[1].tv_sec == 0 && until[1].tv_nsec == 0; /* which would stop it */
			return call_once(call, how, head, until);
		}
		convert(id, &until[1]);
		kernel_clock(waiting_id(id), &now);
		if (ret == -E_TIMEDOUT && !before(now.sec, (int64_t)now.nsec, until[1].tv_sec, until[1].tv_nsec))
			return how == VDSO_WAIT_SLEEP ? 0 : ret;
		if (how == VDSO_WAIT_TURNS) {
			struct timespec turn = {now.sec, (int64_t)now.nsec};

			take_off(&turn, 0, -VDSO_TURN_NS);
			if (before(turn.tv_sec, turn.tv_nsec, until[1].tv_sec, until[1].tv_nsec))
				until[1] = turn;
		}
		ret = call_once(call, how, head, until);
		if (ret == -E_NOSYS && how == VDSO_WAIT_FUTEX) /* before Linux 5.16 */
			how = VDSO_WAIT_TURNS;
		else if (how == VDSO_WAIT_FUTEX && ret == 1) /* the program's word */
			return 0;
		else if (how != VDSO_WAIT_TURNS && (ret == 0 || (ret == -E_AGAIN && head_now() != head)))
			; /* the clock has been changed */
		else if (ret != -E_TIMEDOUT)
			return ret;
	}
}
