/* A machine whose clocks, counter and scheduling are made up: a vdso_source that does as it is told. */
#ifndef VDSO_TESTS_SIMULATION_H
#define VDSO_TESTS_SIMULATION_H

#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "source.h"
#include "transform.h"

struct simulation {
	uint64_t seed;
	uint64_t true_ns;    /* what the rest follows */
	long double counts;  /* the counter */
	double counts_per_ns;
	long double mono_ns; /* MONOTONIC */
	double slew;         /* of MONOTONIC against true time: NTP's */
	double raw_share;    /* RAW runs at this rate */
	long double raw_ns;
	int64_t real_ns, boot_ns, tai_ns; /* less MONOTONIC */
	bool suspended;      /* MONOTONIC and RAW stand still */
	unsigned jitter_ns;  /* a read takes 20 ns and up to this more */
	unsigned hiccups;    /* one read in so many takes up to hiccup_ns; 0: none */
	uint64_t hiccup_ns;
	struct vdso_source source;
};

static inline void simulation_pass(struct simulation *s, uint64_t ns)
{
	s->true_ns += ns;
	s->counts += (long double)ns * s->counts_per_ns;
	if (s->suspended) {
		s->boot_ns += (int64_t)ns;
		s->real_ns += (int64_t)ns;
		s->tai_ns += (int64_t)ns;
		return;
	}
	s->mono_ns += (long double)ns * (1.0L + s->slew);
	s->raw_ns += (long double)ns * s->raw_share;
}

static inline void simulation_take_time(struct simulation *s)
{
	uint64_t ns = 10 + next_random(&s->seed) % (1 + s->jitter_ns);

	if (s->hiccups != 0 && next_random(&s->seed) % s->hiccups == 0)
		ns += next_random(&s->seed) % s->hiccup_ns;
	simulation_pass(s, ns);
}

static inline int simulation_clock(void *context, int id, struct vdso_time *ret)
{
	struct simulation *s = context;
	int64_t ns;

	simulation_take_time(s);
	ns = (int64_t)(vdso_clock_base(id) == VDSO_ID_RAW ? s->raw_ns : s->mono_ns);
	switch (vdso_clock_base(id)) {
	case VDSO_ID_REALTIME: ns += s->real_ns; break;
	case VDSO_ID_BOOTTIME: ns += s->boot_ns; break;
	case VDSO_ID_TAI: ns += s->tai_ns; break;
	}
	simulation_take_time(s);
	*ret = (struct vdso_time){.sec = ns / 1000000000, .nsec = (uint64_t)(ns % 1000000000)};
	return 0;
}

static inline uint64_t simulation_counter(void *context)
{
	struct simulation *s = context;

	simulation_take_time(s);
	return (uint64_t)s->counts;
}

static inline void simulation_sleep(void *context, uint64_t ns)
{
	struct simulation *s = context;

	simulation_pass(s, ns + next_random(&s->seed) % 100000);
}

static inline void simulation_stepped(void *context)
{
	struct simulation *s = context;
	uint64_t count;
	ssize_t got = read(s->source.step_fd, &count, sizeof(count));

	(void)got;
}

/* REALTIME set by so much, as the kernel does it: TAI goes along, and whoever asked is told. */
static inline void simulation_set_clock(struct simulation *s, int64_t by_ns)
{
	uint64_t one = 1;
	ssize_t put;

	s->real_ns += by_ns;
	s->tai_ns += by_ns;
	put = write(s->source.step_fd, &one, sizeof(one));
	(void)put;
}

static inline void simulation_init(struct simulation *ret, uint64_t seed)
{
	*ret = (struct simulation){
		.seed = seed,
		.counts = 987654321012.0L,
		.counts_per_ns = 2.6 + (double)(next_random(&seed) % 1000) * 1e-4,
		.mono_ns = 345678901234567.0L,
		.slew = 12e-6,
		.raw_share = 1.0 - 3e-6,
		.raw_ns = 345678000000000.0L,
		.real_ns = 1790000000123456789,
		.boot_ns = 3600000000000,
		.tai_ns = 1790000037123456789,
		.jitter_ns = 30,
		.hiccups = 3000,
		.hiccup_ns = 3000000,
		.source = {
			.clock = simulation_clock,
			.counter = simulation_counter,
			.sleep = simulation_sleep,
			.stepped = simulation_stepped,
			.step_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
		},
	};
	ret->source.context = ret;
}

#endif
