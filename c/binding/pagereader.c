/* PageReader for Python: one read-only mapping of a page, and whole records out of it. */
#include "module.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "page.h"

#define NS_PER_S INT64_C(1000000000)

/* Records are copied by words, straight into a bytes object. */
_Static_assert(offsetof(PyBytesObject, ob_sval) % 8 == 0, "the bytes of a bytes object are 8-aligned");

/* Below this a copy is shorter than handing the GIL to another thread and back. */
#define COPY_WITHOUT_GIL 65536u

struct reader {
	PyObject_HEAD
	struct vdso_page page;
};

static void free_object(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"fd", NULL};
	struct reader *self;
	PyObject *file;
	int fd, err;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:PageReader", names, &file))
		return NULL;
	fd = PyObject_AsFileDescriptor(file);
	if (fd < 0)
		return NULL;
	self = (struct reader *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->page.fd = -1;
	err = vdso_page_open_reader(fd, 0, &self->page);
	if (err != 0) {
		Py_DECREF(self);
		return vdso_raise_not_a_page(err);
	}
	return (PyObject *)self;
}

static void reader_dealloc(PyObject *object)
{
	vdso_page_close(&((struct reader *)object)->page);
	free_object(object);
}

PyDoc_STRVAR(reader_read_doc,
	     "read(*, max_age_ns=0)\n--\n\n"
	     "One whole record: (version, bytes).\n\n"
	     "PageNeverWritten; PageLapped: the writer went round all slots during each of many tries; PageStale, which has\n"
	     "`version` and `record`: its writer's heartbeat is older than max_age_ns (0: any age will do).");

static PyObject *reader_read(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"max_age_ns", NULL};
	struct reader *self = (struct reader *)object;
	uint32_t size = self->page.window.record_size;
	unsigned long long max_age_ns = 0;
	enum vdso_page_answer answer;
	uint64_t version = 0;
	PyObject *record;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$K:read", names, &max_age_ns))
		return NULL;
	record = PyBytes_FromStringAndSize(NULL, size);
	if (record == NULL)
		return NULL;
	if (size < COPY_WITHOUT_GIL) {
		answer = vdso_page_get(&self->page, max_age_ns, PyBytes_AS_STRING(record), &version);
	} else {
		Py_BEGIN_ALLOW_THREADS
		answer = vdso_page_get(&self->page, max_age_ns, PyBytes_AS_STRING(record), &version);
		Py_END_ALLOW_THREADS
	}
	switch (answer) {
	case VDSO_PAGE_OK:
		return Py_BuildValue("(KN)", (unsigned long long)version, record);
	case VDSO_PAGE_STALE:
		return vdso_raise("PageStale", "(KN)", (unsigned long long)version, record);
	case VDSO_PAGE_NEVER_WRITTEN:
		vdso_raise("PageNeverWritten", "()");
		break;
	case VDSO_PAGE_LAPPED:
		vdso_raise("PageLapped", "()");
		break;
	case VDSO_PAGE_NOT_THERE:
		vdso_raise("PageNotThere", "(s)", "the page is not open");
		break;
	}
	Py_DECREF(record);
	return NULL;
}

static int64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

PyDoc_STRVAR(reader_wait_doc,
	     "wait(seen, /, timeout_ns=-1)\n--\n\n"
	     "Sleeps until the newest version is no longer `seen`, and says whether it is so; False: timeout_ns (negative: for\n"
	     "ever) went by. Versions that were written without wake=True are noticed at the timeout only.");

static PyObject *reader_wait(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"", "timeout_ns", NULL};
	struct reader *self = (struct reader *)object;
	unsigned long long seen;
	long long timeout = -1;
	int64_t end;
	int err;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "K|L:wait", names, &seen, &timeout))
		return NULL;
	if (timeout > INT64_MAX / 4)
		timeout = INT64_MAX / 4;
	end = timeout < 0 ? 0 : monotonic_ns() + timeout;
	for (;;) {
		Py_BEGIN_ALLOW_THREADS
		err = vdso_page_wait(&self->page, seen, timeout, NULL);
		Py_END_ALLOW_THREADS
		if (err != -EINTR)
			break;
		if (PyErr_CheckSignals() != 0)
			return NULL;
		if (timeout >= 0) {
			timeout = end - monotonic_ns();
			if (timeout < 0)
				timeout = 0;
		}
	}
	if (err != 0 && err != -ETIMEDOUT)
		return vdso_raise_errno(err);
	return PyBool_FromLong(err == 0);
}

static PyObject *reader_get_head(PyObject *object, void *Py_UNUSED(closure))
{
	const struct reader *self = (struct reader *)object;

	return PyLong_FromUnsignedLongLong(atomic_load_explicit(&self->page.header->head, memory_order_acquire));
}

static PyObject *reader_get_writer_alive(PyObject *object, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(vdso_page_writer_alive(&((struct reader *)object)->page));
}

static PyObject *reader_get_slot_versions(PyObject *object, void *Py_UNUSED(closure))
{
	const struct vdso_window *window = &((struct reader *)object)->page.window;
	PyObject *ret = PyTuple_New((Py_ssize_t)window->slot_mask + 1);

	for (uint32_t i = 0; ret != NULL && i <= window->slot_mask; i++) {
		PyObject *value = PyLong_FromUnsignedLongLong(vdso_window_version(window, vdso_window_slot(window, i)));

		if (value == NULL)
			Py_CLEAR(ret);
		else
			PyTuple_SET_ITEM(ret, i, value);
	}
	return ret;
}

static PyMethodDef reader_methods[] = {
	{"read", (PyCFunction)(void (*)(void))reader_read, METH_VARARGS | METH_KEYWORDS, reader_read_doc},
	{"wait", (PyCFunction)(void (*)(void))reader_wait, METH_VARARGS | METH_KEYWORDS, reader_wait_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef reader_getset[] = {
	{"head", reader_get_head, NULL, "The newest finished version, 0: never written.", NULL},
	{"writer_alive", reader_get_writer_alive, NULL, "Whether the process that signed the page lives and writes.", NULL},
	{"slot_versions", reader_get_slot_versions, NULL, "Each slot's version; one past head is being written.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(reader_doc,
	     "PageReader(fd)\n--\n\n"
	     "A read-only mapping of the page that fd has open, for as long as this object lives. fd stays the caller's.\n\n"
	     "PageNotThere: it holds no page, or none that this version reads.");

static PyType_Slot reader_slots[] = {
	{Py_tp_doc, (void *)reader_doc},
	{Py_tp_new, reader_new},
	{Py_tp_dealloc, reader_dealloc},
	{Py_tp_methods, reader_methods},
	{Py_tp_getset, reader_getset},
	{0, NULL},
};

static PyType_Spec reader_spec = {
	.name = "vdso._core.PageReader",
	.basicsize = sizeof(struct reader),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = reader_slots,
};

int vdso_add_pagereader(PyObject *module)
{
	return vdso_add_type(module, &reader_spec);
}
