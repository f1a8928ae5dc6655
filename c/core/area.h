/*
 * The kernel's vDSO as every fresh process of this host has it: which pages stand before the image, how large it is, where
 * its functions are, and room in it for the bootstrap. Learned once, from the caller's own.
 */
#ifndef VDSO_CORE_AREA_H
#define VDSO_CORE_AREA_H

#include <stdint.h>

#include "process.h"

struct vdso_area {
	uint64_t image_size; /* bytes mapped; 0: this kernel gives no vDSO */
	uint64_t before;     /* bytes of the pages in front of it */
	uint32_t pieces;     /* the mappings, in order, the image last */
	struct {
		uint32_t offset;
		uint32_t size;
	} piece[VDSO_MAX_PIECES];
	uint32_t function[VDSO_FN_COUNT];
	const uint8_t *image; /* the caller's own */
	uint32_t content;     /* bytes of it that a program may need; what follows is room */
	uint8_t header[64];   /* the ELF header, to know it by */
};

/* Offsets of the functions from the first byte of a mapped image, 0 where it has none: the kernel's, or one of ours. */
void vdso_area_functions(const char *image, uint32_t ret[VDSO_FN_COUNT]);

/* How many bytes of a mapped image its segments have: what follows, section headers for a debugger, no program needs. */
uint32_t vdso_area_content(const void *image, uint64_t size);

/* 0 or a negative errno; a kernel without a vDSO is no error. */
int vdso_area_learn(struct vdso_area *ret);

#endif
