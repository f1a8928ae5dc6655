/*
 * C99 or C++. Three ways to read, each wanting nothing of the others:
 *
 *   linked     cc program.c PATH             and call NAME_field(), NAME_snapshot(&record)
 *   dlopen     NAME_open(&page, NULL)        and call page.field(), NAME_snapshot_from(&page, &record, &version)
 *   static     #define VDSO_STATIC first     the same as dlopen, without a dynamic linker
 *
 * Functions are looked up by name and type (NAME_field.f64), so a program works with every later layout that still has its
 * fields; one whose type has changed is a missing function and no wrong number.
 *
 * A field's function reads the newest version, 0 while there is none. Two calls may read two versions: who wants fields that
 * belong together takes a snapshot.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef VDSO_LIVE_H
#define VDSO_LIVE_H

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#ifndef VDSO_STATIC
#include <dlfcn.h>
#endif

/* What functions that return an int answer. */
enum vdso_answer {
	VDSO_OK = 0,
	VDSO_NEVER_WRITTEN = 1, /* nothing was published yet */
	VDSO_LAPPED = 2,        /* the publisher overtook each of a great many tries */
	VDSO_OTHER_LAYOUT = 3,  /* the page's record is no longer the one of this header */
	VDSO_TIMED_OUT = 4,
	VDSO_INTERRUPTED = 5, /* a signal handler ran */
	VDSO_FAILED = 6,      /* the kernel refused to wait */
	VDSO_REPLACED = 7     /* no version will follow: another page has the name by now, or none; open it again */
};

#if defined(__cplusplus) && __cplusplus >= 201103L
#define VDSO_CHECK(name, condition) static_assert(condition, #name)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define VDSO_CHECK(name, condition) _Static_assert(condition, #name)
#else
#define VDSO_CHECK(name, condition) typedef char vdso_check_##name[(condition) ? 1 : -1]
#endif

#ifdef __GNUC__
#define VDSO_SYMBOL(name) __asm__(name)
#else
#define VDSO_SYMBOL(name)
#endif

#define VDSO_LIVE_SEGMENTS 16

struct vdso_live_segment {
	size_t start, size; /* within the mapping */
	int flags;          /* PF_R, PF_X */
};

/* An open page's file. */
struct vdso_live {
	void *handle; /* dlopen's */
	char *base;   /* the loader's mapping */
	size_t span;
	struct vdso_live_segment segments[VDSO_LIVE_SEGMENTS];
	int count;
	char text[512]; /* the last error */
};

struct vdso_live_name {
	const char *name;
	size_t offset; /* of the pointer to it */
};

static inline const char *vdso_live_error(struct vdso_live *live, const char *path, const char *what, const char *more)
{
	snprintf(live->text, sizeof(live->text), "%s: %s%s", path, what, more);
	return live->text;
}

static inline void vdso_live_close(struct vdso_live *live)
{
#ifndef VDSO_STATIC
	if (live->handle != NULL)
		dlclose(live->handle);
#endif
	if (live->base != NULL)
		munmap(live->base, live->span);
	live->handle = NULL;
	live->base = NULL;
	live->count = 0;
}

/* ---- the loader: what dlopen does, for a file that needs no relocation and no other file ---- */

/* The bytes at an address of the file, NULL where they are not all in one segment that has these flags. */
static inline const char *vdso_live_at(const struct vdso_live *live, uint64_t address, uint64_t size, int flags)
{
	int i;

	for (i = 0; i < live->count; i++) {
		const struct vdso_live_segment *segment = &live->segments[i];

		if ((segment->flags & flags) == flags && address >= segment->start && size <= segment->size &&
		    address - segment->start <= segment->size - size)
			return live->base + address;
	}
	return NULL;
}

static inline const char *vdso_live_map(struct vdso_live *live, const char *path, int fd, uint64_t *dynamic,
					uint64_t *dynamic_size)
{
	union {
		Elf64_Ehdr elf;
		char bytes[4096];
	} head;
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	Elf64_Phdr segment;
	uint64_t end = 0;
	struct stat status;
	ssize_t got;
	void *at;
	int i;

	memset(&head, 0, sizeof(head));
	got = read(fd, head.bytes, sizeof(head.bytes));
	if (got < 0 || fstat(fd, &status) != 0)
		return vdso_live_error(live, path, strerror(errno), "");
	if (!S_ISREG(status.st_mode) || got < (ssize_t)sizeof(head.elf) || memcmp(head.elf.e_ident, ELFMAG, SELFMAG) != 0 ||
	    head.elf.e_ident[EI_CLASS] != ELFCLASS64 || head.elf.e_type != ET_DYN ||
	    head.elf.e_phentsize != sizeof(segment) || head.elf.e_phoff > sizeof(head) ||
	    head.elf.e_phnum > (sizeof(head) - head.elf.e_phoff) / sizeof(segment))
		return vdso_live_error(live, path, "not a live library", "");
#if defined(__x86_64__)
	if (head.elf.e_machine != EM_X86_64)
#elif defined(__aarch64__)
	if (head.elf.e_machine != EM_AARCH64)
#endif
		return vdso_live_error(live, path, "made for another machine", "");
	*dynamic_size = 0;
	for (i = 0; i < head.elf.e_phnum; i++) {
		memcpy(&segment, head.bytes + head.elf.e_phoff + (size_t)i * sizeof(segment), sizeof(segment));
		if (segment.p_type == PT_DYNAMIC) {
			*dynamic = segment.p_vaddr;
			*dynamic_size = segment.p_filesz;
		}
		if (segment.p_type != PT_LOAD)
			continue;
		if (live->count == VDSO_LIVE_SEGMENTS || segment.p_offset % page != 0 || segment.p_vaddr % page != 0 ||
		    segment.p_memsz != segment.p_filesz || segment.p_filesz == 0 || segment.p_vaddr < end ||
		    segment.p_vaddr > (uint64_t)1 << 46 || segment.p_offset > (uint64_t)status.st_size ||
		    segment.p_filesz > (uint64_t)status.st_size - segment.p_offset)
			return vdso_live_error(live, path, "not a live library", "");
		live->segments[live->count].start = (size_t)segment.p_vaddr;
		live->segments[live->count].size = (size_t)segment.p_filesz;
		live->segments[live->count].flags = (int)(segment.p_flags & (PF_R | PF_X));
		live->count++;
		end = segment.p_vaddr + (segment.p_filesz + page - 1) / page * page;
	}
	if (live->count == 0)
		return vdso_live_error(live, path, "not a live library", "");
	/* Room first, so that all segments keep their distances. */
	at = mmap(NULL, (size_t)end, PROT_NONE, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		return vdso_live_error(live, path, strerror(errno), "");
	live->base = (char *)at;
	live->span = (size_t)end;
	for (i = 0; i < head.elf.e_phnum; i++) {
		int protection = PROT_READ;

		memcpy(&segment, head.bytes + head.elf.e_phoff + (size_t)i * sizeof(segment), sizeof(segment));
		if (segment.p_type != PT_LOAD)
			continue;
		/* Nothing is mapped for writing: not the page, by which it would be a copy that stands still; and not
		 * .dynamic, which only dynamic linkers write to. */
		if ((segment.p_flags & PF_X) != 0)
			protection |= PROT_EXEC;
		if (mmap(live->base + segment.p_vaddr, (size_t)segment.p_filesz, protection, MAP_PRIVATE | MAP_FIXED, fd,
			 (off_t)segment.p_offset) == MAP_FAILED)
			return vdso_live_error(live, path, strerror(errno),
					       errno == EPERM ? " (code cannot be run from a mount that is noexec)" : "");
	}
	return NULL;
}

/* The tables that a lookup needs, each known to be within the file's segments. */
struct vdso_live_tables {
	const uint32_t *hash; /* counts of buckets and chains, buckets, chains */
	const Elf64_Sym *symbols;
	const char *strings;
	uint64_t strings_size;
};

static inline bool vdso_live_tables_of(const struct vdso_live *live, uint64_t dynamic, uint64_t dynamic_size,
				       struct vdso_live_tables *tables)
{
	const Elf64_Dyn *entry = (const Elf64_Dyn *)(const void *)vdso_live_at(live, dynamic, dynamic_size, PF_R);
	uint64_t hash = 0, symbols = 0, strings = 0, left;

	tables->strings_size = 0;
	if (entry == NULL || dynamic % 8 != 0)
		return false;
	for (left = dynamic_size / sizeof(*entry); left != 0 && entry->d_tag != DT_NULL; left--, entry++) {
		if (entry->d_tag == DT_HASH)
			hash = entry->d_un.d_ptr;
		if (entry->d_tag == DT_SYMTAB)
			symbols = entry->d_un.d_ptr;
		if (entry->d_tag == DT_STRTAB)
			strings = entry->d_un.d_ptr;
		if (entry->d_tag == DT_STRSZ)
			tables->strings_size = entry->d_un.d_val;
	}
	tables->hash = (const uint32_t *)(const void *)vdso_live_at(live, hash, 8, PF_R);
	if (tables->hash == NULL || hash % 4 != 0 || symbols % 8 != 0 || tables->hash[0] == 0 ||
	    vdso_live_at(live, hash, 8 + 4 * ((uint64_t)tables->hash[0] + tables->hash[1]), PF_R) == NULL)
		return false;
	tables->symbols = (const Elf64_Sym *)(const void *)vdso_live_at(live, symbols,
									(uint64_t)tables->hash[1] * sizeof(Elf64_Sym), PF_R);
	tables->strings = vdso_live_at(live, strings, tables->strings_size, PF_R);
	return tables->symbols != NULL && tables->strings != NULL;
}

static inline const void *vdso_live_lookup(const struct vdso_live *live, const struct vdso_live_tables *tables,
					   const char *name)
{
	const uint32_t buckets = tables->hash[0], chains = tables->hash[1];
	const uint64_t size = strlen(name) + 1;
	uint32_t value = 0, index, steps = chains;
	const char *byte;

	for (byte = name; *byte != '\0'; byte++) {
		value = (value << 4) + (unsigned char)*byte;
		value = (value ^ (value & 0xf0000000u) >> 24) & 0x0fffffffu;
	}
	for (index = tables->hash[2 + value % buckets]; index != 0 && index < chains && steps-- != 0;
	     index = tables->hash[2 + buckets + index]) {
		const Elf64_Sym *symbol = &tables->symbols[index];

		if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_shndx != SHN_UNDEF &&
		    symbol->st_name < tables->strings_size && size <= tables->strings_size - symbol->st_name &&
		    memcmp(tables->strings + symbol->st_name, name, size) == 0)
			return vdso_live_at(live, symbol->st_value, symbol->st_size, PF_X);
	}
	return NULL;
}

static inline const char *vdso_live_load(struct vdso_live *live, const char *path, void *page,
					 const struct vdso_live_name *names, size_t count)
{
#ifdef O_CLOEXEC /* C99 without POSIX hides it */
	int fd = open(path, O_RDONLY | O_CLOEXEC);
#else
	int fd = open(path, O_RDONLY);
#endif
	struct vdso_live_tables tables;
	uint64_t dynamic, dynamic_size;
	const char *wrong;
	size_t i;

	if (fd < 0)
		return vdso_live_error(live, path, strerror(errno), "");
	wrong = vdso_live_map(live, path, fd, &dynamic, &dynamic_size);
	close(fd);
	if (wrong != NULL)
		return wrong;
	if (!vdso_live_tables_of(live, dynamic, dynamic_size, &tables))
		return vdso_live_error(live, path, "not a live library", "");
	for (i = 0; i < count; i++) {
		const void *function = vdso_live_lookup(live, &tables, names[i].name);

		if (function == NULL)
			return vdso_live_error(live, path, "has no function ", names[i].name);
		memcpy((char *)page + names[i].offset, &function, sizeof(function));
	}
	return NULL;
}

/* ---- dlopen ---- */

#ifndef VDSO_STATIC
/*
 * The path of the file that the name leads to now; false when it does not fit. glibc's dlopen returns the library that it has
 * already loaded from a path, also when another file stands there by then; a page's name is a link to a file that keeps
 * its own name. Without a slash dlopen would look in the library path.
 */
static inline bool vdso_live_own_path(const char *path, char *own, size_t size)
{
#ifndef __cplusplus /* where it is declared in any case; C99 without POSIX hides it */
	extern ssize_t readlink(const char *, char *, size_t);
#endif
	const char *slash = strrchr(path, '/');
	const size_t directory = slash != NULL ? (size_t)(slash + 1 - path) : 2;
	char target[4096];
	const ssize_t length = readlink(path, target, sizeof(target) - 1);
	int written;

	target[length > 0 ? length : 0] = '\0';
	if (target[0] == '/')
		written = snprintf(own, size, "%s", target);
	else
		written = snprintf(own, size, "%.*s%s", (int)directory, slash != NULL ? path : "./",
				   length > 0 ? target : slash != NULL ? slash + 1 : path);
	return written >= 0 && (size_t)written < size;
}

static inline const char *vdso_live_dlopen(struct vdso_live *live, const char *path, void *page,
					   const struct vdso_live_name *names, size_t count)
{
	char own[8192], again[8192];
	size_t i;

	if (!vdso_live_own_path(path, own, sizeof(own)))
		return vdso_live_error(live, path, strerror(ENAMETOOLONG), "");
	while ((live->handle = dlopen(own, RTLD_NOW | RTLD_LOCAL)) == NULL) {
		snprintf(live->text, sizeof(live->text), "%s", dlerror());
		/* Unless the name went on to another file, and this one away, in between. */
		if (!vdso_live_own_path(path, again, sizeof(again)) || strcmp(own, again) == 0)
			return live->text;
		memcpy(own, again, sizeof(own));
	}
	for (i = 0; i < count; i++) {
		const void *function = dlsym(live->handle, names[i].name);

		if (function == NULL)
			return vdso_live_error(live, path, "has no function ", names[i].name);
		memcpy((char *)page + names[i].offset, &function, sizeof(function));
	}
	return NULL;
}
#endif

static inline const char *vdso_live_open(struct vdso_live *live, const char *path, void *page,
					 const struct vdso_live_name *names, size_t count)
{
	const char *wrong;

	memset(live, 0, sizeof(*live));
#ifdef VDSO_STATIC
	wrong = vdso_live_load(live, path, page, names, count);
#else
	wrong = vdso_live_dlopen(live, path, page, names, count);
#endif
	if (wrong != NULL)
		vdso_live_close(live);
	return wrong;
}

#endif
