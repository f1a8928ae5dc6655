/*
 * A page in a file: made, locked by its one writer, mapped by its readers.
 *
 * The protocol itself is in protocol.h; this room knows descriptors, mappings, locks and futexes, and nothing of what a
 * record means. Functions return 0 or a negative errno unless they say otherwise.
 *
 * The writer's lock is a POSIX record lock: the kernel drops it when the writer dies, and children that the writer forked
 * do not have it. Its price: the process loses it when it closes *any* descriptor of the same file. So who writes a page
 * must not open and close it a second time; and a process that means to exec closes its page first.
 */
#ifndef VDSO_CORE_PAGE_H
#define VDSO_CORE_PAGE_H

#include <stdbool.h>
#include <sys/types.h>

#include "copy.h"
#include "protocol.h"

#define VDSO_SLOTS_MAX 4096u
#define VDSO_RECORD_MAX (1u << 26)

struct vdso_page_shape {
	uint32_t slots;       /* a power of two, 2 to VDSO_SLOTS_MAX */
	uint32_t record_size; /* a multiple of 8, up to VDSO_RECORD_MAX */
	uint64_t schema_hash;
	uint64_t fields_offset;
	uint64_t fields_size;
};

struct vdso_page {
	struct vdso_page_header *header; /* a reader's mapping is PROT_READ */
	struct vdso_window window;           /* the same, with the shape that was checked */
	size_t size;                     /* bytes mapped */
	int fd;                          /* writer: carries the lock; reader: -1 */
	/* Writer: 1, on a page that the kernel wipes in a forked child (also one made by a raw clone). Reader: NULL. */
	uint32_t *here;
};

/* What a reader can be told; the first three are the protocol's own. */
enum vdso_page_answer {
	VDSO_PAGE_OK = VDSO_READ_OK,
	VDSO_PAGE_NEVER_WRITTEN = VDSO_READ_NEVER_WRITTEN,
	VDSO_PAGE_LAPPED = VDSO_READ_LAPPED,
	VDSO_PAGE_STALE,     /* a whole record, but its writer's heartbeat is older than asked for */
	VDSO_PAGE_NOT_THERE, /* the page is not open */
};

/*
 * Lays an empty page into fd, `offset` bytes (page-aligned) from its beginning: grows the file if need be and writes line 0
 * in one piece. -EEXIST when there is a page already: a layout never changes under its readers.
 */
int vdso_page_create(int fd, off_t offset, const struct vdso_page_shape *shape);

/* The same in a new memfd (close-on-exec) that can neither shrink under a reader nor grow. */
int vdso_page_create_memfd(const char *name, const struct vdso_page_shape *shape, int *ret);

/*
 * Copies the header out of the file and checks it: -ENODATA when the file is too short for one, -EBADMSG when it is no page,
 * -EPROTONOSUPPORT when it has another format, -EOVERFLOW when it claims what the file does not hold.
 */
int vdso_page_check(int fd, off_t offset, struct vdso_page_header *ret);

/*
 * Where in the file the page is: in an ELF file its last segment that is only readable and begins with the magic. Only says
 * where to look: vdso_page_check() says whether it is one. -ENODATA, -EBADMSG.
 */
int vdso_page_find(int fd, off_t *ret);

/*
 * Takes the lock and maps the page for writing; owns fd from then on when it succeeds. A predecessor that died is
 * succeeded: its last whole record stays, and whoever it failed to wake is woken. -EBUSY: there is a writer
 * (vdso_page_holder() says which).
 */
int vdso_page_open_writer(int fd, off_t offset, struct vdso_page *ret);

/*
 * The same for who has made sure by other means that there is no other writer: the page's own lock, which another process may
 * keep from us by reading locks, is taken if it can be had, and shows who asks vdso_page_holder() that there is a writer.
 */
int vdso_page_succeed(int fd, off_t offset, struct vdso_page *ret);

/* Says in a page that has no writer any more that it has been replaced, and wakes who waits for a version. */
int vdso_page_retire(int fd, off_t offset);

/* Whether this process writes it: no forked child does. */
bool vdso_page_writable(const struct vdso_page *page);

/* Sets and clears VDSO_STATE_*, of the writer's own page. */
int vdso_page_set_state(struct vdso_page *page, uint64_t set, uint64_t clear);

/* Maps the page for reading. The descriptor stays the caller's and may be closed. */
int vdso_page_open_reader(int fd, off_t offset, struct vdso_page *ret);

/* Unmaps; a writer also signs off in order. In a forked child of the writer its descriptor stays open: see the next. */
void vdso_page_close(struct vdso_page *page);

/*
 * In a forked child of the writer: closes the descriptor that came along. Only right after the fork, before the child has
 * locked anything: later it would cost the child its own lock on the same file. Elsewhere it does nothing.
 */
void vdso_page_leave(struct vdso_page *page);

/* A read-only descriptor of its own for what fd has open (by /proc/self/fd): what readers are given. Or a negative errno. */
int vdso_page_reopen_readonly(int fd);

/* The process that has the writer's lock, 0 when nobody has (the caller's own lock does not show), or a negative errno. */
pid_t vdso_page_holder(int fd);

/* Whether any other process has it, also one whose pid is not to be seen from here. */
bool vdso_page_held(int fd);

/* Whether the process that signed the header still lives. False also when it closed in order. */
bool vdso_page_writer_alive(const struct vdso_page *page);

/* Publishes a record of header->record_size bytes. -EPERM in a forked child of the writer, and for a reader. */
int vdso_page_publish(struct vdso_page *page, const void *record, bool wake);

/*
 * The same in two halves, for who must look at the time in between: what is staged is invisible until it is finished, and
 * staging again replaces it.
 */
int vdso_page_stage(struct vdso_page *page, const void *record);
int vdso_page_finish(struct vdso_page *page, bool wake);

int vdso_page_beat(struct vdso_page *page, uint64_t now_ns);

/* One whole record and its version. max_age_ns 0: any age will do. STALE gives the record too. */
enum vdso_page_answer vdso_page_get(const struct vdso_page *page, uint64_t max_age_ns, void *record, uint64_t *version);

/*
 * Sleeps until the head is no longer `seen`; timeout_ns < 0: for ever. -ETIMEDOUT, -EINTR, -ESTALE when the page has been
 * replaced, -ECANCELED when *ended (unless it is NULL) has become other than 0: within a second, and with
 * vdso_page_wake() nearly always at once. A SILENT writer is noticed within a millisecond.
 */
int vdso_page_wait(const struct vdso_page *page, uint64_t seen, int64_t timeout_ns, const _Atomic int *ended);

/* The futex that changes with the head, which it is the low half of: for who waits for several pages. */
void *vdso_page_word(const struct vdso_page *page);

/* Wakes who waits, in all processes: those whom it does not concern sleep on. A reader may do so too. */
void vdso_page_wake(const struct vdso_page *page);

#endif
