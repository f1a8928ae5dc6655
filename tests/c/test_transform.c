/* Arithmetic of clock records against 128-bit references, and changes of rate under hot readers. */
#include <errno.h>
#include <pthread.h>

#include "check.h"
#include "rates.h"
#include "reference.h"

typedef __int128 wide;

#define NS ((wide)1000000000)
#define YEAR_2262_S INT64_C(9223372036) /* where signed 64-bit nanoseconds end */

static wide wide_of(struct vdso_time time)
{
	return (wide)time.sec * NS + (wide)time.nsec;
}

static wide floor_div(wide a, wide b)
{
	return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static bool normal(struct vdso_time time)
{
	return time.nsec < VDSO_NSEC_PER_SEC;
}

static void test_add(unsigned rounds)
{
	static const int64_t edges[] = {0, 1, -1, 999999999, -999999999, 1000000000, -1000000000, INT64_MAX, INT64_MIN};
	unsigned wrong = 0;
	uint64_t seed = 11;

	for (unsigned i = 0; i < rounds; i++) {
		struct vdso_time at = {.sec = (int64_t)next_random(&seed) / 4, .nsec = next_random(&seed) % 1000000000};
		int64_t sec = (int64_t)next_random(&seed) / 4, nsec = (int64_t)next_random(&seed);

		if (i < 81) {
			at.nsec = i % 9 == 0 ? 0 : i % 9 == 1 ? 999999999 : at.nsec;
			nsec = edges[i / 9];
		}
		struct vdso_time sum = vdso_time_add(at, sec, nsec);

		wrong += wide_of(sum) != wide_of(at) + (wide)sec * NS + nsec || !normal(sum);
	}
	check(wrong == 0, "%u sums of time, %u wrong", rounds, wrong);
}

static void test_kernel_line(unsigned rounds)
{
	static const uint64_t rates[] = {0, 1, VDSO_RATE_ONE - 1, VDSO_RATE_ONE, VDSO_RATE_ONE + 1, 1000 * VDSO_RATE_ONE,
					 1000000 * VDSO_RATE_ONE, VDSO_RATE_ONE / 3};
	unsigned wrong = 0, negative = 0, past_2262 = 0;
	uint64_t seed = 5;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t rate = i % 3 == 0 ? next_random(&seed) % (2000000 * VDSO_RATE_ONE) : rates[next_random(&seed) % 8];
		/* Twice as far as the advance may go, which then stands still. */
		int64_t reach = rate > VDSO_RATE_ONE ? (int64_t)(((wide)INT64_MAX << 32) / rate) : INT64_MAX;
		int64_t elapsed = (int64_t)next_random(&seed) >> (next_random(&seed) % 63);
		struct vdso_line line = {
			.in = next_random(&seed) % 2 ? next_random(&seed) % ((uint64_t)INT64_MAX * 2)
						     : (uint64_t)YEAR_2262_S * 1000000000u + next_random(&seed) % 2000000000u,
			.sec = next_random(&seed) % 2 ? YEAR_2262_S + (int64_t)(next_random(&seed) % 3) - 1
						      : (int64_t)next_random(&seed) >> 20,
			.nsec = next_random(&seed) % 1000000000,
			.rate = rate,
		};

		if (elapsed > reach || elapsed < -reach)
			elapsed %= reach;

		struct vdso_time got = vdso_line_kernel(&line, line.in + (uint64_t)elapsed);
		wide advance = floor_div((wide)elapsed * (wide)rate, (wide)1 << 32);

		advance = advance > VDSO_ADVANCE_MAX ? VDSO_ADVANCE_MAX : advance < ~VDSO_ADVANCE_MAX ? ~VDSO_ADVANCE_MAX : advance;

		wide expected = (wide)line.sec * NS + (wide)line.nsec + advance;

		wrong += wide_of(got) != expected || !normal(got);
		negative += elapsed < 0 || expected < 0;
		past_2262 += expected > (wide)INT64_MAX;
	}
	check(wrong == 0 && negative > rounds / 10 && past_2262 > rounds / 10,
	      "%u lines over the kernel's clock, %u wrong (%u negative, %u after 2262)", rounds, wrong, negative, past_2262);
}

/* When a clock will show a time: at that input it does, and a ns of its input earlier it does not, or not by much. */
static void test_reach(unsigned rounds)
{
	unsigned wrong = 0, never = 0, passed = 0;
	uint64_t seed = 11;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t in = UINT64_C(1700000000000000000) + next_random(&seed) % 1000000000;
		uint64_t rate = next_random(&seed) % 2 ? next_random(&seed) >> (11 + next_random(&seed) % 40) : VDSO_RATE_ONE;
		struct vdso_clock clock = {.kind = VDSO_KIND_LINE, .takeover = in + next_random(&seed) % 4000000};
		struct vdso_time now = {.sec = (int64_t)(in / 1000000000), .nsec = in % 1000000000}, at, ret, there, before;

		if (next_random(&seed) % 8 == 0)
			rate = 0;
		clock.line[0] = (struct vdso_line){.in = in - 1000, .sec = 5, .nsec = 7, .rate = VDSO_RATE_ONE * (1 + i % 3)};
		clock.line[1] = clock.line[0];
		clock.line[1].in = clock.takeover;
		there = vdso_line_kernel(&clock.line[0], clock.takeover);
		clock.line[1].sec = there.sec;
		clock.line[1].nsec = there.nsec;
		clock.line[1].rate = rate;
		at = vdso_time_add((struct vdso_time){5, 0}, 0, (int64_t)(next_random(&seed) % 20000000));
		if (vdso_clock_reach(&clock, now, at, &ret) != 0) {
			never++;
			wrong += rate > VDSO_RATE_ONE / 1000000 || vdso_time_compare(at, there) < 0;
			continue;
		}
		if (vdso_time_compare(ret, now) <= 0) {
			passed++;
			before = vdso_clock_evaluate(&clock, now, 0);
			wrong += vdso_time_compare(before, at) < 0 || wide_of(before) - wide_of(at) != wide_of(now) - wide_of(ret);
			continue;
		}
		before = vdso_time_add(ret, 0, -3);
		wrong += vdso_time_compare(vdso_clock_evaluate(&clock, ret, 0), at) < 0;
		wrong += vdso_time_compare(vdso_clock_evaluate(&clock, before, 0), at) >= 0 &&
			 vdso_time_compare(before, now) > 0 && rate > VDSO_RATE_ONE / 8;
	}
	check(wrong == 0 && never > rounds / 100 && passed > 0, "%u times reached, %u wrong (%u never, %u long ago)",
	      rounds, wrong, never, passed);
}

/* The same once the host's clock has been set back to before the line's beginning: exactly there. */
static void test_reach_from_before(unsigned rounds)
{
	unsigned wrong = 0, before = 0;
	uint64_t seed = 12;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t in = UINT64_C(1700000000000000000) + next_random(&seed) % 1000000000, back, rate;
		struct vdso_clock clock = {.kind = VDSO_KIND_LINE, .takeover = in + 2000000};
		struct vdso_time now, at, ret, there;

		rate = next_random(&seed) % 4 == 0 ? VDSO_RATE_ONE : (next_random(&seed) >> (11 + next_random(&seed) % 40)) + 1;
		back = next_random(&seed) >> (16 + next_random(&seed) % 40); /* up to 78 hours */
		clock.line[0] = (struct vdso_line){.in = in, .sec = 5, .nsec = 7, .rate = rate};
		there = vdso_line_kernel(&clock.line[0], clock.takeover);
		clock.line[1] = (struct vdso_line){clock.takeover, there.sec, there.nsec, 2 * VDSO_RATE_ONE};
		now = (struct vdso_time){.sec = (int64_t)((in - back) / NS), .nsec = (in - back) % NS};
		at = vdso_time_add(vdso_clock_evaluate(&clock, now, 0), 0,
				   1 + (int64_t)(next_random(&seed) >> (16 + next_random(&seed) % 40)));
		if (vdso_clock_reach(&clock, now, at, &ret) != 0 ||
		    vdso_time_compare(vdso_clock_evaluate(&clock, ret, 0), at) < 0) {
			wrong++;
			continue;
		}
		before += vdso_time_input(ret) < in;
		wrong += vdso_time_input(ret) < in &&
			 vdso_time_compare(vdso_clock_evaluate(&clock, vdso_time_add(ret, 0, -1), 0), at) >= 0;
	}
	check(wrong == 0 && before > rounds / 4, "%u times reached from before a line, %u wrong (%u also before it)", rounds, wrong,
	      before);
}

static void test_counter_line(unsigned rounds)
{
	unsigned wrong = 0;
	uint64_t seed = 6;

	for (unsigned i = 0; i < rounds; i++) {
		/* 0.05 to 100 ns a count, up to 30 s from the anchor on */
		uint64_t rate = ((uint64_t)1 << VDSO_COUNTER_SHIFT) / 20 +
				next_random(&seed) % ((uint64_t)100 << VDSO_COUNTER_SHIFT);
		uint64_t counts = next_random(&seed) % (((uint64_t)30000000000 << VDSO_COUNTER_SHIFT) / rate);
		struct vdso_line line = {
			.in = next_random(&seed),
			.sec = (int64_t)next_random(&seed) >> 8,
			.nsec = next_random(&seed) % ((uint64_t)1000000000 << VDSO_COUNTER_SHIFT),
			.rate = rate,
		};
		struct vdso_time exact = vdso_line_shifted(&line, line.in + counts);
		struct vdso_time got = vdso_line_counter(&line, line.in + counts);
		wide expected = ((wide)line.sec * NS << VDSO_COUNTER_SHIFT) + (wide)line.nsec + (wide)counts * (wide)rate;

		wrong += ((wide)exact.sec * NS << VDSO_COUNTER_SHIFT) + (wide)exact.nsec != expected;
		wrong += wide_of(got) != expected >> VDSO_COUNTER_SHIFT || !normal(got);
	}
	check(wrong == 0, "%u lines over the counter, %u wrong", rounds, wrong);
}

static void test_records(void)
{
	struct vdso_clock_record record;
	struct vdso_time kernel = {.sec = 1000, .nsec = 200000000};
	unsigned wrong = 0;

	vdso_record_identity(&record);
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
		wrong += record.clock[id].kind != VDSO_KIND_JUMP;
	check(wrong == 0, "identity: every clock is the kernel's");

	vdso_record_offset(&record, -5, -900000000);
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++) {
		bool wall = id == 0 || id == 5 || id == 8 || id == 11;
		struct vdso_time got = vdso_clock_evaluate(&record.clock[id], kernel, 0);

		wrong += record.clock[id].kind != (wall ? VDSO_KIND_OFFSET : VDSO_KIND_JUMP);
		wrong += wide_of(got) != wide_of(kernel) - (wall ? 5900000000 : 0) || !normal(got);
		wrong += ((record.clock[id].flags & VDSO_CLOCK_SETTABLE) != 0) != wall;
	}
	check(wrong == 0, "offset: REALTIME, REALTIME_COARSE, REALTIME_ALARM and TAI move, and no other");

	struct vdso_clock clock = {.kind = VDSO_KIND_FLOOR, .floor = {.sec = 1000, .nsec = 900000000}};

	check(wide_of(vdso_clock_evaluate(&clock, kernel, 0)) == wide_of(clock.floor), "a floor holds a clock up");
	clock.flags = VDSO_CLOCK_SETTABLE;
	check(wide_of(vdso_clock_evaluate(&clock, kernel, 0)) == wide_of(clock.floor), "also one that can be set");
	clock.floor.sec = 1001;
	clock.floor.nsec = 200000001;
	check(wide_of(vdso_clock_evaluate(&clock, kernel, 0)) == wide_of(kernel), "but not over more than a second");
	clock.flags = 0;
	check(wide_of(vdso_clock_evaluate(&clock, kernel, 0)) == wide_of(clock.floor), "which one that cannot be set keeps to");

	clock = (struct vdso_clock){.kind = VDSO_KIND_COUNTER, .takeover = 1500, .span = 1000,
				    .line = {{.in = 1000, .sec = 7, .rate = 1 << VDSO_COUNTER_SHIFT},
					     {.in = 1500, .sec = 8, .rate = 1 << VDSO_COUNTER_SHIFT}}};
	check(vdso_clock_evaluate(&clock, kernel, 1499).sec == 7 && vdso_clock_evaluate(&clock, kernel, 1500).sec == 8 &&
	      vdso_clock_evaluate(&clock, kernel, 1999).sec == 8 && vdso_clock_evaluate(&clock, kernel, 2000).sec == 1000 &&
	      vdso_clock_evaluate(&clock, kernel, 999).sec == 1000, "a counter line has a beginning, a takeover and an end");
}

static void test_set_rate(unsigned rounds)
{
	static const uint64_t rates[] = {0, VDSO_RATE_ONE / 7, VDSO_RATE_ONE, 1000 * VDSO_RATE_ONE, 1000000 * VDSO_RATE_ONE};
	struct vdso_clock clock = {.kind = VDSO_KIND_OFFSET, .offset = {.sec = -86400000, .nsec = 5}}, next;
	uint64_t in = 1790000000123456789u, seed = 3;
	unsigned wrong = 0, jumps = 0;

	check(vdso_clock_set_rate(&clock, in, 2 * VDSO_RATE_ONE, VDSO_LEAD_NS, &next) == 0 && next.kind == VDSO_KIND_LINE &&
	      wide_of(vdso_line_kernel(&next.line[0], in + 12345)) == (wide)in + 12345 - 86400000 * NS + 5,
	      "an offset becomes a line without a change");
	clock.kind = VDSO_KIND_JUMP;
	check(vdso_clock_set_rate(&clock, in, 1, VDSO_LEAD_NS, &next) == -EINVAL, "a clock that is the kernel's for good has no rate");
	clock = (struct vdso_clock){.kind = VDSO_KIND_OFFSET};
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t lead = VDSO_LEAD_NS + next_random(&seed) % 10000000;
		int err = vdso_clock_set_rate(&clock, in, rates[next_random(&seed) % 5], lead, &next);

		if (err == -EAGAIN) {
			wrong += in >= clock.takeover || clock.takeover - in > lead / 2;
			in = clock.takeover;
			continue;
		}
		wrong += err != 0 || next.takeover != in + lead;
		/* What is in force now and at the last moment before the takeover is what was so; at the takeover they meet. */
		if (i > 0)
			wrong += wide_of(vdso_line_kernel(&next.line[0], in)) !=
				 wide_of(vdso_line_kernel(&clock.line[in >= clock.takeover], in));
		jumps += wide_of(vdso_line_kernel(&next.line[0], next.takeover)) !=
			 wide_of(vdso_line_kernel(&next.line[1], next.takeover));
		clock = next;
		in += next_random(&seed) % 15000000;
	}
	check(wrong == 0 && jumps == 0, "%u changes of rate continue each other: %u wrong, %u jumps", rounds, wrong, jumps);
}

/* ---- publishing late ---- */

/* A kernel clock that passes by `step` at each look. */
struct slow {
	uint64_t ns, step;
	unsigned fast_after, looks;
};

static int slow_clock(void *context, int id, struct vdso_time *ret)
{
	struct slow *s = context;

	(void)id;
	if (s->looks++ >= s->fast_after)
		s->step = 1000;
	s->ns += s->step;
	*ret = (struct vdso_time){.sec = (int64_t)(s->ns / 1000000000u), .nsec = s->ns % 1000000000u};
	return 0;
}

static void slow_sleep(void *context, uint64_t ns)
{
	((struct slow *)context)->ns += ns;
}

static struct vdso_page lines_page(int *fd)
{
	struct vdso_page_shape shape = vdso_clock_shape();
	struct vdso_clock_record record;
	struct vdso_page page;

	if (vdso_page_create_memfd("clock", &shape, fd) != 0 || vdso_page_open_writer(*fd, 0, &page) != 0)
		exit(2);
	vdso_record_offset(&record, 0, 0);
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
		record.clock[id].kind = VDSO_KIND_OFFSET;
	vdso_page_publish(&page, &record, false);
	return page;
}

static void test_late(void)
{
	/* Three times the writer is held up by 1.5 ms between its look and its store. */
	struct slow slow = {.ns = 5000000000, .step = 1500000, .fast_after = 6};
	struct vdso_source source = {.context = &slow, .clock = slow_clock, .sleep = slow_sleep};
	struct vdso_clock_record record;
	uint64_t version;
	int fd;
	struct vdso_page page = lines_page(&fd);
	int err = publish_rate(&page, &source, 1u << VDSO_ID_MONOTONIC, 2 * VDSO_RATE_ONE, VDSO_LEAD_NS);

	vdso_page_get(&page, 0, &record, &version);
	check(err == 0 && version == 2 && record.clock[VDSO_ID_MONOTONIC].takeover >= slow.ns + VDSO_LEAD_NS / 2,
	      "a writer that was held up starts over: %lld us of the lead are left",
	      (long long)(record.clock[VDSO_ID_MONOTONIC].takeover - slow.ns) / 1000);
	check(slow.looks > 6, "after %u looks at the clock", slow.looks);
	check(publish_rate(&page, &source, 1u << VDSO_ID_MONOTONIC, 1, VDSO_LEAD_NS - 1) == -EINVAL &&
	      publish_rate(&page, &source, 0, 1, VDSO_LEAD_NS) == -EINVAL,
	      "too short a lead, and no clock at all, are refused");
	slow.fast_after = UINT32_MAX;
	slow.step = 1500000;
	check(publish_rate(&page, &source, 1u << VDSO_ID_MONOTONIC, 1, VDSO_LEAD_NS) == -ETIMEDOUT,
	      "a machine that never lets it be in time gets no new record");
	check(atomic_load(&page.header->head) == 2, "and keeps the old one");
	vdso_page_close(&page);
}

/* ---- changes of rate under hot readers ---- */

struct hot {
	const struct vdso_page *page;
	const struct vdso_source *source;
	_Atomic int64_t *newest;
	atomic_bool stop;
	atomic_ullong reads, backward, step_max;
};

static void *read_hot(void *argument)
{
	struct hot *h = argument;
	struct reference reader = {.page = h->page->header, .source = h->source};
	unsigned long long reads = 0;

	for (; !atomic_load_explicit(&h->stop, memory_order_relaxed); reads++) {
		/* Whatever anyone had before this read began must not be after what it gives. */
		int64_t before = atomic_load(h->newest), now = reference_ns(&reader, VDSO_ID_MONOTONIC);

		if (now < before) {
			unsigned long long step = (unsigned long long)(before - now), max = atomic_load(&h->step_max);

			h->backward++;
			while (step > max && !atomic_compare_exchange_weak(&h->step_max, &max, step))
				;
		}
		while (now > before && !atomic_compare_exchange_weak(h->newest, &before, now))
			;
	}
	atomic_fetch_add(&h->reads, reads);
	return NULL;
}

static void test_hot(unsigned changes)
{
	struct vdso_source source;
	int fd;
	struct vdso_page page = lines_page(&fd), reading;
	_Atomic int64_t newest = 0;
	struct hot hot = {.page = &reading, .source = &source, .newest = &newest};
	pthread_t thread[4];
	unsigned failed = 0;
	uint64_t seed = 9;

	vdso_source_init(&source);
	if (vdso_page_open_reader(fd, 0, &reading) != 0)
		exit(2);
	for (int i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, read_hot, &hot);
	for (unsigned i = 0; i < changes; i++) {
		failed += publish_rate(&page, &source, 1u << VDSO_ID_MONOTONIC,
						  (i % 2 == 0 ? 1000 : 1) * VDSO_RATE_ONE, VDSO_LEAD_NS) != 0;
		/* Most take over before the next; some are overtaken by it while they are ahead. */
		sleep_ns(next_random(&seed) % (2 * VDSO_LEAD_NS) + VDSO_LEAD_NS / 2);
	}
	atomic_store(&hot.stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	check(failed == 0 && hot.backward == 0,
	      "%u changes of rate between 1000 and 1, 4 threads, %llu reads: %llu backward (by up to %llu ns), %u failed", changes,
	      (unsigned long long)hot.reads, (unsigned long long)hot.backward, (unsigned long long)hot.step_max, failed);
	vdso_page_close(&reading);
	vdso_page_close(&page);
	vdso_source_deinit(&source);
}

int main(int argc, char **argv)
{
	bool full = soak(argc, argv);

	test_add(full ? 10000000 : 1000000);
	test_kernel_line(full ? 10000000 : 1000000);
	test_reach(full ? 10000000 : 1000000);
	test_reach_from_before(full ? 10000000 : 1000000);
	test_counter_line(full ? 10000000 : 1000000);
	test_records();
	test_set_rate(full ? 1000000 : 100000);
	test_late();
	test_hot(full ? 2000 : 400);
	return check_done();
}
