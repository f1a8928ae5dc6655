/* Whether the counter is one for all CPUs: flags, and the measured check on counters that are made wrong. */
#include <sched.h>

#include "check.h"
#include "counter.h"

static uint64_t honest(void *context)
{
	(void)context;
	return vdso_counter();
}

/* CPU 1, 3, ... are behind by so many counts. */
static uint64_t skewed(void *context)
{
	return vdso_counter() + *(uint64_t *)context * (uint64_t)(sched_getcpu() % 2 == 0);
}

static const struct {
	unsigned cpus;
	uint64_t budget_ns;
	unsigned pairs;
	bool all;
} pairs[] = {
	{1, 0, 0, true},
	{2, 0, 1, true},
	{8, 10000000, 28, true},
	{11, 10000000, 10, false},
	{63, 400000000, 1953, true},
	{1024, 400000000, 1023, false},
};

int main(int argc, char **argv)
{
	unsigned rounds = soak(argc, argv) ? 100 : 5, warped = 0, caught = 0;
	uint64_t skew = 20000, start, longest = 0;
	struct vdso_counter_trust trust;
	const char *missing;
	cpu_set_t set;

	check(vdso_counter_missing_flag("a\t: b\nflags\t\t: fpu constant_tsc rdtscp nonstop_tsc\nx") == NULL, "all flags are seen");
	missing = vdso_counter_missing_flag("\nflags\t: constant_tsc rdtscp nonstop_tsc_s3\n");
	check(missing != NULL && strcmp(missing, "nonstop_tsc") == 0, "nonstop_tsc_s3 is not nonstop_tsc");
	missing = vdso_counter_missing_flag("\nflags\t: constant_tsc nonstop_tsc\nvmx flags\t: rdtscp\n");
	check(missing != NULL && strcmp(missing, "rdtscp") == 0, "another line's flags do not count");
	check(vdso_counter_missing_flag("Features : fp asimd") != NULL, "no flags at all are not enough");

	for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		bool all;
		unsigned found = vdso_counter_pairs(pairs[i].cpus, true, pairs[i].budget_ns, &all);

		check(found == pairs[i].pairs && all == pairs[i].all, "%u CPUs in %llu us: %u pairs", pairs[i].cpus,
		      (unsigned long long)pairs[i].budget_ns / 1000, found);
	}

	for (unsigned i = 0; i < rounds; i++) {
		start = monotonic_ns();
		vdso_counter_trust(&trust);
		if (monotonic_ns() - start > longest)
			longest = monotonic_ns() - start;
		warped += trust.warps != 0;
	}
	check(warped == 0, "%u checks of this machine's counter saw no warp, the longest in %.1f ms", rounds, (double)longest / 1e6);
	printf("     %s: %s\n", trust.trusted ? "trusted" : "not trusted", trust.reason);

	sched_getaffinity(0, sizeof(set), &set);
	if (CPU_COUNT(&set) < 2 || !CPU_ISSET(0, &set) || !CPU_ISSET(1, &set)) {
		printf("     one CPU only: nothing to compare\n");
		return check_done();
	}
	/* Two threads that hardly ever run at once, on a machine that is busy otherwise, cannot be compared: again, then. */
	for (unsigned i = 0, tries = 0; i < rounds && tries < rounds * 20; tries++) {
		trust = (struct vdso_counter_trust){0};
		if (vdso_counter_warp(skewed, &skew, true, 100000000, &trust) == 0 || trust.warps != 0) {
			caught += trust.warps != 0;
			i++;
		}
	}
	check(caught == rounds, "counters that differ by %llu counts were caught %u times of %u", (unsigned long long)skew, caught,
	      rounds);
	trust = (struct vdso_counter_trust){0};
	skew = 0;
	vdso_counter_warp(honest, NULL, true, 100000000, &trust);
	check(trust.handovers > 0 && trust.warps == 0, "an honest one is not, in %llu handovers",
	      (unsigned long long)trust.handovers);
	return check_done();
}
