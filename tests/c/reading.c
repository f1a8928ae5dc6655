/* What test_tracee.c swaps: prints REALTIME and MONOTONIC as its libc sees them, and what stands at AT_SYSINFO_EHDR. */
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <time.h>

#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif

int main(int argc, char **argv)
{
	unsigned long image = getauxval(AT_SYSINFO_EHDR), auxv[128] = {0}, saved = 0;
	char line[512], at[512] = "-";
	struct timespec real, mono;
	struct timeval tv;
	FILE *maps = fopen("/proc/self/maps", "r");

	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	gettimeofday(&tv, NULL);
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
		unsigned long start;

		if (sscanf(line, "%lx", &start) == 1 && start == image)
			sscanf(line, "%*s %*s %*s %*s %*s %500s", at);
	}
	if (prctl(PR_GET_AUXV, auxv, sizeof(auxv), 0, 0) > 0)
		for (int i = 0; i < 126 && auxv[i] != AT_NULL; i += 2)
			if (auxv[i] == AT_SYSINFO_EHDR)
				saved = auxv[i + 1];
	printf("%lld %lld %lld %lld %s %d %d %s\n", (long long)real.tv_sec, (long long)tv.tv_sec, (long long)time(NULL),
	       (long long)mono.tv_sec, at, saved == image, argc, argv[argc - 1]);
	return 7;
}
