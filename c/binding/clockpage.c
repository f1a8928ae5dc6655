/*
 * ClockPage: a session's clock page, made and written from Python. The records are transform.h's.
 *
 * Made empty and written by whoever has the lock: here, or a keeper that was given the descriptor after release(). As with
 * Page, all descriptors stay open as long as the object lives, since closing one would take a writer's lock away.
 */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "page.h"
#include "transform.h"

struct clockpage {
	PyObject_HEAD
	int fd;
	int reader_fd;
	int lock_fd;           /* what the writer is opened on, -1 while it is open */
	struct vdso_page page; /* the writer; header NULL while it is released */
};

static PyObject *clockpage_create(PyObject *object, PyObject *arg)
{
	PyTypeObject *type = (PyTypeObject *)object;
	struct vdso_page_shape shape = vdso_clock_shape();
	const char *name = PyUnicode_AsUTF8(arg);
	struct clockpage *self;
	int err;

	if (name == NULL)
		return NULL;
	self = (struct clockpage *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->fd = self->reader_fd = self->lock_fd = self->page.fd = -1;
	err = vdso_page_create_memfd(name, &shape, &self->fd);
	if (err == 0) {
		self->reader_fd = vdso_page_reopen_readonly(self->fd);
		err = self->reader_fd < 0 ? self->reader_fd : 0;
	}
	if (err != 0) {
		Py_DECREF(self);
		return vdso_raise_errno(err);
	}
	return (PyObject *)self;
}

static void clockpage_dealloc(PyObject *object)
{
	struct clockpage *self = (struct clockpage *)object;
	PyTypeObject *type = Py_TYPE(object);

	vdso_page_close(&self->page);
	if (self->fd >= 0)
		close(self->fd);
	if (self->reader_fd >= 0)
		close(self->reader_fd);
	if (self->lock_fd >= 0)
		close(self->lock_fd);
	type->tp_free(object);
	Py_DECREF(type);
}

static int publish(struct clockpage *self, const struct vdso_clock_record *record)
{
	if (self->page.here == NULL) {
		int err;

		if (self->lock_fd < 0)
			self->lock_fd = fcntl(self->fd, F_DUPFD_CLOEXEC, 0);
		if (self->lock_fd < 0)
			return -errno;
		err = vdso_page_open_writer(self->lock_fd, 0, &self->page);
		if (err != 0)
			return err;
		self->lock_fd = -1;
	}
	return vdso_page_publish(&self->page, record, true);
}

static PyObject *publish_record(struct clockpage *self, const struct vdso_clock_record *record)
{
	int err;

	Py_BEGIN_CRITICAL_SECTION((PyObject *)self);
	err = publish(self, record);
	Py_END_CRITICAL_SECTION();
	if (err == -EBUSY)
		return vdso_raise("PageBusy", "(i)", (int)vdso_page_holder(self->fd));
	if (err == -EPERM)
		return vdso_raise("ForkedWriter", "()");
	if (err != 0)
		return vdso_raise_errno(err);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(set_identity_doc,
	     "set_identity()\n--\n\nEvery clock the kernel's own.\n\nPageBusy: another process writes the page.");

static PyObject *clockpage_set_identity(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct vdso_clock_record record;

	vdso_record_identity(&record);
	return publish_record((struct clockpage *)object, &record);
}

PyDoc_STRVAR(set_offset_doc,
	     "set_offset(sec, nsec, /)\n--\n\n"
	     "The wall clocks (REALTIME, its other views and TAI) moved by sec and nsec, each of any sign; the others the\n"
	     "kernel's own. A step: it holds from the next read on.\n\nPageBusy: another process writes the page.");

static PyObject *clockpage_set_offset(PyObject *object, PyObject *args)
{
	struct vdso_clock_record record;
	long long sec, nsec;

	if (!PyArg_ParseTuple(args, "LL:set_offset", &sec, &nsec))
		return NULL;
	vdso_record_identity(&record);
	vdso_record_offset(&record, sec, nsec);
	return publish_record((struct clockpage *)object, &record);
}

PyDoc_STRVAR(release_doc,
	     "release()\n--\n\n"
	     "Gives the writer's lock up: for the keeper, or before an exec. The next set_...() takes it again.");

static PyObject *clockpage_release(PyObject *object, PyObject *Py_UNUSED(none))
{
	Py_BEGIN_CRITICAL_SECTION(object);
	vdso_page_close(&((struct clockpage *)object)->page);
	Py_END_CRITICAL_SECTION();
	Py_RETURN_NONE;
}

static PyObject *clockpage_get_fd(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((struct clockpage *)object)->fd);
}

static PyObject *clockpage_get_reader_fd(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((struct clockpage *)object)->reader_fd);
}

PyDoc_STRVAR(create_doc, "create(name, /)\n--\n\nAn empty clock page in a new memfd of that name.");

static PyMethodDef clockpage_methods[] = {
	{"create", clockpage_create, METH_O | METH_CLASS, create_doc},
	{"set_identity", clockpage_set_identity, METH_NOARGS, set_identity_doc},
	{"set_offset", clockpage_set_offset, METH_VARARGS, set_offset_doc},
	{"release", clockpage_release, METH_NOARGS, release_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef clockpage_getset[] = {
	{"fd", clockpage_get_fd, NULL, "The page's descriptor, close-on-exec. Not to be closed.", NULL},
	{"reader_fd", clockpage_get_reader_fd, NULL, "A read-only descriptor of the page. Not to be closed.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot clockpage_slots[] = {
	{Py_tp_doc, (void *)"A session's clock page: what swapped processes compute their time from. Made by create()."},
	{Py_tp_dealloc, clockpage_dealloc},
	{Py_tp_methods, clockpage_methods},
	{Py_tp_getset, clockpage_getset},
	{0, NULL},
};

static PyType_Spec clockpage_spec = {
	.name = "vdso._core.ClockPage",
	.basicsize = sizeof(struct clockpage),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = clockpage_slots,
};

int vdso_add_clockpage(PyObject *module)
{
	return vdso_add_type(module, &clockpage_spec);
}
