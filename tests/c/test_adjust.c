/* A session's clock adjusted under hot readers, through the built image: no step back, nothing torn, nothing lost. */
#include <pthread.h>

#include "adjust.h"
#include "image.h"

#define THREADS 4

static const int ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME,
			  CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_TAI};
#define IDS (sizeof(ids) / sizeof(ids[0]))

static const struct vdso_adjustment nothing;

static struct vdso_time seconds(int64_t sec, uint64_t nsec)
{
	return (struct vdso_time){sec, nsec};
}

static struct vdso_adjustment rate(uint64_t to)
{
	return (struct vdso_adjustment){.how = VDSO_RATE_SET, .rate = to};
}

struct writer {
	struct image image;
	struct vdso_source source;
	struct vdso_page page;
};

/* A session as `vdso run` begins it. */
static void begin(struct writer *w, bool all, const struct vdso_adjustment *first)
{
	struct vdso_clock_record record;

	vdso_source_init(&w->source);
	if (vdso_adjust_first(&w->source, all, first, &record) != 0)
		fail("vdso_adjust_first");
	w->image = map_image(&record);
	if (vdso_page_open_writer(dup(w->image.page_fd), 0, &w->page) != 0)
		fail("vdso_page_open_writer");
}

static void end(struct writer *w)
{
	vdso_page_close(&w->page);
	vdso_source_deinit(&w->source);
	unmap_image(&w->image);
}

static int adjust(struct writer *w, struct vdso_adjustment adjustment)
{
	return vdso_adjust(&w->page, &w->source, &adjustment);
}

static int64_t off(const struct writer *w, int id)
{
	return read_ns(&w->image, id) - kernel_ns(id);
}

/* ---- hot readers ---- */

struct hot {
	const struct image *image;
	_Atomic int64_t newest[IDS];
	atomic_bool stop;
	atomic_ullong reads, backward, step_max, other;
	int64_t allowed[2];
};

static void *read_hot(void *argument)
{
	struct hot *h = argument;
	unsigned long long reads = 0;

	for (; !atomic_load_explicit(&h->stop, memory_order_relaxed); reads++) {
		size_t i = reads % IDS;
		/* Whatever anyone had before this read began must not be after what it gives. */
		int64_t before = atomic_load(&h->newest[i]), now = read_ns(h->image, ids[i]);

		if (now < before) {
			unsigned long long step = (unsigned long long)(before - now), max = atomic_load(&h->step_max);

			h->backward++;
			while (step > max && !atomic_compare_exchange_weak(&h->step_max, &max, step))
				;
		}
		while (now > before && !atomic_compare_exchange_weak(&h->newest[i], &before, now))
			;
	}
	atomic_fetch_add(&h->reads, reads);
	return NULL;
}

static void *read_either(void *argument)
{
	struct hot *h = argument;
	unsigned long long reads = 0;

	for (; !atomic_load_explicit(&h->stop, memory_order_relaxed); reads++) {
		int64_t now = read_ns(h->image, reads % 2 ? CLOCK_REALTIME : CLOCK_REALTIME_COARSE);

		h->other += now != h->allowed[0] && now != h->allowed[1];
		atomic_fetch_add_explicit(&h->reads, 1, memory_order_relaxed);
	}
	return NULL;
}

static void start_readers(struct hot *h, pthread_t *thread, void *(*function)(void *))
{
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, function, h) != 0)
			fail("pthread_create");
}

static void stop_readers(struct hot *h, pthread_t *thread)
{
	atomic_store(&h->stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
}

static void test_flips(unsigned flips)
{
	struct hot hot = {0};
	pthread_t thread[THREADS];
	struct writer w;
	unsigned failed = 0;
	uint64_t seed = 9;

	begin(&w, true, &nothing);
	hot.image = &w.image;
	start_readers(&hot, thread, read_hot);
	for (unsigned i = 0; i < flips; i++) {
		failed += adjust(&w, rate((i % 2 == 0 ? 1000 : 1) * VDSO_RATE_ONE)) != 0;
		/* Some are settled, and so become offsets and lines again. */
		if (i % 16 == 15)
			failed += vdso_adjust_settle(&w.page, &w.source) != 0;
		sleep_ns(next_random(&seed) % (2 * VDSO_LEAD_NS) + VDSO_LEAD_NS / 2);
	}
	stop_readers(&hot, thread);
	check(failed == 0 && hot.backward == 0 && hot.reads > 100000,
	      "%u flips between 1000 and 1 of every clock, %d threads, %llu reads: %llu backward (by up to %llu ns), %u failed",
	      flips, THREADS, (unsigned long long)hot.reads, (unsigned long long)hot.backward,
	      (unsigned long long)hot.step_max, failed);
	check(off(&w, CLOCK_MONOTONIC) > (int64_t)flips / 2 * 1000000 && off(&w, CLOCK_REALTIME) > (int64_t)flips / 2 * 1000000,
	      "and the clocks have run ahead");
	end(&w);
}

static void test_steps(unsigned steps)
{
	struct hot hot = {.allowed = {INT64_C(2000000000123456789), INT64_C(1000000000987654321)}};
	pthread_t thread[THREADS];
	unsigned failed = 0, late = 0;
	struct writer w;

	begin(&w, false, &(struct vdso_adjustment){.time = VDSO_TIME_AT, .by = seconds(2000000000, 123456789), .how = VDSO_RATE_SET});
	hot.image = &w.image;
	start_readers(&hot, thread, read_either);
	/* On a busy machine the readers may be late to begin. */
	for (unsigned i = 0; i < steps || atomic_load_explicit(&hot.reads, memory_order_relaxed) < 10000; i++) {
		struct vdso_time to = i % 2 ? seconds(2000000000, 123456789) : seconds(1000000000, 987654321);

		failed += adjust(&w, (struct vdso_adjustment){.time = VDSO_TIME_AT, .by = to}) != 0;
		late += read_ns(&w.image, CLOCK_REALTIME) != hot.allowed[i % 2 == 0];
	}
	stop_readers(&hot, thread);
	check(failed == 0 && hot.other == 0 && late == 0 && hot.reads >= 10000,
	      "%u steps of a frozen clock, %d threads, %llu reads: %llu of neither time, %u not seen by the next read", steps,
	      THREADS, (unsigned long long)hot.reads, (unsigned long long)hot.other, late);
	end(&w);
}

/* ---- one at a time ---- */

static void test_first(void)
{
	struct writer w;
	int64_t mono;

	begin(&w, true, &(struct vdso_adjustment){.time = VDSO_TIME_OFFSET, .by = seconds(-1000, 0), .how = VDSO_RATE_SET});
	mono = read_ns(&w.image, CLOCK_MONOTONIC);
	sleep_ns(20000000);
	check(read_ns(&w.image, CLOCK_MONOTONIC) == mono && kernel_ns(CLOCK_MONOTONIC) - mono < INT64_C(10000000000),
	      "frozen from the outset, from its own value");
	check(off(&w, CLOCK_REALTIME) < INT64_C(-1000000000000), "and set beside the host's clock");
	end(&w);

	begin(&w, false, &(struct vdso_adjustment){.how = VDSO_RATE_SET, .rate = 1000000 * VDSO_RATE_ONE});
	check(off(&w, CLOCK_MONOTONIC) <= 0, "MONOTONIC is left alone where only the walls are moved");
	sleep_ns(20000000);
	check(off(&w, CLOCK_REALTIME) > INT64_C(10000000000000), "a million times as fast");
	end(&w);
}

static void test_thaw(void)
{
	struct vdso_adjusted state;
	struct vdso_clock_record record;
	struct writer w;
	uint64_t version;
	int64_t at;

	begin(&w, true, &(struct vdso_adjustment){.how = VDSO_RATE_SET, .rate = 60 * VDSO_RATE_ONE});
	check(adjust(&w, rate(0)) == 0 && adjust(&w, rate(0)) == 0, "frozen, and frozen again");
	sleep_ns(20000000);
	at = read_ns(&w.image, CLOCK_REALTIME);
	vdso_page_get(&w.page, 0, &record, &version);
	vdso_adjust_look(&record, &w.source, &state);
	check(state.rate == 0 && state.thawed == 60 * VDSO_RATE_ONE && state.all && !state.counter && state.moved,
	      "which shows, with what a thaw goes back to");
	sleep_ns(20000000);
	check(read_ns(&w.image, CLOCK_REALTIME) == at, "it stands still");
	check(read_ns(&w.image, CLOCK_REALTIME_COARSE) == at, "its coarse view at the same nanosecond");
	check(read_ns(&w.image, CLOCK_TAI) - at ==
		      (kernel_ns(CLOCK_TAI) - kernel_ns(CLOCK_REALTIME) + 500000000) / 1000000000 * 1000000000,
	      "TAI at the host's distance");
	check(adjust(&w, (struct vdso_adjustment){.time = VDSO_TIME_SHIFT, .by = seconds(-86400, 0)}) == 0 &&
		      read_ns(&w.image, CLOCK_REALTIME) == at - INT64_C(86400000000000),
	      "a shift of a frozen clock is seen at once, and it stays frozen");
	check(adjust(&w, (struct vdso_adjustment){.how = VDSO_RATE_THAW}) == 0, "a thaw");
	sleep_ns(50000000);
	check(read_ns(&w.image, CLOCK_REALTIME) - (at - INT64_C(86400000000000)) > INT64_C(60) * 30000000,
	      "goes on at the rate that it had");
	check(adjust(&w, (struct vdso_adjustment){.time = VDSO_TIME_OFFSET, .how = VDSO_RATE_SET, .rate = VDSO_RATE_ONE}) == 0 &&
		      off(&w, CLOCK_REALTIME) <= 0 && off(&w, CLOCK_TAI) <= 0,
	      "and a reset is the host's time");
	end(&w);
}

/* The coarse clock, and time(), lag by up to a tick: behind a step they show nothing from before it, whatever the rate. */
static void test_coarse(void)
{
	static const uint64_t rates[] = {VDSO_RATE_ONE, 1000 * VDSO_RATE_ONE, VDSO_RATE_ONE / 2, 0};
	const int64_t at = 1893456000;
	unsigned early = 0, back = 0, rounds = 0;
	struct writer w;

	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct vdso_adjustment set = {.time = VDSO_TIME_AT, .by = seconds(at, 0), .how = VDSO_RATE_SET, .rate = rates[i]};

		begin(&w, false, &set);
		early += w.image.time(NULL) < at || read_ns(&w.image, CLOCK_REALTIME_COARSE) < at * 1000000000;
		for (int round = 0; round < 20; round++, rounds++) {
			int64_t newest = INT64_MIN, until, now;

			set.by.sec = at + round % 3 * 1000;
			if (adjust(&w, set) != 0)
				fail("vdso_adjust");
			early += w.image.time(NULL) < set.by.sec;
			early += read_ns(&w.image, CLOCK_REALTIME_COARSE) < set.by.sec * 1000000000;
			if (round % 2 == 0) { /* a new rate while the coarse clock still lags behind the step */
				newest = read_ns(&w.image, CLOCK_REALTIME_COARSE);
				if (adjust(&w, rate(rates[(i + 1) % 3])) != 0)
					fail("vdso_adjust");
			}
			for (until = kernel_ns(CLOCK_MONOTONIC) + 15000000; kernel_ns(CLOCK_MONOTONIC) < until; newest = now) {
				now = read_ns(&w.image, CLOCK_REALTIME_COARSE);
				back += now < newest;
			}
		}
		end(&w);
	}
	check(early == 0 && back == 0, "%u steps: %u times a coarse reading from before, %u steps back", rounds, early, back);
}

static void test_settle(void)
{
	struct vdso_clock_record before, after;
	unsigned wrong = 0;
	struct writer w;
	uint64_t version;

	begin(&w, true, &nothing);
	adjust(&w, rate(7 * VDSO_RATE_ONE));
	sleep_ns(10000000);
	adjust(&w, rate(VDSO_RATE_ONE));
	sleep_ns(5000000);
	vdso_page_get(&w.page, 0, &before, &version);
	check(vdso_adjust_settle(&w.page, &w.source) == 0, "a rate of 1 settles");
	vdso_page_get(&w.page, 0, &after, &version);
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
		for (int i = 0; i < 1000; i++) {
			struct vdso_time in = seconds(before.clock[id].takeover / 1000000000 + 1 + (uint64_t)i * 7919, 123456789);
			struct vdso_time a = vdso_clock_evaluate(&before.clock[id], in, 0);
			struct vdso_time b = vdso_clock_evaluate(&after.clock[id], in, 0);

			wrong += vdso_time_compare(a, b) != 0 || after.clock[id].kind == VDSO_KIND_LINE;
		}
	check(wrong == 0, "into offsets that say the same: %u differ", wrong);
	end(&w);
}

static void test_limits(void)
{
	struct vdso_adjustment last = {.time = VDSO_TIME_AT, .by = seconds(VDSO_LAST_SECOND, 999999999)};
	struct vdso_clock_record record;
	struct writer w;
	int64_t at;

	begin(&w, false, &nothing);
	check(adjust(&w, last) == 0, "the last second that a broken-down time can name");
	last.time = VDSO_TIME_SHIFT;
	check(adjust(&w, last) == -ERANGE, "and none after it");
	check(adjust(&w, (struct vdso_adjustment){.time = VDSO_TIME_AT, .by = seconds(VDSO_FIRST_SECOND - 1, 0)}) == -ERANGE,
	      "nor before the first");
	check(adjust(&w, rate(VDSO_RATE_MAX + 1)) == -ERANGE, "a rate above a million");
	check(adjust(&w, (struct vdso_adjustment){.time = VDSO_TIME_AT, .by = seconds(-1000, 5), .how = VDSO_RATE_SET}) == 0 &&
		      read_ns(&w.image, CLOCK_REALTIME) == -INT64_C(999999999995),
	      "before 1970");
	/* A line whose advance leaves 62 bits: renewed in time it goes on, else it stands still there, and never goes back. */
	vdso_adjust_first(&w.source, true, &(struct vdso_adjustment){.how = VDSO_RATE_SET, .rate = VDSO_RATE_MAX},
			  &record);
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
		for (int i = 0; i < 2; i++)
			record.clock[id].line[i].in -= UINT64_C(4611) * 1000000000; /* just before */
	vdso_page_publish(&w.page, &record, true);
	at = read_ns(&w.image, CLOCK_MONOTONIC) / 1000000000;
	check(vdso_adjust_wants_renewal(&record) && vdso_adjust_renew(&w.page, &w.source) == 0, "a line that is old is renewed");
	sleep_ns(UINT64_C(1500000000));
	struct timespec now;
	w.image.clock_gettime(CLOCK_MONOTONIC, &now);
	check(now.tv_sec > at + 1000000, "and goes on beyond 2^62 ns");
	vdso_page_publish(&w.page, &record, true);
	w.image.clock_gettime(CLOCK_MONOTONIC, &now);
	check(now.tv_sec > INT64_C(4611686010), "one that is not stands still");
	end(&w);
}

static void test_refused(void)
{
	struct vdso_clock_record record;
	struct writer w;

	begin(&w, false, &nothing);
	vdso_record_offset(&record, 0, 0);
	record.clock[0].kind = VDSO_KIND_COUNTER;
	vdso_page_publish(&w.page, &record, false);
	check(adjust(&w, nothing) == -EOPNOTSUPP, "a keeper's clock");
	vdso_record_identity(&record);
	vdso_page_publish(&w.page, &record, false);
	check(adjust(&w, rate(5 * VDSO_RATE_ONE)) == 0, "a clock that nobody has moved becomes a line");
	sleep_ns(10000000);
	check(off(&w, CLOCK_REALTIME) > 20000000 && off(&w, CLOCK_MONOTONIC) <= 0, "and MONOTONIC stays what it was");
	end(&w);
}

int main(int argc, char **argv)
{
	bool full = soak(argc, argv);

	test_first();
	test_thaw();
	test_coarse();
	test_settle();
	test_limits();
	test_refused();
	test_steps(full ? 200000 : 5000);
	test_flips(full ? 2000 : 300);
	return check_done();
}
