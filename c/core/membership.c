#include "membership.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attachment.h"
#include "memory.h"
#include "space.h"

#define IMAGE_MAX 32768u /* of what a kernel has in its image: some 8 KiB */
#define JUMP 0xe9        /* and four bytes: how far */
#define JUMP_BYTES 5u

/* Whether a jump in the kernel's image, which is at that address, leads to the region's detours. */
static bool leads_to(const uint8_t *image, size_t size, uint64_t at, uint64_t region)
{
	for (size_t i = 0; i + JUMP_BYTES <= size; i++) {
		int32_t distance;

		if (image[i] != JUMP)
			continue;
		memcpy(&distance, image + i + 1, sizeof(distance));
		if (at + i + JUMP_BYTES + (uint64_t)(int64_t)distance - (region + VDSO_DETOURS_AT) < VDSO_PAGE_BYTES)
			return true;
	}
	return false;
}

static uint64_t find(pid_t pid, const struct vdso_space *space)
{
	size_t size = (size_t)(space->image_end - space->image);
	uint8_t *image = NULL;
	uint64_t ret = 0;
	int mem = -1;

	for (uint32_t i = 0; i < space->regions; i++)
		if (!space->region[i].attached)
			return space->region[i].inode;
	if (space->regions == 0 || size == 0 || size > IMAGE_MAX)
		return 0;
	mem = vdso_memory_open(pid);
	if (mem >= 0)
		image = malloc(size);
	if (image != NULL && vdso_memory_read(mem, image, size, space->image) != 0) {
		free(image);
		image = NULL;
	}
	for (uint32_t i = 0; i < space->regions && ret == 0; i++)
		if (image == NULL || leads_to(image, size, space->image, space->region[i].at))
			ret = space->region[i].inode;
	free(image);
	if (mem >= 0)
		close(mem);
	return ret;
}

int vdso_membership_read(pid_t pid, uint64_t *ret)
{
	struct vdso_space space;
	int error = vdso_space_read(pid, &space);

	*ret = error == 0 ? find(pid, &space) : 0;
	return error;
}
