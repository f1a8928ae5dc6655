/*
 * live_writer FILE PAGE_OFFSET SLOTS RECORD_SIZE SCHEMA FIELDS_OFFSET FIELDS_SIZE PERIOD_US
 *
 * Lays the page into a live library's file and publishes struct live, each made of its version, until its standard input
 * ends; flat out, and waking nobody, when PERIOD_US is 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "live.h"
#include "page.h"

static void fill(struct live *record, uint64_t number)
{
	record->seq = number;
	record->neg = -(int64_t)number;
	record->half = (double)number / 2;
	record->third = (float)(number % 4096) / 4;
	record->low = (uint32_t)number;
	record->byte = (uint8_t)number;
	record->odd = number % 2 != 0;
	memset(record->venue, 0, sizeof(record->venue));
	snprintf(record->venue, sizeof(record->venue), "v%llu", (unsigned long long)number % 100000000000000);
	memset(record->blob, (int)(number & 0xff), sizeof(record->blob));
	for (int i = 0; i < 10; i++)
		record->depth[i] = (double)number + i;
	for (int i = 0; i < 3; i++) {
		record->levels[i].price = (double)number * (i + 1);
		record->levels[i].count = (uint32_t)number + (uint32_t)i;
	}
	record->origin.x = (int16_t)number;
	record->origin.y = (int16_t)~number;
}

int main(int argc, char **argv)
{
	struct vdso_page_shape shape;
	struct vdso_page page;
	long offset, period_us;
	union {
		struct live live;
		uint64_t words[(sizeof(struct live) + 7) / 8];
	} record;
	int fd, err;

	if (argc != 9)
		return 2;
	fd = open(argv[1], O_RDWR);
	offset = atol(argv[2]);
	shape = (struct vdso_page_shape){
		.slots = (uint32_t)atol(argv[3]),
		.record_size = (uint32_t)atol(argv[4]),
		.schema_hash = strtoull(argv[5], NULL, 10),
		/* Counted from the page's header, and in front of it. */
		.fields_offset = strtoull(argv[6], NULL, 10) - (uint64_t)offset,
		.fields_size = strtoull(argv[7], NULL, 10),
	};
	period_us = atol(argv[8]);
	err = vdso_page_create(fd, offset, &shape);
	if (err == 0 || err == -EEXIST)
		err = vdso_page_open_writer(fd, offset, &page);
	if (err != 0 || shape.record_size != sizeof(record)) {
		fprintf(stderr, "live_writer: %s\n", strerror(-err));
		return 1;
	}
	memset(&record, 0, sizeof(record));
	for (uint64_t number = atomic_load(&page.header->head) + 1;; number++) {
		struct pollfd input = {.fd = 0, .events = POLLIN};

		fill(&record.live, number);
		vdso_page_publish(&page, &record, period_us != 0);
		if (period_us != 0)
			usleep((useconds_t)period_us);
		if ((period_us != 0 || number % 65536 == 0) && poll(&input, 1, 0) != 0) {
			vdso_page_close(&page);
			return 0;
		}
	}
}
