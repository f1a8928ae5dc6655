/* A timer on a session's clock as one on the host's, and back. */
#include "check.h"
#include "timer.h"
#include "transform.h"

#define CHECK(condition) check(condition, "line %d: %s", __LINE__, #condition)
#define NOW_S 1700000000 /* by the host's clock */

static const struct vdso_time now = {NOW_S, 500000000};

static struct vdso_clock offset_clock(int64_t sec)
{
	return (struct vdso_clock){.kind = VDSO_KIND_OFFSET, .offset = {.sec = sec}};
}

/* Shows `at_s` now, and goes on from there at the rate. */
static struct vdso_clock line_clock(int64_t at_s, uint64_t rate)
{
	struct vdso_line line = {.in = vdso_time_input(now), .sec = at_s, .rate = rate};

	return (struct vdso_clock){.kind = VDSO_KIND_LINE, .takeover = line.in, .line = {line, line}};
}

static struct itimerspec setting(long sec, long nsec, long every_sec, long every_nsec)
{
	return (struct itimerspec){.it_value = {sec, nsec}, .it_interval = {every_sec, every_nsec}};
}

static struct itimerspec translate(struct vdso_clock clock, struct itimerspec wanted)
{
	struct itimerspec ret;

	vdso_timer_translate(&clock, now, &wanted, &ret);
	return ret;
}

static int64_t ns(struct timespec t)
{
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

#define CHECK_IS(spec, value_sec, value_nsec, interval_ns) \
	do { \
		struct itimerspec is = (spec); \
		check(is.it_value.tv_sec == (value_sec) && is.it_value.tv_nsec == (value_nsec) && \
			      ns(is.it_interval) == (interval_ns), \
		      "line %d: %lld.%09ld, %lld ns", __LINE__, (long long)is.it_value.tv_sec, is.it_value.tv_nsec, \
		      (long long)ns(is.it_interval)); \
	} while (0)

/* How often the kernel will count it at once. */
static int64_t expirations(struct itimerspec host)
{
	int64_t late = now.sec * INT64_C(1000000000) + (int64_t)now.nsec - ns(host.it_value);

	return late < 0 ? 0 : ns(host.it_interval) == 0 ? 1 : late / ns(host.it_interval) + 1;
}

static void to_come(void)
{
	CHECK_IS(translate((struct vdso_clock){.kind = VDSO_KIND_JUMP}, setting(5, 6, 7, 8)), 5, 6, 7000000008);
	CHECK_IS(translate(offset_clock(1000), setting(NOW_S + 1010, 0, 3, 0)), NOW_S + 10, 0, 3000000000);
	/* 20 s at ten times the pace; a ns for rounding up. */
	CHECK_IS(translate(line_clock(100, 10 * VDSO_RATE_ONE), setting(120, 0, 5, 0)), NOW_S + 2, 500000001, 500000000);
	CHECK_IS(translate(line_clock(100, VDSO_RATE_ONE / 4), setting(101, 0, 1, 0)), NOW_S + 4, 500000001, 4000000000);
	/* Frozen: never; and what its program asked for is what it sees. */
	CHECK_IS(translate(line_clock(100, 0), setting(101, 0, 5, 0)), VDSO_TIMER_NEVER_S, 0, 5000000000);
	CHECK_IS(translate(line_clock(100, 1), setting(INT64_MAX / 2, 0, 0, 0)), VDSO_TIMER_NEVER_S, 0, 0);
	/* An interval is never nothing: that would be no interval. */
	CHECK_IS(translate(line_clock(100, 1000000 * VDSO_RATE_ONE), setting(1000100, 0, 0, 5)), NOW_S + 1, 500000001, 1);
}

static void that_have_passed(void)
{
	const struct itimerspec past = setting(99, 0, 0, 300000000); /* a second ago: 4 expirations */
	struct itimerspec host;

	CHECK(expirations(translate(line_clock(100, VDSO_RATE_ONE / 2), past)) == 4);
	CHECK(expirations(translate(line_clock(100, 1000 * VDSO_RATE_ONE), past)) == 4);
	CHECK(expirations(translate(line_clock(100, 0), past)) == 4);
	CHECK(expirations(translate(offset_clock(100 - NOW_S), past)) == 6); /* which shows 100.5 */
	CHECK(expirations(translate(line_clock(100, 0), setting(99, 0, 0, 0))) == 1);
	CHECK(expirations(translate(line_clock(100, VDSO_RATE_ONE), setting(100, 0, 0, 0))) == 1);
	/* The fifth comes when the clock gets there: 0.2 s of it. */
	host = translate(line_clock(100, 2 * VDSO_RATE_ONE), past);
	CHECK(ns(host.it_value) + 4 * ns(host.it_interval) == NOW_S * INT64_C(1000000000) + 600000000);
	/* A frozen clock's does not come. */
	host = translate(line_clock(100, 0), past);
	CHECK(ns(host.it_value) + 4 * ns(host.it_interval) > (NOW_S + 86400 * 365) * INT64_C(1000000000));
	/* As long ago as it can be: some beginning of the host's time, and no stop. */
	host = translate(line_clock(2000000000, VDSO_RATE_ONE), setting(0, 1, 0, 1));
	CHECK(ns(host.it_value) > 0);
	CHECK(ns(host.it_interval) == 1);
	host = translate(line_clock(2000000000, 0), setting(0, 1, 0, 1));
	CHECK(ns(host.it_value) > 0);
	/* And with ever so many missed a frozen clock's is silent then. */
	CHECK(expirations(host) > 500);
	CHECK(ns(host.it_value) + expirations(host) * ns(host.it_interval) >= (NOW_S + 86400 * 30) * INT64_C(1000000000));
	host = translate(offset_clock(NOW_S), setting(10, 0, 0, 0));
	CHECK(ns(host.it_value) > 0);
}

/* Asked right then, with so much left. */
static bool is_still(struct itimerspec armed, struct itimerspec left, struct itimerspec *wanted)
{
	const struct vdso_time after = {now.sec, now.nsec + 20000};

	return vdso_timer_is_still(&armed, &left, now, after, wanted);
}

static void still_the_same(void)
{
	const struct itimerspec once = setting(NOW_S + 10, 500000000, 0, 0), again = setting(NOW_S - 9, 500000000, 2, 0);
	struct itimerspec wanted = setting(50, 0, 0, 0);

	CHECK(is_still(once, setting(9, 999990000, 0, 0), &wanted));
	CHECK(ns(wanted.it_value) == 50000000000);
	CHECK(!is_still(once, setting(9, 900000000, 0, 0), &wanted)); /* set by its program */
	CHECK(!is_still(once, setting(10, 100000000, 0, 0), &wanted));
	CHECK(!is_still(once, setting(0, 0, 0, 0), &wanted));
	CHECK(!is_still(once, setting(9, 999990000, 1, 0), &wanted));
	/* Five times in nine seconds; by the session's clock every six seconds. */
	wanted = setting(50, 0, 6, 0);
	CHECK(is_still(again, setting(0, 999990000, 2, 0), &wanted));
	CHECK(ns(wanted.it_value) == 80000000000);
	CHECK(!is_still(again, setting(1, 500000000, 2, 0), &wanted));
	vdso_timer_step_back(&wanted);
	CHECK(ns(wanted.it_value) == 74000000000);
}

int main(void)
{
	to_come();
	that_have_passed();
	still_the_same();
	return check_done();
}
