#include "counter.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAIR_NS_MIN 100000u
#define PAIR_NS_MAX 2000000u
#define PAIR_NS_ALL 200000u /* what a pair takes at least, its two threads' start included */
#define HANDOVERS_MIN 50u
#define HANDOVERS_ENOUGH 4000u /* a pair that has met as often need not be kept from other work any longer */
/* What a whole start-up can spare for the check. */
#define BUDGET_NS 8000000u
#define CLOCKSOURCES "/sys/devices/system/clocksource/clocksource0/available_clocksource"

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool has_word(const char *line, const char *end, const char *word)
{
	size_t size = strlen(word);

	for (const char *at = line; at + size <= end; at++)
		if (memcmp(at, word, size) == 0 && (at == line || at[-1] == ' ' || at[-1] == '\t') &&
		    (at + size == end || at[size] == ' ' || at[size] == '\n'))
			return true;
	return false;
}

const char *vdso_counter_missing_flag(const char *cpuinfo)
{
	static const char *const wanted[] = {"constant_tsc", "nonstop_tsc", "rdtscp"};
	const char *line = strstr(cpuinfo, "\nflags");
	const char *end;

	if (line == NULL)
		return "flags";
	end = strchrnul(line + 1, '\n');
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!has_word(line + 1, end, wanted[i]))
			return wanted[i];
	return NULL;
}

/* One pair's meeting place: each reads the counter under the lock and compares it with what the other left there. */
struct meeting {
	uint64_t (*read)(void *context);
	void *context;
	uint64_t time_ns; /* to measure, once both are here */
	uint64_t give_up_ns;
	atomic_uint arrived;
	atomic_bool done;
	_Alignas(64) atomic_flag lock;
	uint64_t last;
	atomic_uint last_by;
	uint64_t handovers, warps, warp_max;
};

struct visitor {
	struct meeting *meeting;
	pthread_t thread;
	int cpu;
	unsigned number;
};

static void meet(struct meeting *m, unsigned number)
{
	while (atomic_flag_test_and_set_explicit(&m->lock, memory_order_acquire)) {
		if (atomic_load_explicit(&m->done, memory_order_relaxed))
			return;
	}

	uint64_t now = m->read(m->context);

	if (atomic_load_explicit(&m->last_by, memory_order_relaxed) != number && ++m->handovers >= HANDOVERS_ENOUGH)
		atomic_store_explicit(&m->done, true, memory_order_relaxed);
	if (now < m->last) {
		m->warps++;
		if (m->last - now > m->warp_max)
			m->warp_max = m->last - now;
	}
	m->last = now;
	atomic_store_explicit(&m->last_by, number, memory_order_relaxed);
	atomic_flag_clear_explicit(&m->lock, memory_order_release);
	/* Lets the other one in, if it runs: a lock that its holder takes again at once is hardly ever handed over. */
	for (int i = 0; i < 200 && atomic_load_explicit(&m->last_by, memory_order_relaxed) == number; i++)
		;
}

static void *visit(void *argument)
{
	struct visitor *v = argument;
	struct meeting *m = v->meeting;
	cpu_set_t *set = CPU_ALLOC((size_t)v->cpu + 1);
	uint64_t start;

	if (set != NULL) {
		CPU_ZERO_S(CPU_ALLOC_SIZE((size_t)v->cpu + 1), set);
		CPU_SET_S((size_t)v->cpu, CPU_ALLOC_SIZE((size_t)v->cpu + 1), set);
		pthread_setaffinity_np(pthread_self(), CPU_ALLOC_SIZE((size_t)v->cpu + 1), set);
		CPU_FREE(set);
	}
	start = now_ns();
	atomic_fetch_add(&m->arrived, 1);
	while (atomic_load_explicit(&m->arrived, memory_order_relaxed) < 2)
		if (now_ns() - start > m->give_up_ns)
			return NULL;
	start = now_ns();
	while (!atomic_load_explicit(&m->done, memory_order_relaxed)) {
		for (int i = 0; i < 64; i++)
			meet(m, v->number);
		if (now_ns() - start > m->time_ns)
			atomic_store_explicit(&m->done, true, memory_order_relaxed);
	}
	return NULL;
}

static int check_pair(int a, int b, struct meeting *m)
{
	struct visitor visitors[2] = {
		{.meeting = m, .cpu = a, .number = 1},
		{.meeting = m, .cpu = b, .number = 2},
	};
	int started = 0;

	for (; started < 2; started++)
		if (pthread_create(&visitors[started].thread, NULL, visit, &visitors[started]) != 0)
			break;
	for (int i = 0; i < started; i++)
		pthread_join(visitors[i].thread, NULL);
	return started == 2 ? 0 : -EAGAIN;
}

/* The CPUs that this process may use, however many the machine has. Returns their count, 0 on failure. */
static int allowed_cpus(int **ret)
{
	for (int room = 1024; room <= 1 << 20; room *= 2) {
		size_t size = CPU_ALLOC_SIZE(room);
		cpu_set_t *set = CPU_ALLOC(room);
		int count = 0;

		if (set == NULL)
			return 0;
		if (sched_getaffinity(0, size, set) != 0) {
			CPU_FREE(set);
			if (errno == EINVAL)
				continue;
			return 0;
		}
		*ret = calloc((size_t)CPU_COUNT_S(size, set) + 1, sizeof(**ret));
		for (int cpu = 0; *ret != NULL && cpu < room; cpu++)
			if (CPU_ISSET_S((size_t)cpu, size, set))
				(*ret)[count++] = cpu;
		CPU_FREE(set);
		return count;
	}
	return 0;
}

unsigned vdso_counter_pairs(unsigned cpus, bool all, uint64_t budget_ns, bool *ret_all)
{
	uint64_t pairs = (uint64_t)cpus * (cpus - 1) / 2;

	*ret_all = cpus < 3 || (all && pairs * PAIR_NS_ALL <= budget_ns);
	return cpus < 2 ? 0 : *ret_all ? (unsigned)pairs : cpus - 1;
}

/* Meets as often as it takes to tell, or until `end`. Returns whether it could. */
static bool compare(uint64_t (*read)(void *context), void *context, int a, int b, uint64_t pair_ns, uint64_t budget_ns,
		    uint64_t end, struct vdso_counter_trust *ret)
{
	uint64_t handovers = 0;

	/* A busy machine may not run the two together the first time. */
	do {
		struct meeting m = {
			.read = read,
			.context = context,
			.time_ns = pair_ns,
			.give_up_ns = budget_ns,
			.lock = ATOMIC_FLAG_INIT,
		};

		if (check_pair(a, b, &m) != 0)
			break;
		handovers += m.handovers;
		ret->warps += m.warps;
		if (m.warp_max > ret->warp_max)
			ret->warp_max = m.warp_max;
	} while (handovers < HANDOVERS_MIN && ret->warps == 0 && now_ns() < end);
	ret->handovers += handovers;
	ret->pairs++;
	return handovers >= HANDOVERS_MIN;
}

int vdso_counter_warp(uint64_t (*read)(void *context), void *context, bool all, uint64_t budget_ns,
		      struct vdso_counter_trust *ret)
{
	uint64_t end = now_ns() + budget_ns, pair_ns;
	bool measured = true;
	int *cpus = NULL;
	int count = allowed_cpus(&cpus);
	unsigned pairs;

	if (count == 0) {
		free(cpus);
		return -EAGAIN;
	}
	pairs = vdso_counter_pairs((unsigned)count, all, budget_ns, &ret->all);
	pair_ns = pairs > 0 ? budget_ns / pairs : 0;
	pair_ns = pair_ns < PAIR_NS_MIN ? PAIR_NS_MIN : pair_ns > PAIR_NS_MAX ? PAIR_NS_MAX : pair_ns;
	/* Those with the first come first, so that no CPU is left out where the time does not suffice. */
	for (int i = 0; i < (ret->all ? count - 1 : 1); i++)
		for (int j = i + 1; j < count && ret->warps == 0 && (ret->pairs == 0 || now_ns() < end); j++)
			measured = compare(read, context, cpus[i], cpus[j], pair_ns, budget_ns, end, ret) && measured;
	measured = measured && ret->pairs == pairs;
	free(cpus);
	return measured || ret->warps != 0 ? 0 : -EAGAIN;
}

static ssize_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, text, size - 1);
	close(fd);
	text[got > 0 ? got : 0] = '\0';
	return got;
}

static uint64_t read_counter(void *context)
{
	(void)context;
	return vdso_counter();
}

void vdso_counter_trust(struct vdso_counter_trust *ret)
{
	char cpuinfo[8192], sources[256];
	const char *missing;
	bool kernel_agrees;

	*ret = (struct vdso_counter_trust){0};
#if !defined(__x86_64__)
	snprintf(ret->reason, sizeof(ret->reason), "the counter of this architecture is not supported yet");
	return;
#endif
	/* One processor's entry is enough, and reading them all takes milliseconds on a large machine. */
	if (read_text("/proc/cpuinfo", cpuinfo, sizeof(cpuinfo)) <= 0) {
		snprintf(ret->reason, sizeof(ret->reason), "/proc/cpuinfo cannot be read");
		return;
	}
	missing = vdso_counter_missing_flag(cpuinfo);
	if (missing != NULL) {
		snprintf(ret->reason, sizeof(ret->reason), "the processor does not have %s", missing);
		return;
	}
	/* The kernel takes the TSC off this list when it finds it unstable; it may be wrong, so that alone decides nothing. */
	kernel_agrees = read_text(CLOCKSOURCES, sources, sizeof(sources)) > 0 &&
			has_word(sources, sources + strlen(sources), "tsc");
	if (vdso_counter_warp(read_counter, NULL, false, BUDGET_NS, ret) == 0) {
		ret->trusted = ret->warps == 0;
		if (ret->trusted)
			snprintf(ret->reason, sizeof(ret->reason), "no warp in %llu handovers between %u pairs of CPUs",
				 (unsigned long long)ret->handovers, ret->pairs);
		else
			snprintf(ret->reason, sizeof(ret->reason), "the CPUs' counters differ by %llu counts or more",
				 (unsigned long long)ret->warp_max);
		return;
	}
	ret->trusted = kernel_agrees;
	snprintf(ret->reason, sizeof(ret->reason), kernel_agrees
		 ? "the CPUs were too busy to compare their counters, and the kernel lists tsc as usable"
		 : "the CPUs were too busy to compare their counters, and the kernel does not list tsc as usable");
}
