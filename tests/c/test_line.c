/*
 * A LINE through the built image, over a kernel's clock that says what the test wants: every answer is the line's own, to the
 * nanosecond, by its quick form and without one.
 */
#include <sys/mman.h>

#include "image.h"

#define NS 1000000000
#define YEAR_2262_S INT64_C(9223372036)

static struct timespec host;

static int say(int id, struct timespec *ret)
{
	(void)id;
	*ret = host;
	return 0;
}

static void say_what_is_wanted(const struct image *image)
{
	struct vdso_process *process = (struct vdso_process *)(image->local.base + VDSO_CLOCK_BYTES);

	if (mprotect(process, VDSO_PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
		fail("mprotect");
	process->function[VDSO_FN_CLOCK_GETTIME] = (uint64_t)(uintptr_t)say;
}

static struct vdso_line some_line(uint64_t *seed)
{
	static const uint64_t rates[] = {0, 1, VDSO_RATE_ONE, VDSO_RATE_ONE / 2, VDSO_RATE_ONE + 1, 1000 * VDSO_RATE_ONE,
					 1000000 * VDSO_RATE_ONE, VDSO_QUICK_RATE_MAX - 1, VDSO_QUICK_RATE_MAX};

	return (struct vdso_line){
		.in = next_random(seed) % ((uint64_t)YEAR_2262_S * NS),
		.sec = next_random(seed) % 4 == 0 ? INT64_MIN / 2 + (int64_t)(next_random(seed) >> 2)
						  : (int64_t)next_random(seed) % YEAR_2262_S,
		.nsec = next_random(seed) % NS,
		.rate = next_random(seed) % 2 ? rates[next_random(seed) % 9]
					      : next_random(seed) % VDSO_QUICK_RATE_MAX >> next_random(seed) % 53,
	};
}

/* Near the line's beginning, or where its seconds turn over, or anywhere. */
static struct vdso_time some_input(const struct vdso_line *line, uint64_t *seed)
{
	uint64_t in = next_random(seed) % ((uint64_t)YEAR_2262_S * NS), second;

	if (next_random(seed) % 4 != 0)
		in = line->in + (next_random(seed) >> next_random(seed) % 64) - NS;
	if (next_random(seed) % 2 && line->rate != 0) {
		struct vdso_time shown = vdso_line_kernel(line, in), there;
		struct vdso_clock clock = {.kind = VDSO_KIND_LINE, .line = {*line, *line}};

		second = (uint64_t)(shown.sec + 1 + (int64_t)(next_random(seed) % 3));
		if (vdso_clock_reach(&clock, (struct vdso_time){(int64_t)(in / NS), in % NS}, (struct vdso_time){(int64_t)second, 0},
				     &there) == 0)
			in = vdso_time_input(there) - next_random(seed) % 3;
	}
	in %= (uint64_t)YEAR_2262_S * NS;
	return (struct vdso_time){(int64_t)(in / NS), in % NS};
}

static void test_lines(const char *way, bool quick, unsigned rounds)
{
	struct vdso_clock_record record;
	unsigned wrong = 0, with = 0, first = 0, carried = 0, reads = 0;
	struct vdso_page page;
	struct image image;
	uint64_t seed = 3;

	vdso_record_identity(&record);
	image = map_image(&record);
	say_what_is_wanted(&image);
	if (vdso_page_open_writer(dup(image.page_fd), 0, &page) != 0)
		fail("vdso_page_open_writer");
	for (unsigned i = 0; i < rounds; i++) {
		struct vdso_clock *clock = &record.clock[VDSO_ID_REALTIME];

		*clock = (struct vdso_clock){.kind = VDSO_KIND_LINE, .line = {some_line(&seed), some_line(&seed)}};
		clock->takeover = clock->line[1].in;
		if ((quick ? vdso_clock_publish(&page, &record, false) : vdso_page_publish(&page, &record, false)) != 0)
			fail("publish");
		with += (clock->flags & VDSO_CLOCK_QUICK) != 0;
		for (int read = 0; read < 8; read++, reads++) {
			struct vdso_time in = some_input(&clock->line[1], &seed), wanted;
			struct timespec got;

			host = (struct timespec){in.sec, (long)in.nsec};
			first += (int64_t)(vdso_time_input(in) - clock->takeover) < 0;
			wanted = vdso_clock_evaluate(clock, in, 0);
			carried += wanted.nsec < 3;
			wrong += image.clock_gettime(CLOCK_REALTIME, &got) != 0 || got.tv_sec != wanted.sec ||
				 got.tv_nsec != (long)wanted.nsec;
		}
	}
	check(wrong == 0 && with == (quick ? with : 0) && (!quick || with > rounds / 2) && first > reads / 20 && carried > reads / 50,
	      "%s: %u readings of %u lines, %u of them quick; %u wrong (%u before the takeover, %u at a second's turn)", way, reads,
	      rounds, with, wrong, first, carried);
	vdso_page_close(&page);
	unmap_image(&image);
}

int main(int argc, char **argv)
{
	bool full = argc > 1 && strcmp(argv[1], "--soak") == 0;

	test_lines("as published", true, full ? 5000000 : 200000);
	test_lines("without a quick form", false, full ? 5000000 : 100000);
	return check_done();
}
