/* What Python needs of the layouts, so that it repeats none of them. */
#include "module.h"

#include "clock.h"
#include "process.h"
#include "protocol.h"

#include "page.h"

static const struct {
	const char *name;
	unsigned long long value;
} constants[] = {
	{"LINE_BYTES", VDSO_LINE},
	{"PAGE_MAGIC", VDSO_PAGE_MAGIC},
	{"PAGE_FORMAT", VDSO_PAGE_FORMAT},
	{"PAGE_HEADER_BYTES", sizeof(struct vdso_page_header)},
	{"PAGE_HEAD_OFFSET", offsetof(struct vdso_page_header, head)},
	{"PAGE_HEARTBEAT_OFFSET", offsetof(struct vdso_page_header, heartbeat_ns)},
	{"PAGE_WRITER_PID_OFFSET", offsetof(struct vdso_page_header, writer_pid)},
	{"PAGE_WRITER_START_OFFSET", offsetof(struct vdso_page_header, writer_start)},
	{"STATE_REPLACED", VDSO_STATE_REPLACED},
	{"STATE_SILENT", VDSO_STATE_SILENT},
	{"SLOTS_MAX", VDSO_SLOTS_MAX},
	{"RECORD_BYTES_MAX", VDSO_RECORD_MAX},
	{"CLOCK_IDS", VDSO_CLOCK_IDS},
	{"CLOCK_SLOTS", VDSO_CLOCK_SLOTS},
	{"CLOCK_SCHEMA", VDSO_CLOCK_SCHEMA},
	{"CLOCK_RECORD_BYTES", sizeof(struct vdso_clock_record)},
	{"CLOCK_BYTES", VDSO_CLOCK_BYTES},
	{"CLOCK_LEAD_NS", VDSO_LEAD_NS},
	{"DATA_BYTES", VDSO_DATA_BYTES},
	{"IMAGE_BYTES", VDSO_IMAGE_BYTES},
	{"IMAGE_FILE_BYTES", VDSO_FILE_BYTES},
};

PyDoc_STRVAR(page_shape_doc,
	     "page_shape(slots, record_size, /)\n--\n\n"
	     "The bytes from one slot to the next, and of the header and all slots together.");

static PyObject *page_shape(PyObject *Py_UNUSED(module), PyObject *args)
{
	unsigned int slots, record_size;

	if (!PyArg_ParseTuple(args, "II:page_shape", &slots, &record_size))
		return NULL;
	return Py_BuildValue("IK", vdso_slot_stride(record_size), (unsigned long long)vdso_page_size(slots, record_size));
}

static PyMethodDef functions[] = {
	{"page_shape", page_shape, METH_VARARGS, page_shape_doc},
	{NULL, NULL, 0, NULL},
};

int vdso_add_constants(PyObject *module)
{
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
		PyObject *value = PyLong_FromUnsignedLongLong(constants[i].value);
		int err;

		if (value == NULL)
			return -1;
		err = PyModule_AddObjectRef(module, constants[i].name, value);
		Py_DECREF(value);
		if (err != 0)
			return -1;
	}
	return PyModule_AddFunctions(module, functions);
}
