/*
 * Reads the prices that publish.py publishes, each version once.
 *
 *   vdso header prices --output prices.h && cc -o read read.c && ./read 10
 */
#include <stdlib.h>

#include "prices.h"

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 10;
	struct prices_page page;
	const char *wrong = prices_open(&page, NULL);
	struct prices prices;
	uint64_t version = 0;

	if (wrong != NULL) {
		fprintf(stderr, "%s\n", wrong);
		return 1;
	}
	while (count > 0) {
		int answer = page.wait(version, 1000000000);

		if (answer == VDSO_REPLACED) { /* published with other fields: find them in the new page */
			prices_close(&page);
			wrong = prices_open(&page, NULL);
			if (wrong != NULL) {
				fprintf(stderr, "%s\n", wrong);
				return 1;
			}
			version = 0;
			continue;
		}
		if (answer == VDSO_TIMED_OUT && !page.publisher_alive()) {
			fprintf(stderr, "nobody publishes\n");
			return 1;
		}
		if (answer != VDSO_OK || prices_snapshot_from(&page, &prices, &version) != VDSO_OK)
			continue;
		printf("%8llu  %.3f / %.3f  %3u  %.*s  best of depth %.3f\n", (unsigned long long)version, prices.bid, prices.ask,
		       (unsigned)prices.size, (int)sizeof(prices.venue), prices.venue, prices.depth[0]);
		count--;
	}
	prices_close(&page);
	return 0;
}
