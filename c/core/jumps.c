#include "jumps.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "area.h"
#include "frames.h"
#include "memory.h"

static const enum vdso_function functions[VDSO_ATTACHED_FUNCTIONS] = {VDSO_FN_CLOCK_GETTIME, VDSO_FN_GETTIMEOFDAY, VDSO_FN_TIME};

static const char *const function_names[VDSO_ATTACHED_FUNCTIONS] = {"clock_gettime", "gettimeofday", "time"};

int vdso_jumps_plan(struct vdso_attempt *a)
{
	struct vdso_kernel *k = &a->kernel;
	struct vdso_space own;
	int error = vdso_space_read_file("/proc/self/maps", &own);
	uint32_t entry[VDSO_ATTACHED_FUNCTIONS];
	unsigned found;

	if (error != 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_FAILED, error, 0);
	if (own.image == 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_NO_VDSO, 0, 0);
	k->image = (const uint8_t *)own.image;
	k->size = own.image_end - own.image;
	vdso_area_functions((const char *)k->image, k->function);
	k->content = vdso_area_content(k->image, k->size);
	if (k->content > sizeof(a->image))
		return vdso_attempt_answer(a, VDSO_ATTACH_NO_ROOM, 0, 0);
	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++)
		entry[i] = k->function[functions[i]];
	found = vdso_sites_find(k->image, k->size, entry, VDSO_ATTACHED_FUNCTIONS, k->site);
	if (found < VDSO_ATTACHED_FUNCTIONS)
		return vdso_attempt_answer_of(a, VDSO_ATTACH_NO_SITE, 0, function_names[found]);
	return 0;
}

bool vdso_jumps_read(struct vdso_attempt *a, uint64_t region, struct vdso_attachment *ret)
{
	return vdso_memory_read(a->mem, ret, sizeof(*ret), region + VDSO_DETOURS_AT) == 0 && ret->magic == VDSO_ATTACHMENT_MAGIC &&
	       ret->region == region && ret->kernel_image == a->space.image;
}

/* The kernel's image with the jumps into that region. */
static bool patch_image(struct vdso_attempt *a, uint64_t region, const uint32_t ours[VDSO_ATTACHED_FUNCTIONS], uint8_t *ret)
{
	memcpy(ret, a->kernel.image, a->kernel.content);
	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++)
		if (!vdso_site_patch(&a->kernel.site[i], a->space.image, region + VDSO_DETOURS_AT + ours[i], ret))
			return false;
	return true;
}

/* Finds the region that the process's jumps lead to. 0 and region 0: there are none, and its image is as the kernel's. */
int vdso_jumps_find(struct vdso_attempt *a)
{
	static uint8_t expected[VDSO_KERNEL_IMAGE_MAX];
	struct vdso_attachment there;
	uint64_t target;

	a->region = 0;
	if (a->space.image_end - a->space.image != a->kernel.size)
		return vdso_attempt_answer(a, VDSO_ATTACH_FOREIGN, 0, 0);
	if (vdso_memory_read(a->mem, a->image, a->kernel.content, a->space.image) != 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_FAILED, -EFAULT, 0);
	if (memcmp(a->image, a->kernel.image, a->kernel.content) == 0)
		return 0;
	if (memcmp(a->image, a->kernel.image, sizeof(Elf64_Ehdr)) != 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_FOREIGN, 0, 0);
	target = vdso_site_target(&a->kernel.site[0], a->image, a->space.image);
	a->region = (target & -(uint64_t)VDSO_PAGE_BYTES) - VDSO_DETOURS_AT;
	if (target == 0 || !vdso_jumps_read(a, a->region, &there) || !patch_image(a, a->region, there.ours, expected) ||
	    memcmp(a->image, expected, a->kernel.content) != 0)
		return vdso_attempt_answer(a, VDSO_ATTACH_CHANGED, 0, 0);
	return 0;
}

int vdso_jumps_write_at(struct vdso_attempt *a, const void *bytes, size_t size, uint64_t at)
{
	int error = vdso_memory_write(a->tid, a->mem, bytes, size, at);

	return error == 0 ? 0 : vdso_attempt_answer(a, VDSO_ATTACH_FAILED, error, 0);
}

/* The addresses of our functions, from the image's file, and the annex's. */
static int read_our_functions(struct vdso_attempt *a, uint32_t ret[VDSO_FN_COUNT])
{
	char *image = mmap(NULL, VDSO_FILE_BYTES, PROT_READ, MAP_PRIVATE, a->order->image_fd, 0);

	if (image == MAP_FAILED)
		return vdso_attempt_answer(a, VDSO_ATTACH_FAILED, -errno, 0);
	vdso_area_functions(image, ret);
	memcpy(&a->annex, image + VDSO_IMAGE_BYTES, sizeof(a->annex));
	munmap(image, VDSO_FILE_BYTES);
	return 0;
}

/* Everything that the detours page is to hold. */
int vdso_jumps_build(struct vdso_attempt *a)
{
	struct vdso_attachment head = {VDSO_ATTACHMENT_MAGIC, a->region, a->space.image, a->order->flags, {0}};
	uint32_t ours[VDSO_FN_COUNT] = {0}, at = VDSO_DETOURS_CODE;

	if (read_our_functions(a, ours) != 0)
		return -1;
	memset(a->detours, 0xcc, sizeof(a->detours));
	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++) {
		uint64_t function = a->region + VDSO_DATA_BYTES + ours[functions[i]];

		if (!vdso_site_emit(&a->kernel.site[i], a->kernel.image, a->space.image, function, a->region + VDSO_DETOURS_AT + at,
				    a->detours + at, &a->detour[i]))
			return vdso_attempt_answer(a, VDSO_ATTACH_NO_ROOM, -ENOMEM, 0);
		a->detour[i].kernel += at;
		a->detour[i].ours += at;
		head.ours[i] = a->detour[i].ours;
		at += a->detour[i].size;
	}
	memcpy(a->detours, &head, sizeof(head));
	return 0;
}

int vdso_jumps_write_region(struct vdso_attempt *a)
{
	struct vdso_process process = {
		.magic = VDSO_PROCESS_MAGIC,
		.flags = a->order->flags | (a->followed != VDSO_FOLLOWED_NOT ? VDSO_PROCESS_FOLLOWED : 0) |
			 (a->filtered ? VDSO_PROCESS_FILTERED : 0),
		.kernel_image = a->space.image,
		.image = a->region + VDSO_DATA_BYTES,
		.wait = a->region + VDSO_DATA_BYTES + a->annex.wait,
		.wait_step = a->region + VDSO_DATA_BYTES + a->annex.wait_step,
		.filters = (uint32_t)a->harmless,
		.filter = a->filter,
	};
	struct stat clock;

	if (a->counts != 0) {
		process.counts = a->counts;
		process.counting = a->counting;
		process.program = a->order->program;
	}
	if (fstat(a->order->clock_fd, &clock) == 0)
		process.clock = clock.st_ino;
	/* What the kernel's image lacks stays 0: nobody comes to our image but by a function of the kernel's. */
	for (unsigned i = 0; i < VDSO_FN_COUNT; i++)
		if (a->kernel.function[i] != 0)
			process.function[i] = a->space.image + a->kernel.function[i];
	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++)
		process.function[functions[i]] = a->region + VDSO_DETOURS_AT + a->detour[i].kernel;
	if (vdso_jumps_write_at(a, a->detours, sizeof(a->detours), a->region + VDSO_DETOURS_AT) != 0)
		return -1;
	return vdso_jumps_write_at(a, &process, sizeof(process), a->region + VDSO_CLOCK_BYTES);
}

/*
 * Who has just made a short jump stands where the long one is, among bytes that will lead nowhere when it has gone; or will be
 * there when a signal handler returns. The instruction that the jump has replaced comes next: with the jump in its place, too.
 */
static int move_away(struct vdso_attempt *a)
{
	struct vdso_frames_move moves[VDSO_ATTACHED_FUNCTIONS];
	unsigned count = 0;
	int error;

	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++) {
		const struct vdso_site *site = &a->kernel.site[i];

		if (site->by != site->at)
			moves[count++] = (struct vdso_frames_move){a->space.image + site->by, a->space.image + site->at};
	}
	error = count > 0 ? vdso_frames_move(&a->threads, a->mem, moves, count) : 0;
	return error == 0 ? 0 : vdso_attempt_answer(a, VDSO_ATTACH_FAILED, error, 0);
}

/*
 * All jumps, or none, in one write, from the first byte that they change to the last. A tracer that is killed leaves a process
 * that is wholly attached or not at all.
 */
int vdso_jumps_write(struct vdso_attempt *a, bool jumps)
{
	static uint8_t changed[VDSO_KERNEL_IMAGE_MAX];
	uint32_t first = 0, end = a->kernel.content, ours[VDSO_ATTACHED_FUNCTIONS];

	for (unsigned i = 0; i < VDSO_ATTACHED_FUNCTIONS; i++)
		ours[i] = a->detour[i].ours;
	if (!jumps && move_away(a) != 0)
		return -1;
	if (!jumps)
		memcpy(changed, a->kernel.image, end);
	else if (!patch_image(a, a->region, ours, changed))
		return vdso_attempt_answer(a, VDSO_ATTACH_NO_ROOM, -ENOMEM, 0);
	/* a->image is what is there: vdso_jumps_find() has just read it. */
	while (first < end && changed[first] == a->image[first])
		first++;
	while (end > first && changed[end - 1] == a->image[end - 1])
		end--;
	return vdso_jumps_write_at(a, changed + first, end - first, a->space.image + first);
}
