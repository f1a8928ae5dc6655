#include "mapping.h"

#include <unistd.h>

/* After so many bytes in vain a signal's handler gets its turn. */
#define ROUND_BYTES (1u << 24)

PyObject *vdso_mapping_refuse(int answer)
{
	switch (answer) {
	case VDSO_PAGE_NEVER_WRITTEN:
		return vdso_raise("PageNeverWritten", "()");
	case VDSO_PAGE_LAPPED:
		return vdso_raise("PageLapped", "()");
	case VDSO_MAPPING_INTERRUPTED:
		return NULL;
	default:
		return vdso_raise("PageClosed", "()");
	}
}

int vdso_mapping_copy_in_rounds(struct vdso_mapping *self, uint32_t first, uint32_t bytes, void *to, uint64_t *version)
{
	unsigned left = vdso_tries(bytes), round = ROUND_BYTES / bytes == 0 ? 1 : ROUND_BYTES / bytes;
	enum vdso_read_status status;

	for (;;) {
		unsigned tries = left < round ? left : round;

		if (bytes < VDSO_COPY_WITHOUT_GIL) {
			status = vdso_window_copy(&self->page.window, first, bytes, to, version, tries);
		} else {
			Py_BEGIN_ALLOW_THREADS
			status = vdso_window_copy(&self->page.window, first, bytes, to, version, tries);
			Py_END_ALLOW_THREADS
		}
		left -= tries;
		if (status != VDSO_READ_LAPPED || left == 0)
			return (int)status;
		if (PyErr_CheckSignals() != 0)
			return VDSO_MAPPING_INTERRUPTED;
	}
}

static void mapping_dealloc(PyObject *object)
{
	struct vdso_mapping *self = (struct vdso_mapping *)object;
	PyTypeObject *type = Py_TYPE(object);

	vdso_page_close(&self->page);
	if (self->fd >= 0)
		close(self->fd);
	Py_XDECREF((PyObject *)self->record);
	type->tp_free(object);
	Py_DECREF(type);
}

PyObject *vdso_mapping_snapshot(struct vdso_mapping *self)
{
	struct vdso_record *record = self->record;
	struct vdso_snapshot *ret;
	int status;

	if (atomic_load_explicit(&self->closed, memory_order_relaxed))
		return vdso_mapping_refuse(VDSO_PAGE_NOT_THERE);
	ret = vdso_snapshot_new(record);
	if (ret == NULL)
		return NULL;
	status = vdso_mapping_copy(self, 0, record->record_size, ret->data, &ret->version);
	if (status == VDSO_PAGE_OK)
		return (PyObject *)ret;
	Py_DECREF((PyObject *)ret);
	return vdso_mapping_refuse(status);
}

const char vdso_mapping_snapshot_doc[] =
	PyDoc_STR("snapshot()\n--\n\n"
		  "One whole record of the newest version.\n\n"
		  "PageNeverWritten; PageLapped: the publisher went round all slots during each of many tries.");

static PyObject *mapping_snapshot_call(PyObject *object, PyObject *const *Py_UNUSED(args), Py_ssize_t given)
{
	if (given != 0) {
		PyErr_SetString(PyExc_TypeError, "snapshot() takes no arguments");
		return NULL;
	}
	return vdso_mapping_snapshot((struct vdso_mapping *)object);
}

/* The interpreter has a short way to call such a function, and none to call any other object. */
PyMethodDef vdso_mapping_snapshot_def = {"snapshot", (PyCFunction)(void (*)(void))mapping_snapshot_call, METH_FASTCALL,
					   vdso_mapping_snapshot_doc};

static PyType_Slot mapping_slots[] = {
	{Py_tp_doc, (void *)"A page's mapping, which a reader and its snapshot() share."},
	{Py_tp_dealloc, mapping_dealloc},
	{0, NULL},
};

static PyType_Spec mapping_spec = {
	.name = "vdso._core.Mapping",
	.basicsize = sizeof(struct vdso_mapping),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = mapping_slots,
};

int vdso_add_mapping(PyObject *module)
{
	return vdso_add_type(module, &mapping_spec);
}
