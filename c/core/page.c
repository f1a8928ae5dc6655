#include "page.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int shape_check(uint64_t slots, uint64_t record_size)
{
	if (slots < 2 || slots > VDSO_SLOTS_MAX || (slots & (slots - 1)) != 0)
		return -EINVAL;
	if (record_size == 0 || record_size > VDSO_RECORD_MAX || record_size % 8 != 0)
		return -EINVAL;
	return 0;
}

static uint64_t round_to_pages(uint64_t bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

bool vdso_page_writable(const struct vdso_page *page)
{
	return page->here != NULL && *page->here == 1;
}

int vdso_page_create(int fd, off_t offset, const struct vdso_page_shape *shape)
{
	struct vdso_page_header header = {
		.magic = VDSO_PAGE_MAGIC,
		.format = VDSO_PAGE_FORMAT,
		.slots = shape->slots,
		.record_size = shape->record_size,
		.fields_offset = shape->fields_offset,
		.fields_size = shape->fields_size,
		.schema_hash = shape->schema_hash,
	};
	uint64_t magic = 0, end;
	int err = shape_check(shape->slots, shape->record_size);

	if (err != 0)
		return err;
	if (offset < 0 || (uint64_t)offset != round_to_pages((uint64_t)offset))
		return -EINVAL;
	header.slot_stride = vdso_slot_stride(shape->record_size);
	header.page_size = vdso_page_size(shape->slots, shape->record_size);
	if (pread(fd, &magic, sizeof(magic), offset) == sizeof(magic) && magic == VDSO_PAGE_MAGIC)
		return -EEXIST;
	/* To a whole page: mappings are made in pages, and the zeroes behind the last slot must be the file's own. */
	end = (uint64_t)offset + round_to_pages(header.page_size);
	/* Allocated, not only said: a filesystem that is full must fail here and not under a store. */
	do
		err = posix_fallocate(fd, offset, (off_t)end - offset);
	while (err == EINTR);
	if (err != 0)
		return -err;
	if (pwrite(fd, &header, VDSO_LINE, offset) != (ssize_t)VDSO_LINE)
		return errno != 0 ? -errno : -EIO;
	return 0;
}

int vdso_page_create_memfd(const char *name, const struct vdso_page_shape *shape, int *ret)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	err = vdso_page_create(fd, 0, shape);
	if (err == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
		err = -errno;
	if (err != 0) {
		close(fd);
		return err;
	}
	*ret = fd;
	return 0;
}

int vdso_page_find(int fd, off_t *ret)
{
	union {
		Elf64_Ehdr elf;
		unsigned char bytes[4096];
	} head;
	ssize_t size = pread(fd, &head, sizeof(head), 0);

	if (size < 0)
		return -errno;
	if ((size_t)size < sizeof(head.elf))
		return -ENODATA;
	if (memcmp(head.elf.e_ident, ELFMAG, SELFMAG) != 0 || head.elf.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.elf.e_phentsize != sizeof(Elf64_Phdr) || head.elf.e_phoff > (size_t)size ||
	    head.elf.e_phnum > ((size_t)size - head.elf.e_phoff) / sizeof(Elf64_Phdr))
		return -EBADMSG;
	for (unsigned i = head.elf.e_phnum; i-- > 0;) {
		uint64_t magic = 0;
		Elf64_Phdr segment;

		memcpy(&segment, head.bytes + head.elf.e_phoff + i * sizeof(segment), sizeof(segment));
		if (segment.p_type != PT_LOAD || segment.p_flags != PF_R || segment.p_offset > INT64_MAX ||
		    segment.p_offset != round_to_pages(segment.p_offset))
			continue;
		if (pread(fd, &magic, sizeof(magic), (off_t)segment.p_offset) == sizeof(magic) &&
		    magic == VDSO_PAGE_MAGIC) {
			*ret = (off_t)segment.p_offset;
			return 0;
		}
	}
	return -EBADMSG;
}

int vdso_page_check(int fd, off_t offset, struct vdso_page_header *ret)
{
	struct vdso_page_header header = {0};
	uint64_t room;
	struct stat st;

	if (offset < 0 || (uint64_t)offset != round_to_pages((uint64_t)offset))
		return -EINVAL;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (st.st_size < offset || (uint64_t)(st.st_size - offset) < sizeof(header))
		return -ENODATA;
	if (pread(fd, &header, sizeof(header), offset) != (ssize_t)sizeof(header))
		return -EIO;
	if (header.magic != VDSO_PAGE_MAGIC)
		return -EBADMSG;
	if (header.format != VDSO_PAGE_FORMAT)
		return -EPROTONOSUPPORT;
	if (shape_check(header.slots, header.record_size) != 0 ||
	    header.slot_stride != vdso_slot_stride(header.record_size) ||
	    header.page_size != vdso_page_size(header.slots, header.record_size))
		return -EBADMSG;
	room = (uint64_t)(st.st_size - offset);
	if (header.page_size > room)
		return -EOVERFLOW;
	if (header.fields_offset != 0) {
		/* Counted from the header and possibly before it: the sum may wrap, the place may not leave the file. */
		uint64_t start = (uint64_t)offset + header.fields_offset;

		if (start > (uint64_t)st.st_size || header.fields_size > (uint64_t)st.st_size - start)
			return -EOVERFLOW;
	}
	*ret = header;
	return 0;
}

/* When the process began, in ticks since boot: tells a pid from its reuse. 0: there is no such process. */
static uint64_t process_start(pid_t pid)
{
	char path[32], text[1024], *field;
	ssize_t size;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	size = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (size <= 0)
		return 0;
	text[size] = '\0';
	field = strrchr(text, ')'); /* the name before it may hold anything */
	for (int i = 2; field != NULL && i < 22; i++) {
		field = strchr(field, ' ');
		if (field != NULL)
			field++;
	}
	return field != NULL ? strtoull(field, NULL, 10) : 0;
}

static int map(int fd, off_t offset, int protection, struct vdso_page *ret)
{
	struct vdso_page_header header;
	int err = vdso_page_check(fd, offset, &header);
	void *at;

	if (err != 0)
		return err;
	ret->size = (size_t)round_to_pages(header.page_size);
	at = mmap(NULL, ret->size, protection, MAP_SHARED, fd, offset);
	if (at == MAP_FAILED)
		return -errno;
	ret->header = at;
	ret->window = (struct vdso_window){
		.header = at,
		.slot_mask = header.slots - 1,
		.slot_stride = header.slot_stride,
		.record_size = header.record_size,
	};
	return 0;
}

static void *futex_word(const struct vdso_page_header *header)
{
	const char *word = (const char *)&header->head;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word += 4;
#endif
	return (void *)(uintptr_t)word;
}

static void wake_all(const struct vdso_page_header *header)
{
	syscall(SYS_futex, futex_word(header), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int lock(int fd, short type)
{
	struct flock range = {.l_type = type, .l_whence = SEEK_SET};

	if (fcntl(fd, F_SETLK, &range) == 0)
		return 0;
	return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
}

/* Marks this process, and none of its children, as the one that may write. */
static int stay_here(struct vdso_page *page)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *at;

	if (madvise(page->header, page->size, MADV_DONTFORK) != 0)
		return -errno;
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return -errno;
	if (madvise(at, size, MADV_WIPEONFORK) != 0) {
		int err = -errno;

		munmap(at, size);
		return err;
	}
	page->here = at;
	*page->here = 1;
	return 0;
}

/* Once it is sure that there is no other writer in another process. */
static int become_writer(int fd, off_t offset, struct vdso_page *ret)
{
	struct vdso_page page = {.fd = fd};
	uint64_t start = process_start(getpid());
	int err = map(fd, offset, PROT_READ | PROT_WRITE, &page);

	if (err != 0)
		return err;
	err = stay_here(&page);
	if (err != 0) {
		munmap(page.header, page.size);
		return err;
	}
	atomic_store_explicit(&page.header->writer_start, start, memory_order_relaxed);
	atomic_store_explicit(&page.header->writer_pid, (uint64_t)getpid(), memory_order_relaxed);
	/* The predecessor may have died between its store of head and its wake. */
	wake_all(page.header);
	*ret = page;
	return 0;
}

int vdso_page_open_writer(int fd, off_t offset, struct vdso_page *ret)
{
	struct vdso_page_header header;
	int err = lock(fd, F_WRLCK);

	if (err != 0)
		return err;
	err = vdso_page_check(fd, offset, &header);
	/* The lock does not tell two writers of one process apart; the signature does. And nothing may be unlocked here:
	 * the lock is the other one's. */
	if (err == 0 && header.writer_pid == (uint64_t)getpid() && header.writer_start == process_start(getpid()))
		return -EBUSY;
	if (err == 0)
		err = become_writer(fd, offset, ret);
	if (err != 0)
		lock(fd, F_UNLCK);
	return err;
}

int vdso_page_succeed(int fd, off_t offset, struct vdso_page *ret)
{
	(void)lock(fd, F_WRLCK);
	return become_writer(fd, offset, ret);
}

int vdso_page_retire(int fd, off_t offset)
{
	struct vdso_page page = {.fd = -1};
	int err = map(fd, offset, PROT_READ | PROT_WRITE, &page);

	if (err != 0)
		return err;
	atomic_fetch_or_explicit(&page.header->state, VDSO_STATE_REPLACED, memory_order_release);
	wake_all(page.header);
	munmap(page.header, page.size);
	return 0;
}

int vdso_page_set_state(struct vdso_page *page, uint64_t set, uint64_t clear)
{
	uint64_t state;

	if (!vdso_page_writable(page))
		return -EPERM;
	state = atomic_load_explicit(&page->header->state, memory_order_relaxed);
	atomic_store_explicit(&page->header->state, (state | set) & ~clear, memory_order_release);
	return 0;
}

int vdso_page_open_reader(int fd, off_t offset, struct vdso_page *ret)
{
	struct vdso_page page = {.fd = -1};
	int err = map(fd, offset, PROT_READ, &page);

	if (err == 0)
		*ret = page;
	return err;
}

void vdso_page_close(struct vdso_page *page)
{
	bool writer = page->here != NULL;
	bool elsewhere = writer && !vdso_page_writable(page);

	if (page->header == NULL)
		return;
	if (writer && !elsewhere)
		atomic_store_explicit(&page->header->writer_pid, 0, memory_order_relaxed);
	/* In a forked child the mapping is not there, and its addresses may be somebody else's by now. */
	if (!elsewhere)
		munmap(page->header, page->size);
	if (writer) {
		munmap(page->here, (size_t)sysconf(_SC_PAGESIZE));
		/* In a forked child it stays: the child may have become the writer meanwhile, by a descriptor of its own, and
		 * closing any other one of the file would cost it its lock. */
		if (!elsewhere)
			close(page->fd);
	}
	*page = (struct vdso_page){.fd = -1};
}

void vdso_page_leave(struct vdso_page *page)
{
	if (page->here == NULL || vdso_page_writable(page) || page->fd < 0)
		return;
	close(page->fd);
	page->fd = -1;
}

int vdso_page_reopen_readonly(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

pid_t vdso_page_holder(int fd)
{
	/* Asks what is in the way of reading: writers' locks only, of which there is one. */
	struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_GETLK, &range) != 0)
		return -errno;
	return range.l_type == F_UNLCK ? 0 : range.l_pid;
}

bool vdso_page_held(int fd)
{
	struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

bool vdso_page_writer_alive(const struct vdso_page *page)
{
	uint64_t pid = atomic_load_explicit(&page->header->writer_pid, memory_order_relaxed);
	uint64_t start = atomic_load_explicit(&page->header->writer_start, memory_order_relaxed);

	return pid != 0 && pid <= INT_MAX && process_start((pid_t)pid) == start;
}

int vdso_page_stage(struct vdso_page *page, const void *record)
{
	_Atomic uint64_t *slot;

	if (!vdso_page_writable(page))
		return -EPERM;
	slot = vdso_page_begin(page->header);
	vdso_copy_in(slot, record, page->window.record_size);
	return 0;
}

int vdso_page_finish(struct vdso_page *page, bool wake)
{
	if (!vdso_page_writable(page))
		return -EPERM;
	vdso_page_commit(page->header);
	if (wake)
		wake_all(page->header);
	return 0;
}

int vdso_page_publish(struct vdso_page *page, const void *record, bool wake)
{
	if (!vdso_page_writable(page))
		return -EPERM;
	vdso_copy_in(vdso_page_begin(page->header), record, page->window.record_size);
	vdso_page_commit(page->header);
	if (wake)
		wake_all(page->header);
	return 0;
}

int vdso_page_beat(struct vdso_page *page, uint64_t now_ns)
{
	if (!vdso_page_writable(page))
		return -EPERM;
	atomic_store_explicit(&page->header->heartbeat_ns, now_ns, memory_order_relaxed);
	return 0;
}

enum vdso_page_answer vdso_page_get(const struct vdso_page *page, uint64_t max_age_ns, void *record, uint64_t *version)
{
	enum vdso_read_status status;
	int64_t beat;

	if (page->header == NULL)
		return VDSO_PAGE_NOT_THERE;
	status = vdso_window_copy(&page->window, 0, page->window.record_size, record, version,
				  vdso_tries(page->window.record_size));
	if (status != VDSO_READ_OK || max_age_ns == 0)
		return (enum vdso_page_answer)status;
	beat = (int64_t)atomic_load_explicit(&page->header->heartbeat_ns, memory_order_relaxed);
	if (beat != 0 && now_ns() - beat > (int64_t)max_age_ns)
		return VDSO_PAGE_STALE;
	return VDSO_PAGE_OK;
}

void *vdso_page_word(const struct vdso_page *page)
{
	return futex_word(page->header);
}

void vdso_page_wake(const struct vdso_page *page)
{
	wake_all(page->header);
}

int vdso_page_wait(const struct vdso_page *page, uint64_t seen, int64_t timeout_ns, const _Atomic int *ended)
{
	int64_t now = now_ns(), end = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;

	while (atomic_load_explicit(&page->header->head, memory_order_acquire) == seen) {
		uint64_t state = atomic_load_explicit(&page->header->state, memory_order_acquire);
		/* Being replaced, or ended, does not change the futex word, so its wake can be missed, once. */
		int64_t slice = state & VDSO_STATE_SILENT ? NS_PER_S / 1000 : NS_PER_S;
		struct timespec until;

		if (ended != NULL && atomic_load(ended) != 0)
			return -ECANCELED;
		if (state & VDSO_STATE_REPLACED)
			return -ESTALE;
		if (now >= end)
			return -ETIMEDOUT;
		slice += now;
		if (slice > end)
			slice = end;
		until = (struct timespec){.tv_sec = (time_t)(slice / NS_PER_S), .tv_nsec = (long)(slice % NS_PER_S)};
		/* The bitset form takes an absolute deadline, so that spurious wakes do not prolong it. */
		if (syscall(SYS_futex, futex_word(page->header), FUTEX_WAIT_BITSET, (uint32_t)seen, &until, NULL,
			    FUTEX_BITSET_MATCH_ANY) != 0 && errno != EAGAIN && errno != ETIMEDOUT)
			return -errno;
		now = now_ns();
	}
	return 0;
}
