#include "reader.h"

#include "arch.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define NS_PER_S INT64_C(1000000000)

#define FUTEX_WAIT_BITSET 9
#define FUTEX_BITSET_MATCH_ANY 0xffffffffl
#define CLOCK_MONOTONIC 1
#define EINTR 4
#define EAGAIN 11
#define ETIMEDOUT 110

struct timespec {
	int64_t tv_sec, tv_nsec;
};

/* ---- where the newest record is ---- */

static inline uint64_t newest(vdso_page_ptr page)
{
	/* Pairs with the release store in vdso_page_commit(). */
	return atomic_load_explicit(&page->head, memory_order_acquire);
}

static inline const char *slot_of(vdso_page_ptr page, uint64_t version, uint32_t mask, uint32_t stride)
{
	return (const char *)page + sizeof(*page) + (version & mask) * (uint64_t)stride;
}

/* Whether what was read from the slot up to here is the version's whole record. */
__attribute__((always_inline)) static inline bool still(const char *slot, uint32_t stride, uint64_t version)
{
	/* Pairs with the release fence in vdso_page_begin(). */
	atomic_thread_fence(memory_order_acquire);
	return likely(atomic_load_explicit((const _Atomic uint64_t *)(slot + stride - 8), memory_order_relaxed) == version);
}

/* ---- fields of up to eight bytes ---- */

/*
 * A new page is zeroes: version 0 finds slot 0 with its own number 0, and a value of 0, without a question being asked for
 * it. The way back into the loop is a function of its own, so that the quick path saves no register.
 */
#define FIELD(name, type) \
	__attribute__((noinline, cold)) static type name##_again(vdso_page_ptr page, uint32_t mask, uint32_t stride, \
								 uint32_t offset) \
	{ \
		type value = 0; \
\
		for (unsigned tries = VDSO_TRIES_MAX; tries != 0; tries--) { \
			uint64_t head = newest(page); \
			const char *slot = slot_of(page, head, mask, stride); \
\
			__atomic_load((const type *)(slot + offset), &value, __ATOMIC_RELAXED); \
			if (still(slot, stride, head)) \
				break; \
		} \
		return value; \
	} \
\
	type vdso_reader_##name(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset) \
	{ \
		uint64_t head = newest(page); \
		const char *slot = slot_of(page, head, mask, stride); \
		type value; \
\
		__atomic_load((const type *)(slot + offset), &value, __ATOMIC_RELAXED); \
		if (still(slot, stride, head)) \
			return value; \
		return name##_again(page, mask, stride, offset); \
	} \
\
	type vdso_reader_##name##_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count) \
	{ \
		if (index >= count) \
			return 0; \
		return vdso_reader_##name(page, page->slots - 1, page->slot_stride, offset + (uint32_t)index * step); \
	}

FIELD(i8, int8_t)
FIELD(i16, int16_t)
FIELD(i32, int32_t)
FIELD(i64, int64_t)
FIELD(u8, uint8_t)
FIELD(u16, uint16_t)
FIELD(u32, uint32_t)
FIELD(u64, uint64_t)
FIELD(f32, float)
FIELD(f64, double)

/* Read as the byte it is: a bool that was torn or lied about would be one that is neither true nor false. */
bool vdso_reader_bool(vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset)
{
	return vdso_reader_u8(page, mask, stride, offset) != 0;
}

bool vdso_reader_bool_at(size_t index, vdso_page_ptr page, uint32_t offset, uint32_t step, uint32_t count)
{
	return vdso_reader_u8_at(index, page, offset, step, count) != 0;
}

size_t vdso_reader_count(uint32_t count)
{
	return count;
}

/* ---- ranges ---- */

static inline void copy_racing(void *out, const void *in, size_t size)
{
	size_t words = size & ~(size_t)7;

	copy_racing_words(out, in, words);
	if (words != size)
		copy_racing_bytes((char *)out + words, (const char *)in + words, size - words);
}

/* `out` may be written although the answer is LAPPED. */
static inline int copy_range(void *out, vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t offset, size_t size,
			     uint64_t *version)
{
	for (unsigned tries = vdso_tries(size); tries != 0; tries--) {
		uint64_t head = newest(page);
		const char *slot = slot_of(page, head, mask, stride);

		if (head == 0)
			return VDSO_READER_NEVER_WRITTEN;
		copy_racing(out, slot + offset, size);
		if (still(slot, stride, head)) {
			*version = head;
			return VDSO_READER_OK;
		}
	}
	return VDSO_READER_LAPPED;
}

/* The way back for those who were lapped once: out of the quick path, which then saves no register. */
__attribute__((noinline)) static int record_again(void *out, uint32_t size, vdso_page_ptr page, uint64_t *version)
{
	return copy_range(out, page, page->slots - 1, page->slot_stride, 0, size, version);
}

int vdso_reader_snapshot(void *out, vdso_page_ptr page, uint32_t mask, uint32_t stride, uint32_t size)
{
	uint64_t head = newest(page), version;
	const char *slot = slot_of(page, head, mask, stride);

	if (head == 0)
		return VDSO_READER_NEVER_WRITTEN;
	copy_racing(out, slot, size);
	if (still(slot, stride, head))
		return VDSO_READER_OK;
	return record_again(out, size, page, &version);
}

int vdso_reader_snapshot_of(void *out, uint64_t schema, uint64_t *version, vdso_page_ptr page, uint64_t layout,
			    uint32_t size)
{
	uint32_t stride = page->slot_stride;
	uint64_t head = newest(page);
	const char *slot = slot_of(page, head, page->slots - 1, stride);
	int answer = VDSO_READER_OK;

	if (schema != layout)
		return VDSO_READER_OTHER_LAYOUT;
	if (head == 0)
		return VDSO_READER_NEVER_WRITTEN;
	copy_racing(out, slot, size);
	if (!still(slot, stride, head))
		answer = record_again(out, size, page, &head);
	if (answer == VDSO_READER_OK && version != NULL)
		*version = head;
	return answer;
}

static void clear(char *out, size_t size)
{
	/* One by one and through an atomic: the compiler would make it a call of memset, which is not there. */
	for (size_t i = 0; i < size; i++)
		__atomic_store_n(&out[i], 0, __ATOMIC_RELAXED);
}

/* `size` bytes at `offset` into `capacity` bytes, and zeroes behind them. */
static int copy_bytes(void *out, size_t capacity, vdso_page_ptr page, uint32_t offset, size_t size)
{
	size_t used = capacity < size ? capacity : size;
	uint64_t version;
	int answer = copy_range(out, page, page->slots - 1, page->slot_stride, offset, used, &version);

	if (answer == VDSO_READER_OK)
		clear((char *)out + used, capacity - used);
	return answer;
}

int vdso_reader_items(void *out, size_t capacity, vdso_page_ptr page, uint32_t offset, uint32_t item, uint32_t count)
{
	/* Both products are below 2^26: no record is larger. */
	if (capacity > count) {
		int answer = copy_bytes(out, (size_t)count * item, page, offset, (size_t)count * item);

		if (answer == VDSO_READER_OK)
			clear((char *)out + (size_t)count * item, (capacity - count) * item);
		return answer;
	}
	return copy_bytes(out, capacity * item, page, offset, capacity * item);
}

/* Where one of a row of fields is; false when there are not that many. */
static inline bool place_of(size_t index, uint64_t place, uint64_t row, uint32_t *offset)
{
	*offset = (uint32_t)(place >> 32) + (uint32_t)index * (uint32_t)(row >> 32);
	return index < (uint32_t)row;
}

int vdso_reader_bytes_at(size_t index, void *out, size_t capacity, vdso_page_ptr page, uint64_t place, uint64_t row)
{
	uint32_t offset;

	if (place_of(index, place, row, &offset))
		return copy_bytes(out, capacity, page, offset, (uint32_t)place);
	clear(out, capacity);
	return VDSO_READER_OK;
}

/* ---- texts ---- */

static inline uint8_t byte_at(const char *at)
{
	return __atomic_load_n((const uint8_t *)at, __ATOMIC_RELAXED);
}

size_t vdso_reader_text(char *out, size_t size, vdso_page_ptr page, uint32_t offset, uint32_t length)
{
	uint32_t mask = page->slots - 1, stride = page->slot_stride;

	for (unsigned tries = vdso_tries(length); tries != 0; tries--) {
		uint64_t head = newest(page);
		const char *slot = slot_of(page, head, mask, stride), *text = slot + offset;
		size_t whole = 0, used;

		while (whole < length && byte_at(text + whole) != 0)
			whole++;
		used = whole;
		if (used >= size) {
			used = size != 0 ? size - 1 : 0;
			while (used != 0 && (byte_at(text + used) & 0xc0) == 0x80)
				used--;
		}
		copy_racing(out, text, used);
		if (still(slot, stride, head)) {
			if (size != 0)
				out[used] = '\0';
			return whole;
		}
	}
	if (size != 0)
		out[0] = '\0';
	return 0;
}

size_t vdso_reader_text_at(size_t index, char *out, size_t size, vdso_page_ptr page, uint64_t place, uint64_t row)
{
	uint32_t offset;

	if (place_of(index, place, row, &offset))
		return vdso_reader_text(out, size, page, offset, (uint32_t)place);
	if (size != 0)
		out[0] = '\0';
	return 0;
}

/* ---- versions ---- */

uint64_t vdso_reader_version(vdso_page_ptr page)
{
	return newest(page);
}

uint64_t vdso_reader_schema(vdso_page_ptr page)
{
	return page->schema_hash;
}

bool vdso_reader_replaced(vdso_page_ptr page)
{
	return (atomic_load_explicit(&page->state, memory_order_acquire) & VDSO_STATE_REPLACED) != 0;
}

static int64_t now_ns(void)
{
	struct timespec now;

	/* Not by the vDSO, which a library without relocations cannot find; whoever waits has the time. */
	system_call(NR_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0, 0, 0);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int vdso_reader_wait(uint64_t seen, int64_t timeout_ns, vdso_page_ptr page)
{
	int64_t now, end;

	if (newest(page) != seen)
		return VDSO_READER_OK;
	now = now_ns();
	end = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
	while (newest(page) == seen) {
		uint64_t state = atomic_load_explicit(&page->state, memory_order_acquire);
		/* Being replaced does not change the futex word, so its wake can be missed, once. */
		int64_t until = now + (state & VDSO_STATE_SILENT ? NS_PER_S / 1000 : NS_PER_S);
		struct timespec deadline;
		long err;

		if (state & VDSO_STATE_REPLACED)
			return VDSO_READER_REPLACED;
		if (now >= end)
			return VDSO_READER_TIMED_OUT;
		if (until > end)
			until = end;
		deadline.tv_sec = until / NS_PER_S;
		deadline.tv_nsec = until % NS_PER_S;
		/* The bitset form takes an absolute deadline, so that waking without cause does not prolong it. */
		err = system_call(NR_futex, (long)&page->head, FUTEX_WAIT_BITSET, (uint32_t)seen, (long)&deadline, 0,
				  FUTEX_BITSET_MATCH_ANY);
		if (err == -EINTR)
			return newest(page) == seen ? VDSO_READER_INTERRUPTED : VDSO_READER_OK;
		if (err != 0 && err != -EAGAIN && err != -ETIMEDOUT)
			return VDSO_READER_FAILED;
		now = now_ns();
	}
	return VDSO_READER_OK;
}

/* ---- the publisher ---- */

#define STAT_START 22 /* the field of /proc/PID/stat that tells a pid from its reuse */

static inline void put_word(char *out, uint64_t characters, int count)
{
	/* Atomic, or the compiler makes it a vector that it keeps as data. */
	for (int i = 0; i < count; i++)
		__atomic_store_n(&out[i], (char)(characters >> 8 * i), __ATOMIC_RELAXED);
}

static char *write_decimal(char *end, uint64_t value)
{
	do {
		*--end = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	return end;
}

bool vdso_reader_alive(vdso_page_ptr page)
{
	uint64_t pid = atomic_load_explicit(&page->writer_pid, memory_order_relaxed);
	uint64_t expected = atomic_load_explicit(&page->writer_start, memory_order_relaxed), start = 0;
	char text[512], *path = text + 64;
	long fd, size, at, field = 2;

	if (pid == 0 || pid > INT32_MAX)
		return false;
	/* "/proc/PID/stat", by numbers: a string would be data. */
	put_word(path, '/' | 's' << 8 | 't' << 16 | (uint64_t)'a' << 24 | (uint64_t)'t' << 32, 6);
	path = write_decimal(path, pid) - 6;
	put_word(path, '/' | 'p' << 8 | 'r' << 16 | (uint64_t)'o' << 24 | (uint64_t)'c' << 32 | (uint64_t)'/' << 40, 6);
	fd = system_call(NR_open, (long)path, 02000000 /* O_RDONLY | O_CLOEXEC */, 0, 0, 0, 0);
	if (fd < 0)
		return false;
	size = system_call(NR_read, fd, (long)text, sizeof(text), 0, 0, 0);
	system_call(NR_close, fd, 0, 0, 0, 0, 0);
	/* The name, in parentheses, may hold anything: the third field begins behind the last one. */
	for (at = size - 1; at >= 0 && text[at] != ')'; at--)
		;
	for (; at >= 0 && at < size && field < STAT_START; at++)
		field += text[at] == ' ';
	for (; at >= 0 && at < size && text[at] >= '0' && text[at] <= '9'; at++)
		start = start * 10 + (uint64_t)(text[at] - '0');
	return start == expected;
}
