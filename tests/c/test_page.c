/* The page protocol under a flat-out writer, killed writers, forks, and headers that lie. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "page.h"

static int new_page(uint32_t record_size)
{
	struct vdso_page_shape shape = {.slots = 4, .record_size = record_size, .schema_hash = 7};
	int fd, err = vdso_page_create_memfd("test", &shape, &fd);

	if (err != 0) {
		fprintf(stderr, "cannot make a page: %s\n", strerror(-err));
		exit(2);
	}
	return fd;
}

static struct vdso_page reader_of(int fd)
{
	struct vdso_page page;
	int own = vdso_page_reopen_readonly(fd), err = own < 0 ? own : vdso_page_open_reader(own, 0, &page);

	if (err != 0) {
		fprintf(stderr, "cannot read the page: %s\n", strerror(-err));
		exit(2);
	}
	/* Left open: closing it would drop the lock if this process should be the writer. */
	return page;
}

static void fill(uint64_t *record, size_t words, uint64_t number)
{
	record[0] = number;
	for (size_t i = 1; i < words; i++)
		record[i] = number * 0x9e3779b97f4a7c15u + i;
}

static bool whole(const uint64_t *record, size_t words)
{
	for (size_t i = 1; i < words; i++)
		if (record[i] != record[0] * 0x9e3779b97f4a7c15u + i)
			return false;
	return true;
}

static pid_t spawn(void (*body)(void *), void *argument)
{
	pid_t pid = fork();

	if (pid == 0) {
		body(argument);
		_exit(0);
	}
	return pid;
}

static int wait_status(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return status;
}

/* Publishes versions for ever, or until *stop. Each record is made of its version. */
struct writing {
	int fd;
	size_t words;
	atomic_bool *stop;
};

static void write_flat_out(void *argument)
{
	struct writing *w = argument;
	uint64_t *record = calloc(w->words, 8);
	struct vdso_page page;

	if (record == NULL || vdso_page_open_writer(w->fd, 0, &page) != 0)
		_exit(9);
	while (!atomic_load_explicit(w->stop, memory_order_relaxed)) {
		fill(record, w->words, atomic_load_explicit(&page.header->head, memory_order_relaxed) + 1);
		vdso_page_publish(&page, record, false);
	}
	vdso_page_close(&page);
}

/* ---- torn records ---- */

enum { SMALL = 32 }; /* words: 256 bytes */

struct tally {
	atomic_ullong reads, torn, wrong_version, backward, lapped, unguarded_torn;
};

struct reading {
	int fd;
	uint64_t reads;
	struct tally *tally;
};

static void *read_many(void *argument)
{
	struct reading *r = argument;
	struct vdso_page page = reader_of(r->fd);
	uint64_t record[SMALL], version, last = 0;

	for (uint64_t i = 0; i < r->reads; i++) {
		enum vdso_page_answer answer = vdso_page_get(&page, 0, record, &version);

		if (answer == VDSO_PAGE_LAPPED)
			r->tally->lapped++;
		if (answer != VDSO_PAGE_OK)
			continue;
		if (!whole(record, SMALL))
			r->tally->torn++;
		if (record[0] != version)
			r->tally->wrong_version++;
		if (version < last)
			r->tally->backward++;
		last = version;
	}
	atomic_fetch_add(&r->tally->reads, r->reads);
	/* Proof that there was something to see: the slot that is being written, taken without looking at its version. Until it was:
	 * the writer may not run beside us for a while. */
	for (uint64_t i = 0, start = monotonic_ns();
	     i < 100000 || (r->tally->unguarded_torn == 0 && monotonic_ns() - start < 10000000000u); i++) {
		const _Atomic uint64_t *slot = vdso_slot_words(page.header, atomic_load(&page.header->head) + 1);

		for (int w = 0; w < SMALL; w++)
			record[w] = atomic_load_explicit(&slot[w], memory_order_relaxed);
		if (!whole(record, SMALL))
			r->tally->unguarded_torn++;
	}
	return NULL;
}

static void read_in_threads(void *argument)
{
	pthread_t thread[2];

	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, read_many, argument);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}

static void test_torn(uint64_t total)
{
	struct tally *tally = shared(sizeof(*tally));
	atomic_bool *stop = shared(sizeof(*stop));
	struct writing writing = {.fd = new_page(SMALL * 8), .words = SMALL, .stop = stop};
	struct reading reading = {.fd = writing.fd, .reads = total / 4, .tally = tally};
	struct vdso_page page = reader_of(writing.fd);
	pid_t writer = spawn(write_flat_out, &writing), readers[2];

	while (atomic_load(&page.header->head) < 1000)
		sleep_ns(100000);
	for (int i = 0; i < 2; i++)
		readers[i] = spawn(read_in_threads, &reading);
	for (int i = 0; i < 2; i++)
		check(wait_status(readers[i]) == 0, "reader process %d ends well", i);
	atomic_store(stop, true);
	check(wait_status(writer) == 0, "the writer ends well after %llu versions",
	      (unsigned long long)atomic_load(&page.header->head));
	check(tally->reads == total / 4 * 4 && tally->torn == 0, "%llu torn records in %llu reads (2 processes of 2 threads)",
	      (unsigned long long)tally->torn, (unsigned long long)tally->reads);
	check(tally->wrong_version == 0 && tally->backward == 0, "each is the version that it says, and none is older than the last");
	check(tally->unguarded_torn > 0, "without looking at the version %llu were torn",
	      (unsigned long long)tally->unguarded_torn);
	printf("     lapped %llu times\n", (unsigned long long)tally->lapped);
	close(writing.fd);
}

/* ---- killed writers ---- */

enum { LARGE = 8192 }; /* words: 64 KiB, so that a writer is nearly always in the middle of one */

struct watch {
	atomic_bool stop;
	atomic_ullong reads, bad;
};

struct watching {
	int fd;
	struct watch *watch;
};

static void keep_reading(void *argument)
{
	struct watching *w = argument;
	struct vdso_page page = reader_of(w->fd);
	uint64_t *record = calloc(LARGE, 8), version, last = 0;

	while (!atomic_load(&w->watch->stop)) {
		enum vdso_page_answer answer = vdso_page_get(&page, 0, record, &version);

		if (answer == VDSO_PAGE_OK) {
			if (!whole(record, LARGE) || record[0] != version || version < last)
				w->watch->bad++;
			last = version;
			w->watch->reads++;
		} else if (answer != VDSO_PAGE_NEVER_WRITTEN) {
			w->watch->bad++;
		}
	}
}

/* Makes each word where it belongs, between begin and commit: hardly a moment is spent outside of a record. */
static void write_in_place(void *argument)
{
	struct writing *w = argument;
	struct vdso_page page;

	if (vdso_page_open_writer(w->fd, 0, &page) != 0)
		_exit(9);
	for (;;) {
		uint64_t number = atomic_load_explicit(&page.header->head, memory_order_relaxed) + 1;
		_Atomic uint64_t *slot = vdso_page_begin(page.header);

		atomic_store_explicit(&slot[0], number, memory_order_relaxed);
		for (size_t i = 1; i < w->words; i++)
			atomic_store_explicit(&slot[i], number * 0x9e3779b97f4a7c15u + i, memory_order_relaxed);
		vdso_page_commit(page.header);
	}
}

static void test_kills(unsigned rounds)
{
	int fd = new_page(LARGE * 8);
	struct vdso_page page = reader_of(fd);
	struct watch *watch = shared(sizeof(*watch));
	struct watching watching = {.fd = fd, .watch = watch};
	struct writing writing = {.fd = fd, .words = LARGE};
	pid_t reader = spawn(keep_reading, &watching);
	uint64_t *record = calloc(LARGE, 8), version, seed = 1;
	unsigned in_middle = 0, late = 0, not_whole = 0, stood = 0, held = 0, not_taken = 0, alive = 0;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t before = atomic_load(&page.header->head), reads, start;
		pid_t writer = spawn(write_in_place, &writing);

		start = monotonic_ns();
		while (atomic_load(&page.header->head) < before + 2 && monotonic_ns() - start < 5000000000u)
			sleep_ns(20000);
		not_taken += atomic_load(&page.header->head) < before + 2;
		held += vdso_page_holder(fd) == writer && vdso_page_writer_alive(&page);
		sleep_ns(next_random(&seed) % 300000);
		kill(writer, SIGKILL);
		wait_status(writer);

		uint64_t head = atomic_load(&page.header->head);

		in_middle += atomic_load(vdso_slot_version(page.header, head + 1)) > head;
		alive += vdso_page_holder(fd) != 0 || vdso_page_writer_alive(&page);
		/* One try: there is nothing to wait for. */
		late += vdso_page_read(page.header, record, &version, 1) != VDSO_READ_OK || version != head;
		not_whole += !whole(record, LARGE) || record[0] != head;
		reads = watch->reads;
		start = monotonic_ns();
		while (watch->reads < reads + 3 && monotonic_ns() - start < 2000000000u)
			sleep_ns(20000);
		stood += watch->reads < reads + 3;
	}
	atomic_store(&watch->stop, true);
	check(wait_status(reader) == 0 && watch->bad == 0, "the reader took %llu whole records in order, %llu others",
	      (unsigned long long)watch->reads, (unsigned long long)watch->bad);
	check(in_middle * 2 > rounds, "%u of %u writers were killed in the middle of a record", in_middle, rounds);
	check(late == 0 && not_whole == 0, "the last whole record was there at the first try each time");
	check(stood == 0, "the reader went on after each kill");
	check(not_taken == 0 && held == rounds && alive == 0, "each time the lock was free and the next writer took over");
	free(record);
	close(fd);
}

/* ---- one writer ---- */

static void in_the_child(void *argument)
{
	struct vdso_page *page = argument;
	uint64_t record[SMALL] = {0};

	if (vdso_page_publish(page, record, false) != -EPERM || vdso_page_stage(page, record) != -EPERM ||
	    vdso_page_finish(page, false) != -EPERM || vdso_page_beat(page, 1) != -EPERM)
		_exit(1);
	vdso_page_close(page);
	_exit(page->header == NULL ? 0 : 2);
}

static void touch_in_the_child(void *argument)
{
	struct vdso_page *page = argument;

	signal(SIGSEGV, SIG_DFL);
	atomic_store(&page->header->head, 99);
}

static void open_in_the_child(void *argument)
{
	struct vdso_page other;
	int *fd = argument;

	_exit(vdso_page_open_writer(*fd, 0, &other) == -EBUSY && vdso_page_holder(*fd) == getppid() ? 0 : 1);
}

struct orphan {
	int fd;
	atomic_int pid;
};

static void leave_a_child(void *argument)
{
	struct orphan *o = argument;
	struct vdso_page page;
	uint64_t record[SMALL] = {0};

	if (vdso_page_open_writer(o->fd, 0, &page) != 0)
		_exit(1);
	vdso_page_publish(&page, record, false);
	pid_t child = fork();

	if (child == 0)
		for (;;)
			pause();
	o->pid = child;
	_exit(0);
}

static void test_one_writer(void)
{
	int fd = new_page(SMALL * 8), other_fd = new_page(SMALL * 8);
	struct orphan *orphan = shared(sizeof(*orphan));
	uint64_t record[SMALL];
	struct vdso_page page, second;

	check(vdso_page_open_writer(fd, 0, &page) == 0, "a page has a writer");
	check(vdso_page_open_writer(fd, 0, &second) == -EBUSY, "and not a second one in the same process");
	check(wait_status(spawn(open_in_the_child, &fd)) == 0, "nor one in another, which learns who it is");
	fill(record, SMALL, 1);
	check(vdso_page_publish(&page, record, false) == 0, "the writer writes");
	check(wait_status(spawn(in_the_child, &page)) == 0, "a forked child that writes is refused");
	check(WTERMSIG(wait_status(spawn(touch_in_the_child, &page))) == SIGSEGV, "and has no mapping to write to");
	check(vdso_page_publish(&page, record, false) == 0 && atomic_load(&page.header->head) == 2, "the writer still writes");
	check(vdso_page_writer_alive(&page), "the header says who writes");
	vdso_page_close(&page);
	page = reader_of(new_page(8));
	check(vdso_page_publish(&page, record, false) == -EPERM, "a reader that writes is refused");

	orphan->fd = other_fd;
	check(wait_status(spawn(leave_a_child, orphan)) == 0, "a writer dies and leaves a forked child behind");
	if (orphan->pid <= 0)
		exit(2); /* 0 would be every process of the group */
	check(kill(orphan->pid, 0) == 0 && vdso_page_open_writer(other_fd, 0, &second) == 0,
	      "the child does not have the lock: another takes over");
	kill(orphan->pid, SIGKILL);
	vdso_page_close(&second);
}

static void store_through(void *argument)
{
	struct vdso_page *page = argument;

	atomic_store(&page->header->head, 99);
}

static void test_reader(void)
{
	int fd = new_page(SMALL * 8), only = vdso_page_reopen_readonly(fd);
	struct vdso_page page = reader_of(fd), writer = {0}, closed = {0};
	uint64_t record[SMALL], version = 0;
	struct timespec now;

	check(only >= 0 && mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, only, 0) == MAP_FAILED && errno == EACCES,
	      "what readers are given cannot be mapped for writing");
	check(WTERMSIG(wait_status(spawn(store_through, &page))) == SIGSEGV, "a reader's store faults");
	check(ftruncate(fd, 4096) != 0 || ftruncate(fd, 0) != 0, "the file cannot shrink under its readers");
	check(vdso_page_get(&closed, 0, record, &version) == VDSO_PAGE_NOT_THERE, "a page that is not open is not there");
	check(vdso_page_get(&page, 0, record, &version) == VDSO_PAGE_NEVER_WRITTEN, "a new page was never written");
	vdso_page_open_writer(fd, 0, &writer);
	fill(record, SMALL, 1);
	vdso_page_publish(&writer, record, false);
	memset(record, 0, sizeof(record));
	check(vdso_page_get(&page, 1000000, record, &version) == VDSO_PAGE_OK && version == 1 && whole(record, SMALL),
	      "a written one is read, and not stale where no heartbeat is kept");
	clock_gettime(CLOCK_MONOTONIC, &now);
	vdso_page_beat(&writer, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec - 2000000000u);
	check(vdso_page_get(&page, 1000000000, record, &version) == VDSO_PAGE_STALE && record[0] == 1,
	      "a heartbeat 2 s old is stale at 1 s, and the record comes with it");
	check(vdso_page_get(&page, 60000000000, record, &version) == VDSO_PAGE_OK, "and good at 60 s");
	atomic_store(vdso_slot_version(writer.header, 1), 5);
	check(vdso_page_get(&page, 0, record, &version) == VDSO_PAGE_LAPPED, "a slot that always holds another version laps");
	vdso_page_close(&writer);
	check(!vdso_page_writer_alive(&page), "a writer that closed in order is not alive");
}

/* ---- headers that lie ---- */

static int open_with(size_t at, const void *value, size_t size, off_t length)
{
	struct vdso_page_shape shape = {.slots = 4, .record_size = 256};
	int fd = memfd_create("lie", MFD_CLOEXEC), err;
	struct vdso_page page;

	if (vdso_page_create(fd, 0, &shape) != 0 || (size != 0 && pwrite(fd, value, size, (off_t)at) != (ssize_t)size) ||
	    (length >= 0 && ftruncate(fd, length) != 0))
		exit(2);
	err = vdso_page_open_reader(fd, 0, &page);
	if (err == 0)
		vdso_page_close(&page);
	close(fd);
	return err;
}

#define LIE(member, type, value) \
	open_with(offsetof(struct vdso_page_header, member), &(type){value}, sizeof(type), -1)

static void test_headers(void)
{
	struct vdso_page_shape shape = {.slots = 4, .record_size = 256};
	int fd = memfd_create("twice", MFD_CLOEXEC);
	struct vdso_page page;

	check(open_with(0, NULL, 0, -1) == 0, "an honest header opens");
	check(LIE(magic, uint64_t, 1) == -EBADMSG, "another magic does not");
	check(LIE(format, uint32_t, 2) == -EPROTONOSUPPORT, "nor another format");
	check(LIE(slots, uint32_t, 0) == -EBADMSG && LIE(slots, uint32_t, 1) == -EBADMSG && LIE(slots, uint32_t, 3) == -EBADMSG &&
	      LIE(slots, uint32_t, 8192) == -EBADMSG && LIE(slots, uint32_t, 0x80000000u) == -EBADMSG,
	      "nor 0, 1, 3, 8192 or 2^31 slots");
	check(LIE(slots, uint32_t, 8) == -EBADMSG, "nor more slots than its size has");
	check(LIE(record_size, uint32_t, 0) == -EBADMSG && LIE(record_size, uint32_t, 252) == -EBADMSG &&
	      LIE(record_size, uint32_t, 0xfffffff8u) == -EBADMSG, "nor records of 0, 252 or 2^32 - 8 bytes");
	check(LIE(slot_stride, uint32_t, 256) == -EBADMSG && LIE(slot_stride, uint32_t, 0xffffffc0u) == -EBADMSG, "nor another stride");
	check(LIE(page_size, uint64_t, UINT64_MAX) == -EBADMSG, "nor another size");
	check(LIE(fields_offset, uint64_t, 1 << 20) == -EOVERFLOW, "nor a field table outside the file");
	check(open_with(0, NULL, 0, 0) == -ENODATA && open_with(0, NULL, 0, 100) == -ENODATA, "an empty or short file is too short");
	check(open_with(0, NULL, 0, 192) == -EOVERFLOW && open_with(0, NULL, 0, 1000) == -EOVERFLOW,
	      "a file that ends before its slots is refused");
	check(vdso_page_create(fd, 0, &shape) == 0 && vdso_page_create(fd, 0, &shape) == -EEXIST, "a page is never laid over another");
	check(vdso_page_create(fd, 8192, &shape) == 0 && vdso_page_open_reader(fd, 8192, &page) == 0 &&
	      vdso_page_open_reader(fd, 100, &page) == -EINVAL, "a page may lie further down in its file, page-aligned");
	shape.slots = 3;
	check(vdso_page_create(fd, 16384, &shape) == -EINVAL, "a shape that readers would refuse is not made");
	close(fd);
}

/* ---- waiting ---- */

struct waiting {
	int fd;
	uint64_t seen;
	int64_t timeout_ns;
};

static void wait_for_next(void *argument)
{
	struct waiting *w = argument;
	struct vdso_page page = reader_of(w->fd);

	_exit(vdso_page_wait(&page, w->seen, w->timeout_ns, NULL) == 0 ? 0 : 1);
}

static void commit_and_die(void *argument)
{
	struct waiting *w = argument;
	struct vdso_page page;
	uint64_t record[SMALL] = {0};

	if (vdso_page_open_writer(w->fd, 0, &page) != 0)
		_exit(1);
	sleep_ns(100000000); /* until the other one waits */
	vdso_page_publish(&page, record, false);
	kill(getpid(), SIGKILL);
}

static void test_wait(void)
{
	struct waiting w = {.fd = new_page(SMALL * 8), .seen = 0, .timeout_ns = 10000000000};
	struct vdso_page page = {0}, reader = reader_of(w.fd);
	uint64_t record[SMALL] = {0}, start;
	pid_t waiter, writer;

	start = monotonic_ns();
	check(vdso_page_wait(&reader, 0, 20000000, NULL) == -ETIMEDOUT && monotonic_ns() - start >= 20000000, "waiting times out");

	/* First in line: the writer opens, which wakes; then the waiter sleeps on; then a version comes without a wake. */
	writer = spawn(commit_and_die, &w);
	sleep_ns(30000000);
	waiter = spawn(wait_for_next, &w);
	check(WTERMSIG(wait_status(writer)) == SIGKILL && atomic_load(&reader.header->head) == 1,
	      "a writer dies between its head and its wake");
	sleep_ns(50000000);
	check(waitpid(waiter, NULL, WNOHANG) == 0, "whoever waited still sleeps");
	start = monotonic_ns();
	check(vdso_page_open_writer(w.fd, 0, &page) == 0 && wait_status(waiter) == 0 && monotonic_ns() - start < 5000000000u,
	      "the successor wakes it");
	w.seen = 1;
	waiter = spawn(wait_for_next, &w);
	sleep_ns(50000000);
	start = monotonic_ns();
	vdso_page_publish(&page, record, true);
	check(wait_status(waiter) == 0 && monotonic_ns() - start < 5000000000u, "a publication wakes");
	check(vdso_page_wait(&reader, 1, -1, NULL) == 0, "who is behind does not wait");
	vdso_page_close(&page);
}

int main(int argc, char **argv)
{
	bool full = soak(argc, argv);

	test_headers();
	test_reader();
	test_one_writer();
	test_wait();
	test_torn(full ? 100000000 : 10000000);
	test_kills(full ? 500 : 100);
	return check_done();
}
