/* Reads the clock for ever, each time from another function whose name says how. */
#include <stdint.h>
#include <sys/time.h>
#include <time.h>

#define APART __attribute__((noinline, noclone))

static volatile int64_t sink;

APART static int64_t plainly(void) {
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_nsec + 1;
}

/* Ends in a jump to clock_gettime, and leaves no frame behind. */
APART static int by_a_jump(struct timespec *now) {
	return clock_gettime(CLOCK_MONOTONIC, now);
}

APART static int64_t of_a_jump(void) {
	struct timespec now;
	return by_a_jump(&now) + now.tv_nsec;
}

APART static int64_t of_the_day(void) {
	struct timeval now;
	gettimeofday(&now, NULL);
	return now.tv_usec + 1;
}

APART static int64_t in_seconds(void) {
	return time(NULL) + 1;
}

/* Where its frame ends depends on what it is given. */
APART static int64_t of_any_size(int size) {
	volatile char room[size];
	struct timespec now;
	room[size - 1] = 1;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_nsec + room[size - 1];
}

/* Keeps every register that a function may keep. */
APART static int64_t with_much_to_keep(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	int64_t sum = now.tv_nsec + a * b + c * d;
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return now.tv_nsec * sum + a + b + c + d + e * f;
}

APART static int64_t through(int64_t (*function)(void)) {
	return function() + 1;
}

int main(int argc, char **argv) {
	(void)argv;
	for (int64_t round = 0;; round++) {
		sink += plainly();
		sink += of_a_jump();
		sink += of_the_day();
		sink += through(in_seconds);
		sink += of_any_size(argc + 40);
		sink += with_much_to_keep(round, 2, argc, 4, sink, 6);
	}
}
