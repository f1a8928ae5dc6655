/*
 * Page for Python: a page's file. PageWriter (pagewriter.c) is its one writer, PageReader (pagereader.c) one mapping to read.
 *
 * The writer's lock is lost when its process closes any descriptor of the file (see c/core/page.h). So a Page opens and
 * keeps all the descriptors that are handed out of it, and a writer keeps its Page.
 */
#include "pagefile.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static PyObject *page_from_fd(PyTypeObject *type, int fd)
{
	struct vdso_page_file *self = (struct vdso_page_file *)type->tp_alloc(type, 0);
	int err;

	if (self == NULL) {
		close(fd);
		return NULL;
	}
	self->fd = fd;
	self->reader_fd = -1;
	self->lock_fd = -1;
	err = vdso_page_check(fd, 0, &self->header);
	if (err != 0) {
		Py_DECREF(self);
		return vdso_raise_not_a_page(err);
	}
	return (PyObject *)self;
}

PyDoc_STRVAR(page_create_doc,
	     "create(name, record_size, *, slots=4, schema_hash=0)\n--\n\n"
	     "An empty page in a new memfd. record_size in bytes, a multiple of 8; slots a power of two from 2 on.");

static PyObject *page_create(PyObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"name", "record_size", "slots", "schema_hash", NULL};
	struct vdso_page_shape shape = {.slots = 4};
	unsigned long long hash = 0;
	Py_ssize_t record_size, slots = 4;
	const char *name;
	int err, fd = -1;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sn|$nK:create", names, &name, &record_size, &slots, &hash))
		return NULL;
	if (record_size <= 0 || record_size % 8 != 0 || record_size > (Py_ssize_t)VDSO_RECORD_MAX) {
		PyErr_Format(PyExc_ValueError, "record_size is a multiple of 8 from 8 to %u, not %zd", VDSO_RECORD_MAX,
			     record_size);
		return NULL;
	}
	if (slots < 2 || slots > (Py_ssize_t)VDSO_SLOTS_MAX || (slots & (slots - 1)) != 0) {
		PyErr_Format(PyExc_ValueError, "slots is a power of two from 2 to %u, not %zd", VDSO_SLOTS_MAX, slots);
		return NULL;
	}
	shape.slots = (uint32_t)slots;
	shape.record_size = (uint32_t)record_size;
	shape.schema_hash = hash;
	err = vdso_page_create_memfd(name, &shape, &fd);
	if (err != 0)
		return vdso_raise_errno(err);
	return page_from_fd((PyTypeObject *)type, fd);
}

PyDoc_STRVAR(page_open_doc,
	     "from_fd(fd, /)\n--\n\n"
	     "The page that a descriptor has open. The descriptor stays the caller's, but while a writer of this process is\n"
	     "open, closing it takes the writer's lock away.\n\n"
	     "PageNotThere: it holds none, or none that this version reads.");

static PyObject *page_open(PyObject *type, PyObject *arg)
{
	int fd = PyObject_AsFileDescriptor(arg);

	if (fd < 0)
		return NULL;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return vdso_raise_errno(errno);
	return page_from_fd((PyTypeObject *)type, fd);
}

static void page_dealloc(PyObject *object)
{
	struct vdso_page_file *self = (struct vdso_page_file *)object;
	PyTypeObject *type = Py_TYPE(object);

	if (self->fd >= 0)
		close(self->fd);
	if (self->reader_fd >= 0)
		close(self->reader_fd);
	if (self->lock_fd >= 0)
		close(self->lock_fd);
	type->tp_free(object);
	Py_DECREF(type);
}

PyDoc_STRVAR(page_holder_doc,
	     "holder()\n--\n\n"
	     "The pid of the process that has the writer's lock, 0 when no other process has.");

static PyObject *page_holder(PyObject *object, PyObject *Py_UNUSED(none))
{
	pid_t pid = vdso_page_holder(((struct vdso_page_file *)object)->fd);

	return pid < 0 ? vdso_raise_errno(pid) : PyLong_FromLong(pid);
}

static PyObject *page_get_fd(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((struct vdso_page_file *)object)->fd);
}

static PyObject *page_get_reader_fd(PyObject *object, void *Py_UNUSED(closure))
{
	struct vdso_page_file *self = (struct vdso_page_file *)object;
	int fd;

	Py_BEGIN_CRITICAL_SECTION(object);
	if (self->reader_fd < 0)
		self->reader_fd = vdso_page_reopen_readonly(self->fd);
	fd = self->reader_fd;
	Py_END_CRITICAL_SECTION();
	return fd < 0 ? vdso_raise_errno(fd) : PyLong_FromLong(fd);
}

static PyObject *page_get_slots(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLong(((struct vdso_page_file *)object)->header.slots);
}

static PyObject *page_get_record_size(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLong(((struct vdso_page_file *)object)->header.record_size);
}

static PyObject *page_get_size(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((struct vdso_page_file *)object)->header.page_size);
}

static PyObject *page_get_schema_hash(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((struct vdso_page_file *)object)->header.schema_hash);
}

static PyMethodDef page_methods[] = {
	{"create", (PyCFunction)(void (*)(void))page_create, METH_VARARGS | METH_KEYWORDS | METH_CLASS, page_create_doc},
	{"from_fd", page_open, METH_O | METH_CLASS, page_open_doc},
	{"holder", page_holder, METH_NOARGS, page_holder_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef page_getset[] = {
	{"fd", page_get_fd, NULL, "The page's descriptor, close-on-exec. Not to be closed.", NULL},
	{"reader_fd", page_get_reader_fd, NULL, "A read-only descriptor: what readers are given. Not to be closed.", NULL},
	{"slots", page_get_slots, NULL, "How many slots.", NULL},
	{"record_size", page_get_record_size, NULL, "Bytes of one record.", NULL},
	{"size", page_get_size, NULL, "Bytes of header and slots together.", NULL},
	{"schema_hash", page_get_schema_hash, NULL, "What tells one meaning of the record from another.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot page_slots[] = {
	{Py_tp_doc, (void *)"A page in a file: its descriptors and its shape. Made by create() or from_fd()."},
	{Py_tp_dealloc, page_dealloc},
	{Py_tp_methods, page_methods},
	{Py_tp_getset, page_getset},
	{0, NULL},
};

static PyType_Spec page_spec = {
	.name = "vdso._core.Page",
	.basicsize = sizeof(struct vdso_page_file),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = page_slots,
};

int vdso_add_page(PyObject *module)
{
	return vdso_add_type(module, &page_spec);
}
