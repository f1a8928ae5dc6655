/*
 * torn FILE OFFSET write: publishes versions flat out until its standard input ends, each of eight fields that follow from
 * the first. torn FILE OFFSET THREADS READS: so many threads read so often each; prints reads, torn, lapped.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copy.h"
#include "protocol.h"

enum { FIELDS = 8 };

static struct vdso_page_header *page;
static unsigned long long reads_each;

struct tally {
	unsigned long long reads, torn, lapped;
};

static uint64_t follows(uint64_t number, unsigned field)
{
	return (number * 0x9e3779b97f4a7c15u + field) & INT64_MAX;
}

static void *read_many(void *argument)
{
	struct tally *tally = argument;
	struct vdso_window window = {page, page->slots - 1, page->slot_stride, page->record_size};
	uint64_t record[FIELDS], version = 0, last = 0;

	while (tally->reads < reads_each) {
		/* In turns by words, as others' code does, and as the binding does. */
		enum vdso_read_status status = tally->reads & 1
						       ? vdso_page_read(page, record, &version, 1000)
						       : vdso_window_copy(&window, 0, sizeof(record), record, &version, 1000);

		if (status != VDSO_READ_OK) {
			tally->lapped++;
			continue;
		}
		tally->reads++;
		for (unsigned i = 1; i < FIELDS; i++)
			if (record[i] != follows(record[0], i)) {
				tally->torn++;
				break;
			}
		if (version < last)
			tally->torn++;
		last = version;
	}
	return NULL;
}

static void *write_all(void *unused)
{
	uint64_t number = atomic_load(&page->head);

	(void)unused;
	for (;;) {
		uint64_t record[FIELDS] = {++number};

		for (unsigned i = 1; i < FIELDS; i++)
			record[i] = follows(number, i);
		vdso_page_write(page, record);
	}
}

int main(int argc, char **argv)
{
	int writes = argc == 4 && strcmp(argv[3], "write") == 0;
	struct tally total = {0}, *tallies;
	int fd, threads;
	struct stat st;
	off_t offset;

	if (argc < 4 || (fd = open(argv[1], writes ? O_RDWR : O_RDONLY)) < 0 || fstat(fd, &st) != 0)
		return 2;
	offset = atol(argv[2]);
	page = mmap(NULL, (size_t)(st.st_size - offset), PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, fd, offset);
	if (page == MAP_FAILED || page->record_size != FIELDS * 8)
		return 2;
	if (writes) {
		pthread_t writer;

		pthread_create(&writer, NULL, write_all, NULL);
		while (getchar() != EOF)
			;
		return 0;
	}
	threads = atoi(argv[3]);
	reads_each = strtoull(argv[4], NULL, 10);
	tallies = calloc((size_t)threads, sizeof(*tallies));
	pthread_t *all = calloc((size_t)threads, sizeof(*all));
	for (int i = 0; i < threads; i++)
		pthread_create(&all[i], NULL, read_many, &tallies[i]);
	for (int i = 0; i < threads; i++) {
		pthread_join(all[i], NULL);
		total.reads += tallies[i].reads;
		total.torn += tallies[i].torn;
		total.lapped += tallies[i].lapped;
	}
	printf("%llu %llu %llu\n", total.reads, total.torn, total.lapped);
	return 0;
}
