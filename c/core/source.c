#include "source.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "counter.h"
#include "process.h"

#define NOTE_OWNER "vdso-project"

static bool note_is_ours(const char *at, size_t size, size_t align)
{
	const char *end = at + size;

	while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)at;
		size_t name = (note->n_namesz + align - 1) / align * align;
		size_t desc = (note->n_descsz + align - 1) / align * align;

		if (name + desc > (size_t)(end - at) - sizeof(*note))
			return false;
		if (note->n_namesz == sizeof(NOTE_OWNER) && memcmp(note + 1, NOTE_OWNER, sizeof(NOTE_OWNER)) == 0)
			return true;
		at += sizeof(*note) + name + desc;
	}
	return false;
}

/*
 * The process page in front of an image of ours, NULL on the kernel's. Only the image's own note says which: in front of the
 * kernel's image stand pages that raise SIGBUS when touched.
 */
static const struct vdso_process *our_process(void)
{
	const ElfW(Ehdr) *image = (const void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
	const struct vdso_process *process;
	const ElfW(Phdr) *segment;
	bool ours = false;

	if (image == NULL || memcmp(image->e_ident, ELFMAG, SELFMAG) != 0)
		return NULL;
	segment = (const void *)((const char *)image + image->e_phoff);
	for (int i = 0; i < image->e_phnum && !ours; i++)
		ours = segment[i].p_type == PT_NOTE &&
		       note_is_ours((const char *)image + segment[i].p_offset, segment[i].p_filesz,
				    segment[i].p_align == 8 ? 8 : 4);
	if (!ours)
		return NULL;
	process = (const void *)((const char *)image - VDSO_PAGE_BYTES);
	return process->magic == VDSO_PROCESS_MAGIC ? process : NULL;
}

static int host_clock(void *context, int id, struct vdso_time *ret)
{
	struct vdso_source *source = context;
	struct timespec ts;

	/* The vDSO's function gives a negative errno, libc's -1. */
	if (source->kernel_gettime(id, &ts) != 0)
		return -EINVAL;
	*ret = (struct vdso_time){.sec = ts.tv_sec, .nsec = (uint64_t)ts.tv_nsec};
	return 0;
}

static uint64_t host_counter(void *context)
{
	(void)context;
	return vdso_counter();
}

static void host_sleep(void *context, uint64_t ns)
{
	struct timespec ts = {.tv_sec = (time_t)(ns / VDSO_NSEC_PER_SEC), .tv_nsec = (long)(ns % VDSO_NSEC_PER_SEC)};

	(void)context;
	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

static int arm(int fd)
{
	/* Far from any date, and not so far that the kernel's nanoseconds overflow. */
	struct itimerspec never = {.it_value.tv_sec = INT64_C(9000000000)};

	return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void host_stepped(void *context)
{
	struct vdso_source *source = context;
	uint64_t count;

	/* ECANCELED: the clock was set. */
	if (read(source->step_fd, &count, sizeof(count)) < 0)
		arm(source->step_fd);
}

void vdso_source_init(struct vdso_source *ret)
{
	const struct vdso_process *process = our_process();

	*ret = (struct vdso_source){
		.context = ret,
		.clock = host_clock,
		.counter = host_counter,
		.sleep = host_sleep,
		.stepped = host_stepped,
		.kernel_gettime = clock_gettime,
		.step_fd = -1,
	};
	if (process != NULL)
		ret->kernel_gettime = (int (*)(clockid_t, struct timespec *))(uintptr_t)
			process->function[VDSO_FN_CLOCK_GETTIME];
}

int vdso_source_watch(struct vdso_source *source)
{
	int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (arm(fd) != 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	source->step_fd = fd;
	return 0;
}

void vdso_source_deinit(struct vdso_source *source)
{
	if (source->step_fd >= 0)
		close(source->step_fd);
	source->step_fd = -1;
}
