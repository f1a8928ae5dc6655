/* Lengths of x86-64 instructions, and of each what has to change when it is moved. 64-bit mode; knows no meanings. */
#ifndef VDSO_CORE_DECODE_H
#define VDSO_CORE_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VDSO_INSTRUCTION_MAX 15u

/* Opcode maps, in the order of the manual. */
enum { VDSO_MAP_ONE = 0, VDSO_MAP_0F = 1, VDSO_MAP_0F38 = 2, VDSO_MAP_0F3A = 3 };

struct vdso_instruction {
	uint8_t length;
	uint8_t map;
	uint8_t opcode;
	uint8_t modrm;      /* 0 where there is none */
	uint8_t rex;        /* 0 where there is none */
	uint8_t prefixes;   /* bytes in front of REX and opcode */
	uint8_t rip_at;     /* where the displacement from the next instruction's address is, 4 bytes; 0: none */
	uint8_t branch_at;  /* where a relative branch's distance is; 0: none */
	uint8_t branch_size; /* 1 or 4 bytes */
	bool vector;        /* VEX or EVEX */
};

/* False: no instruction that is known here begins at `code`, or it goes beyond `size`. */
bool vdso_decode(const uint8_t *code, size_t size, struct vdso_instruction *ret);

/* Distance of a relative branch from the end of its instruction. */
int32_t vdso_branch_distance(const uint8_t *code, const struct vdso_instruction *instruction);

#endif
