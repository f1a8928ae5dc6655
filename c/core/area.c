#include "area.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *const function_names[VDSO_FN_COUNT] = {
	[VDSO_FN_CLOCK_GETTIME] = "__vdso_clock_gettime", [VDSO_FN_GETTIMEOFDAY] = "__vdso_gettimeofday",
	[VDSO_FN_TIME] = "__vdso_time",                   [VDSO_FN_GETCPU] = "__vdso_getcpu",
	[VDSO_FN_CLOCK_GETRES] = "__vdso_clock_getres",   [VDSO_FN_GETRANDOM] = "__vdso_getrandom",
	[VDSO_FN_SGX_ENTER] = "__vdso_sgx_enter_enclave",
};

/* Symbols in .dynsym: a SysV hash table counts them, a GNU one has to be walked to its last chain's end. */
static uint32_t count_symbols(const uint32_t *sysv, const uint32_t *gnu)
{
	if (sysv != NULL)
		return sysv[1];
	if (gnu == NULL)
		return 0;

	const uint32_t *buckets = gnu + 4 + gnu[2] * 2, *chains = buckets + gnu[0];
	uint32_t last = 0;

	for (uint32_t i = 0; i < gnu[0]; i++)
		if (buckets[i] > last)
			last = buckets[i];
	if (last < gnu[1])
		return gnu[1];
	while ((chains[last - gnu[1]] & 1) == 0)
		last++;
	return last + 1;
}

/* The image is the kernel's or the package's: nothing in it is in doubt. */
void vdso_area_functions(const char *image, uint32_t ret[VDSO_FN_COUNT])
{
	const Elf64_Ehdr *header = (const void *)image;
	const Elf64_Phdr *segment = (const void *)(image + header->e_phoff);
	const Elf64_Dyn *dynamic = NULL;
	const Elf64_Sym *symbols = NULL;
	const uint32_t *sysv = NULL, *gnu = NULL;
	const char *strings = NULL;
	int64_t bias = 0;

	for (unsigned i = 0; i < header->e_phnum; i++) {
		if (segment[i].p_type == PT_LOAD)
			bias = (int64_t)segment[i].p_offset - (int64_t)segment[i].p_vaddr;
		else if (segment[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(image + segment[i].p_offset);
	}
	for (; dynamic != NULL && dynamic->d_tag != DT_NULL; dynamic++) {
		const void *at = image + (int64_t)dynamic->d_un.d_ptr + bias;

		if (dynamic->d_tag == DT_SYMTAB)
			symbols = at;
		else if (dynamic->d_tag == DT_STRTAB)
			strings = at;
		else if (dynamic->d_tag == DT_HASH)
			sysv = at;
		else if (dynamic->d_tag == DT_GNU_HASH)
			gnu = at;
	}
	if (symbols == NULL || strings == NULL)
		return;
	for (uint32_t i = 0, n = count_symbols(sysv, gnu); i < n; i++)
		for (unsigned f = 0; f < VDSO_FN_COUNT; f++)
			if (symbols[i].st_shndx != SHN_UNDEF && strcmp(strings + symbols[i].st_name, function_names[f]) == 0)
				ret[f] = (uint32_t)((int64_t)symbols[i].st_value + bias);
}

uint32_t vdso_area_content(const void *image, uint64_t size)
{
	const Elf64_Ehdr *header = image;
	const Elf64_Phdr *segment = (const void *)((const char *)image + header->e_phoff);
	uint64_t ret = 0;

	for (unsigned i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_LOAD && segment[i].p_offset + segment[i].p_filesz > ret)
			ret = segment[i].p_offset + segment[i].p_filesz;
	return (uint32_t)(ret < size ? ret : size);
}

int vdso_area_learn(struct vdso_area *ret)
{
	uint64_t image = 0, starts[VDSO_MAX_PIECES], ends[VDSO_MAX_PIECES];
	unsigned count = 0;
	bool found = false;
	char line[512];
	FILE *maps;

	memset(ret, 0, sizeof(*ret));
	/* By its name: in a program that runs on an image of ours the vector leads to that one, and the kernel's is aside. */
	maps = fopen("/proc/self/maps", "re");
	if (maps == NULL)
		return -errno;
	while (!found && fgets(line, sizeof(line), maps) != NULL) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		found = strstr(line, "[vdso]") != NULL;
		if (strstr(line, "[vvar") == NULL && !found)
			continue;
		if (count != 0 && ends[count - 1] != start)
			count = 0; /* pages that do not lead up to the image are not part of it */
		if (count == VDSO_MAX_PIECES) {
			found = false;
			break;
		}
		starts[count] = start;
		ends[count++] = end;
		image = start;
	}
	fclose(maps);
	if (!found)
		return 0;

	ret->pieces = count;
	ret->before = image - starts[0];
	ret->image_size = ends[count - 1] - image;
	for (unsigned i = 0; i < count; i++) {
		ret->piece[i].offset = (uint32_t)(starts[i] - starts[0]);
		ret->piece[i].size = (uint32_t)(ends[i] - starts[i]);
	}
	memcpy(ret->header, (const void *)image, sizeof(ret->header));
	vdso_area_functions((const char *)image, ret->function);
	ret->image = (const uint8_t *)image;
	ret->content = vdso_area_content(ret->image, ret->image_size);
	return 0;
}
