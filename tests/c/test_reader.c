/* The reader code of live libraries: whole copies behind a flat-out writer, what it answers when it has none, its edges. */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "page.h"
#include "reader.h"

/* A record of words, each made of the version: a copy that mixes two does not add up. */
enum { SLOTS = 4, WORDS_MAX = 513 };

static uint64_t word_of(uint64_t version, size_t index)
{
	return version * 0x9e3779b97f4a7c15u + index;
}

static struct vdso_page new_page(uint32_t words, uint64_t schema)
{
	struct vdso_page_shape shape = {.slots = SLOTS, .record_size = words * 8, .schema_hash = schema};
	struct vdso_page page;
	int fd, err = vdso_page_create_memfd("test", &shape, &fd);

	if (err == 0)
		err = vdso_page_open_writer(fd, 0, &page);
	if (err != 0) {
		fprintf(stderr, "cannot make a page: %s\n", strerror(-err));
		exit(2);
	}
	return page;
}

static struct vdso_page reader_of(const struct vdso_page *page)
{
	struct vdso_page reader;

	/* The descriptor of a reader is left open: closing it would drop the writer's lock. */
	if (vdso_page_open_reader(vdso_page_reopen_readonly(page->fd), 0, &reader) != 0)
		exit(2);
	return reader;
}

static void publish(struct vdso_page *page, uint64_t version, bool wake)
{
	uint64_t record[WORDS_MAX];

	for (uint32_t i = 0; i < page->header->record_size / 8; i++)
		record[i] = word_of(version, i);
	vdso_page_publish(page, record, wake);
}

/* ---- behind a writer that never pauses ---- */

struct tally {
	atomic_bool stop;
	uint64_t reads, torn, versions, lapped;
};

static void read_flat_out(vdso_page_ptr page, struct tally *tally, uint64_t reads)
{
	uint32_t words = page->record_size / 8, mask = page->slots - 1, stride = page->slot_stride;
	uint64_t record[WORDS_MAX + 1], last = 0, version;

	for (uint64_t i = 0; i < reads || (tally->versions < 100 && i < 1000000000); i++) {
		int answer;

		record[words] = 0xa5a5a5a5a5a5a5a5;
		switch (i % 4) {
		case 0:
			answer = vdso_reader_snapshot(record, page, mask, stride, words * 8);
			version = record[0] * 0xf1de83e19937733d; /* the inverse of the factor in word_of() */
			break;
		case 1:
			answer = vdso_reader_snapshot_of(record, 7, &version, page, 7, words * 8);
			break;
		case 2:
			answer = vdso_reader_items(record, words, page, 0, 8, words);
			version = record[0] * 0xf1de83e19937733d;
			break;
		default: /* one after another, by its own function: each whole by itself */
			for (uint32_t k = 0; k < words; k++) {
				uint64_t before = vdso_reader_version(page);
				uint64_t value = vdso_reader_u64(page, mask, stride, k * 8) - k;

				value *= 0xf1de83e19937733d;
				tally->torn += value < before || value > vdso_reader_version(page);
			}
			continue;
		}
		if (answer == VDSO_READER_LAPPED) {
			tally->lapped++;
			continue;
		}
		if (answer != VDSO_READER_OK || record[words] != 0xa5a5a5a5a5a5a5a5)
			tally->torn++;
		for (uint32_t k = 0; k < words; k++)
			if (record[k] != word_of(version, k)) {
				tally->torn++;
				break;
			}
		tally->torn += version < last;
		tally->versions += version != last;
		last = version;
		tally->reads++;
	}
}

static void test_torn(uint32_t words, uint64_t reads)
{
	struct tally *tally = shared(sizeof(*tally));
	struct vdso_page page = new_page(words, 7), reader = reader_of(&page);
	pid_t child;

	publish(&page, 1, true);
	child = fork();
	if (child == 0) {
		read_flat_out(reader.header, tally, reads);
		atomic_store(&tally->stop, true);
		_exit(0);
	}
	for (uint64_t version = 2; !atomic_load_explicit(&tally->stop, memory_order_relaxed); version++) {
		publish(&page, version, false);
		if (version % 65536 == 0 && waitpid(child, NULL, WNOHANG) == child)
			break;
	}
	waitpid(child, NULL, 0);
	check(tally->reads > 0 && tally->torn == 0 && tally->versions >= 100,
	      "%u bytes: %llu reads of %llu versions, %llu torn, %llu lapped", words * 8, (unsigned long long)tally->reads,
	      (unsigned long long)tally->versions, (unsigned long long)tally->torn, (unsigned long long)tally->lapped);
	vdso_page_close(&page);
	vdso_page_close(&reader);
}

/* ---- each kind of field ---- */

struct kinds {
	int64_t i64;
	uint64_t u64;
	double f64;
	int32_t i32;
	uint32_t u32;
	float f32;
	int16_t i16;
	uint16_t u16;
	int8_t i8;
	uint8_t u8;
	bool yes, odd;
	char text[8], full[4];
	int16_t row[5];
};

#define READ(kind, member) \
	vdso_reader_##kind(page, SLOTS - 1, page->slot_stride, (uint32_t)offsetof(struct kinds, member))

static void test_kinds(void)
{
	union {
		struct kinds k;
		uint64_t words[(sizeof(struct kinds) + 7) / 8];
	} record = {{.i64 = INT64_MIN, .u64 = UINT64_MAX, .f64 = -0.1, .i32 = INT32_MIN, .u32 = UINT32_MAX, .f32 = 1e30f,
		     .i16 = INT16_MIN, .u16 = UINT16_MAX, .i8 = INT8_MIN, .u8 = UINT8_MAX, .yes = true,
		     .text = "gr\xc3\xbc\xc3\x9f", .full = "full", .row = {-1, 2, -3, 4, -5}}};
	struct vdso_page page_ = new_page(sizeof(record) / 8, 1);
	vdso_page_ptr page = page_.header;
	const uint32_t text = offsetof(struct kinds, text), full = offsetof(struct kinds, full),
		       row = offsetof(struct kinds, row);
	unsigned char odd = 2;
	int16_t out[8];
	char buffer[16];

	memcpy((char *)&record.k.odd, &odd, 1); /* what no C program would store */
	vdso_page_publish(&page_, &record, false);
	check(READ(i64, i64) == INT64_MIN && READ(u64, u64) == UINT64_MAX && READ(i32, i32) == INT32_MIN &&
	      READ(u32, u32) == UINT32_MAX && READ(i16, i16) == INT16_MIN && READ(u16, u16) == UINT16_MAX &&
	      READ(i8, i8) == INT8_MIN && READ(u8, u8) == UINT8_MAX, "integers come to their last values");
	check(READ(f64, f64) == -0.1 && READ(f32, f32) == 1e30f && READ(bool, yes) && READ(bool, odd), "numbers and bools too");
	check(vdso_reader_i16_at(0, page, row, 2, 5) == -1 && vdso_reader_i16_at(4, page, row, 2, 5) == -5 &&
	      vdso_reader_i16_at(5, page, row, 2, 5) == 0 && vdso_reader_i16_at(SIZE_MAX, page, row, 2, 5) == 0,
	      "an element by its index, 0 beyond the last");
	memset(out, 0x55, sizeof(out));
	check(vdso_reader_items(out, 7, page, row, 2, 5) == VDSO_READER_OK && memcmp(out, record.k.row, 10) == 0 &&
	      out[5] == 0 && out[6] == 0 && out[7] == 0x5555, "a larger array gets zeroes behind, and nothing beyond");
	memset(out, 0x55, sizeof(out));
	check(vdso_reader_items(out, 3, page, row, 2, 5) == VDSO_READER_OK && out[2] == -3 && out[3] == 0x5555,
	      "a smaller one gets what it has room for");
	check(vdso_reader_items(out, 0, page, row, 2, 5) == VDSO_READER_OK, "or nothing");
	check(vdso_reader_bytes_at(1, out, 4, page, (uint64_t)row << 32 | 4, (uint64_t)4 << 32 | 2) == VDSO_READER_OK &&
	      out[0] == -3 && out[1] == 4, "one of a row of bytes");
	memset(out, 0x55, sizeof(out));
	check(vdso_reader_bytes_at(2, out, 4, page, (uint64_t)row << 32 | 4, (uint64_t)4 << 32 | 2) == VDSO_READER_OK &&
	      out[0] == 0 && out[1] == 0 && out[2] == 0x5555, "beyond the last: zeroes");

	memset(buffer, 0x55, sizeof(buffer));
	check(vdso_reader_text(buffer, sizeof(buffer), page, text, 8) == 6 && strcmp(buffer, record.k.text) == 0 &&
	      buffer[7] == 0x55, "a text and its length");
	check(vdso_reader_text(buffer, 7, page, text, 8) == 6 && strcmp(buffer, "gr\xc3\xbc\xc3\x9f") == 0, "just fitting");
	check(vdso_reader_text(buffer, 6, page, text, 8) == 6 && strcmp(buffer, "gr\xc3\xbc") == 0 &&
	      vdso_reader_text(buffer, 4, page, text, 8) == 6 && strcmp(buffer, "gr") == 0, "is cut between characters");
	memset(buffer, 0x55, sizeof(buffer));
	check(vdso_reader_text(buffer, 1, page, text, 8) == 6 && buffer[0] == 0 && buffer[1] == 0x55 &&
	      vdso_reader_text(NULL, 0, page, text, 8) == 6, "down to nothing");
	check(vdso_reader_text(buffer, sizeof(buffer), page, full, 4) == 4 && strcmp(buffer, "full") == 0, "a full one ends where it ends");
	check(vdso_reader_text_at(0, buffer, 16, page, (uint64_t)text << 32 | 4, (uint64_t)4 << 32 | 3) == 4 &&
	      vdso_reader_text_at(2, buffer, 16, page, (uint64_t)text << 32 | 4, (uint64_t)4 << 32 | 3) == 4 &&
	      strcmp(buffer, "full") == 0 &&
	      vdso_reader_text_at(3, buffer, 16, page, (uint64_t)text << 32 | 4, (uint64_t)4 << 32 | 3) == 0 && buffer[0] == 0,
	      "one of a row of texts");
	vdso_page_close(&page_);
}

/* ---- sizes that are no multiple of a vector or a word ---- */

static void test_sizes(void)
{
	struct vdso_page page = new_page(32, 1);
	unsigned char out[300];
	unsigned wrong = 0;
	uint64_t record[32];

	for (unsigned i = 0; i < sizeof(record); i++)
		((unsigned char *)record)[i] = (unsigned char)(i + 1);
	vdso_page_publish(&page, record, false);
	for (unsigned size = 0; size <= sizeof(record); size++) {
		for (unsigned shift = 0; shift < 16; shift++) { /* to any alignment */
			memset(out, 0x55, sizeof(out));
			wrong += vdso_reader_snapshot(out + shift, page.header, SLOTS - 1, page.header->slot_stride, size) != 0;
			wrong += memcmp(out + shift, record, size) != 0;
			wrong += (shift != 0 && out[shift - 1] != 0x55) || out[shift + size] != 0x55;
		}
		for (unsigned offset = 0; offset + size <= sizeof(record); offset += 7) { /* and from any */
			memset(out, 0x55, sizeof(out));
			wrong += vdso_reader_items(out, size, page.header, offset, 1, size) != 0;
			wrong += memcmp(out, (char *)record + offset, size) != 0 || out[size] != 0x55;
		}
	}
	check(wrong == 0, "every size is copied, from and to any alignment, and not a byte more");
	vdso_page_close(&page);
}

/* ---- when there is no record ---- */

static void test_answers(void)
{
	struct vdso_page page = new_page(2, 7);
	vdso_page_ptr header = page.header;
	uint64_t record[2] = {5, 5}, version = 9;
	char text[4] = "x";

	check(vdso_reader_version(header) == 0 && vdso_reader_schema(header) == 7, "a new page has version 0");
	check(vdso_reader_snapshot(record, header, 3, header->slot_stride, 16) == VDSO_READER_NEVER_WRITTEN &&
	      vdso_reader_snapshot_of(record, 7, &version, header, 7, 16) == VDSO_READER_NEVER_WRITTEN &&
	      vdso_reader_items(record, 2, header, 0, 8, 2) == VDSO_READER_NEVER_WRITTEN && record[0] == 5 && version == 9,
	      "was never written, and what the caller has stays");
	check(vdso_reader_u64(header, 3, header->slot_stride, 8) == 0 && vdso_reader_f64(header, 3, header->slot_stride, 8) == 0 &&
	      vdso_reader_text(text, 4, header, 0, 8) == 0 && text[0] == 0, "its fields are 0, its texts empty");
	publish(&page, 1, true);
	check(vdso_reader_snapshot_of(record, 8, &version, header, 7, 16) == VDSO_READER_OTHER_LAYOUT && record[0] == 5 &&
	      version == 9, "another layout is not copied into the caller's struct");
	check(vdso_reader_snapshot_of(record, 7, NULL, header, 7, 16) == VDSO_READER_OK && record[1] == word_of(1, 1),
	      "who does not want the version says NULL");

	/* A slot that never has the version that head says: what a writer that laps every try looks like. */
	atomic_store(vdso_slot_version(header, 1), 5);
	check(vdso_reader_snapshot(record, header, 3, header->slot_stride, 16) == VDSO_READER_LAPPED &&
	      vdso_reader_snapshot_of(record, 7, &version, header, 7, 16) == VDSO_READER_LAPPED && version == 9 &&
	      vdso_reader_items(record, 2, header, 0, 8, 2) == VDSO_READER_LAPPED, "a page that laps every try says so");
	check(vdso_reader_u64(header, 3, header->slot_stride, 8) == word_of(1, 1) && vdso_reader_text(text, 4, header, 0, 8) == 0 &&
	      text[0] == 0, "a single field is read all the same, and a text is empty");
	vdso_page_close(&page);
}

/* ---- waiting ---- */

static void nothing(int signal)
{
	(void)signal;
}

static void test_wait(void)
{
	struct vdso_page page = new_page(2, 7), reader = reader_of(&page);
	struct sigaction action = {.sa_handler = nothing};
	uint64_t start = monotonic_ns();
	int status = -1;
	pid_t child;

	check(vdso_reader_wait(0, 20000000, reader.header) == VDSO_READER_TIMED_OUT && monotonic_ns() - start >= 20000000,
	      "waiting times out");
	check(vdso_reader_wait(0, 0, reader.header) == VDSO_READER_TIMED_OUT, "at once with a timeout of 0");
	child = fork();
	if (child == 0)
		_exit(vdso_reader_wait(0, -1, reader.header) == VDSO_READER_OK && vdso_reader_version(reader.header) == 1 ? 0 : 1);
	sleep_ns(20000000);
	publish(&page, 1, true);
	waitpid(child, &status, 0);
	check(status == 0, "a version wakes who waits for ever, through a read-only mapping");
	check(vdso_reader_wait(0, -1, reader.header) == VDSO_READER_OK, "who is behind does not wait");
	sigaction(SIGUSR1, &action, NULL);
	child = fork();
	if (child == 0) {
		for (;;)
			if (vdso_reader_wait(1, INT64_MAX, reader.header) == VDSO_READER_INTERRUPTED)
				_exit(0);
	}
	do {
		kill(child, SIGUSR1);
		sleep_ns(1000000);
	} while (waitpid(child, &status, WNOHANG) == 0);
	check(status == 0, "a signal handler interrupts, also a wait of centuries");
	vdso_page_set_state(&page, VDSO_STATE_SILENT, 0);
	child = fork();
	if (child == 0)
		_exit(vdso_reader_wait(1, -1, reader.header) == VDSO_READER_OK ? 0 : 1);
	sleep_ns(20000000);
	publish(&page, 2, false);
	waitpid(child, &status, 0);
	check(status == 0, "a writer that wakes nobody is found out");
	vdso_page_set_state(&page, 0, VDSO_STATE_SILENT);
	check(!vdso_reader_replaced(reader.header), "a page has its name");
	child = fork();
	if (child == 0)
		_exit(vdso_reader_wait(2, -1, reader.header) == VDSO_READER_REPLACED ? 0 : 1);
	sleep_ns(20000000);
	vdso_page_retire(page.fd, 0);
	waitpid(child, &status, 0);
	check(status == 0 && vdso_reader_replaced(reader.header), "who waits is told that another has it");
	check(vdso_reader_wait(1, -1, reader.header) == VDSO_READER_OK, "the last version is still there to be had");
	vdso_page_close(&page);
	vdso_page_close(&reader);
}

/* ---- the publisher ---- */

static void test_alive(void)
{
	struct vdso_page page = new_page(2, 7), reader = reader_of(&page);
	pid_t child;

	check(vdso_reader_alive(reader.header), "a page whose publisher lives says so");
	prctl(PR_SET_NAME, "a) R 1 (b c");
	check(vdso_reader_alive(reader.header), "whatever the process is called");
	atomic_fetch_add(&page.header->writer_start, 1);
	check(!vdso_reader_alive(reader.header), "a pid that was given out again is another process");
	child = fork();
	if (child == 0)
		_exit(0);
	waitpid(child, NULL, 0);
	atomic_store(&page.header->writer_pid, (uint64_t)child);
	check(!vdso_reader_alive(reader.header), "a publisher that died is not alive");
	atomic_store(&page.header->writer_pid, UINT64_MAX);
	check(!vdso_reader_alive(reader.header), "nor a pid that cannot be");
	vdso_page_close(&page);
	check(!vdso_reader_alive(reader.header), "nor one that closed");
	vdso_page_close(&reader);
}

int main(int argc, char **argv)
{
	uint64_t reads = soak(argc, argv) ? 20000000 : 400000;
	static const uint32_t words[] = {1, 3, 8, 25, 512};

	test_kinds();
	test_sizes();
	test_answers();
	test_wait();
	test_alive();
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		test_torn(words[i], words[i] > 100 ? reads / 20 : reads);
	return check_done();
}
