/* What the image's functions answer, between true system calls: every clock, in every way of computing it. */
#include "image.h"

static const struct {
	int id;
	const char *name;
} clocks[] = {{0, "REALTIME"},        {1, "MONOTONIC"}, {4, "MONOTONIC_RAW"},  {5, "REALTIME_COARSE"}, {6, "MONOTONIC_COARSE"},
	      {7, "BOOTTIME"},        {11, "TAI"},      {8, "REALTIME_ALARM"}, {9, "BOOTTIME_ALARM"}};

#define CLOCKS (sizeof(clocks) / sizeof(clocks[0]))

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* How far each reading is outside of [before, after] + offset; 0: inside. Sorted. */
static unsigned outside(const struct image *image, int id, int64_t offset, unsigned rounds, int64_t *by)
{
	unsigned count = 0;

	for (unsigned i = 0; i < rounds; i++) {
		int64_t before = kernel_ns(id) + offset, got = read_ns(image, id), after = kernel_ns(id) + offset;

		by[i] = got < before ? before - got : got > after ? got - after : 0;
		count += by[i] != 0;
	}
	qsort(by, rounds, sizeof(*by), compare);
	return count;
}

/*
 * p99 and max are what the way of computing allows. The kernel's own clocks: nothing. The counter's: the keeper's fit is
 * good to some 10 ns, and a keeper that is kept from its ticks drifts until the line ends.
 */
static void test_brackets(const char *way, const struct image *image, int64_t offset, unsigned rounds, int64_t p99, int64_t max)
{
	int64_t *by = calloc(rounds, sizeof(*by));

	for (size_t c = 0; c < CLOCKS; c++) {
		struct timespec ts;
		int error = syscall(SYS_clock_gettime, clocks[c].id, &ts) == 0 ? 0 : -errno;

		if (error != 0) { /* an ALARM clock without a real-time clock device */
			check(image->clock_gettime(clocks[c].id, &ts) == error, "%s: %s: %s, as the system call", way,
			      clocks[c].name, strerror(-error));
			continue;
		}
		int64_t by_offset = vdso_clock_is_wall(clocks[c].id) ? offset : 0;
		unsigned count = outside(image, clocks[c].id, by_offset, rounds, by);

		check(by[rounds - 1 - rounds / 100] <= p99 && by[rounds - 1] <= max,
		      "%s: %s: of %u readings %u outside their system calls, p99 %lld ns, at most %lld ns", way, clocks[c].name,
		      rounds, count, (long long)by[rounds - 1 - rounds / 100], (long long)by[rounds - 1]);
	}
	free(by);
}

/* gettimeofday is REALTIME's microseconds, time is REALTIME_COARSE's seconds, and COARSE is never ahead of fine. */
static void test_agreement(const char *way, const struct image *image, unsigned rounds, int64_t ahead)
{
	unsigned day = 0, seconds = 0, stored = 0, coarse_ahead = 0, not_normal = 0;

	for (unsigned i = 0; i < rounds; i++) {
		struct timespec ts;
		struct timeval tv;
		int64_t fine[2], coarse[2], got, by_pointer;

		fine[0] = read_ns(image, CLOCK_REALTIME);
		if (image->gettimeofday(&tv, NULL) != 0)
			fail("gettimeofday");
		fine[1] = read_ns(image, CLOCK_REALTIME);
		got = (int64_t)tv.tv_sec * 1000000 + tv.tv_usec;
		day += got < fine[0] / 1000 || got > fine[1] / 1000;
		not_normal += tv.tv_usec < 0 || tv.tv_usec > 999999;

		coarse[0] = read_ns(image, CLOCK_REALTIME_COARSE);
		got = image->time(&by_pointer);
		coarse[1] = read_ns(image, CLOCK_REALTIME_COARSE);
		seconds += got < coarse[0] / 1000000000 || got > coarse[1] / 1000000000;
		stored += got != by_pointer;

		fine[0] = read_ns(image, CLOCK_REALTIME);
		coarse_ahead += coarse[1] > fine[0] + ahead;
		if (image->clock_gettime((int[]){0, 5, 11}[i % 3], &ts) != 0 || ts.tv_nsec < 0 || ts.tv_nsec > 999999999)
			not_normal++;
	}
	check(day == 0 && seconds == 0 && stored == 0 && coarse_ahead == 0 && not_normal == 0,
	      "%s: %u times time, gettimeofday, COARSE and fine agree (%u, %u, %u, %u not; %u out of range)", way, rounds, day,
	      seconds, stored, coarse_ahead, not_normal);
}

/* A second's turn is where a carry that is wrong shows: readings on both sides of it. */
static void test_turn_of_the_second(void)
{
	struct vdso_clock_record record;
	unsigned wrong = 0, turns = 0;

	vdso_record_identity(&record);

	struct image image = map_image(&record);

	for (unsigned i = 0; i < 100; i++) {
		/* The clock is about to turn, and is read until it has. */
		int64_t nsec = 1000000000 - kernel_ns(CLOCK_REALTIME) % 1000000000 - 1000000, last = 0;
		bool turned = false;

		vdso_record_offset(&record, -1000 + (int64_t)i * 10, nsec);
		publish(image.page_fd, &record);
		while (!turned) {
			struct timespec ts;

			if (image.clock_gettime(CLOCK_REALTIME, &ts) != 0 || ts.tv_nsec < 0 || ts.tv_nsec > 999999999 ||
			    ns_of(&ts) < last)
				wrong++;
			turned = last != 0 && ts.tv_sec != last / 1000000000;
			last = ns_of(&ts);
		}
		turns++;
	}
	check(wrong == 0 && turns == 100, "%u turns of the second under an offset, %u readings wrong", turns, wrong);
	unmap_image(&image);
}

/* What a counter's line has told is not taken back once the line has ended or the counter is given up. */
static void test_floor(enum vdso_clock_kind kind, const char *name)
{
	const int ids[] = {CLOCK_MONOTONIC, CLOCK_REALTIME};
	struct vdso_clock_record record;
	int64_t floor[2];

	vdso_record_identity(&record);
	for (int i = 0; i < 2; i++) {
		struct vdso_clock *clock = &record.clock[ids[i]];

		clock->kind = kind; /* a COUNTER whose line, from count 0 on, has ended */
		clock->span = 1;
		floor[i] = kernel_ns(ids[i]) + (i == 0 ? INT64_C(3600000000000) : INT64_C(2000000000));
		clock->floor = (struct vdso_time){floor[i] / 1000000000, (uint64_t)(floor[i] % 1000000000)};
	}

	struct image image = map_image(&record);
	int64_t before = kernel_ns(CLOCK_REALTIME), real = read_ns(&image, CLOCK_REALTIME);

	check(read_ns(&image, CLOCK_MONOTONIC) == floor[0], "%s: MONOTONIC stands at its floor", name);
	/* More than a second ahead of a clock that can be set is a clock that was set back. */
	check(real >= before && real <= kernel_ns(CLOCK_REALTIME), "%s: REALTIME follows a clock that was set back", name);
	while (kernel_ns(CLOCK_REALTIME) < floor[1] - 900000000)
		sleep_ns(10000000);
	if (kernel_ns(CLOCK_REALTIME) < floor[1] - 300000000)
		check(read_ns(&image, CLOCK_REALTIME) == floor[1], "%s: REALTIME stands at a floor that is near", name);
	unmap_image(&image);
}

int main(int argc, char **argv)
{
	const int64_t sec = 86400000, nsec = 123456789;
	unsigned rounds = soak(argc, argv) ? 1000000 : 50000;
	struct vdso_clock_record record;
	struct image image;
	struct kept keeper;

	vdso_record_identity(&record);
	image = map_image(&record);
	test_brackets("kernel", &image, 0, rounds, 0, 0);
	test_agreement("kernel", &image, rounds, 0);
	unmap_image(&image);

	vdso_record_offset(&record, sec, nsec);
	image = map_image(&record);
	test_brackets("offset", &image, sec * 1000000000 + nsec, rounds, 0, 0);
	test_agreement("offset", &image, rounds, 0);
	unmap_image(&image);

	vdso_record_offset(&record, -sec, -nsec);
	image = map_image(&record);
	test_brackets("negative offset", &image, -(sec * 1000000000 + nsec), rounds, 0, 0);
	test_agreement("negative offset", &image, rounds, 0);
	unmap_image(&image);
	test_turn_of_the_second();
	test_floor(VDSO_KIND_FLOOR, "floor");
	test_floor(VDSO_KIND_COUNTER, "ended line");

	image = map_image(NULL);
	keeper = start_keeper(&image, sec, nsec);
	test_brackets("tsc", &image, sec * 1000000000 + nsec, rounds, 1000, 1000000);
	test_agreement("tsc", &image, rounds, 1000000);
	stop_keeper(&image, &keeper);
	unmap_image(&image);
	return check_done();
}
