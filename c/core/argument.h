/* What a system call's arguments lead to in another process's memory, read and written as the call itself would: never what
 * it may not write. */
#ifndef VDSO_CORE_ARGUMENT_H
#define VDSO_CORE_ARGUMENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vdso_argument {
	pid_t tid;
	int fd; /* of its /proc/TID/mem: stays that process's, whoever gets the id afterwards */
};

/* All return 0 or a negative errno; -EFAULT: not all of it can be read or written. */
int vdso_argument_open(pid_t tid, struct vdso_argument *ret);
void vdso_argument_close(struct vdso_argument *memory);
int vdso_argument_read(const struct vdso_argument *memory, uint64_t at, void *ret, size_t size);
int vdso_argument_write(const struct vdso_argument *memory, uint64_t at, const void *bytes, size_t size);

#endif
