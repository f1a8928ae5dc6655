#include "local.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "area.h"
#include "clock.h"
#include "counting.h"

#define SIZE ((size_t)(VDSO_COUNT_PRIVATE_BYTES + VDSO_DATA_BYTES + VDSO_IMAGE_BYTES))

/* In the places of functions that the kernel's image lacks. Like the image's own they give the negative errno. */
static long negative(long ret)
{
	return ret == -1 ? -errno : ret;
}

static int call_clock_gettime(int id, struct timespec *ts)
{
	return (int)negative(syscall(SYS_clock_gettime, id, ts));
}

static int call_gettimeofday(struct timeval *tv, void *tz)
{
	return (int)negative(syscall(SYS_gettimeofday, tv, tz));
}

static time_t call_time(time_t *t)
{
	return negative(syscall(SYS_time, t));
}

static long call_getcpu(unsigned *cpu, unsigned *node, void *unused)
{
	return negative(syscall(SYS_getcpu, cpu, node, unused));
}

static int call_clock_getres(int id, struct timespec *ts)
{
	return (int)negative(syscall(SYS_clock_getres, id, ts));
}

static long call_nothing(void)
{
	return -ENOSYS;
}

static void fill(struct vdso_process *process, struct vdso_local *local)
{
	const uintptr_t instead[VDSO_FN_COUNT] = {
		[VDSO_FN_CLOCK_GETTIME] = (uintptr_t)call_clock_gettime, [VDSO_FN_GETTIMEOFDAY] = (uintptr_t)call_gettimeofday,
		[VDSO_FN_TIME] = (uintptr_t)call_time,                   [VDSO_FN_GETCPU] = (uintptr_t)call_getcpu,
		[VDSO_FN_CLOCK_GETRES] = (uintptr_t)call_clock_getres,   [VDSO_FN_GETRANDOM] = (uintptr_t)call_nothing,
		[VDSO_FN_SGX_ENTER] = (uintptr_t)call_nothing,
	};
	const char *kernel = (const char *)getauxval(AT_SYSINFO_EHDR);
	uint32_t offset[VDSO_FN_COUNT] = {0};

	if (kernel != NULL)
		vdso_area_functions(kernel, offset);
	process->magic = VDSO_PROCESS_MAGIC;
	process->kernel_image = (uintptr_t)kernel;
	for (unsigned i = 0; i < VDSO_FN_COUNT; i++) {
		local->kernel[i] = offset[i] != 0 ? (uintptr_t)kernel + offset[i] : 0;
		process->function[i] = local->kernel[i] != 0 ? local->kernel[i] : instead[i];
	}
}

int vdso_local_map(int image_fd, int clock_fd, uint64_t flags, struct vdso_local *ret)
{
	uint32_t offset[VDSO_FN_COUNT] = {0};
	struct vdso_process *process;
	char *base, *image;
	int error;

	memset(ret, 0, sizeof(*ret));
	base = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	base += VDSO_COUNT_PRIVATE_BYTES;
	process = (struct vdso_process *)(base + VDSO_CLOCK_BYTES);
	image = base + VDSO_DATA_BYTES;
	if (mmap(base, VDSO_CLOCK_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, clock_fd, 0) == MAP_FAILED ||
	    mmap(image, VDSO_IMAGE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, image_fd, 0) == MAP_FAILED ||
	    mprotect(process, VDSO_PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
		goto failed;
	fill(process, ret);
	process->flags = flags | VDSO_PROCESS_LOCAL;
	process->image = (uintptr_t)image;
	if (mprotect(process, VDSO_PAGE_BYTES, PROT_READ) != 0)
		goto failed;
	vdso_area_functions(image, offset);
	for (unsigned i = 0; i < VDSO_FN_COUNT; i++)
		ret->function[i] = offset[i] != 0 ? (uintptr_t)image + offset[i] : 0;
	ret->base = base;
	return 0;

failed:
	error = -errno;
	munmap(base - VDSO_COUNT_PRIVATE_BYTES, SIZE);
	return error;
}

int vdso_local_count(struct vdso_local *local, int counts_fd)
{
	struct vdso_process *process = (struct vdso_process *)(local->base + VDSO_CLOCK_BYTES);
	char *private = local->base - VDSO_COUNT_PRIVATE_BYTES, *counts;

	counts = mmap(NULL, VDSO_COUNT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, counts_fd, 0);
	if (counts == MAP_FAILED)
		return -errno;
	local->counts = counts;
	if (mprotect(private, VDSO_COUNT_PRIVATE_BYTES, PROT_READ | PROT_WRITE) != 0 ||
	    madvise(private, VDSO_COUNT_PRIVATE_BYTES, MADV_WIPEONFORK) != 0 ||
	    mprotect(process, VDSO_PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
		return -errno;
	process->counts = (uintptr_t)counts;
	process->counting = ((const struct vdso_counts *)counts)->how;
	return mprotect(process, VDSO_PAGE_BYTES, PROT_READ) == 0 ? 0 : -errno;
}

void vdso_local_unmap(struct vdso_local *local)
{
	if (local->counts != NULL)
		munmap(local->counts, VDSO_COUNT_BYTES);
	if (local->base != NULL)
		munmap(local->base - VDSO_COUNT_PRIVATE_BYTES, SIZE);
	local->counts = local->base = NULL;
}
