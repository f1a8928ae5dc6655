/*
 * Jumps in the place of single instructions of a function of the kernel's image: where one can stand, the code that it leads
 * to, and the copy of the function's beginning by which the rest stays reachable. Computes bytes, and touches no process.
 *
 * The jump replaces exactly one instruction. Nothing stands, returns or branches into the middle of an instruction, so
 * whoever was interrupted anywhere in the function, in however many signal frames, goes on rightly once the jump is there: no
 * thread has to be stepped away. Best is an early instruction, since what comes before it has to be undone: where there are
 * unused bytes between functions near by, one of two bytes will do, for a short jump to a long one that stands there; else it
 * has to be one of five. When the jumps go, whoever stands at such a long one, with the short one behind it, is to be brought
 * back to the short one's place.
 */
#ifndef VDSO_CORE_DETOUR_H
#define VDSO_CORE_DETOUR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VDSO_JUMP_BYTES 5u
#define VDSO_SHORT_JUMP_BYTES 2u
#define VDSO_DETOUR_MAX 192u /* bytes of code that one site takes, at the most */

struct vdso_site {
	uint32_t entry;  /* of the function, from the image's first byte */
	uint32_t at;     /* of the instruction that is replaced */
	uint32_t by;     /* where the long jump stands: at the same place, or between functions */
	uint8_t length;  /* of the instruction */
	uint8_t undo_size;
	uint8_t undo[40]; /* brings registers and stack back to what they were at the entry */
};

/*
 * The places of `count` functions, no two of which share bytes. Returns how many were found, in order: `count`, or the index
 * of the first that has none. `image` is the kernel's own, unchanged; `size` what is mapped of it.
 */
unsigned vdso_sites_find(const uint8_t *image, size_t size, const uint32_t *entry, unsigned count, struct vdso_site *ret);

/* Where the two pieces of a site's code begin, from the first byte that vdso_site_emit() writes. */
struct vdso_detour {
	uint32_t kernel; /* what to call for the kernel's own function */
	uint32_t ours;   /* what the jump leads to */
	uint32_t size;
};

/*
 * Writes both pieces to `code` (VDSO_DETOUR_MAX bytes), to run at address `at` beside an image at address `image_at`;
 * `function` is where the jump ends. False: out of a jump's reach.
 */
bool vdso_site_emit(const struct vdso_site *site, const uint8_t *image, uint64_t image_at, uint64_t function, uint64_t at,
		    uint8_t *code, struct vdso_detour *ret);

/* Changes a copy of the image, which is for address image_at, so that the site's jump leads to `to`. False: out of reach. */
bool vdso_site_patch(const struct vdso_site *site, uint64_t image_at, uint64_t to, uint8_t *copy);

/* Where the long jump of a changed image that is at image_at leads; 0: there is none. */
uint64_t vdso_site_target(const struct vdso_site *site, const uint8_t *changed, uint64_t image_at);

#endif
