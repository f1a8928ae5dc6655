/* A process's own clock page under hot readers: changes of rate, and the page exchanged under their feet. */
#include <pthread.h>

#include "image.h"
#include "travel.h"

#define THREADS 4
#define DAYS INT64_C(86400)
#define T_2030 INT64_C(1893456000)
#define NSEC INT64_C(1000000000)

struct hot {
	const struct image *image;
	void (*look)(struct hot *, int64_t before, int64_t now);
	_Atomic int64_t newest;
	atomic_bool stop;
	atomic_ullong reads, wrong;
	pthread_t thread[THREADS];
};

static void *read_hot(void *argument)
{
	struct hot *h = argument;
	unsigned long long reads = 0;

	for (; !atomic_load_explicit(&h->stop, memory_order_relaxed); reads++) {
		int64_t before = atomic_load(&h->newest);

		h->look(h, before, read_ns(h->image, CLOCK_REALTIME));
	}
	atomic_fetch_add(&h->reads, reads);
	return NULL;
}

static void start_readers(struct hot *h, const struct image *image, void (*look)(struct hot *, int64_t, int64_t))
{
	memset(h, 0, sizeof(*h));
	h->image = image;
	h->look = look;
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

/* Whatever anyone had before this read began must not be after what it gives. */
static void look_back(struct hot *h, int64_t before, int64_t now)
{
	h->wrong += now < before;
	while (now > before && !atomic_compare_exchange_weak(&h->newest, &before, now))
		;
}

/* The session's time, or the one that stands still, and nothing between. */
static void look_between(struct hot *h, int64_t before, int64_t now)
{
	int64_t ahead = now - ns_of(&(struct timespec){.tv_sec = time(NULL)}) - 1000 * DAYS * NSEC;

	(void)before;
	h->wrong += now != T_2030 * NSEC && (ahead < -5 * NSEC || ahead > 5 * NSEC);
}

/* A page that is this process's own, in the place of the image's. */
static struct vdso_travel stand_for(const struct image *image)
{
	struct vdso_travel there = {.region = (uint64_t)(uintptr_t)image->local.base}, ret;

	if (vdso_travel_create(&ret) != 0 || vdso_travel_succeed(&ret, &there) != 0)
		fail("vdso_travel_succeed");
	return ret;
}

static void test_rates(unsigned flips)
{
	struct vdso_line line = {.sec = T_2030, .rate = VDSO_RATE_ONE};
	struct vdso_clock_record record;
	struct vdso_travel travel;
	struct image image;
	struct hot hot;
	int err = 0;

	vdso_record_identity(&record);
	image = map_image(&record);
	travel = stand_for(&image);
	line.in = (uint64_t)vdso_travel_host_ns(&travel);
	err = vdso_travel_publish(&travel, &line);
	start_readers(&hot, &image, look_back);
	for (unsigned i = 0; err == 0 && i < flips; i++)
		err = vdso_travel_bend(&travel, &line, i % 2 == 0 ? 1000 * VDSO_RATE_ONE : i % 4 == 1 ? VDSO_RATE_ONE : 0);
	stop_readers(&hot);
	check(err == 0 && hot.wrong == 0 && hot.reads > 10000, "%u changes of rate, %d threads, %llu reads: %llu backward (%d)", flips,
	      THREADS, (unsigned long long)hot.reads, (unsigned long long)hot.wrong, err);
	vdso_travel_destroy(&travel);
	unmap_image(&image);
}

static void test_exchange(unsigned rounds)
{
	struct vdso_line line = {.sec = T_2030, .rate = 0};
	struct vdso_clock_record record;
	struct vdso_travel travel;
	struct image image;
	struct hot hot;
	int err;

	vdso_record_offset(&record, 1000 * DAYS, 0);
	image = map_image(&record);
	err = vdso_travel_create(&travel);
	start_readers(&hot, &image, look_between);
	if (err == 0)
		err = vdso_travel_borrow(&travel, (uint64_t)(uintptr_t)image.local.base);
	for (unsigned i = 0; err == 0 && i < rounds; i++) {
		line.in = (uint64_t)vdso_travel_host_ns(&travel);
		err = vdso_travel_publish(&travel, &line);
		if (err == 0 && read_ns(&image, CLOCK_REALTIME) != T_2030 * NSEC)
			err = -ERANGE;
		/* Not at once: see travel.h about who is interrupted over two exchanges. */
		sleep_ns(500000);
		if (err == 0)
			err = vdso_travel_give_back(&travel);
		sleep_ns(500000);
		if (err == 0)
			err = vdso_travel_borrow_again(&travel);
	}
	stop_readers(&hot);
	check(err == 0 && hot.wrong == 0 && hot.reads > 10000, "the page exchanged %u times, %llu reads: %llu wrong (%d)", rounds,
	      (unsigned long long)hot.reads, (unsigned long long)hot.wrong, err);
	vdso_travel_destroy(&travel);
	unmap_image(&image);
}

static void test_refused(void)
{
	struct vdso_clock_record record;
	struct vdso_travel travel;
	struct image image;
	int err;

	vdso_record_identity(&record);
	record.clock[VDSO_ID_MONOTONIC].kind = VDSO_KIND_OFFSET;
	image = map_image(&record);
	err = vdso_travel_create(&travel);
	if (err == 0)
		err = vdso_travel_borrow(&travel, (uint64_t)(uintptr_t)image.local.base);
	check(err == -EOPNOTSUPP, "a session that moves MONOTONIC is not stood for (%d)", err);
	vdso_travel_destroy(&travel);
	unmap_image(&image);
}

int main(int argc, char **argv)
{
	bool long_counts = soak(argc, argv);

	test_rates(long_counts ? 2000 : 200);
	test_exchange(long_counts ? 10000 : 500);
	test_refused();
	return check_done();
}
