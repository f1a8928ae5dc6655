#include "space.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "attachment.h"

/* A jump reaches 2 GiB; less what detours, image and the pages in front of the kernel's image take. */
#define REACH (UINT64_C(0x80000000) - 0x100000u)
#define LAST UINT64_C(0x7ffffffff000) /* programs that ask for more have it above, and nothing of the kernel's is there */
#define FIRST UINT64_C(0x10000)       /* vm.mmap_min_addr, on every distribution */
#define PAGE ((uint64_t)VDSO_PAGE_BYTES)
/* What grows into a gap: the stack downwards, the heap upwards. */
#define STACK_GROWS (UINT64_C(1) << 30)
#define HEAP_GROWS (UINT64_C(1) << 30)

struct mapping {
	uint64_t start;
	uint64_t end;
	uint64_t device;
	uint64_t inode;
	char prot[5];
	char name[16]; /* its beginning */
};

static bool parse(const char *line, struct mapping *ret)
{
	unsigned long start, end, inode;
	unsigned major, minor;
	int name = 0;

	if (sscanf(line, "%lx-%lx %4s %*x %x:%x %lu %n", &start, &end, ret->prot, &major, &minor, &inode, &name) != 6 ||
	    name == 0)
		return false;
	ret->start = start;
	ret->end = end;
	ret->device = makedev(major, minor);
	ret->inode = inode;
	snprintf(ret->name, sizeof(ret->name), "%.*s", (int)strcspn(line + name, "\n"), line + name);
	return true;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* Whether the three are pages of ours, by what they look like. The annex may follow the image, in the same mapping. */
static bool is_region(const struct mapping *clock, const struct mapping *process, const struct mapping *image)
{
	uint64_t size = image->end - image->start;

	return image->inode != 0 && strcmp(image->prot, "r-xp") == 0 && (size == VDSO_IMAGE_BYTES || size == VDSO_FILE_BYTES) &&
	       process->end == image->start && process->inode == 0 && strcmp(process->prot, "r--p") == 0 &&
	       process->end - process->start == PAGE && clock->end == process->start && clock->inode != 0 &&
	       strcmp(clock->prot, "r--s") == 0 && clock->end - clock->start == VDSO_CLOCK_BYTES;
}

/* The free place between two mappings that is nearest to the image, by `best` so far. One page stays free at either end. */
static void try_gap(const struct mapping *below, const struct mapping *above, uint64_t image, uint64_t *best)
{
	uint64_t low = below->end + PAGE, high = above->start - PAGE, at;

	if (strcmp(above->name, "[stack]") == 0 && above->start > STACK_GROWS)
		high = above->start - STACK_GROWS;
	if (strcmp(below->name, "[heap]") == 0)
		low += HEAP_GROWS;
	if (low < FIRST)
		low = FIRST;
	if (high < low || high - low < VDSO_REGION_BYTES)
		return;
	at = image > high - VDSO_REGION_BYTES ? high - VDSO_REGION_BYTES : low;
	if (*best == 0 || distance(at, image) < distance(*best, image))
		*best = at;
}

static void find_room(FILE *maps, struct vdso_space *ret)
{
	struct mapping last = {.end = 0}, m;
	char line[4352];
	uint64_t best = 0;

	rewind(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		if (!parse(line, &m))
			continue;
		if (m.start > LAST)
			break;
		try_gap(&last, &m, ret->image, &best);
		last = m;
	}
	m = (struct mapping){.start = LAST};
	if (last.end < LAST)
		try_gap(&last, &m, ret->image, &best);
	if (best != 0 && distance(best, ret->image) < REACH)
		ret->room = best;
}

/* The last of these four may be the one behind an image of ours, and says how the process has come to it. */
static void notice_region(const struct mapping m[4], struct vdso_space *ret)
{
	if (!is_region(&m[0], &m[1], &m[2]) || ret->regions == VDSO_SPACE_REGIONS)
		return;
	ret->region[ret->regions++] = (struct vdso_region){
		.at = m[0].start,
		.device = m[0].device,
		.inode = m[0].inode,
		.image_device = m[2].device,
		.image_inode = m[2].inode,
		.attached = m[2].end - m[2].start == VDSO_FILE_BYTES && m[3].start == m[2].end && m[3].inode == 0 &&
			    strcmp(m[3].prot, "r-xp") == 0 && m[3].end - m[3].start == PAGE && m[3].name[0] == '\0',
	};
}

int vdso_space_read_file(const char *path, struct vdso_space *ret)
{
	struct mapping m[4] = {{.end = 0}}; /* the newest last */
	char line[4352];
	FILE *maps = fopen(path, "re");

	memset(ret, 0, sizeof(*ret));
	if (maps == NULL)
		return -errno;
	while (fgets(line, sizeof(line), maps) != NULL) {
		memmove(m, m + 1, 3 * sizeof(m[0]));
		if (!parse(line, &m[3]))
			continue;
		if (strcmp(m[3].name, "[vdso]") == 0) {
			ret->image = m[3].start;
			ret->image_end = m[3].end;
		}
		notice_region(m, ret);
	}
	/* Kernels that map the vDSO above the stack have what stands in its place come last, unless a vsyscall page does. */
	memmove(m, m + 1, 3 * sizeof(m[0]));
	m[3] = (struct mapping){.end = 0};
	notice_region(m, ret);
	if (ret->image != 0)
		find_room(maps, ret);
	fclose(maps);
	return 0;
}

int vdso_space_read(pid_t tid, struct vdso_space *ret)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)tid);
	return vdso_space_read_file(path, ret);
}
