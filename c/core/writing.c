#include "writing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "adjust.h"

/* For `vdso time` to be done, which writes for a moment. */
#define WRITE_TRIES 2000
#define WRITE_PAUSE_NS 1000000

int vdso_writing_open(int clock_fd, struct vdso_page *ret)
{
	const struct timespec pause = {.tv_nsec = WRITE_PAUSE_NS};
	char path[64];
	int fd, err = -EBUSY;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", clock_fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (int tries = 0; err == -EBUSY && tries < WRITE_TRIES; tries++) {
		if (tries != 0)
			nanosleep(&pause, NULL);
		err = vdso_page_open_writer(fd, 0, ret);
	}
	if (err != 0)
		close(fd);
	return err;
}

void vdso_writing_renew(int clock_fd)
{
	struct vdso_clock_record record;
	struct vdso_source source;
	struct vdso_page page;
	uint64_t version;
	bool wanted;

	if (vdso_page_open_reader(clock_fd, 0, &page) != 0)
		return;
	wanted = vdso_page_get(&page, 0, &record, &version) == VDSO_PAGE_OK && vdso_adjust_wants_renewal(&record);
	vdso_page_close(&page);
	if (!wanted)
		return;
	vdso_source_init(&source);
	if (vdso_writing_open(clock_fd, &page) == 0) {
		vdso_adjust_renew(&page, &source);
		vdso_page_close(&page);
	}
	vdso_source_deinit(&source);
}
