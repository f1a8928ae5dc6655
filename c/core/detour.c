#include "detour.h"

#include <elf.h>
#include <string.h>

#include "decode.h"

enum { RAX = 0, RCX = 1, RDX = 2, RSP = 4, RBP = 5, RSI = 6, RDI = 7, R11 = 11, R16 = 16 };
enum { NO_REGISTER = -1, NOT_KNOWN = -2 };

#define PUSHES 8u
#define SEARCH 64u /* bytes of a function in which a place is looked for */

/* What a function's first instructions have done by the time the site is reached. */
struct prologue {
	uint8_t pushed[PUSHES];
	unsigned pushes;
	unsigned in_frame; /* pushes when rbp was led to the stack */
	bool frame;
	bool aligned;
	uint32_t lowered; /* bytes taken off the stack pointer after that */
};

static bool is_pushed(const struct prologue *p, int r)
{
	for (unsigned i = 0; i < p->pushes; i++)
		if (p->pushed[i] == r)
			return true;
	return false;
}

/* Whether the instruction may have been executed once already when the function is begun again: it writes nothing but a
 * register whose former value nobody needs, or is on the stack. The two arguments stay. */
static bool may_change(const struct prologue *p, int r)
{
	if (r == NO_REGISTER || r == RAX || r == RCX || r == RDX || (r >= 8 && r <= R11))
		return true;
	if (r < 0 || r == RSP || r == RSI || r == RDI)
		return false;
	return is_pushed(p, r) && !(r == RBP && p->frame);
}

/* The register that the instruction writes, for those that are known to do nothing else. */
static int written(const struct vdso_instruction *i)
{
	int reg = (i->modrm >> 3 & 7) | (i->rex & 4) << 1, rm = (i->modrm & 7) | (i->rex & 1) << 3;
	bool direct = i->modrm >> 6 == 3;

	if (i->vector)
		return NOT_KNOWN;
	if (i->map == VDSO_MAP_0F) {
		switch (i->opcode) {
		case 0x1f: /* nop */
			return NO_REGISTER;
		case 0x1e: /* endbr64 */
			return i->modrm == 0xfa ? NO_REGISTER : NOT_KNOWN;
		case 0xb6:
		case 0xb7:
		case 0xbe:
		case 0xbf:
			return reg;
		}
		return NOT_KNOWN;
	}
	if (i->map != VDSO_MAP_ONE)
		return NOT_KNOWN;
	switch (i->opcode) {
	case 0x38: /* cmp, test */
	case 0x39:
	case 0x3a:
	case 0x3b:
	case 0x84:
	case 0x85:
	case 0xa8:
	case 0xa9:
	case 0x90:
		return i->opcode == 0x90 && i->rex ? NOT_KNOWN : NO_REGISTER;
	case 0x03: /* to a register */
	case 0x0b:
	case 0x23:
	case 0x2b:
	case 0x33:
	case 0x63:
	case 0x8b:
	case 0x8d:
		return reg;
	case 0x01: /* to a register or memory */
	case 0x09:
	case 0x21:
	case 0x29:
	case 0x31:
	case 0x89:
		return direct ? rm : NOT_KNOWN;
	case 0x80:
	case 0x81:
	case 0x83:
		return (i->modrm >> 3 & 7) == 7 ? NO_REGISTER : direct && i->opcode != 0x80 ? rm : NOT_KNOWN;
	case 0xc7:
		return direct ? rm : NOT_KNOWN;
	case 0xf6:
	case 0xf7:
		return (i->modrm >> 3 & 7) < 2 ? NO_REGISTER : NOT_KNOWN;
	}
	if (i->opcode >= 0xb8 && i->opcode <= 0xbf)
		return (i->opcode & 7) | (i->rex & 1) << 3;
	return NOT_KNOWN;
}

/* Takes one more instruction into the prologue. False: not one that can be undone. */
static bool take(struct prologue *p, const uint8_t *code, const struct vdso_instruction *i)
{
	bool one = i->map == VDSO_MAP_ONE && !i->vector && i->prefixes == 0;
	uint8_t operation = i->modrm >> 3 & 7;

	if (one && i->opcode >= 0x50 && i->opcode <= 0x57) {
		uint8_t r = (uint8_t)((i->opcode & 7) | (i->rex & 1) << 3);

		if (p->pushes == PUSHES || r == RSP || p->lowered != 0 || p->aligned)
			return false;
		p->pushed[p->pushes++] = r;
		return true;
	}
	/* mov %rsp,%rbp in its two forms */
	if (one && i->rex == 0x48 && ((i->opcode == 0x89 && i->modrm == 0xe5) || (i->opcode == 0x8b && i->modrm == 0xec))) {
		if (p->frame || !is_pushed(p, RBP) || p->lowered != 0 || p->aligned)
			return false;
		p->frame = true;
		p->in_frame = p->pushes;
		return true;
	}
	/* sub and and of a constant, on rsp */
	if (one && i->rex == 0x48 && (i->opcode == 0x83 || i->opcode == 0x81) && (i->modrm & 0xc7) == 0xc4) {
		int32_t constant = (int8_t)code[i->length - 1];

		if (i->opcode == 0x81)
			memcpy(&constant, code + i->length - 4, sizeof(constant));
		if (operation == 5 && constant > 0)
			p->lowered += (uint32_t)constant;
		else if (operation == 4 && p->frame)
			p->aligned = true;
		else
			return operation == 7;
		return true;
	}
	return i->branch_at == 0 && may_change(p, written(i));
}

static bool write_undo(const struct prologue *p, struct vdso_site *ret)
{
	uint8_t *out = ret->undo;

	if (p->frame) {
		/* lea -n(%rbp),%rsp: to the last push */
		static const uint8_t lea[] = {0x48, 0x8d, 0x65};

		memcpy(out, lea, sizeof(lea));
		out += sizeof(lea);
		*out++ = (uint8_t)(-8 * (int)(p->pushes - p->in_frame));
	} else if (p->lowered != 0) {
		static const uint8_t add[] = {0x48, 0x81, 0xc4};

		memcpy(out, add, sizeof(add));
		memcpy(out + sizeof(add), &p->lowered, sizeof(p->lowered));
		out += sizeof(add) + sizeof(p->lowered);
	}
	for (unsigned i = p->pushes; i-- > 0;) {
		if (p->pushed[i] >= 8)
			*out++ = 0x41;
		*out++ = (uint8_t)(0x58 | (p->pushed[i] & 7));
	}
	ret->undo_size = (uint8_t)(out - ret->undo);
	return true;
}

/* The image's code by its section headers, which lie in it; the whole image where they do not. */
static void find_text(const uint8_t *image, size_t size, size_t *first, size_t *end)
{
	const Elf64_Ehdr *header = (const void *)image;
	const Elf64_Shdr *section = (const void *)(image + header->e_shoff);

	*first = 0;
	*end = 0;
	if (header->e_shentsize != sizeof(*section) || header->e_shoff > size ||
	    header->e_shnum > (size - header->e_shoff) / sizeof(*section))
		return;
	for (unsigned i = 0; i < header->e_shnum; i++)
		if (section[i].sh_type == SHT_PROGBITS && (section[i].sh_flags & SHF_EXECINSTR) != 0 &&
		    section[i].sh_size > *end - *first && section[i].sh_offset < size &&
		    section[i].sh_size <= size - section[i].sh_offset) {
			*first = section[i].sh_offset;
			*end = *first + section[i].sh_size;
		}
}

/* Whether anything branches to behind the entry, up to and into the site: its state there would be another one. */
static bool is_branched_to(const uint8_t *image, size_t size, uint32_t entry, uint32_t end)
{
	size_t at, last;

	find_text(image, size, &at, &last);
	if (at >= last)
		return true; /* nothing is known */
	while (at < last) {
		struct vdso_instruction i;

		if (!vdso_decode(image + at, last - at, &i)) {
			at++; /* padding, or what is no business of ours; a wrong branch more only makes us refuse */
			continue;
		}
		if (i.branch_at != 0) {
			int64_t target = (int64_t)(at + i.length) + vdso_branch_distance(image + at, &i);

			if (target > entry && target < end)
				return true;
		}
		at += i.length;
	}
	return false;
}

/* An instruction that is never gone beyond, and one that does nothing. */
static bool ends(const uint8_t *code, const struct vdso_instruction *i)
{
	if (i->map != VDSO_MAP_ONE || i->vector)
		return false;
	return i->opcode == 0xc3 || i->opcode == 0xe9 || i->opcode == 0xeb || (i->opcode == 0xff && (code[1] >> 3 & 7) == 4);
}

static bool is_nothing(const struct vdso_instruction *i)
{
	if (i->vector)
		return false;
	return i->map == VDSO_MAP_0F ? i->opcode == 0x1f : i->map == VDSO_MAP_ONE && (i->opcode == 0x90 || i->opcode == 0xcc) && !i->rex;
}

static bool is_taken(uint32_t at, const struct vdso_site *sites, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (at < sites[i].by + VDSO_JUMP_BYTES && sites[i].by < at + VDSO_JUMP_BYTES)
			return true;
	return false;
}

/* Any branch's end among those bytes, or a function's beginning: somebody may come there. */
static bool is_reached(const uint8_t *image, size_t size, uint32_t first, uint32_t end, const uint32_t *entry, unsigned entries)
{
	for (unsigned i = 0; i < entries; i++)
		if (entry[i] >= first && entry[i] < end)
			return true;
	return is_branched_to(image, size, first - 1, end);
}

/*
 * Bytes between functions, behind one's end and in front of the next, that a short jump at `from` reaches: for a long jump.
 * 0: none.
 */
static uint32_t find_gap(const uint8_t *image, size_t size, uint32_t from, const uint32_t *entry, unsigned entries,
			 const struct vdso_site *sites, unsigned count)
{
	size_t at, last;
	bool ended = false;

	find_text(image, size, &at, &last);
	while (at < last) {
		struct vdso_instruction i;
		size_t gap = at;

		if (!vdso_decode(image + at, last - at, &i))
			return 0; /* not to be read in order */
		if (!ended || !is_nothing(&i)) {
			ended = ends(image + at + i.prefixes + (i.rex != 0), &i);
			at += i.length;
			continue;
		}
		while (at < last && vdso_decode(image + at, last - at, &i) && is_nothing(&i))
			at += i.length;
		ended = false;
		for (; gap + VDSO_JUMP_BYTES <= at; gap++) {
			int64_t distance = (int64_t)gap - (int64_t)(from + VDSO_SHORT_JUMP_BYTES);

			if (distance >= INT8_MIN && distance <= INT8_MAX && !is_taken((uint32_t)gap, sites, count) &&
			    !is_reached(image, size, (uint32_t)gap, (uint32_t)(gap + VDSO_JUMP_BYTES), entry, entries))
				return (uint32_t)gap;
		}
	}
	return 0;
}

/* The first instruction that a jump can stand for. */
static bool find_one(const uint8_t *image, size_t size, const uint32_t *entry, unsigned entries, unsigned which,
		     const struct vdso_site *sites, struct vdso_site *ret)
{
	struct prologue p = {0};
	uint32_t begin = entry[which];

	memset(ret, 0, sizeof(*ret));
	if (begin == 0 || begin >= size)
		return false;
	for (uint32_t at = begin; at - begin < SEARCH;) {
		struct vdso_instruction i;
		bool movable, landing;

		if (!vdso_decode(image + at, size - at, &i))
			return false;
		landing = i.map == VDSO_MAP_0F && i.opcode == 0x1e; /* endbr64, where indirect calls have to land */
		/* A short branch cannot be moved, and a call would return to the copy. */
		movable = i.branch_size != 1 && (i.map != VDSO_MAP_ONE || i.opcode != 0xe8) && !landing;
		if (movable && i.length >= VDSO_JUMP_BYTES)
			ret->by = at;
		else if (movable && i.length >= VDSO_SHORT_JUMP_BYTES)
			ret->by = find_gap(image, size, at, entry, entries, sites, which);
		if (ret->by != 0) {
			ret->entry = begin;
			ret->at = at;
			ret->length = i.length;
			return !is_branched_to(image, size, begin, at + i.length) && write_undo(&p, ret);
		}
		if (!take(&p, image + at, &i))
			return false;
		at += i.length;
	}
	return false;
}

unsigned vdso_sites_find(const uint8_t *image, size_t size, const uint32_t *entry, unsigned count, struct vdso_site *ret)
{
	for (unsigned i = 0; i < count; i++)
		if (!find_one(image, size, entry, count, i, ret, &ret[i]))
			return i;
	return count;
}

static bool reaches(uint64_t from, uint64_t to, int32_t *ret)
{
	int64_t distance = (int64_t)(to - from);

	*ret = (int32_t)distance;
	return distance == *ret;
}

static bool jump(uint64_t from, uint64_t to, uint8_t *ret)
{
	int32_t distance;

	if (!reaches(from + VDSO_JUMP_BYTES, to, &distance))
		return false;
	ret[0] = 0xe9;
	memcpy(ret + 1, &distance, sizeof(distance));
	return true;
}

/* The same instruction at another address. */
static bool move(const uint8_t *code, const struct vdso_instruction *i, uint64_t from, uint64_t to, uint8_t *ret)
{
	uint8_t at = i->rip_at != 0 ? i->rip_at : i->branch_at;
	int32_t distance;

	memcpy(ret, code, i->length);
	if (at == 0)
		return true;
	memcpy(&distance, code + at, sizeof(distance));
	if (!reaches(to, from + (uint64_t)(int64_t)distance, &distance))
		return false;
	memcpy(ret + at, &distance, sizeof(distance));
	return true;
}

bool vdso_site_emit(const struct vdso_site *site, const uint8_t *image, uint64_t image_at, uint64_t function, uint64_t at,
		    uint8_t *code, struct vdso_detour *ret)
{
	uint32_t from = site->entry, size = 0;

	ret->kernel = 0;
	while (from < site->at + site->length) {
		struct vdso_instruction i;

		if (!vdso_decode(image + from, VDSO_INSTRUCTION_MAX, &i) || !move(image + from, &i, image_at + from, at + size, code + size))
			return false;
		from += i.length;
		size += i.length;
	}
	if (!jump(at + size, image_at + from, code + size))
		return false;
	size = (size + VDSO_JUMP_BYTES + 15u) & ~15u;
	ret->ours = size;
	memcpy(code + size, site->undo, site->undo_size);
	size += site->undo_size;
	if (!jump(at + size, function, code + size))
		return false;
	ret->size = (size + VDSO_JUMP_BYTES + 15u) & ~15u;
	return true;
}

bool vdso_site_patch(const struct vdso_site *site, uint64_t image_at, uint64_t to, uint8_t *copy)
{
	if (site->by != site->at) {
		copy[site->at] = 0xeb;
		copy[site->at + 1] = (uint8_t)(site->by - (site->at + VDSO_SHORT_JUMP_BYTES));
	}
	return jump(image_at + site->by, to, copy + site->by);
}

uint64_t vdso_site_target(const struct vdso_site *site, const uint8_t *changed, uint64_t image_at)
{
	int32_t distance;

	if (changed[site->by] != 0xe9)
		return 0;
	memcpy(&distance, changed + site->by + 1, sizeof(distance));
	return image_at + site->by + VDSO_JUMP_BYTES + (uint64_t)(int64_t)distance;
}
