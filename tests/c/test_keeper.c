/* The timekeeper on made-up machines, and on this one. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"
#include "keeper.h"
#include "reference.h"
#include "simulation.h"

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

static int clock_page(void)
{
	struct vdso_page_shape shape = vdso_clock_shape();
	int fd;

	if (vdso_page_create_memfd("clock", &shape, &fd) != 0)
		exit(2);
	return fd;
}

/* ---- made-up machines ---- */

enum { ERRORS = 1 << 20 };

struct rig {
	struct simulation sim;
	struct vdso_source exact; /* the same machine, read without taking time */
	struct vdso_page page;
	struct vdso_keeper keeper;
	struct reference reader;
	uint64_t due; /* MONOTONIC of the next tick */
	bool dead;
	int64_t last[VDSO_CLOCK_IDS];
	uint64_t reads, backward, stood;
	int64_t worst_back, moved_ns;
	double *error; /* of MONOTONIC */
	size_t errors;
	double worst_wall;
	uint64_t records, short_leads;
};

static int exact_clock(void *context, int id, struct vdso_time *ret)
{
	struct simulation saved = *(struct simulation *)context;

	saved.jitter_ns = 0;
	saved.hiccups = 0;
	simulation_clock(&saved, id, ret);
	/* The ten nanoseconds that a read takes there have not passed here. */
	*ret = vdso_time_add(*ret, 0, saved.suspended ? 0 : -10);
	return 0;
}

static uint64_t exact_counter(void *context)
{
	return (uint64_t)((struct simulation *)context)->counts;
}

static void rig_start_keeper(struct rig *rig)
{
	vdso_keeper_init(&rig->keeper, &rig->sim.source, &rig->page, rig->moved_ns / 1000000000, rig->moved_ns % 1000000000);
	if (vdso_keeper_prepare(&rig->keeper) != 0 || vdso_keeper_start(&rig->keeper) != 0) {
		fprintf(stderr, "the keeper does not start: %s\n", rig->keeper.reason);
		exit(2);
	}
	rig->due = (uint64_t)rig->sim.mono_ns + rig->keeper.tick_ns;
	rig->dead = false;
}

static struct rig *rig_create(uint64_t seed, int64_t moved_ns)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	simulation_init(&rig->sim, seed);
	rig->sim.source.context = &rig->sim;
	rig->exact = (struct vdso_source){.context = &rig->sim, .clock = exact_clock, .counter = exact_counter, .step_fd = -1};
	rig->error = calloc(ERRORS, sizeof(*rig->error));
	rig->moved_ns = moved_ns;
	if (vdso_page_open_writer(clock_page(), 0, &rig->page) != 0)
		exit(2);
	rig->reader = (struct reference){.page = rig->page.header, .source = &rig->exact};
	rig_start_keeper(rig);
	return rig;
}

static void rig_destroy(struct rig *rig)
{
	close(rig->sim.source.step_fd);
	vdso_page_close(&rig->page);
	free(rig->error);
	free(rig);
}

static double rig_wall_error(struct rig *rig)
{
	return (double)(reference_ns(&rig->reader, VDSO_ID_REALTIME) - (int64_t)rig->sim.mono_ns - rig->sim.real_ns - rig->moved_ns);
}

static void rig_read(struct rig *rig)
{
	static const int steady[] = {VDSO_ID_MONOTONIC, VDSO_ID_RAW, VDSO_ID_BOOTTIME};

	for (size_t i = 0; i < 3; i++) {
		int id = steady[i];
		int64_t now = reference_ns(&rig->reader, id);

		if (now < rig->last[id]) {
			rig->backward++;
			if (rig->last[id] - now > rig->worst_back)
				rig->worst_back = rig->last[id] - now;
		}
		if (id == VDSO_ID_MONOTONIC)
			rig->stood += now == rig->last[id];
		rig->last[id] = now;
	}
	if (rig->errors < ERRORS)
		rig->error[rig->errors++] = (double)((long double)rig->last[VDSO_ID_MONOTONIC] - rig->sim.mono_ns);
	double wall = rig_wall_error(rig);

	if (wall < 0)
		wall = -wall;
	if (wall > rig->worst_wall)
		rig->worst_wall = wall;
	rig->reads++;
}

/* What the tick has published: ahead enough? And half of the time, a look through the takeover, ns by ns. */
static void rig_look_at_takeover(struct rig *rig, uint64_t takeover_before)
{
	struct vdso_clock_record record;
	uint64_t version, ahead;

	if (vdso_page_get(&rig->page, 0, &record, &version) != VDSO_PAGE_OK || record.clock[VDSO_ID_MONOTONIC].kind != VDSO_KIND_COUNTER ||
	    record.clock[VDSO_ID_MONOTONIC].takeover == takeover_before)
		return;
	ahead = record.clock[VDSO_ID_MONOTONIC].takeover - (uint64_t)rig->sim.counts;
	rig->records++;
	/* With hiccups the time of the store itself is not known here. */
	if (rig->sim.hiccups == 0)
		rig->short_leads += (int64_t)ahead < (int64_t)(0.9 * VDSO_LEAD_NS * rig->sim.counts_per_ns);
	if ((int64_t)ahead < 0 || next_random(&rig->sim.seed) % 2 == 0)
		return;
	simulation_pass(&rig->sim, (uint64_t)((double)ahead / rig->sim.counts_per_ns) - 100);
	for (int i = 0; i < 20; i++) {
		rig_read(rig);
		simulation_pass(&rig->sim, 10);
	}
}

/* Lets time pass, with ticks when they are due and reads in between. */
static void rig_run(struct rig *rig, uint64_t ns)
{
	uint64_t end = rig->sim.true_ns + ns;

	while (rig->sim.true_ns < end) {
		struct pollfd event = {.fd = rig->sim.source.step_fd, .events = POLLIN};

		simulation_pass(&rig->sim, next_random(&rig->sim.seed) % (2 * MS));
		rig_read(rig);
		if (rig->dead)
			continue;
		if (poll(&event, 1, 0) == 1)
			vdso_keeper_step(&rig->keeper);
		if ((uint64_t)rig->sim.mono_ns >= rig->due) {
			uint64_t takeover = rig->keeper.record.clock[VDSO_ID_MONOTONIC].takeover;

			rig_read(rig);
			vdso_keeper_tick(&rig->keeper);
			rig_read(rig);
			rig_look_at_takeover(rig, takeover);
			rig->due = (uint64_t)rig->sim.mono_ns + rig->keeper.tick_ns + next_random(&rig->sim.seed) % MS;
		}
	}
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	x = x < 0 ? -x : x;
	y = y < 0 ? -y : y;
	return x < y ? -1 : x > y;
}

/* The share'th of the errors since the last time, which are then forgotten. */
static double percentile(double *error, size_t count, double share)
{
	qsort(error, count, sizeof(*error), by_size);
	return count == 0 ? 0 : error[(size_t)((double)(count - 1) * share)] < 0 ? -error[(size_t)((double)(count - 1) * share)]
										 : error[(size_t)((double)(count - 1) * share)];
}

static void test_steady(uint64_t seed, uint64_t ns)
{
	struct rig *rig = rig_create(seed, 86400000000123);
	double p99;

	rig_run(rig, ns);
	p99 = percentile(rig->error, rig->errors, 0.99);
	check(rig->backward == 0 && rig->keeper.losses == 0 && rig->keeper.state == VDSO_KEEPER_LOCKED,
	      "steady: %llu reads over %.0f s, none backward", (unsigned long long)rig->reads, (double)ns / 1e9);
	check(p99 < 200 && rig->worst_wall < 400, "steady: error p50 %.0f, p99 %.0f, max %.0f ns, moved REALTIME's max %.0f ns",
	      percentile(rig->error, rig->errors, 0.5), p99, percentile(rig->error, rig->errors, 1), rig->worst_wall);
	check(rig->reader.fallbacks == 0, "steady: every answer came from the counter");
	rig->sim.hiccups = 0;
	rig_run(rig, 10 * SECOND);
	check(rig->records > 100 && rig->short_leads == 0, "steady: %llu records, each ahead of its takeover",
	      (unsigned long long)rig->records);
	/* A machine that hardly lets the keeper run. */
	rig->sim.hiccups = 20;
	rig->sim.hiccup_ns = 40 * MS;
	for (int i = 0; i < 200 && rig->keeper.reanchored == 0; i++)
		rig_run(rig, 10 * SECOND);
	check(rig->backward == 0 && rig->keeper.reanchored > 0, "held up: %u records anchored again, none backward",
	      rig->keeper.reanchored);
	rig_destroy(rig);
}

static void test_slew(uint64_t seed)
{
	static const double slews[] = {12e-6, 12.5e-6, 11e-6, 40e-6, -488e-6, 500e-6, 12e-6};
	struct rig *rig = rig_create(seed, 0);
	double changing, settled = 0;

	for (size_t i = 0; i < sizeof(slews) / sizeof(slews[0]); i++) {
		rig->sim.slew = slews[i];
		rig_run(rig, SECOND);
		rig->errors = 0;
		rig_run(rig, 3 * SECOND);
		changing = percentile(rig->error, rig->errors, 0.99);
		settled = changing > settled ? changing : settled;
	}
	check(rig->backward == 0 && rig->keeper.losses == 0, "slewed by up to 500 ppm: none backward in %llu reads",
	      (unsigned long long)rig->reads);
	check(settled < 200, "a second after each change the error's p99 is at most %.0f ns", settled);
	rig_destroy(rig);
}

static void test_rate_jump(uint64_t seed)
{
	struct rig *rig = rig_create(seed, 0);

	rig_run(rig, SECOND);
	rig->sim.slew = -0.08; /* as chrony's largest */
	rig_run(rig, SECOND);
	rig->sim.slew = 0.08;
	rig_run(rig, SECOND);
	rig->sim.slew = 0;
	rig_run(rig, SECOND);
	rig->errors = 0;
	rig_run(rig, 2 * SECOND);
	check(rig->backward == 0 && rig->keeper.losses > 0 && rig->keeper.state == VDSO_KEEPER_LOCKED &&
	      percentile(rig->error, rig->errors, 0.99) < 200,
	      "slewed by 8 percent: left %u times, none backward, back on the line with p99 %.0f ns", rig->keeper.losses,
	      percentile(rig->error, rig->errors, 0.99));
	rig_destroy(rig);
}

static void test_set(uint64_t seed)
{
	static const int64_t steps[] = {3600000000000, -86400000000000, 500000, -2000, 999999999, -999999999};
	struct rig *rig = rig_create(seed, -7000000001);
	unsigned wrong = 0;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		rig_run(rig, 300 * MS);
		simulation_set_clock(&rig->sim, steps[i]);
		vdso_keeper_step(&rig->keeper);
		wrong += rig_wall_error(rig) > 1000 || rig_wall_error(rig) < -1000;
	}
	check(wrong == 0 && rig->keeper.steps >= 6, "REALTIME set 6 times: right at once, with the session's offset");
	rig->worst_wall = 0;
	rig_run(rig, SECOND);
	check(rig->worst_wall < 400 && rig->backward == 0, "and stays right, MONOTONIC untouched");
	/* Nobody tells: the next tick notices. */
	rig->sim.real_ns += 5000000;
	rig_run(rig, 70 * MS);
	check(rig_wall_error(rig) < 1000 && rig_wall_error(rig) > -1000, "a step that nobody announced is followed by the next tick");
	rig_destroy(rig);
}

static void off_is_right(struct rig *rig, const char *what)
{
	uint64_t before;

	rig_run(rig, 100 * MS);
	check(rig->keeper.state == VDSO_KEEPER_OFF && rig->backward == 0, "%s: given up, none backward: %s", what, rig->keeper.reason);
	rig_run(rig, 1500 * MS);
	before = rig->reader.fallbacks;
	rig->errors = 0;
	rig_run(rig, SECOND);
	check(rig->backward == 0 && rig->reader.fallbacks > before && percentile(rig->error, rig->errors, 1) < 5,
	      "%s: on the kernel's clock from then on, none backward in %llu reads", what, (unsigned long long)rig->reads);
	simulation_set_clock(&rig->sim, -300000000);
	vdso_keeper_step(&rig->keeper);
	check(rig_wall_error(rig) < 100 && rig_wall_error(rig) > -100, "%s: REALTIME may still be set back", what);
	rig_destroy(rig);
}

static void test_broken(uint64_t seed)
{
	struct rig *rig = rig_create(seed, 0);

	rig_run(rig, SECOND);
	rig->sim.counts -= 1000000; /* 0.4 ms */
	/* Whoever reads between the jump and the next tick sees it: no keeper can be in time for that. */
	vdso_keeper_tick(&rig->keeper);
	off_is_right(rig, "a counter that goes back");

	rig = rig_create(seed + 1, 0);
	rig_run(rig, SECOND);
	rig->sim.counts_per_ns *= 1.003;
	off_is_right(rig, "a counter that runs off by 0.3 percent");

	rig = rig_create(seed + 2, 0);
	rig_run(rig, SECOND);
	rig->sim.counts += 5200000; /* 2 ms */
	off_is_right(rig, "a counter that leaps ahead");

	rig = rig_create(seed + 3, 0);
	rig_run(rig, SECOND);
	rig->sim.counts_per_ns = 1e-12;
	off_is_right(rig, "a counter that stands still");
}

static void test_restart(uint64_t seed, unsigned rounds)
{
	struct rig *rig = rig_create(seed, 1000);
	unsigned resumed = 0;

	for (unsigned i = 0; i < rounds; i++) {
		rig_run(rig, next_random(&rig->sim.seed) % (400 * MS));
		rig->dead = true;
		rig_run(rig, next_random(&rig->sim.seed) % (2000 * MS));
		rig->sim.slew = (double)(next_random(&rig->sim.seed) % 1000) * 1e-6 - 500e-6;
		rig_start_keeper(rig);
		rig_read(rig);
		rig_look_at_takeover(rig, 0);
		resumed += rig->keeper.resumed;
	}
	check(rig->backward == 0, "%u keepers died (%u lines were taken over): %llu of %llu reads backward, by up to %lld ns", rounds,
	      resumed, (unsigned long long)rig->backward, (unsigned long long)rig->reads, (long long)rig->worst_back);
	check(resumed > rounds / 10 && resumed < rounds, "some while their line held, some after its end");
	rig->sim.slew = 0;
	rig_run(rig, 2 * SECOND);
	rig->errors = 0;
	rig_run(rig, SECOND);
	check(percentile(rig->error, rig->errors, 0.99) < 200, "and the last one comes back to an error of p99 %.0f ns",
	      percentile(rig->error, rig->errors, 0.99));
	rig_destroy(rig);
}

static void test_late(uint64_t seed)
{
	struct rig *rig = rig_create(seed, 0);

	for (int i = 0; i < 20; i++) {
		rig_run(rig, 300 * MS);
		rig->dead = true; /* SIGSTOP */
		rig_run(rig, next_random(&rig->sim.seed) % (4 * SECOND));
		rig->dead = false;
	}
	rig_run(rig, SECOND);
	rig->errors = 0;
	rig_run(rig, SECOND);
	check(rig->backward == 0 && rig->keeper.state == VDSO_KEEPER_LOCKED && percentile(rig->error, rig->errors, 0.99) < 200,
	      "a keeper that is stopped for up to 4 s, 20 times, goes on: %u lines lost, none backward, p99 %.0f ns",
	      rig->keeper.losses, percentile(rig->error, rig->errors, 0.99));
	rig_destroy(rig);
}

static void test_suspend(uint64_t seed)
{
	struct rig *rig = rig_create(seed, 0);

	/* Counter on, clocks stopped, REALTIME and BOOTTIME corrected at the end. */
	rig_run(rig, SECOND);
	rig->sim.suspended = true;
	simulation_pass(&rig->sim, 7200 * SECOND);
	rig->sim.suspended = false;
	simulation_set_clock(&rig->sim, 0);
	rig_run(rig, 3 * SECOND);
	check(rig->backward == 0 && rig->keeper.state == VDSO_KEEPER_LOCKED && rig_wall_error(rig) < 400,
	      "suspended for two hours: followed, none backward");

	/* The counter begins anew. */
	rig->sim.suspended = true;
	simulation_pass(&rig->sim, 60 * SECOND);
	rig->sim.counts = 1000;
	rig->sim.suspended = false;
	simulation_set_clock(&rig->sim, 0);
	rig_run(rig, 3 * SECOND);
	check(rig->backward == 0 && rig->keeper.state == VDSO_KEEPER_LOCKED && rig_wall_error(rig) < 400,
	      "suspended, with a counter that begins anew: followed, none backward");

	/* A machine that was stopped from outside: everything stands, then REALTIME is corrected. */
	simulation_set_clock(&rig->sim, 3600000000000);
	rig_run(rig, SECOND);
	check(rig->backward == 0 && rig->keeper.losses >= 2 && rig->keeper.state == VDSO_KEEPER_LOCKED && rig_wall_error(rig) < 400,
	      "a virtual machine that was paused: followed");
	rig_destroy(rig);
}

/* ---- this machine ---- */

struct faked {
	struct vdso_source real;
	_Atomic int64_t moved_ns;
	int event;
};

static int faked_clock(void *context, int id, struct vdso_time *ret)
{
	struct faked *f = context;
	int64_t moved = f->moved_ns;
	int err = f->real.clock(f->real.context, id, ret);

	if (id == VDSO_ID_REALTIME || id == VDSO_ID_TAI)
		*ret = vdso_time_add(*ret, 0, moved);
	return err;
}

static uint64_t real_counter(void *context)
{
	return ((struct faked *)context)->real.counter(NULL);
}

static void real_sleep(void *context, uint64_t ns)
{
	(void)context;
	sleep_ns(ns);
}

static void faked_stepped(void *context)
{
	uint64_t count;
	ssize_t got = read(((struct faked *)context)->event, &count, sizeof(count));

	(void)got;
}

struct running {
	struct vdso_keeper keeper;
	int life;
};

static void *run_keeper(void *argument)
{
	struct running *r = argument;

	vdso_keeper_run(&r->keeper, r->life);
	return NULL;
}

/* The host's clock must not be set, so REALTIME is the host's and something on top. */
static void test_set_here(unsigned rounds)
{
	struct faked faked = {.event = eventfd(0, EFD_NONBLOCK)};
	struct vdso_source source = {.context = &faked, .clock = faked_clock, .counter = real_counter, .sleep = real_sleep,
				     .stepped = faked_stepped, .step_fd = faked.event};
	struct running running;
	struct vdso_page page;
	struct reference reader = {.source = &source};
	double *took = calloc(rounds, sizeof(*took)), median;
	pthread_t thread;
	int life[2];

	vdso_source_init(&faked.real);
	if (pipe(life) != 0 || vdso_page_open_writer(clock_page(), 0, &page) != 0)
		exit(2);
	reader.page = page.header;
	running.life = life[0];
	vdso_keeper_init(&running.keeper, &source, &page, 0, 0);
	if (vdso_keeper_prepare(&running.keeper) != 0 || vdso_keeper_start(&running.keeper) != 0)
		exit(2);
	pthread_create(&thread, NULL, run_keeper, &running);
	sleep_ns(50 * MS);
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t one = 1, start;
		int64_t off;

		sleep_ns(3 * MS);
		faked.moved_ns += i % 2 == 0 ? 86400000000000 : -43200000000000;
		start = monotonic_ns();
		if (write(faked.event, &one, sizeof(one)) != sizeof(one))
			exit(2);
		do {
			struct vdso_time kernel;

			faked_clock(&faked, VDSO_ID_REALTIME, &kernel);
			off = reference_ns(&reader, VDSO_ID_REALTIME) - (int64_t)vdso_time_input(kernel);
		} while ((off > 1000000 || off < -1000000) && monotonic_ns() - start < SECOND);
		took[i] = (double)(monotonic_ns() - start);
	}
	close(life[1]);
	pthread_join(thread, NULL);
	median = percentile(took, rounds, 0.5);
	check(median < 1e6, "here: a clock that is set is followed after %.0f us (median; p90 %.0f, longest %.0f us of %u)",
	      median / 1e3, percentile(took, rounds, 0.9) / 1e3, percentile(took, rounds, 1) / 1e3, rounds);
	close(life[0]);
	close(faked.event);
	free(took);
	vdso_page_close(&page);
	vdso_source_deinit(&faked.real);
}

/* A keeper in a process of its own, to be killed. */
static pid_t fork_keeper(int fd, int *resumed)
{
	int ready[2];
	char answer = 0;
	pid_t pid;

	if (pipe(ready) != 0)
		exit(2);
	pid = fork();
	if (pid == 0) {
		struct vdso_source source;
		struct vdso_keeper keeper;
		struct vdso_page page;

		vdso_source_init(&source);
		if (vdso_page_open_writer(fd, 0, &page) != 0 || vdso_source_watch(&source) != 0)
			_exit(2);
		vdso_keeper_init(&keeper, &source, &page, 0, 0);
		if (vdso_keeper_prepare(&keeper) != 0 || vdso_keeper_start(&keeper) != 0)
			_exit(3);
		if (write(ready[1], keeper.resumed ? "r" : "n", 1) != 1)
			_exit(4);
		vdso_keeper_run(&keeper, -1);
	}
	close(ready[1]);
	if (read(ready[0], &answer, 1) != 1) {
		fprintf(stderr, "the keeper did not start\n");
		exit(2);
	}
	close(ready[0]);
	*resumed += answer == 'r';
	return pid;
}

static void kill_keeper(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

struct hot {
	const struct vdso_page_header *page;
	const struct vdso_source *source;
	_Atomic int64_t newest;
	atomic_bool stop;
	atomic_ullong reads, fallbacks, backward, worst;
};

static void *read_hot(void *argument)
{
	struct hot *h = argument;
	struct reference reader = {.page = h->page, .source = h->source};
	unsigned long long reads = 0;

	for (; !atomic_load_explicit(&h->stop, memory_order_relaxed); reads++) {
		int64_t before = atomic_load(&h->newest), now = reference_ns(&reader, VDSO_ID_MONOTONIC);

		if (now < before) {
			unsigned long long step = (unsigned long long)(before - now), worst = atomic_load(&h->worst);

			h->backward++;
			while (step > worst && !atomic_compare_exchange_weak(&h->worst, &worst, step))
				;
		}
		while (now > before && !atomic_compare_exchange_weak(&h->newest, &before, now))
			;
	}
	atomic_fetch_add(&h->reads, reads);
	atomic_fetch_add(&h->fallbacks, reader.fallbacks);
	return NULL;
}

/* Errors against the kernel's clock, read on both sides; only what is tight says anything. */
static size_t measure(struct reference *reader, uint64_t ns, double *ret, size_t room)
{
	uint64_t end = monotonic_ns() + ns;
	size_t count = 0;

	while (count < room && monotonic_ns() < end) {
		uint64_t before = monotonic_ns();
		int64_t value = reference_ns(reader, VDSO_ID_MONOTONIC);
		uint64_t after = monotonic_ns();

		if (after - before < 200)
			ret[count++] = (double)(value - (int64_t)before) - (double)(after - before) / 2;
		sleep_ns(100000);
	}
	return count;
}

static void test_hot_here(uint64_t ns)
{
	int fd = clock_page(), resumed = 0;
	unsigned keepers = 1;
	struct vdso_source source;
	struct vdso_page page;
	pid_t pid = fork_keeper(fd, &resumed);
	struct hot hot = {0};
	pthread_t thread[4];
	uint64_t seed = monotonic_ns(), end = monotonic_ns() + ns;

	vdso_source_init(&source);
	if (vdso_page_open_reader(fd, 0, &page) != 0)
		exit(2);
	hot.page = page.header;
	hot.source = &source;
	for (int i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, read_hot, &hot);
	while (monotonic_ns() < end) {
		sleep_ns(next_random(&seed) % (300 * MS));
		kill_keeper(pid);
		sleep_ns(next_random(&seed) % (keepers % 2 == 0 ? 100 * MS : 1500 * MS));
		pid = fork_keeper(fd, &resumed);
		keepers++;
	}
	sleep_ns(200 * MS);
	atomic_store(&hot.stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	kill_keeper(pid);
	check(hot.backward == 0, "here: %u keepers killed under 4 hot threads (%d lines taken over): %llu of %llu reads backward, by up to "
	      "%llu ns; %.1f %% from the kernel's clock", keepers, resumed, (unsigned long long)hot.backward,
	      (unsigned long long)hot.reads, (unsigned long long)hot.worst, 100.0 * (double)hot.fallbacks / (double)hot.reads);
	vdso_page_close(&page);
	vdso_source_deinit(&source);
	close(fd);
}

static void test_error_here(uint64_t ns)
{
	int fd = clock_page(), resumed = 0;
	pid_t pid = fork_keeper(fd, &resumed);
	struct vdso_source source;
	struct vdso_page page;
	struct reference reader = {.source = &source};
	double *error = calloc(ERRORS, sizeof(*error)), early, p99;
	struct rusage used;
	size_t count;

	vdso_source_init(&source);
	if (vdso_page_open_reader(fd, 0, &page) != 0)
		exit(2);
	reader.page = page.header;
	count = measure(&reader, 300 * MS, error, ERRORS);
	early = percentile(error, count, 0.99);
	count = measure(&reader, ns, error, ERRORS);
	p99 = percentile(error, count, 0.99);
	check(count > 100 && p99 < 200, "here: error p50 %.0f, p99 %.0f, max %.0f ns in %zu reads (first 0.3 s: p99 %.0f)",
	      percentile(error, count, 0.5), p99, percentile(error, count, 1), count, early);
	kill(pid, SIGKILL);
	wait4(pid, NULL, 0, &used);
	printf("     keeper's CPU: %.3f %%\n",
	       100.0 * ((double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
			(double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6) / ((double)(ns + 300 * MS) / 1e9));
	free(error);
	vdso_page_close(&page);
	vdso_source_deinit(&source);
	close(fd);
}

/* ---- the program ---- */

static bool find_program(const char *argv0, char *path)
{
	static const char *const places[] = {"/vdso-keeper", "/../../c/core/vdso-keeper"};
	const char *named = getenv("VDSO_KEEPER");
	char copy[PATH_MAX], *directory;

	if (named != NULL) {
		snprintf(path, PATH_MAX, "%s", named);
		return access(path, X_OK) == 0;
	}
	snprintf(copy, sizeof(copy), "%s", argv0);
	directory = dirname(copy);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, PATH_MAX, "%.3000s%s", directory, places[i]);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

struct program {
	pid_t pid;
	int life;
	char said[256];
};

static struct program start_program(const char *path, int page)
{
	struct program ret = {.life = -1};
	int life[2], ready[2];
	char numbers[3][16];
	ssize_t got, size = 0;

	if (pipe2(life, O_CLOEXEC) != 0 || pipe2(ready, O_CLOEXEC) != 0)
		exit(2);
	ret.pid = fork();
	if (ret.pid == 0) {
		int fds[] = {page, life[0], ready[1]};

		for (int i = 0; i < 3; i++)
			snprintf(numbers[i], sizeof(numbers[i]), "%d", fcntl(fds[i], F_DUPFD, 10));
		execl(path, "vdso-keeper", "--page", numbers[0], "--offset-sec", "-5", "--offset-nsec", "250000000", "--life",
		      numbers[1], "--ready", numbers[2], (char *)NULL);
		_exit(127);
	}
	close(life[0]);
	close(ready[1]);
	while ((got = read(ready[0], ret.said + size, sizeof(ret.said) - 1 - (size_t)size)) > 0)
		size += got;
	close(ready[0]);
	ret.life = life[1];
	return ret;
}

static int status_of(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + status;
}

static void test_program(const char *path)
{
	int fd = clock_page();
	uint64_t start = monotonic_ns(), took;
	struct program first = start_program(path, fd), second;
	struct vdso_page page;
	struct vdso_source source;
	struct reference reader = {.source = &source};
	char text[64], link[64];
	unsigned open_fds = 0;
	int64_t off;
	FILE *comm;

	took = monotonic_ns() - start;
	check(strcmp(first.said, "ok\n") == 0, "program: ready after %.1f ms", (double)took / 1e6);
	vdso_source_init(&source);
	if (vdso_page_open_reader(fd, 0, &page) != 0)
		exit(2);
	reader.page = page.header;
	check(vdso_page_holder(fd) == first.pid && vdso_page_writer_alive(&page), "program: it has the page's lock");
	off = reference_ns(&reader, VDSO_ID_REALTIME) + 4750000000;
	struct vdso_time kernel;

	source.clock(source.context, VDSO_ID_REALTIME, &kernel);
	off -= (int64_t)vdso_time_input(kernel);
	check(off < 100000 && off > -50000000, "program: REALTIME is moved by its offset");
	snprintf(text, sizeof(text), "/proc/%d/comm", (int)first.pid);
	comm = fopen(text, "re");
	check(comm != NULL && fgets(text, sizeof(text), comm) != NULL && strcmp(text, "vdso-keeper\n") == 0, "program: it has its name");
	if (comm != NULL)
		fclose(comm);
	for (int i = 0; i < 64; i++) {
		snprintf(text, sizeof(text), "/proc/%d/fd/%d", (int)first.pid, i);
		ssize_t size = readlink(text, link, sizeof(link) - 1);

		if (size < 0)
			continue;
		link[size] = '\0';
		open_fds++;
		if (i < 3 && strcmp(link, "/dev/null") != 0)
			open_fds += 100;
	}
	check(open_fds == 6, "program: it holds the page, the life, a timer, and nothing of its caller's");
	second = start_program(path, fd);
	check(strstr(second.said, "has a keeper already") != NULL && status_of(second.pid) == 1, "program: a second one says: %s",
	      strtok(second.said, "\n"));
	close(second.life);
	start = monotonic_ns();
	close(first.life);
	check(status_of(first.pid) == 0, "program: ends %.1f ms after the last of its users", (double)(monotonic_ns() - start) / 1e6);

	unsigned succeeded = 0, ended = 0;
	const unsigned rounds = 20;

	for (unsigned i = 0; i < rounds && succeeded == i && ended == i; i++) {
		first = start_program(path, fd);
		kill(first.pid, SIGKILL);
		status_of(first.pid);
		start = monotonic_ns();
		while ((vdso_page_holder(fd) == 0 || !vdso_page_writer_alive(&page)) && monotonic_ns() - start < 10 * SECOND)
			sched_yield();
		succeeded += vdso_page_holder(fd) > 0 && vdso_page_holder(fd) != first.pid;
		close(first.life);
		while (vdso_page_holder(fd) != 0 && monotonic_ns() - start < 20 * SECOND)
			sched_yield();
		ended += vdso_page_holder(fd) == 0 && atomic_load(&page.header->writer_pid) == 0;
	}
	check(succeeded == rounds, "program: killed as soon as it is ready, it has a successor %u times", succeeded);
	check(ended == rounds, "program: which ends in order too");

	first.pid = fork();
	if (first.pid == 0) {
		execl(path, "vdso-keeper", "--page", "x", (char *)NULL);
		_exit(127);
	}
	check(status_of(first.pid) == 2, "program: called wrongly, it says so");
	vdso_page_close(&page);
	vdso_source_deinit(&source);
	close(fd);
}

int main(int argc, char **argv)
{
	bool full = soak(argc, argv);
	char path[PATH_MAX];

	for (uint64_t seed = 1; seed <= (full ? 20 : 2); seed++) {
		test_steady(seed * 100, (full ? 600 : 60) * SECOND);
		test_slew(seed * 200);
		test_rate_jump(seed * 300);
		test_set(seed * 400);
		test_broken(seed * 500);
		test_restart(seed * 600, full ? 500 : 100);
		test_late(seed * 700);
		test_suspend(seed * 800);
	}
	test_set_here(full ? 500 : 50);
	test_error_here((full ? 30 : 4) * SECOND);
	test_hot_here((full ? 60 : 8) * SECOND);
	if (find_program(argv[0], path))
		test_program(path);
	else
		check(getenv("VDSO_KEEPER") == NULL, "program: not found beside this test, not tested");
	return check_done();
}
