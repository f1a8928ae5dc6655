/* MONOTONIC through the built image never steps back: not between threads, not through a keeper's death, not through
 * changes of rate. */
#include <pthread.h>

#include "image.h"
#include "rates.h"

#define THREADS 4

struct hot {
	const struct image *image;
	_Atomic int64_t newest;
	atomic_bool stop;
	atomic_ullong reads, backward, step_max;
	pthread_t thread[THREADS];
};

static void *read_hot(void *argument)
{
	struct hot *h = argument;
	unsigned long long reads = 0;

	for (; !atomic_load_explicit(&h->stop, memory_order_relaxed); reads++) {
		/* Whatever anyone had before this read began must not be after what it gives. */
		int64_t before = atomic_load(&h->newest), now = read_ns(h->image, CLOCK_MONOTONIC);

		if (now < before) {
			unsigned long long step = (unsigned long long)(before - now), max = atomic_load(&h->step_max);

			h->backward++;
			while (step > max && !atomic_compare_exchange_weak(&h->step_max, &max, step))
				;
		}
		while (now > before && !atomic_compare_exchange_weak(&h->newest, &before, now))
			;
	}
	atomic_fetch_add(&h->reads, reads);
	return NULL;
}

static void start_readers(struct hot *h, const struct image *image)
{
	memset(h, 0, sizeof(*h));
	h->image = image;
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&h->thread[i], NULL, read_hot, h) != 0)
			fail("pthread_create");
}

static void stop_readers(struct hot *h)
{
	atomic_store(&h->stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(h->thread[i], NULL);
}

static void test_kernel(unsigned seconds)
{
	struct vdso_clock_record record;
	struct image image;
	struct hot hot;

	vdso_record_offset(&record, 86400000, 1);
	image = map_image(&record);
	start_readers(&hot, &image);
	sleep_ns(seconds * UINT64_C(1000000000));
	stop_readers(&hot);
	check(hot.backward == 0 && hot.reads > 100000, "kernel: %u s, %d threads, %llu reads: %llu backward (by up to %llu ns)",
	      seconds, THREADS, (unsigned long long)hot.reads, (unsigned long long)hot.backward,
	      (unsigned long long)hot.step_max);
	unmap_image(&image);
}

/* Long enough for a line to have ended: VDSO_KEEPER_SPAN_NS without a keeper. */
#define ABSENCE_NS UINT64_C(1300000000)

static void test_killed_keeper(unsigned seconds)
{
	uint64_t until = monotonic_ns() + seconds * UINT64_C(1000000000), seed = 17;
	unsigned at_once = 0, late = 0;
	int64_t off, most = 0;
	struct image image;
	struct kept keeper;
	struct hot hot;

	image = map_image(NULL);
	keeper = start_keeper(&image, 0, 0);
	start_readers(&hot, &image);
	do {
		sleep_ns(next_random(&seed) % 400000000);
		if ((at_once + late) % 2 == 1) {
			stop_keeper(&image, &keeper);
			sleep_ns(ABSENCE_NS);
			keeper = start_keeper(&image, 0, 0);
			late++;
		} else {
			kill_keeper(&image);
			at_once++;
		}
	} while (monotonic_ns() < until || late == 0);
	/* It is not only that it does not go back: it is the kernel's clock still. */
	sleep_ns(ABSENCE_NS);
	for (int i = 0; i < 1000; i++) {
		off = read_ns(&image, CLOCK_MONOTONIC) - kernel_ns(CLOCK_MONOTONIC);
		most = llabs(off) > most ? llabs(off) : most;
	}
	stop_keeper(&image, &keeper);
	stop_readers(&hot);
	check(hot.backward == 0 && hot.reads > 100000,
	      "tsc: %u s, %d threads, keeper killed %u times and succeeded at once, %u times after its line had ended, %llu reads: "
	      "%llu backward (by up to %llu ns)",
	      seconds, THREADS, at_once, late, (unsigned long long)hot.reads, (unsigned long long)hot.backward,
	      (unsigned long long)hot.step_max);
	/* Four busy threads share the processors with us: what is between the two readings may be a whole time slice. */
	check(most < 1000000000, "tsc: afterwards within %lld us of the kernel's clock", (long long)most / 1000);
	unmap_image(&image);
}

static void test_rates(unsigned changes)
{
	struct vdso_clock_record record;
	struct vdso_source source;
	struct vdso_page page;
	unsigned failed = 0;
	struct image image;
	uint64_t seed = 9;
	struct hot hot;

	vdso_record_offset(&record, 0, 0);
	record.clock[VDSO_ID_MONOTONIC].kind = VDSO_KIND_OFFSET;
	image = map_image(&record);
	vdso_source_init(&source);
	if (vdso_page_open_writer(dup(image.page_fd), 0, &page) != 0)
		fail("vdso_page_open_writer");
	start_readers(&hot, &image);
	for (unsigned i = 0; i < changes; i++) {
		failed += publish_rate(&page, &source, 1u << VDSO_ID_MONOTONIC,
						  (i % 2 == 0 ? 1000 : 1) * VDSO_RATE_ONE, VDSO_LEAD_NS) != 0;
		/* Most take over before the next; some are overtaken by it while they are ahead. */
		sleep_ns(next_random(&seed) % (2 * VDSO_LEAD_NS) + VDSO_LEAD_NS / 2);
	}
	stop_readers(&hot);
	check(failed == 0 && hot.backward == 0,
	      "%u changes of rate between 1000 and 1, %d threads, %llu reads: %llu backward (by up to %llu ns), %u failed", changes,
	      THREADS, (unsigned long long)hot.reads, (unsigned long long)hot.backward, (unsigned long long)hot.step_max, failed);
	check(read_ns(&image, CLOCK_MONOTONIC) - kernel_ns(CLOCK_MONOTONIC) > (int64_t)changes / 2 * 1000000,
	      "and the clock has run ahead");
	vdso_page_close(&page);
	vdso_source_deinit(&source);
	unmap_image(&image);
}

int main(int argc, char **argv)
{
	bool full = soak(argc, argv);

	test_kernel(full ? 60 : 3);
	test_killed_keeper(full ? 60 : 3);
	test_rates(full ? 2000 : 400);
	return check_done();
}
