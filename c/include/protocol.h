/*
 * The page protocol: how one writer keeps a record fresh and any number of read-only readers take whole copies of it.
 *
 * A page is a header of three cache lines and then K slots. Each slot holds one record and, in its last eight bytes, the
 * version of the record that it holds. The newest finished record is never the one being written, so a writer that is
 * killed half way leaves nothing to repair and nobody waits for it (a one-slot seqlock would: its reader stands still).
 *
 * This header is freestanding: the clock image, the live libraries' reader code, the writers and the tests all include
 * it, and Python learns every offset from here through the binding.
 */
#ifndef VDSO_PROTOCOL_H
#define VDSO_PROTOCOL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define VDSO_LINE 64u
#define VDSO_PAGE_MAGIC 0x454741504f534456u /* "VDSOPAGE" in memory on a little-endian machine */
#define VDSO_PAGE_FORMAT 1u

/* Line 0 is written once, before the page gets its name; line 1 changes with every version; line 2 with every tick. */
struct vdso_page_header {
	uint64_t magic;
	uint32_t format;
	uint32_t slots;         /* K, a power of two, at least 2 */
	uint32_t record_size;   /* bytes of one record, a multiple of 8 */
	uint32_t slot_stride;   /* vdso_slot_stride(record_size) */
	uint64_t fields_offset; /* where the field table is, from the header; 0: none */
	uint64_t fields_size;
	uint64_t schema_hash;
	uint64_t page_size; /* bytes of header and slots together */
	uint64_t reserved0;

	_Alignas(VDSO_LINE) _Atomic uint64_t head; /* newest finished version, 0: never written; low half is the futex word */

	_Alignas(VDSO_LINE) _Atomic uint64_t heartbeat_ns; /* CLOCK_MONOTONIC, 0: the writer keeps none */
	_Atomic uint64_t writer_pid;                       /* 0: closed in order */
	_Atomic uint64_t writer_start;                     /* field 22 of /proc/PID/stat: tells a pid from its reuse */
	_Atomic uint64_t state;                            /* VDSO_STATE_*; the writer's, and its successor's */
};

/*
 * REPLACED: no version will follow here, since another page has the name, or none has; readers keep the last record and open
 * the name again. SILENT: the writer does not wake, so who waits has to look from time to time.
 */
#define VDSO_STATE_REPLACED 1u
#define VDSO_STATE_SILENT 2u

_Static_assert(sizeof(struct vdso_page_header) == 3 * VDSO_LINE, "the header is three lines");
_Static_assert(offsetof(struct vdso_page_header, head) == VDSO_LINE, "head has line 1 to itself");
_Static_assert(offsetof(struct vdso_page_header, heartbeat_ns) == 2 * VDSO_LINE, "the heartbeat has line 2");

/* What a reader can be told. "Not there" is the fourth answer, and whoever opens the page gives it. */
enum vdso_read_status {
	VDSO_READ_OK = 0,
	VDSO_READ_NEVER_WRITTEN = 1,
	VDSO_READ_LAPPED = 2, /* the writer went round K slots during each of the tries */
};

/*
 * How often a reader of so many bytes begins again behind a writer that goes round all slots during each try, before it says
 * that it was lapped. By bytes, so that it is a matter of a second also where the record is large, or where a page that lies
 * will never let it through.
 */
#define VDSO_TRIES_MAX 100000u
#define VDSO_TRIES_MIN 64u
#define VDSO_TRIES_BYTES (UINT64_C(1) << 28)

static inline unsigned vdso_tries(uint64_t bytes)
{
	uint64_t tries = VDSO_TRIES_BYTES / (bytes | 1u);

	return tries > VDSO_TRIES_MAX ? VDSO_TRIES_MAX : tries < VDSO_TRIES_MIN ? VDSO_TRIES_MIN : (unsigned)tries;
}

static inline uint32_t vdso_slot_stride(uint32_t record_size)
{
	return (record_size + 8u + VDSO_LINE - 1u) & ~(VDSO_LINE - 1u);
}

static inline uint64_t vdso_page_size(uint32_t slots, uint32_t record_size)
{
	return sizeof(struct vdso_page_header) + (uint64_t)slots * vdso_slot_stride(record_size);
}

static inline _Atomic uint64_t *vdso_slot_words(const struct vdso_page_header *page, uint64_t version)
{
	const char *slots = (const char *)page + sizeof(*page);

	return (_Atomic uint64_t *)(slots + (version & (page->slots - 1u)) * page->slot_stride);
}

static inline _Atomic uint64_t *vdso_slot_version(const struct vdso_page_header *page, uint64_t version)
{
	return vdso_slot_words(page, version) + page->slot_stride / 8u - 1u;
}

/*
 * Marks the next slot as being written and returns it. Everything stored there until vdso_page_commit() is invisible: the
 * reader either still finds the old version in `head`, or sees a slot whose version is not the one that it asked for.
 */
static inline _Atomic uint64_t *vdso_page_begin(struct vdso_page_header *page)
{
	uint64_t next = atomic_load_explicit(&page->head, memory_order_relaxed) + 1;

	atomic_store_explicit(vdso_slot_version(page, next), next, memory_order_relaxed);
	/* Pairs with the acquire fence in vdso_page_read(): who sees a word of the new record sees the new version too.
	 * A release *store* of the version would not do: it orders what comes before it, not what follows. */
	atomic_thread_fence(memory_order_release);
	return vdso_slot_words(page, next);
}

static inline void vdso_page_commit(struct vdso_page_header *page)
{
	uint64_t next = atomic_load_explicit(&page->head, memory_order_relaxed) + 1;

	/* Pairs with the acquire load of head in vdso_page_read(). */
	atomic_store_explicit(&page->head, next, memory_order_release);
}

/* Publishes one record of page->record_size bytes, 8-aligned. One writer at a time; waking waiters is the caller's. */
static inline void vdso_page_write(struct vdso_page_header *page, const void *record)
{
	_Atomic uint64_t *slot = vdso_page_begin(page);
	const uint64_t *words = record;

	for (uint32_t i = 0; i < page->record_size / 8u; i++)
		atomic_store_explicit(&slot[i], words[i], memory_order_relaxed);
	vdso_page_commit(page);
}

/*
 * Takes one whole record (page->record_size bytes, 8-aligned) and its version. Bounded: after `tries` laps it says so
 * rather than spin behind a writer that never pauses.
 */
static inline enum vdso_read_status vdso_page_read(const struct vdso_page_header *page, void *record, uint64_t *version,
						   unsigned tries)
{
	uint64_t *words = record;

	while (tries-- != 0) {
		uint64_t head = atomic_load_explicit(&page->head, memory_order_acquire);

		if (head == 0)
			return VDSO_READ_NEVER_WRITTEN;

		const _Atomic uint64_t *slot = vdso_slot_words(page, head);

		for (uint32_t i = 0; i < page->record_size / 8u; i++)
			words[i] = atomic_load_explicit(&slot[i], memory_order_relaxed);
		/* Pairs with the release fence in vdso_page_begin(). An acquire *load* of the version would let the
		 * copies above be satisfied after it. */
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(vdso_slot_version(page, head), memory_order_relaxed) == head) {
			*version = head;
			return VDSO_READ_OK;
		}
	}
	return VDSO_READ_LAPPED;
}

#endif
