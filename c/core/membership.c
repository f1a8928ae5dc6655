#include "membership.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attachment.h"
#include "counting.h"
#include "memory.h"
#include "space.h"

#define IMAGE_MAX 32768u /* of what a kernel has in its image: some 8 KiB */
#define JUMP 0xe9        /* and four bytes: how far */

bool vdso_membership_leads(const uint8_t *bytes, uint64_t at, uint64_t region)
{
	int32_t distance;

	if (bytes[0] != JUMP)
		return false;
	memcpy(&distance, bytes + 1, sizeof(distance));
	return at + VDSO_JUMP_BYTES + (uint64_t)(int64_t)distance - (region + VDSO_DETOURS_AT) < VDSO_PAGE_BYTES;
}

bool vdso_membership_process(int mem, uint64_t region, struct vdso_process *ret)
{
	return mem >= 0 && vdso_memory_read(mem, ret, sizeof(*ret), region + VDSO_CLOCK_BYTES) == 0 &&
	       ret->magic == VDSO_PROCESS_MAGIC && ret->image == region + VDSO_DATA_BYTES;
}

/* A jump in the kernel's image, which is at that address, to the region; 0: none leads there. */
static uint64_t find_jump(const uint8_t *image, size_t size, uint64_t at, uint64_t region)
{
	for (size_t i = 0; i + VDSO_JUMP_BYTES <= size; i++)
		if (vdso_membership_leads(image + i, at + i, region))
			return at + i;
	return 0;
}

static uint8_t *read_image(int mem, const struct vdso_space *space)
{
	size_t size = (size_t)(space->image_end - space->image);
	uint8_t *ret = mem >= 0 && size != 0 && size <= IMAGE_MAX ? malloc(size) : NULL;

	if (ret != NULL && vdso_memory_read(mem, ret, size, space->image) != 0) {
		free(ret);
		ret = NULL;
	}
	return ret;
}

static void find(int mem, const struct vdso_space *space, struct vdso_membership *ret)
{
	uint8_t *image = NULL;

	for (uint32_t i = 0; i < space->regions && ret->kind != VDSO_MEMBER_SWAPPED && ret->kind != VDSO_MEMBER_ATTACHED; i++) {
		const struct vdso_region *region = &space->region[i];
		struct vdso_process process;

		if (!vdso_membership_process(mem, region->at, &process))
			memset(&process, 0, sizeof(process));
		if (process.flags & VDSO_PROCESS_LOCAL)
			continue;
		ret->kind = region->attached ? VDSO_MEMBER_ATTACHED : VDSO_MEMBER_SWAPPED;
		if (region->attached) {
			if (image == NULL)
				image = read_image(mem, space);
			ret->jump = image != NULL ? find_jump(image, space->image_end - space->image, space->image, region->at) : 0;
			if (image != NULL && ret->jump == 0)
				ret->kind = VDSO_MEMBER_DETACHED;
		}
		ret->inode = region->inode;
		ret->region = region->at;
		ret->process = process;
	}
	free(image);
}

int vdso_membership_look(pid_t pid, struct vdso_membership *ret)
{
	struct vdso_space space;
	int mem, error = vdso_space_read(pid, &space);

	memset(ret, 0, sizeof(*ret));
	if (error != 0)
		return error;
	ret->image = space.image;
	if (space.regions == 0)
		return 0;
	mem = vdso_memory_open(pid);
	find(mem, &space, ret);
	if (mem >= 0)
		close(mem);
	return 0;
}

bool vdso_membership_counts(const struct vdso_membership *member)
{
	return (member->kind == VDSO_MEMBER_SWAPPED || member->kind == VDSO_MEMBER_ATTACHED) &&
	       member->process.counts != 0 && member->process.counting != VDSO_COUNT_NOT;
}

int vdso_membership_read(pid_t pid, uint64_t *ret)
{
	struct vdso_membership found;
	int error = vdso_membership_look(pid, &found);

	if (error != 0 || (found.kind != VDSO_MEMBER_SWAPPED && found.kind != VDSO_MEMBER_ATTACHED))
		*ret = 0;
	else /* while it travels it has another page there, which is nobody's but its own */
		*ret = found.process.clock != 0 ? found.process.clock : found.inode;
	return error;
}
