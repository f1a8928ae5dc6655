#include "travel.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attachment.h"
#include "process.h"
#include "space.h"
#include "transform.h"

#define NSEC ((int64_t)VDSO_NSEC_PER_SEC)
#define JUMP_BYTES 5u
#define READ_TRIES 1000
#define BEND_TRIES 200
#define BEND_STEP_NS 1000000
#define BEND_STEPS 60 /* a tick of 10 ms, and a machine that is busy */

/* ---- where ---- */

static const struct vdso_process *process_of(uint64_t region)
{
	return (const struct vdso_process *)(uintptr_t)(region + VDSO_CLOCK_BYTES);
}

/* Where the jump at this place leads. 0: there is none. */
static uint64_t target(const uint8_t *site)
{
	int32_t distance;

	if (site[0] != 0xe9)
		return 0;
	memcpy(&distance, site + 1, sizeof(distance));
	return (uint64_t)(uintptr_t)site + JUMP_BYTES + (uint64_t)(int64_t)distance;
}

static bool leads_to(const uint8_t *site, uint64_t region)
{
	return target(site) - (region + VDSO_DETOURS_AT) < VDSO_PAGE_BYTES;
}

/* A jump anywhere in the kernel's image that leads to this region, NULL if there is none: attaching makes them, and all at once. */
static const uint8_t *find_site(const struct vdso_space *space, uint64_t region)
{
	for (uint64_t at = space->image; space->image != 0 && at + JUMP_BYTES <= space->image_end; at++)
		if (leads_to((const uint8_t *)(uintptr_t)at, region))
			return (const uint8_t *)(uintptr_t)at;
	return NULL;
}

/* What `vdso run` started has our image where the auxiliary vector says. */
static bool is_swapped(uint64_t region)
{
	return getauxval(AT_SYSINFO_EHDR) == region + VDSO_DATA_BYTES;
}

/* The region in use, and the jump that makes it so; of that file, if one is given. */
static int find(const struct stat *file, uint64_t *ret, const uint8_t **site)
{
	struct vdso_space space;
	int err = vdso_space_read_file("/proc/self/maps", &space);

	*ret = 0;
	*site = NULL;
	for (uint32_t i = 0; err == 0 && i < space.regions && *ret == 0; i++) {
		const struct vdso_region *region = &space.region[i];

		if (file != NULL && (region->inode != file->st_ino || region->device != file->st_dev))
			continue;
		if (region->attached)
			*site = find_site(&space, region->at);
		if (region->attached ? *site != NULL : is_swapped(region->at))
			*ret = region->at;
	}
	return err;
}

int vdso_travel_find(uint64_t *ret)
{
	const uint8_t *site;

	return find(NULL, ret, &site);
}

bool vdso_travel_forked(const struct vdso_travel *t)
{
	return !vdso_page_writable(&t->page);
}

bool vdso_travel_replaced(const struct vdso_travel *t)
{
	return t->region != 0 && process_of(t->region)->traveller != t->mark;
}

bool vdso_travel_stands(const struct vdso_travel *t)
{
	return t->region != 0 && !t->away && !vdso_travel_forked(t) && !vdso_travel_replaced(t) &&
	       (t->site == NULL || leads_to(t->site, t->region));
}

/* ---- the page ---- */

int vdso_travel_create(struct vdso_travel *ret)
{
	struct vdso_page_shape shape = vdso_clock_shape();
	struct vdso_travel t = {.page.fd = -1, .reader_fd = -1};
	struct vdso_clock_record record;
	uint64_t first = 0;
	int fd, err = vdso_page_create_memfd("vdso-clock", &shape, &fd);

	if (err != 0)
		return err;
	err = vdso_page_open_writer(fd, 0, &t.page);
	if (err != 0) {
		close(fd);
		return err;
	}
	/* Without an answer it begins at a version like any other's, and that is all. */
	if (getrandom(&first, sizeof(first), GRND_NONBLOCK) != sizeof(first))
		first = (uint64_t)(uintptr_t)&first;
	atomic_store_explicit(&t.page.header->head, first >> 2, memory_order_relaxed);
	t.mark = first | 1;
	vdso_record_identity(&record);
	err = vdso_clock_publish(&t.page, &record, false);
	t.reader_fd = err != 0 ? err : vdso_page_reopen_readonly(fd);
	if (t.reader_fd < 0) {
		err = t.reader_fd;
		vdso_page_close(&t.page);
		return err;
	}
	*ret = t;
	return 0;
}

/* No descriptor of ours stays in the process, where somebody closing all of them would let us close another one's. */
static void close_files(struct vdso_travel *t)
{
	if (t->reader_fd >= 0)
		close(t->reader_fd);
	if (t->page.fd >= 0)
		close(t->page.fd);
	t->reader_fd = t->page.fd = -1;
}

void vdso_travel_destroy(struct vdso_travel *t)
{
	close_files(t);
	vdso_page_close(&t->page);
	if (t->lent != NULL)
		munmap(t->lent, VDSO_CLOCK_BYTES);
	t->lent = NULL;
}

/* A word of the process page, which is ours alone and otherwise read-only. Where that may not be changed it stays as it is. */
static void write_down(uint64_t region, size_t word, uint64_t value)
{
	uint8_t *page = (uint8_t *)(uintptr_t)(region + VDSO_CLOCK_BYTES);

	if (mprotect(page, VDSO_PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
		return;
	memcpy(page + word, &value, sizeof(value));
	mprotect(page, VDSO_PAGE_BYTES, PROT_READ);
}

static void settle(struct vdso_travel *t, uint64_t region, const uint8_t *site)
{
	close_files(t);
	write_down(region, offsetof(struct vdso_process, traveller), t->mark);
	t->mark = process_of(region)->traveller;
	t->region = region;
	t->site = site;
	t->kernel_gettime = (int (*)(int, struct timespec *))(uintptr_t)process_of(region)->function[VDSO_FN_CLOCK_GETTIME];
}

int vdso_travel_arrive(struct vdso_travel *t)
{
	struct stat file;
	const uint8_t *site;
	uint64_t region;
	int err = fstat(t->reader_fd, &file) != 0 ? -errno : find(&file, &region, &site);

	if (err == 0 && region == 0)
		err = -ENOENT;
	if (err == 0)
		settle(t, region, site);
	return err;
}

static int place(int fd, uint64_t region)
{
	void *at = mmap((void *)(uintptr_t)region, VDSO_CLOCK_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);

	return at == MAP_FAILED ? -errno : 0;
}

static uint64_t slot_of(const struct vdso_page_header *page)
{
	return atomic_load_explicit(&page->head, memory_order_relaxed) % VDSO_CLOCK_SLOTS;
}

/*
 * The record in every slot, and the newest in the slot that is another page's newest. A reader that has taken the head of one
 * page and looks for its slot in the other, since they were exchanged meanwhile, finds out by the head: but only after it has
 * looked, and a slot that was never written would send it to the kernel's clock without another look.
 */
static int fill(struct vdso_travel *t, struct vdso_clock_record *record, const struct vdso_page_header *other)
{
	int err = 0;

	for (uint32_t i = 0; err == 0 && (i < VDSO_CLOCK_SLOTS || slot_of(t->page.header) != slot_of(other)); i++)
		err = vdso_clock_publish(&t->page, record, false);
	return err;
}

static int say(struct vdso_travel *t, struct vdso_clock_record *record)
{
	return t->lent != NULL ? fill(t, record, t->lent) : vdso_clock_publish(&t->page, record, t->wake);
}

/* What another page says, so that nobody reads anything else while ours comes into its place. */
static int say_the_same(struct vdso_travel *t, const struct vdso_page_header *there, struct vdso_clock_record *ret)
{
	uint64_t version;

	if (vdso_page_read(there, ret, &version, READ_TRIES) != VDSO_READ_OK)
		return -EAGAIN;
	return fill(t, ret, there);
}

int vdso_travel_succeed(struct vdso_travel *t, struct vdso_travel *before)
{
	struct vdso_clock_record record;
	int err = say_the_same(t, (const void *)(uintptr_t)before->region, &record);

	if (err == 0)
		err = place(t->reader_fd, before->region);
	if (err != 0)
		return err;
	t->lent = before->lent;
	before->lent = NULL;
	settle(t, before->region, before->site);
	return 0;
}

/* Another mapping of the pages at `from`: an old size of 0 asks for that, of a shared mapping (mremap(2)). */
static void *again(const void *from, uint64_t to)
{
	if (to != 0)
		return mremap((void *)(uintptr_t)from, 0, VDSO_CLOCK_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)to);
	return mremap((void *)(uintptr_t)from, 0, VDSO_CLOCK_BYTES, MREMAP_MAYMOVE);
}

/* Says in the process page which session's page ours stands for: who answers for the session (sessions.c) sees a page there that
 * it does not know. Without the right to write there, what sets the clock is refused. */
static void say_whose(const struct vdso_space *space, uint64_t region)
{
	for (uint32_t i = 0; i < space->regions; i++)
		if (space->region[i].at == region)
			write_down(region, offsetof(struct vdso_process, clock), space->region[i].inode);
}

int vdso_travel_borrow(struct vdso_travel *t, uint64_t region)
{
	const void *there = (const void *)(uintptr_t)region;
	struct vdso_clock_record record;
	const uint8_t *site = NULL;
	struct vdso_space space;
	void *lent;
	int err = say_the_same(t, there, &record);

	if (err == 0)
		err = vdso_space_read_file("/proc/self/maps", &space);
	if (err != 0)
		return err;
	if (!is_swapped(region))
		site = find_site(&space, region);
	for (int id = 0; id < (int)VDSO_CLOCK_IDS; id++)
		if (!vdso_clock_is_wall(id) && record.clock[id].kind != VDSO_KIND_JUMP)
			return -EOPNOTSUPP;
	lent = again(there, 0);
	if (lent == MAP_FAILED)
		return -errno;
	say_whose(&space, region);
	err = place(t->reader_fd, region);
	if (err != 0) {
		munmap(lent, VDSO_CLOCK_BYTES);
		return err;
	}
	t->lent = lent;
	settle(t, region, site);
	return 0;
}

int vdso_travel_give_back(struct vdso_travel *t)
{
	if (!vdso_travel_replaced(t) && again(t->lent, t->region) == MAP_FAILED)
		return -errno;
	t->away = true;
	return 0;
}

/* By our own mapping of the page, since there is no descriptor any more. */
int vdso_travel_borrow_again(struct vdso_travel *t)
{
	struct vdso_clock_record record;
	int err = vdso_travel_replaced(t) ? -ESTALE : say_the_same(t, t->lent, &record);
	void *at;

	if (err != 0)
		return err;
	at = again(t->page.header, t->region);
	if (at == MAP_FAILED)
		return -errno;
	t->away = false;
	/* The writer's mapping is neither read-only nor a forked child's; a reader's is both. */
	if (mprotect(at, VDSO_CLOCK_BYTES, PROT_READ) != 0 || madvise(at, VDSO_CLOCK_BYTES, MADV_DOFORK) != 0)
		return -errno;
	return 0;
}

/* ---- what it says ---- */

static struct vdso_time kernel_time(const struct vdso_travel *t, int id)
{
	struct timespec ts = {0};

	t->kernel_gettime(id, &ts);
	return (struct vdso_time){.sec = ts.tv_sec, .nsec = (uint64_t)ts.tv_nsec};
}

int64_t vdso_travel_host_ns(const struct vdso_travel *t)
{
	return (int64_t)vdso_time_input(kernel_time(t, VDSO_ID_REALTIME));
}

/* TAI less REALTIME, in whole seconds. */
static int64_t tai_gap(const struct vdso_travel *t)
{
	struct vdso_time real = kernel_time(t, VDSO_ID_REALTIME), tai = kernel_time(t, VDSO_ID_TAI);

	return tai.sec - real.sec + (tai.nsec + VDSO_NSEC_PER_SEC / 2 < real.nsec ? -1 : 0);
}

/* Until `takeover` the first line, then the second. */
static void two_lines(const struct vdso_travel *t, const struct vdso_line *first, const struct vdso_line *second,
		      struct vdso_clock_record *ret)
{
	vdso_record_identity(ret);
	ret->clock[VDSO_ID_REALTIME] = (struct vdso_clock){
		.kind = VDSO_KIND_LINE,
		.flags = VDSO_CLOCK_SETTABLE,
		.takeover = second->in,
		.line = {*first, *second},
	};
	vdso_record_spread(ret, tai_gap(t), NULL);
}

static void record_of(const struct vdso_travel *t, const struct vdso_line *line, struct vdso_clock_record *ret)
{
	struct vdso_time begin = {.sec = line->sec, .nsec = line->nsec};
	struct vdso_time now = {.sec = (int64_t)line->in / NSEC, .nsec = line->in % VDSO_NSEC_PER_SEC};

	vdso_record_identity(ret);
	vdso_clock_step(&ret->clock[VDSO_ID_REALTIME], now, begin, line->rate);
	vdso_record_spread(ret, tai_gap(t), &begin);
}

int vdso_travel_publish(struct vdso_travel *t, const struct vdso_line *line)
{
	struct vdso_clock_record record;

	record_of(t, line, &record);
	return say(t, &record);
}

int vdso_travel_home(struct vdso_travel *t)
{
	struct vdso_clock_record record;

	vdso_record_identity(&record);
	return say(t, &record);
}

static void nap(void)
{
	struct timespec ts = {.tv_nsec = BEND_STEP_NS};

	nanosleep(&ts, NULL);
}

int vdso_travel_bend(struct vdso_travel *t, struct vdso_line *line, uint64_t rate)
{
	struct vdso_clock_record record;

	for (int tries = 0; tries < BEND_TRIES; tries++) {
		uint64_t now = (uint64_t)vdso_travel_host_ns(t);
		struct vdso_line next = {.in = now + VDSO_LEAD_NS, .rate = rate};
		struct vdso_time at = vdso_line_kernel(line, next.in);
		int err;

		next.sec = at.sec;
		next.nsec = at.nsec;
		two_lines(t, line, &next, &record);
		err = vdso_clock_stage(&t->page, &record);
		if (err != 0)
			return err;
		if ((uint64_t)vdso_travel_host_ns(t) - now > VDSO_LEAD_NS / 2)
			continue;
		err = vdso_page_finish(&t->page, t->wake);
		if (err != 0)
			return err;
		/* Who sets the host's clock back meanwhile does not make us wait for ever. */
		for (int step = 0; step < BEND_STEPS; step++) {
			if ((int64_t)(vdso_time_input(kernel_time(t, VDSO_ID_REALTIME_COARSE)) - next.in) >= 0)
				break;
			nap();
		}
		*line = next;
		return vdso_travel_publish(t, line);
	}
	return -ETIMEDOUT;
}
