/*
 * A reader's mapping of a page, and what is taken out of it. The reader and its `snapshot` share it, and it lives as long as
 * either does.
 */
#ifndef VDSO_BINDING_MAPPING_H
#define VDSO_BINDING_MAPPING_H

#include "record.h"

#include "page.h"

/* Below this a copy is shorter than handing the GIL to another thread and back. */
#define VDSO_COPY_WITHOUT_GIL 65536u

struct vdso_mapping {
	PyObject_HEAD
	struct vdso_page page;
	int fd;
	_Atomic int closed;
	_Atomic int waiting; /* threads in wait(), which close() wakes */
	struct vdso_record *record;
};

/* Beside the answers of page.h: a signal's handler has raised something. */
#define VDSO_MAPPING_INTERRUPTED -1

/* The error for an answer that is none of a record: NULL. */
PyObject *vdso_mapping_refuse(int answer);

/* One whole record of the newest version. */
PyObject *vdso_mapping_snapshot(struct vdso_mapping *self);

/* The function of that name, which is made for each mapping: to be called without a bound method. */
extern PyMethodDef vdso_mapping_snapshot_def;
extern const char vdso_mapping_snapshot_doc[];

/* The way back for who was lapped once, and the only one for large copies, which leave the GIL to others meanwhile. */
int vdso_mapping_copy_in_rounds(struct vdso_mapping *self, uint32_t first, uint32_t bytes, void *to, uint64_t *version);

/* `bytes` of the record from `first` on, both multiples of 8: an enum vdso_page_answer, or VDSO_MAPPING_INTERRUPTED. */
static inline int vdso_mapping_copy(struct vdso_mapping *self, uint32_t first, uint32_t bytes, void *to, uint64_t *version)
{
	if (bytes < VDSO_COPY_WITHOUT_GIL) {
		enum vdso_read_status status = vdso_window_copy(&self->page.window, first, bytes, to, version, 1);

		if (status != VDSO_READ_LAPPED)
			return (int)status;
	}
	return vdso_mapping_copy_in_rounds(self, first, bytes, to, version);
}

#endif
