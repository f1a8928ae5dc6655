/* PageWriter for Python: a page's one writer, of whole records. */
#include "pagefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)

struct writer {
	PyObject_HEAD
	struct vdso_page_file *file; /* NULL: closed */
	struct vdso_page page;
};

static void free_object(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *raise_busy(struct vdso_page_file *file)
{
	struct vdso_page_header header;
	pid_t pid = vdso_page_holder(file->fd);

	/* Its own process's lock does not show, and another's may be gone by now: the header has the signature. */
	if (pid <= 0 && vdso_page_check(file->fd, 0, &header) == 0)
		pid = (pid_t)atomic_load_explicit(&header.writer_pid, memory_order_relaxed);
	return vdso_raise("PageBusy", "(i)", (int)pid);
}

static PyObject *writer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"page", NULL};
	PyObject *module = PyType_GetModule(type), *page_type = NULL;
	struct writer *self = NULL;
	struct vdso_page_file *file;
	int err;

	if (module == NULL || (page_type = PyObject_GetAttrString(module, "Page")) == NULL)
		return NULL;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:PageWriter", names, page_type, &file))
		goto done;
	self = (struct writer *)type->tp_alloc(type, 0);
	if (self == NULL)
		goto done;
	self->page.fd = -1;

	Py_BEGIN_CRITICAL_SECTION((PyObject *)file);
	if (file->lock_fd < 0)
		file->lock_fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	err = file->lock_fd < 0 ? -errno : vdso_page_open_writer(file->lock_fd, 0, &self->page);
	if (err == 0)
		file->lock_fd = -1; /* the writer's now */
	Py_END_CRITICAL_SECTION();

	if (err == 0) {
		Py_INCREF(file);
		self->file = file;
	} else {
		Py_CLEAR(self);
		if (err == -EBUSY)
			raise_busy(file);
		else
			vdso_raise_errno(err);
	}
done:
	Py_DECREF(page_type);
	return (PyObject *)self;
}

static void writer_shut(struct writer *self)
{
	struct vdso_page_file *file = self->file;

	if (file == NULL)
		return;
	self->file = NULL;
	vdso_page_close(&self->page);
	Py_DECREF(file);
}

static void writer_dealloc(PyObject *object)
{
	writer_shut((struct writer *)object);
	free_object(object);
}

static PyObject *writer_refused(struct writer *self, int err)
{
	if (self->file == NULL)
		PyErr_SetString(PyExc_ValueError, "the writer is closed");
	else if (err == -EPERM)
		vdso_raise("ForkedWriter", "()");
	else
		vdso_raise_errno(err);
	return NULL;
}

/* A record as the words that the core copies: in place when it is aligned, else in *copy, which the caller frees. */
static const void *record_words(struct writer *self, const Py_buffer *view, void **copy)
{
	*copy = NULL;
	if (view->len != (Py_ssize_t)self->page.header->record_size) {
		PyErr_Format(PyExc_ValueError, "a record of this page has %u bytes, not %zd",
			     self->page.header->record_size, view->len);
		return NULL;
	}
	if ((uintptr_t)view->buf % 8 == 0)
		return view->buf;
	*copy = PyMem_Malloc((size_t)view->len);
	if (*copy == NULL) {
		PyErr_NoMemory();
		return NULL;
	}
	memcpy(*copy, view->buf, (size_t)view->len);
	return *copy;
}

/* Whether this process may write: the core's own test, since in a forked child the header is not mapped. */
static int may_write(const struct writer *self)
{
	if (self->file == NULL)
		return -EBADF;
	return self->page.here != NULL && *self->page.here == 1 ? 0 : -EPERM;
}

/* Returns the version that the record has or will have, 0 with an exception set. */
static uint64_t writer_put(struct writer *self, PyObject *object, int finish, int wake)
{
	uint64_t version = 0;
	const void *words;
	Py_buffer view;
	void *copy;
	int err;

	if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0)
		return 0;
	Py_BEGIN_CRITICAL_SECTION((PyObject *)self);
	err = may_write(self);
	if (err != 0) {
		writer_refused(self, err);
	} else if ((words = record_words(self, &view, &copy)) != NULL) {
		err = finish ? vdso_page_publish(&self->page, words, wake) : vdso_page_stage(&self->page, words);
		if (err != 0)
			writer_refused(self, err);
		else
			version = atomic_load_explicit(&self->page.header->head, memory_order_relaxed) + !finish;
		PyMem_Free(copy);
	}
	Py_END_CRITICAL_SECTION();
	PyBuffer_Release(&view);
	return version;
}

PyDoc_STRVAR(writer_write_doc,
	     "write(record, /, *, wake=False)\n--\n\n"
	     "Publishes a record of record_size bytes and returns its version. wake: also those who wait for it, which costs\n"
	     "a system call.\n\n"
	     "ForkedWriter: this is a forked child of the writer.");

static PyObject *writer_write(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"", "wake", NULL};
	PyObject *record;
	uint64_t version;
	int wake = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$p:write", names, &record, &wake))
		return NULL;
	version = writer_put((struct writer *)object, record, 1, wake);
	return version == 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

PyDoc_STRVAR(writer_stage_doc,
	     "stage(record, /)\n--\n\n"
	     "The first half of write(): the record is in its slot, and no reader takes it until finish(). Returns the\n"
	     "version that it will have. Staging again replaces it.");

static PyObject *writer_stage(PyObject *object, PyObject *record)
{
	uint64_t version = writer_put((struct writer *)object, record, 0, 0);

	return version == 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

PyDoc_STRVAR(writer_finish_doc, "finish(*, wake=False)\n--\n\nPublishes what was staged and returns its version.");

static PyObject *writer_finish(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"wake", NULL};
	struct writer *self = (struct writer *)object;
	uint64_t version = 0;
	int err, wake = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:finish", names, &wake))
		return NULL;
	Py_BEGIN_CRITICAL_SECTION(object);
	err = may_write(self);
	if (err == 0) {
		uint64_t next = atomic_load_explicit(&self->page.header->head, memory_order_relaxed) + 1;

		/* Without a staged record readers would wait for a slot that nobody fills. */
		if (atomic_load_explicit(vdso_slot_version(self->page.header, next), memory_order_relaxed) != next)
			PyErr_SetString(PyExc_ValueError, "nothing is staged");
		else if ((err = vdso_page_finish(&self->page, wake)) == 0)
			version = next;
	}
	if (err != 0)
		writer_refused(self, err);
	Py_END_CRITICAL_SECTION();
	return version == 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

PyDoc_STRVAR(writer_beat_doc,
	     "beat(now_ns=None, /)\n--\n\n"
	     "Stores the heartbeat, by which readers know a stale record: CLOCK_MONOTONIC in ns, now if not given.");

static PyObject *writer_beat(PyObject *object, PyObject *args)
{
	struct writer *self = (struct writer *)object;
	PyObject *given = Py_None;
	unsigned long long now;
	int err;

	if (!PyArg_ParseTuple(args, "|O:beat", &given))
		return NULL;
	if (given == Py_None) {
		struct timespec ts;

		clock_gettime(CLOCK_MONOTONIC, &ts);
		now = (unsigned long long)(ts.tv_sec * NS_PER_S + ts.tv_nsec);
	} else {
		now = PyLong_AsUnsignedLongLong(given);
		if (now == (unsigned long long)-1 && PyErr_Occurred())
			return NULL;
	}
	Py_BEGIN_CRITICAL_SECTION(object);
	err = may_write(self);
	if (err == 0)
		err = vdso_page_beat(&self->page, now);
	if (err != 0)
		writer_refused(self, err);
	Py_END_CRITICAL_SECTION();
	if (err != 0)
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(writer_close_doc, "close()\n--\n\nSigns off and frees the lock. Closing again does nothing.");

static PyObject *writer_close(PyObject *object, PyObject *Py_UNUSED(none))
{
	Py_BEGIN_CRITICAL_SECTION(object);
	writer_shut((struct writer *)object);
	Py_END_CRITICAL_SECTION();
	Py_RETURN_NONE;
}

static PyObject *writer_enter(PyObject *object, PyObject *Py_UNUSED(none))
{
	return Py_NewRef(object);
}

static PyObject *writer_exit(PyObject *object, PyObject *Py_UNUSED(args))
{
	return writer_close(object, NULL);
}

static PyMethodDef writer_methods[] = {
	{"write", (PyCFunction)(void (*)(void))writer_write, METH_VARARGS | METH_KEYWORDS, writer_write_doc},
	{"stage", writer_stage, METH_O, writer_stage_doc},
	{"finish", (PyCFunction)(void (*)(void))writer_finish, METH_VARARGS | METH_KEYWORDS, writer_finish_doc},
	{"beat", writer_beat, METH_VARARGS, writer_beat_doc},
	{"close", writer_close, METH_NOARGS, writer_close_doc},
	{"__enter__", writer_enter, METH_NOARGS, NULL},
	{"__exit__", writer_exit, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(writer_doc,
	     "PageWriter(page)\n--\n\n"
	     "The page's one writer. Goes on from what a predecessor that died has left.\n\n"
	     "PageBusy: there is a writer, and its `pid` says which.");

static PyType_Slot writer_slots[] = {
	{Py_tp_doc, (void *)writer_doc},
	{Py_tp_new, writer_new},
	{Py_tp_dealloc, writer_dealloc},
	{Py_tp_methods, writer_methods},
	{0, NULL},
};

static PyType_Spec writer_spec = {
	.name = "vdso._core.PageWriter",
	.basicsize = sizeof(struct writer),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = writer_slots,
};

int vdso_add_pagewriter(PyObject *module)
{
	return vdso_add_type(module, &writer_spec);
}
