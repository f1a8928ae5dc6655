/*
 * The reader code of live libraries: what the functions of a published file jump into.
 *
 * Each exported function of a live library is a trampoline of a few instructions, written when the page is published. It
 * keeps the caller's arguments where they are, puts what it knows of the page into the argument registers behind them, and
 * jumps here. So every function below takes the caller's arguments first, and then, always in this order, those of `page`
 * and of the field's constants that it needs. src/vdso/pages/functions.py says who is called with what.
 *
 * Freestanding: no libc, no writable or relocated data, nothing undefined. It runs in programs of any language, on any
 * stack, in signal handlers, and while its page changes under it.
 */
#ifndef VDSO_READER_H
#define VDSO_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

/* The answers of functions that have one to give; the generated headers repeat them as VDSO_OK and so on. */
enum vdso_reader_answer {
	VDSO_READER_OK = VDSO_READ_OK,
	VDSO_READER_NEVER_WRITTEN = VDSO_READ_NEVER_WRITTEN,
	VDSO_READER_LAPPED = VDSO_READ_LAPPED,
	VDSO_READER_OTHER_LAYOUT, /* the caller was built for a record of another layout */
	VDSO_READER_TIMED_OUT,
	VDSO_READER_INTERRUPTED, /* a signal handler ran */
	VDSO_READER_FAILED,      /* the kernel refused to wait */
	VDSO_READER_REPLACED,    /* no version will follow: the name leads to another page by now, or to none */
};

typedef const struct vdso_page_header *vdso_page_ptr;

/*
 * One field of up to eight bytes. 0 while nothing was published. Always answers: a field of this size is read whole in any
 * case, and after VDSO_TRIES_MAX laps the value is one that the writer was writing just then.
 */
int8_t vdso_reader_i8(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
int16_t vdso_reader_i16(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
int32_t vdso_reader_i32(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
int64_t vdso_reader_i64(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
uint8_t vdso_reader_u8(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
uint16_t vdso_reader_u16(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
uint32_t vdso_reader_u32(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
uint64_t vdso_reader_u64(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
float vdso_reader_f32(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
double vdso_reader_f64(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);
bool vdso_reader_bool(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset);

/* One of `count` fields that stand `step` bytes apart (an array, or a field of an array of records); 0 beyond the last. */
int8_t vdso_reader_i8_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
int16_t vdso_reader_i16_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
int32_t vdso_reader_i32_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
int64_t vdso_reader_i64_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
uint8_t vdso_reader_u8_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
uint16_t vdso_reader_u16_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
uint32_t vdso_reader_u32_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
uint64_t vdso_reader_u64_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
float vdso_reader_f32_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
double vdso_reader_f64_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);
bool vdso_reader_bool_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count);

/* How many elements an array has. */
size_t vdso_reader_count(uint32_t count);

/*
 * Copies up to `capacity` elements of `item` bytes each, all of one version; what `out` has beyond the field's `count`
 * becomes zero. Bytes fields are arrays of items of one byte.
 */
int vdso_reader_items(void *out, size_t capacity, vdso_page_ptr page, uint32_t offset, uint32_t item, uint32_t count);

/* The same for one of several bytes fields; place is offset << 32 | size, row is step << 32 | count. */
int vdso_reader_bytes_at(size_t index, void *out, size_t capacity, vdso_page_ptr page, uint64_t place, uint64_t row);

/*
 * Copies a text, as strlcpy does: what fits in `size` bytes with a NUL behind it, cut between characters, and returns the
 * length of the whole. Empty while nothing was published, and when the writer lapped every try.
 */
size_t vdso_reader_text(char *out, size_t size, vdso_page_ptr page, uint32_t offset, uint32_t length);
size_t vdso_reader_text_at(size_t index, char *out, size_t size, vdso_page_ptr page, uint64_t place, uint64_t row);

/*
 * The whole record in the file's own layout: `size` bytes, the C struct's, to any alignment. What LAPPED leaves in `out` is
 * no record; other answers leave it alone.
 */
int vdso_reader_snapshot(void *out, vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t size);

/* The same for a caller that says for which layout it was built, and wants the version too (unless NULL). */
int vdso_reader_snapshot_of(void *out, uint64_t schema, uint64_t *version, vdso_page_ptr page, uint64_t layout,
			    uint32_t size);

/* The newest version; 0: nothing was published. */
uint64_t vdso_reader_version(vdso_page_ptr page);

/* The hash of the layout: another hash, another layout. */
uint64_t vdso_reader_schema(vdso_page_ptr page);

/* Sleeps until the version is no longer `seen`; timeout_ns < 0: for ever. A writer that wakes nobody is looked for every
 * millisecond. */
int vdso_reader_wait(uint64_t seen, int64_t timeout_ns, vdso_page_ptr page);

/* Whether another page has the name by now, or none: this one keeps its last record. */
bool vdso_reader_replaced(vdso_page_ptr page);

/* Whether the process that publishes lives and has not closed, as its pid looks from here: one in another pid namespace is
 * not to be seen. (Python's reader asks the file's lock, which a mapped library has no descriptor for.) */
bool vdso_reader_alive(vdso_page_ptr page);

#endif
