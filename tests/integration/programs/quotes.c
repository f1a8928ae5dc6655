/*
 * Reads the page of quotes.h, as it was when this was compiled: for each line of input one line of output. "read", "open"
 * (again), "wait" (for another version).
 */
#include <stdio.h>
#include <stdlib.h>

#include "quotes.h"

#ifdef LINKED
#define CALL(function) quotes_##function
#define SNAPSHOT(record) quotes_snapshot(record)
#else
static struct quotes_page page;
#define CALL(function) page.function
#define SNAPSHOT(record) quotes_snapshot_from(&page, record, NULL)
#endif

int main(void)
{
	char line[64];

	while (fgets(line, sizeof(line), stdin) != NULL) {
		struct quotes record = {0};
#ifndef LINKED
		if (line[0] == 'o') {
			const char *wrong;

			quotes_close(&page);
			wrong = quotes_open(&page, NULL);
			puts(wrong != NULL ? wrong : "open");
		}
#endif
		if (line[0] == 'w')
			printf("%d\n", CALL(wait)(CALL(version)(), 10000000000));
		if (line[0] == 'r') {
			int answer = SNAPSHOT(&record);

			printf("%g %g, version %d, snapshot %d %g %g%s\n", CALL(bid)(), CALL(ask)(), (int)CALL(version)(), answer,
			       record.bid, record.ask, CALL(replaced)() ? ", replaced" : "");
		}
		fflush(stdout);
	}
	return 0;
}
