/*
 * loader ROUNDS SEED: opens damaged copies of the page of live.h by the loader. Each is refused with a reason, or opened
 * when the damage is not where the loader looks; none may crash it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define VDSO_STATIC
#include <stdlib.h>

#include "live.h"

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

int main(int argc, char **argv)
{
	static const uint64_t values[] = {0, 1, 7, 8, 0xff, 0x1000, 0x7fffffff, 0xffffffff, UINT64_MAX, UINT64_C(1) << 63, 1 << 20};
	long rounds = argc > 1 ? atol(argv[1]) : 1000, opened = 0, refused = 0, i;
	int source = open(LIVE_PATH, O_RDONLY);
	struct stat status;
	char *whole, *copy;

	state = argc > 2 ? strtoull(argv[2], NULL, 10) * 2 + 1 : 1;
	if (source < 0 || fstat(source, &status) != 0)
		return 2;
	whole = malloc((size_t)status.st_size);
	copy = malloc((size_t)status.st_size);
	if (read(source, whole, (size_t)status.st_size) != status.st_size)
		return 2;
	for (i = 0; i < rounds; i++) {
		int fd = memfd_create("damaged", 0), k;
		size_t size = (size_t)status.st_size;
		struct live_page page;
		const char *wrong;
		char path[32];

		memcpy(copy, whole, size);
		for (k = (int)(next_random() % 4); k >= 0; k--) {
			/* Mostly in the headers, the symbols and .dynamic, by values that numbers are compared with. */
			uint64_t value = next_random() % 3 == 0 ? next_random() : values[next_random() % 11];
			size_t width = (size_t)1 << next_random() % 4, at = 0;

			switch (next_random() % 4) {
			case 0:
				at = next_random() % 64;
				break;
			case 1:
				at = 64 + next_random() % 560;
				break;
			case 2:
				at = next_random() % 4096;
				break;
			default: /* .dynamic, at the third LOAD segment's place */
				memcpy(&at, whole + 64 + 2 * 56 + 8, sizeof(at));
				at += next_random() % 128;
			}
			memcpy(copy + at, &value, width);
		}
		if (next_random() % 16 == 0)
			size = next_random() % size;
		if (write(fd, copy, size) != (ssize_t)size)
			return 2;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		wrong = live_open(&page, path);
		opened += wrong == NULL;
		refused += wrong != NULL && wrong[0] != '\0';
		if (wrong == NULL)
			live_close(&page);
		close(fd);
	}
	printf("%ld opened, %ld refused\n", opened, refused);
	return opened + refused != rounds || opened == 0 || refused == 0;
}
