#include "decode.h"

#include <string.h>

/* What follows an opcode, as bits. */
enum {
	NOTHING = 0,
	MODRM = 1,
	IMM8 = 2,
	IMM16 = 4,
	IMMZ = 8,    /* 2 or 4 bytes, by the operand's size */
	IMMV = 16,   /* as IMMZ, but 8 bytes under REX.W */
	REL8 = 32,
	REL32 = 64,
	MOFFS = 128, /* an address of 8 bytes */
	BAD = 256,
	GROUP3 = 512, /* an immediate with the first two of the eight operations only */
};

static unsigned after_one(uint8_t op)
{
	if (op < 0x40) {
		static const unsigned arithmetic[8] = {MODRM, MODRM, MODRM, MODRM, IMM8, IMMZ, BAD, BAD};

		return arithmetic[op & 7];
	}
	switch (op >> 4) {
	case 0x5:
	case 0x9:
		return op == 0x9a ? BAD : NOTHING;
	case 0x7:
		return REL8;
	case 0xb:
		return op < 0xb8 ? IMM8 : IMMV;
	case 0x6: {
		static const unsigned row[16] = {BAD,     BAD,     BAD,  MODRM,        BAD,     BAD,     BAD,     BAD,
						 IMMZ, MODRM | IMMZ, IMM8, MODRM | IMM8, NOTHING, NOTHING, NOTHING, NOTHING};

		return row[op & 15];
	}
	case 0x8: {
		static const unsigned row[4] = {MODRM | IMM8, MODRM | IMMZ, BAD, MODRM | IMM8};

		return op < 0x84 ? row[op & 3] : op == 0x8f ? BAD : MODRM; /* 8f: pop, or another vendor's vectors */
	}
	case 0xa:
		return op < 0xa4 ? MOFFS : op == 0xa8 ? IMM8 : op == 0xa9 ? IMMZ : NOTHING;
	case 0xc: {
		static const unsigned row[16] = {MODRM | IMM8, MODRM | IMM8, IMM16,  NOTHING, BAD,     BAD,  MODRM | IMM8, MODRM | IMMZ,
						 IMM16 | IMM8, NOTHING,      IMM16,  NOTHING, NOTHING, IMM8, BAD,          NOTHING};

		return row[op & 15];
	}
	case 0xd: {
		static const unsigned row[8] = {MODRM, MODRM, MODRM, MODRM, BAD, BAD, BAD, NOTHING};

		return op < 0xd8 ? row[op & 7] : MODRM;
	}
	case 0xe: {
		static const unsigned row[16] = {REL8,  REL8,  REL8, REL8, IMM8,    IMM8,    IMM8,    IMM8,
						 REL32, REL32, BAD,  REL8, NOTHING, NOTHING, NOTHING, NOTHING};

		return row[op & 15];
	}
	case 0xf:
		return op == 0xf6 ? MODRM | GROUP3 | IMM8 : op == 0xf7 ? MODRM | GROUP3 | IMMZ : op >= 0xfe ? MODRM : NOTHING;
	}
	return BAD;
}

static unsigned after_0f(uint8_t op)
{
	if (op >= 0x80 && op < 0x90)
		return REL32;
	if ((op >= 0x30 && op < 0x38) || (op >= 0xc8 && op < 0xd0))
		return NOTHING;
	if (op >= 0x70 && op < 0x74)
		return MODRM | IMM8;
	switch (op) {
	case 0x05: /* syscall */
	case 0x06:
	case 0x07:
	case 0x08:
	case 0x09:
	case 0x0b:
	case 0x77:
	case 0xa0:
	case 0xa1:
	case 0xa2: /* cpuid */
	case 0xa8:
	case 0xa9:
	case 0xaa:
		return NOTHING;
	case 0x04:
	case 0x0a:
	case 0x0c:
	case 0x0e:
	case 0x0f: /* 3DNow! */
	case 0x24:
	case 0x25:
	case 0x26:
	case 0x27:
	case 0x39:
	case 0x3b:
	case 0x3c:
	case 0x3d:
	case 0x3e:
	case 0x3f:
		return BAD;
	case 0xa4:
	case 0xac:
	case 0xba:
	case 0xc2:
	case 0xc4:
	case 0xc5:
	case 0xc6:
		return MODRM | IMM8;
	}
	return MODRM;
}

static unsigned after(uint8_t map, uint8_t op)
{
	return map == VDSO_MAP_ONE ? after_one(op) : map == VDSO_MAP_0F ? after_0f(op) : map == VDSO_MAP_0F38 ? MODRM : MODRM | IMM8;
}

/* ModRM, SIB and displacement, from `at` on. 0: beyond the end. */
static size_t operand(const uint8_t *code, size_t size, size_t at, struct vdso_instruction *ret)
{
	if (at >= size)
		return 0;

	uint8_t modrm = code[at++], mod = modrm >> 6, rm = modrm & 7;

	ret->modrm = modrm;
	if (mod == 3)
		return at;
	if (rm == 4) {
		if (at >= size)
			return 0;
		if (mod == 0 && (code[at] & 7) == 5)
			mod = 2; /* no base, and a displacement of 4 bytes */
		at++;
	} else if (mod == 0 && rm == 5) {
		ret->rip_at = (uint8_t)at;
		return at + 4;
	}
	return at + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

bool vdso_decode(const uint8_t *code, size_t size, struct vdso_instruction *ret)
{
	bool narrow = false; /* operands of 16 bits */
	size_t at = 0;
	unsigned what;

	memset(ret, 0, sizeof(*ret));
	if (size > VDSO_INSTRUCTION_MAX)
		size = VDSO_INSTRUCTION_MAX;
	for (; at < size; at++) {
		uint8_t b = code[at];

		if (b == 0x67) /* addresses of 32 bits: nothing that is moved here has them */
			return false;
		if (b != 0x66 && b != 0xf0 && b != 0xf2 && b != 0xf3 && b != 0x2e && b != 0x36 && b != 0x3e && b != 0x26 && b != 0x64 &&
		    b != 0x65)
			break;
		narrow |= b == 0x66;
	}
	ret->prefixes = (uint8_t)at;
	if (at < size && (code[at] & 0xf0) == 0x40)
		ret->rex = code[at++];
	if (at >= size)
		return false;

	uint8_t first = code[at];

	if (ret->rex == 0 && (first == 0xc4 || first == 0xc5 || first == 0x62)) {
		size_t more = first == 0xc5 ? 1 : first == 0xc4 ? 2 : 3;

		if (at + more + 1 >= size)
			return false;
		ret->vector = true;
		ret->map = first == 0xc5 ? VDSO_MAP_0F : first == 0xc4 ? code[at + 1] & 31 : code[at + 1] & 7;
		if (ret->map < VDSO_MAP_0F || ret->map > VDSO_MAP_0F3A)
			return false;
		at += more + 1;
	} else if (first == 0x0f) {
		if (++at >= size)
			return false;
		ret->map = code[at] == 0x38 ? VDSO_MAP_0F38 : code[at] == 0x3a ? VDSO_MAP_0F3A : VDSO_MAP_0F;
		if (ret->map != VDSO_MAP_0F && ++at >= size)
			return false;
	}
	ret->opcode = code[at++];
	what = after(ret->map, ret->opcode);
	if (what & BAD)
		return false;
	if (what & MODRM) {
		at = operand(code, size, at, ret);
		if (at == 0)
			return false;
	}
	if ((what & GROUP3) && (ret->modrm >> 3 & 7) > 1)
		what &= ~(unsigned)(IMM8 | IMMZ);
	if (what & (REL8 | REL32)) {
		ret->branch_at = (uint8_t)at;
		ret->branch_size = what & REL8 ? 1 : 4;
		at += ret->branch_size;
	}
	at += (what & IMM8 ? 1u : 0u) + (what & IMM16 ? 2u : 0u) + (what & MOFFS ? 8u : 0u);
	if (what & IMMV && ret->rex & 8)
		at += 8;
	else if (what & (IMMZ | IMMV))
		at += narrow && !(ret->rex & 8) ? 2 : 4;
	if (at > size)
		return false;
	ret->length = (uint8_t)at;
	return true;
}

int32_t vdso_branch_distance(const uint8_t *code, const struct vdso_instruction *instruction)
{
	int32_t far;

	if (instruction->branch_size == 1)
		return (int8_t)code[instruction->branch_at];
	memcpy(&far, code + instruction->branch_at, sizeof(far));
	return far;
}
