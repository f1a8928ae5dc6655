/*
 * A LINE through the built image, over a kernel's clock that says what the test wants: every answer is the line's own, to the
 * nanosecond, by its quick form and without one; also where it has taken an offset's place while that clock was asked.
 */
#include <sys/mman.h>

#include "image.h"

#define NS 1000000000
#define YEAR_2262_S INT64_C(9223372036)

static struct timespec host;

/* What a reader meets when the kernel's clock keeps it waiting: publications, once, until its slot comes round again. */
static struct {
	struct vdso_page *page;
	struct vdso_clock_record *record;
} meanwhile;

static int say(int id, struct timespec *ret)
{
	struct vdso_page *page = meanwhile.page;

	(void)id;
	meanwhile.page = NULL;
	for (unsigned i = 0; page != NULL && i < VDSO_CLOCK_SLOTS; i++)
		if (vdso_clock_publish(page, meanwhile.record, false) != 0)
			fail("publish");
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

enum call { CLOCK_GETTIME, GETTIMEOFDAY, TIME };

static struct timespec read_by(const struct image *image, enum call call)
{
	struct timespec ret = {0, 0};
	struct timeval tv;

	if (call == CLOCK_GETTIME && image->clock_gettime(CLOCK_REALTIME, &ret) == 0)
		return ret;
	if (call == GETTIMEOFDAY && image->gettimeofday(&tv, NULL) == 0)
		return (struct timespec){tv.tv_sec, tv.tv_usec * 1000};
	return (struct timespec){image->time(NULL), 0};
}

static double cpu_s(void)
{
	struct timespec ts;

	if (syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &ts) != 0)
		fail("SYS_clock_gettime");
	return (double)ts.tv_sec + (double)ts.tv_nsec / NS;
}

/* A reader has seen one kind, and finds a LINE's words, of all sizes, where the offset would be. It takes nothing from them. */
static void test_an_offset_that_becomes_a_line(enum vdso_clock_kind kind, const char *name)
{
	struct vdso_clock_record old, new;
	unsigned wrong = 0, reads = 0;
	struct vdso_page page;
	struct image image;
	double began, took = 0;

	/* A LINE that shows 999,999,999 ns at a whole second: its `rest` is as large as it gets. */
	host = (struct timespec){1700000000, 5};
	vdso_record_identity(&new);
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++) {
		struct vdso_line line = {.in = UINT64_C(1700000000) * NS, .sec = 1000, .nsec = NS - 1, .rate = VDSO_RATE_ONE};

		if (vdso_clock_is_wall(id))
			new.clock[id] = (struct vdso_clock){.kind = VDSO_KIND_LINE, .takeover = line.in, .line = {line, line}};
	}
	image = map_image(&new);
	say_what_is_wanted(&image);
	if (vdso_page_open_writer(dup(image.page_fd), 0, &page) != 0)
		fail("vdso_page_open_writer");
	began = cpu_s();
	/* Had a reading counted in what it found, it would take a second and more. */
	for (unsigned i = 0; i < 24 && took < 4; i++, reads++) {
		struct timespec got;

		vdso_record_offset(&old, 5, 6);
		for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
			if (vdso_clock_is_wall(id))
				old.clock[id].kind = kind;
		if (vdso_clock_publish(&page, &old, false) != 0)
			fail("publish");
		meanwhile.record = &new;
		meanwhile.page = &page;
		got = read_by(&image, (enum call)(i % 3));
		wrong += meanwhile.page != NULL || got.tv_sec != 1001 || got.tv_nsec != (i % 3 == CLOCK_GETTIME ? 4 : 0);
		took = cpu_s() - began;
	}
	check(wrong == 0 && took < 4, "%s: %u readings meanwhile replaced by a line, %u wrong, in %.3f s of the processor", name,
	      reads, wrong, took);
	vdso_page_close(&page);
	unmap_image(&image);
}

typedef bool wait_step(uint64_t *waiting, const uint64_t *turned, const void *pages);

/* The annex of the image's file, which says what a wait waits for (c/image/wait.h). */
static wait_step *map_annex(void **map)
{
	const char *path = getenv("VDSO_CLOCK_IMAGE");
	int fd = open(path != NULL ? path : "vdso-clock.so", O_RDONLY | O_CLOEXEC);

	*map = mmap(NULL, VDSO_FILE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	if (*map == MAP_FAILED)
		fail("mmap");
	close(fd);
	return (wait_step *)((uintptr_t)*map + ((const struct vdso_annex *)((uintptr_t)*map + VDSO_IMAGE_BYTES))->wait_step);
}

/* A wait is until the host's time at which the clock gets there, also from before the beginning of its line. */
static void test_waits(unsigned rounds)
{
	enum { DEADLINE = 4 }; /* the word of a struct vdso_waiting that points to it, in a sleep */
	struct vdso_clock_record record;
	struct vdso_clock *clock = &record.clock[VDSO_ID_REALTIME];
	unsigned wrong = 0, before = 0;
	struct vdso_page page;
	struct image image;
	uint64_t seed = 9;
	wait_step *step;
	void *annex;

	vdso_record_identity(&record);
	image = map_image(&record);
	say_what_is_wanted(&image);
	step = map_annex(&annex);
	if (vdso_page_open_writer(dup(image.page_fd), 0, &page) != 0)
		fail("vdso_page_open_writer");
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t in = UINT64_C(1700000000) * NS + next_random(&seed) % NS, waiting[20] = {0}, turned[9] = {0};
		uint64_t rate = VDSO_RATE_ONE / 1000 + next_random(&seed) % (VDSO_RATE_ONE << next_random(&seed) % 8);
		uint64_t now = in + NS - (next_random(&seed) >> (18 + next_random(&seed) % 40)); /* up to 19 hours before it */
		struct vdso_time there, at, wanted;
		const struct timespec *until;
		struct timespec deadline;

		*clock = (struct vdso_clock){.kind = VDSO_KIND_LINE, .takeover = in + 2000000};
		clock->line[0] = (struct vdso_line){.in = in, .sec = 1800000000, .nsec = next_random(&seed) % NS, .rate = rate};
		there = vdso_line_kernel(&clock->line[0], clock->takeover);
		clock->line[1] = (struct vdso_line){clock->takeover, there.sec, there.nsec, 2 * VDSO_RATE_ONE};
		if (vdso_clock_publish(&page, &record, false) != 0)
			fail("publish");
		host = (struct timespec){(long)(now / NS), (long)(now % NS)};
		at = vdso_time_add(vdso_clock_evaluate(clock, (struct vdso_time){host.tv_sec, (uint64_t)host.tv_nsec}, 0), 0,
				   1 + (int64_t)(next_random(&seed) >> (18 + next_random(&seed) % 40)));
		deadline = (struct timespec){at.sec, (long)at.nsec};
		turned[0] = SYS_clock_nanosleep;
		turned[3] = (uint64_t)(uintptr_t)&deadline;
		turned[8] = VDSO_PLAN(VDSO_WAIT_SLEEP, CLOCK_REALTIME, 2, 4);
		if (vdso_clock_reach(clock, (struct vdso_time){host.tv_sec, (uint64_t)host.tv_nsec}, at, &wanted) != 0 ||
		    !step(waiting, turned, (const void *)(uintptr_t)image.local.base) || waiting[DEADLINE] == 0) {
			wrong++;
			continue;
		}
		until = (const struct timespec *)(uintptr_t)waiting[DEADLINE];
		wrong += until->tv_sec != wanted.sec || until->tv_nsec != (long)wanted.nsec;
		before += vdso_time_input(wanted) < in;
	}
	check(wrong == 0 && before > rounds / 4, "%u waits, %u wrong (%u to before the line)", rounds, wrong, before);
	munmap(annex, VDSO_FILE_BYTES);
	vdso_page_close(&page);
	unmap_image(&image);
}

int main(int argc, char **argv)
{
	bool full = argc > 1 && strcmp(argv[1], "--soak") == 0;

	test_lines("as published", true, full ? 5000000 : 200000);
	test_lines("without a quick form", false, full ? 5000000 : 100000);
	test_an_offset_that_becomes_a_line(VDSO_KIND_OFFSET, "offset");
	test_an_offset_that_becomes_a_line(VDSO_KIND_FLOOR, "floor");
	test_waits(full ? 5000000 : 100000);
	return check_done();
}
