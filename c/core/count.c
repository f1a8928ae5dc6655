#include "count.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CELLS VDSO_COUNT_CELLS
#define FSGSBASE 2u /* HWCAP2_FSGSBASE, Linux 5.9 */
#define RAW_SEARCH 256u
#define PROGRAM_SEARCH 1024u
#define BYTES ((size_t)(VDSO_COUNT_BYTES + VDSO_COUNT_LEFT_BYTES))

static struct vdso_counts *map(int fd, int protection)
{
	void *at = mmap(NULL, BYTES, protection, MAP_SHARED, fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

int vdso_counts_create(int *ret)
{
	/* Nobody who has it mapped can make it shorter under the others' hands. */
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int fd = memfd_create("vdso-counts", MFD_CLOEXEC | MFD_ALLOW_SEALING), error;
	struct vdso_counts *counts = NULL;

	if (fd >= 0 && ftruncate(fd, BYTES) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0)
		counts = map(fd, PROT_READ | PROT_WRITE);
	error = counts == NULL ? -errno : 0;
	if (error != 0) {
		if (fd >= 0)
			close(fd);
		return error;
	}
	counts->how = getauxval(AT_HWCAP2) & FSGSBASE ? VDSO_COUNT_BY_THREAD : VDSO_COUNT_TOGETHER;
	counts->next = 1;
	counts->cell[0] = (struct vdso_count_cell){.kind = VDSO_CELL_PROGRAM};
	counts->magic = VDSO_COUNTS_MAGIC;
	vdso_counts_unmap(counts);
	*ret = fd;
	return 0;
}

static struct vdso_counts *map_those(int fd, int protection)
{
	struct vdso_counts *counts;
	struct stat st;

	if (fstat(fd, &st) != 0)
		return NULL;
	counts = (size_t)st.st_size == BYTES ? map(fd, protection) : NULL;
	if (counts != NULL && counts->magic != VDSO_COUNTS_MAGIC) {
		vdso_counts_unmap(counts);
		counts = NULL;
	}
	if (counts == NULL)
		errno = EINVAL;
	return counts;
}

struct vdso_counts *vdso_counts_map(int fd)
{
	return map_those(fd, PROT_READ | PROT_WRITE);
}

const struct vdso_counts *vdso_counts_view(int fd)
{
	return map_those(fd, PROT_READ);
}

void vdso_counts_unmap(const struct vdso_counts *counts)
{
	if (counts != NULL)
		munmap((void *)counts, BYTES);
}

/* 0: there is none left. */
static uint32_t take(struct vdso_counts *counts)
{
	uint32_t index;

	if (__atomic_load_n(&counts->next, __ATOMIC_RELAXED) >= CELLS)
		return 0;
	index = __atomic_fetch_add(&counts->next, 1, __ATOMIC_RELAXED);
	return index < CELLS ? index : 0;
}

static void show(struct vdso_count_cell *cell, enum vdso_count_kind kind)
{
	/* Pairs with the acquire in vdso_counts_cell(). */
	__atomic_store_n(&cell->kind, (uint32_t)kind, __ATOMIC_RELEASE);
}

uint32_t vdso_counts_program(struct vdso_counts *counts, pid_t pid, const char *name)
{
	uint32_t index = take(counts);
	struct vdso_count_cell *cell = &counts->cell[index];
	size_t length = strnlen(name, sizeof(cell->name));
	struct timespec now;

	if (counts->began_ns == 0 && clock_gettime(CLOCK_MONOTONIC, &now) == 0)
		counts->began_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (index == 0)
		return 0;
	cell->pid = pid;
	cell->program = index;
	memcpy(cell->name, name, length);
	show(cell, VDSO_CELL_PROGRAM);
	return index;
}

/* Among the newest: who makes one such call makes the next. NULL: not there. */
static struct vdso_count_cell *find_raw(struct vdso_counts *counts, pid_t tid)
{
	uint32_t used = vdso_counts_used(counts), first = used > RAW_SEARCH ? used - RAW_SEARCH : 0;

	for (uint32_t i = used; i-- > first;)
		if (counts->cell[i].kind == VDSO_CELL_RAW && counts->cell[i].tid == tid)
			return &counts->cell[i];
	return NULL;
}

bool vdso_counts_raw(struct vdso_counts *counts, pid_t pid, pid_t tid, uint32_t slot)
{
	struct vdso_count_cell *cell = find_raw(counts, tid);

	if (cell == NULL && pid == 0)
		return false;
	if (cell == NULL) {
		cell = &counts->cell[take(counts)];
		if (cell != counts->cell) {
			cell->pid = pid;
			cell->tid = tid;
			show(cell, VDSO_CELL_RAW);
		}
	}
	/* Where there is none left it is nobody's, and only known to be one. */
	slot = cell == counts->cell ? VDSO_COUNT_RAW : slot;
	__atomic_fetch_add(&cell->calls[slot], 1, __ATOMIC_RELAXED);
	return true;
}

/* The newest cell of a program of that process, among the newest; 0: it is not there. */
static uint32_t find_program(const struct vdso_counts *counts, pid_t pid)
{
	uint32_t used = vdso_counts_used(counts), first = used > PROGRAM_SEARCH ? used - PROGRAM_SEARCH : 1;

	for (uint32_t i = used; i-- > first;)
		if (counts->cell[i].kind == VDSO_CELL_PROGRAM && counts->cell[i].pid == pid)
			return i;
	return 0;
}

bool vdso_counts_raw_sampled(const struct vdso_counts *counts, pid_t tid, uint32_t slot, struct vdso_count_sample *ret)
{
	const struct vdso_count_cell *cell = find_raw((struct vdso_counts *)counts, tid);
	uint64_t before;

	if (cell == NULL)
		return false;
	before = __atomic_load_n(&cell->calls[slot], __ATOMIC_RELAXED) - 1;
	if (!vdso_count_is_sampled(before, (uint64_t)tid << 32, __atomic_load_n(&counts->threshold, __ATOMIC_RELAXED)))
		return false;
	*ret = (struct vdso_count_sample){
		.pid = cell->pid,
		.tid = tid,
		.program = find_program(counts, cell->pid),
		.slot = slot,
		.raw = 1,
		.weight = before == 0 ? 1 : __atomic_load_n(&counts->weight, __ATOMIC_RELAXED),
	};
	return true;
}

void vdso_counts_put_sample(struct vdso_counts *counts, const struct vdso_count_sample *sample)
{
	uint64_t number = __atomic_fetch_add(&counts->samples, 1, __ATOMIC_RELAXED) + 1;
	struct vdso_count_sample *there = &counts->sample[number % VDSO_COUNT_SAMPLES];
	uint64_t former = __atomic_load_n(&there->number, __ATOMIC_RELAXED);

	/* As take_sample() of the image. */
	if (former == VDSO_SAMPLE_BUSY || !__atomic_compare_exchange_n(&there->number, &former, VDSO_SAMPLE_BUSY, false,
								       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	memcpy((char *)there + sizeof(there->number), (const char *)sample + sizeof(sample->number), sizeof(*sample) - sizeof(sample->number));
	__atomic_store_n(&there->number, number, __ATOMIC_RELEASE); /* pairs with the acquire in vdso_counts_sample() */
}

uint32_t vdso_counts_slot(int32_t id)
{
	if (id < 0)
		return (id & 7) == 3 ? VDSO_COUNT_DEVICE : VDSO_COUNT_CPU;
	if (id < VDSO_COUNT_IDS)
		return (uint32_t)id;
	return id >= 16 && id < 24 ? VDSO_COUNT_AUXILIARY : VDSO_COUNT_UNKNOWN;
}

uint32_t vdso_counts_used(const struct vdso_counts *counts)
{
	uint32_t next = __atomic_load_n(&counts->next, __ATOMIC_RELAXED);

	return next < CELLS ? next : CELLS;
}

bool vdso_counts_cell(const struct vdso_counts *counts, uint32_t index, struct vdso_count_cell *ret)
{
	const struct vdso_count_cell *cell = &counts->cell[index];

	if (index >= CELLS || __atomic_load_n(&cell->kind, __ATOMIC_ACQUIRE) == VDSO_CELL_FREE)
		return false;
	memcpy(ret, cell, offsetof(struct vdso_count_cell, calls));
	for (unsigned i = 0; i < VDSO_COUNT_SLOTS; i++)
		ret->calls[i] = __atomic_load_n(&cell->calls[i], __ATOMIC_RELAXED);
	/* Pairs with the release in succeed() of the image. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (ret->kind == VDSO_CELL_THREAD && ret->note != 0 && ret->note < CELLS)
		ret->tid = counts->cell[ret->note].successor;
	return true;
}

bool vdso_counts_part(const struct vdso_counts *counts, struct vdso_count_cell *cell, struct vdso_count_cell *part)
{
	const struct vdso_count_cell *note;

	if (cell->kind == VDSO_CELL_FREE || cell->kind == VDSO_CELL_NOTE)
		return false;
	*part = *cell;
	if (cell->kind != VDSO_CELL_THREAD || cell->note == 0 || cell->note >= CELLS) {
		cell->kind = VDSO_CELL_FREE;
		return true;
	}
	note = &counts->cell[cell->note];
	/* Whatever stands there, the parts are together what the cell has counted. */
	for (unsigned i = 0; i < VDSO_COUNT_SLOTS; i++) {
		uint64_t then = __atomic_load_n(&note->calls[i], __ATOMIC_RELAXED);

		cell->calls[i] = then < part->calls[i] ? then : part->calls[i];
		part->calls[i] -= cell->calls[i];
	}
	cell->tid = note->tid;
	cell->note = note->before < cell->note ? note->before : 0; /* each is older than the next */
	return true;
}

void vdso_counts_sample_one_in(struct vdso_counts *counts, uint64_t calls)
{
	__atomic_store_n(&counts->weight, calls, __ATOMIC_RELAXED);
	__atomic_store_n(&counts->threshold, calls == 0 ? 0 : UINT64_MAX / calls, __ATOMIC_RELAXED);
}

uint64_t vdso_counts_sampled(const struct vdso_counts *counts)
{
	return __atomic_load_n(&counts->samples, __ATOMIC_RELAXED);
}

bool vdso_counts_sample(const struct vdso_counts *counts, uint64_t number, struct vdso_count_sample *ret)
{
	const struct vdso_count_sample *sample = &counts->sample[number % VDSO_COUNT_SAMPLES];

	if (number == 0 || __atomic_load_n(&sample->number, __ATOMIC_ACQUIRE) != number)
		return false;
	memcpy(ret, sample, sizeof(*ret));
	/* Whoever takes this place next marks it before it writes. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (__atomic_load_n(&sample->number, __ATOMIC_RELAXED) != number)
		return false;
	if (ret->stack_size > sizeof(ret->stack))
		ret->stack_size = sizeof(ret->stack);
	if (ret->frame_size > sizeof(ret->frame))
		ret->frame_size = sizeof(ret->frame);
	return true;
}

static struct vdso_count_left *left_of(const struct vdso_counts *counts)
{
	return (struct vdso_count_left *)((char *)counts + VDSO_COUNT_BYTES);
}

void vdso_counts_leave(struct vdso_counts *counts, pid_t pid, const char *text, size_t size)
{
	struct vdso_count_left *left = left_of(counts);
	struct vdso_count_maps head = {pid, (uint32_t)size};
	uint64_t used = left->used, next = (used + sizeof(head) + size + 7) & -UINT64_C(8);

	if (size == 0 || next > sizeof(left->bytes))
		return;
	memcpy(left->bytes + used, &head, sizeof(head));
	memcpy(left->bytes + used + sizeof(head), text, size);
	__atomic_store_n(&left->used, next, __ATOMIC_RELEASE); /* pairs with the acquire in vdso_counts_left() */
}

const char *vdso_counts_left(const struct vdso_counts *counts, uint64_t *at, pid_t *pid, size_t *size)
{
	const struct vdso_count_left *left = left_of(counts);
	uint64_t used = __atomic_load_n(&left->used, __ATOMIC_ACQUIRE), begin = *at;
	struct vdso_count_maps head;

	if (used > sizeof(left->bytes) || begin + sizeof(head) > used)
		return NULL;
	memcpy(&head, left->bytes + begin, sizeof(head));
	if (head.size > used - begin - sizeof(head))
		return NULL;
	*at = (begin + sizeof(head) + head.size + 7) & -UINT64_C(8);
	*pid = head.pid;
	*size = head.size;
	return (const char *)left->bytes + begin + sizeof(head);
}

void vdso_counts_end(struct vdso_counts *counts)
{
	__atomic_store_n(&counts->how, VDSO_COUNT_NOT, __ATOMIC_RELAXED);
}

bool vdso_counts_ended(const struct vdso_counts *counts)
{
	return __atomic_load_n(&counts->how, __ATOMIC_RELAXED) == VDSO_COUNT_NOT;
}

void vdso_counts_discard(int fd)
{
	fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BYTES);
}
