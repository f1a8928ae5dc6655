/*
 * Copies between a slot and private memory, for where vector registers may be used (the clock image may not).
 *
 * Word by word as the protocol says is up to 4.5 times memcpy on large records, since a compiler joins no atomic loads.
 * Sixteen bytes in one instruction of our own are as safe: the protocol takes each word for itself, and x86 keeps loads, and
 * stores, in order. memcpy itself would be a data race, and may use instructions that keep no order.
 */
#ifndef VDSO_COPY_H
#define VDSO_COPY_H

#include "protocol.h"

#define VDSO_COPY_WIDE 64u /* bytes; below this the plain loop is shorter */

/* Copies the first `count` words in groups of eight as far as that goes, and returns how many that were. */
static inline uint64_t vdso_copy_groups(void *to, const void *from, uint64_t count)
{
	uint64_t i = 0;

#if defined(__x86_64__) && defined(__SSE2__)
	if (count * 8u >= VDSO_COPY_WIDE)
		for (; i + 8 <= count; i += 8)
			__asm__ volatile("movdqu (%0), %%xmm0\n\tmovdqu 16(%0), %%xmm1\n\t"
					 "movdqu 32(%0), %%xmm2\n\tmovdqu 48(%0), %%xmm3\n\t"
					 "movdqu %%xmm0, (%1)\n\tmovdqu %%xmm1, 16(%1)\n\t"
					 "movdqu %%xmm2, 32(%1)\n\tmovdqu %%xmm3, 48(%1)"
					 :
					 : "r"((const uint64_t *)from + i), "r"((uint64_t *)to + i)
					 : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
#else
	(void)to, (void)from, (void)count;
#endif
	return i;
}

/* `bytes` is a multiple of 8, and both sides are 8-aligned. */
static inline void vdso_copy_out(void *to, const _Atomic uint64_t *from, uint64_t bytes)
{
	uint64_t *words = to;

	for (uint64_t i = vdso_copy_groups(to, (const void *)from, bytes / 8u); i < bytes / 8u; i++)
		words[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
}

static inline void vdso_copy_in(_Atomic uint64_t *to, const void *from, uint64_t bytes)
{
	const uint64_t *words = from;

	for (uint64_t i = vdso_copy_groups((void *)to, from, bytes / 8u); i < bytes / 8u; i++)
		atomic_store_explicit(&to[i], words[i], memory_order_relaxed);
}

/*
 * Where a reader looks, in memory of its own: what the header says is checked once, when the page is opened, and a publisher
 * that is out of its mind can change it afterwards.
 */
struct vdso_window {
	const struct vdso_page_header *header;
	uint32_t slot_mask;
	uint32_t slot_stride;
	uint32_t record_size;
};

static inline const _Atomic uint64_t *vdso_window_slot(const struct vdso_window *window, uint64_t version)
{
	const char *slots = (const char *)window->header + sizeof(*window->header);

	return (const _Atomic uint64_t *)(slots + (version & window->slot_mask) * window->slot_stride);
}

/* The word behind the record, which says whose version the slot holds. */
static inline uint64_t vdso_window_version(const struct vdso_window *window, const _Atomic uint64_t *slot)
{
	return atomic_load_explicit(slot + window->slot_stride / 8u - 1u, memory_order_relaxed);
}

/* vdso_page_read() of a part of the record: `bytes` from `offset` on, both multiples of 8. */
static inline enum vdso_read_status vdso_window_copy(const struct vdso_window *window, uint32_t offset, uint32_t bytes, void *part,
						   uint64_t *version, unsigned tries)
{
	while (tries-- != 0) {
		uint64_t head = atomic_load_explicit(&window->header->head, memory_order_acquire);
		const _Atomic uint64_t *slot = vdso_window_slot(window, head);

		if (head == 0)
			return VDSO_READ_NEVER_WRITTEN;
		vdso_copy_out(part, slot + offset / 8u, bytes);
		/* Pairs with the release fence in vdso_page_begin(), as in vdso_page_read(). */
		atomic_thread_fence(memory_order_acquire);
		if (vdso_window_version(window, slot) == head) {
			*version = head;
			return VDSO_READ_OK;
		}
	}
	return VDSO_READ_LAPPED;
}

#endif
