/* The address space of another process, by its /proc/PID/maps: where the kernel's image is, what of ours is there, and room. */
#ifndef VDSO_CORE_SPACE_H
#define VDSO_CORE_SPACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define VDSO_SPACE_REGIONS 64u /* one or two, as things go */

struct vdso_region {
	uint64_t at;     /* the clock page's first byte; the rest as in attachment.h, or what a swap at exec leaves */
	uint64_t device; /* of the clock page's file */
	uint64_t inode;
	uint64_t image_device; /* of the image's */
	uint64_t image_inode;
	bool attached; /* laid out as attaching does it: detours and scratch page follow the image */
};

struct vdso_space {
	uint64_t image; /* the kernel's, 0 if there is none */
	uint64_t image_end;
	uint64_t room; /* VDSO_REGION_BYTES that are free, in a jump's reach of the image; 0 if there are none */
	uint32_t regions;
	struct vdso_region region[VDSO_SPACE_REGIONS];
};

/* Of a task, which must not have ended. 0 or a negative errno. */
int vdso_space_read(pid_t tid, struct vdso_space *ret);

/* By a file in the form of /proc/PID/maps: this process's own, say. 0 or a negative errno. */
int vdso_space_read_file(const char *path, struct vdso_space *ret);

#endif
