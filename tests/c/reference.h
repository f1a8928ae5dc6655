/* A reader of clock pages that follows the rule of clock.h word by word, over any source: what the image does, in plain C. */
#ifndef VDSO_TESTS_REFERENCE_H
#define VDSO_TESTS_REFERENCE_H

#include "page.h"
#include "source.h"
#include "transform.h"

struct reference {
	const struct vdso_page_header *page;
	const struct vdso_source *source;
	uint64_t fallbacks; /* answers that came from the kernel's clock under COUNTER or FLOOR */
	uint64_t retries;
};

static inline struct vdso_time reference_read(struct reference *r, int id)
{
	const struct vdso_source *source = r->source;

	for (;; r->retries++) {
		uint64_t head = atomic_load_explicit(&r->page->head, memory_order_acquire);
		const _Atomic uint64_t *from = vdso_slot_words(r->page, head) + (size_t)id * sizeof(struct vdso_clock) / 8;
		union {
			struct vdso_clock clock;
			uint64_t words[sizeof(struct vdso_clock) / 8];
		} copy;
		const struct vdso_clock *clock = &copy.clock;
		struct vdso_time kernel = {0};
		uint64_t counter = 0;
		bool early;

		for (size_t i = 0; i < sizeof(copy) / 8; i++)
			copy.words[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
		if (clock->kind == VDSO_KIND_COUNTER || clock->kind == VDSO_KIND_FLOOR)
			counter = source->counter(source->context);
		if (clock->kind != VDSO_KIND_COUNTER || counter - clock->line[0].in >= clock->span) {
			early = clock->kind == VDSO_KIND_COUNTER && counter < clock->line[0].in;
			source->clock(source->context, id, &kernel);
			if (early && source->counter(source->context) >= clock->line[0].in)
				continue;
			r->fallbacks += clock->kind >= VDSO_KIND_COUNTER;
		}
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&r->page->head, memory_order_relaxed) == head)
			return vdso_clock_evaluate(clock, kernel, counter);
	}
}

static inline int64_t reference_ns(struct reference *r, int id)
{
	return (int64_t)vdso_time_input(reference_read(r, id));
}

#endif
