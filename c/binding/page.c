/*
 * Pages for Python: Page is the file, PageWriter its one writer, PageReader one mapping to read.
 *
 * The writer's lock is lost when its process closes any descriptor of the file (see c/core/page.h). So a Page opens and
 * keeps all the descriptors that are handed out of it, and a writer keeps its Page.
 */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "page.h"

#define NS_PER_S INT64_C(1000000000)

/* Records are copied by words, straight into a bytes object. */
_Static_assert(offsetof(PyBytesObject, ob_sval) % 8 == 0, "the bytes of a bytes object are 8-aligned");

/* Below this a copy is shorter than handing the GIL to another thread and back. */
#define COPY_WITHOUT_GIL 65536u

struct page {
	PyObject_HEAD
	int fd;
	int reader_fd; /* -1: not asked for yet */
	int lock_fd;   /* what a writer was refused on: closing it might drop the lock of another writer of this process */
	struct vdso_page_header header;
};

struct writer {
	PyObject_HEAD
	struct page *file; /* NULL: closed */
	struct vdso_page page;
};

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

/* ---- Page ---- */

static PyObject *page_from_fd(PyTypeObject *type, int fd)
{
	struct page *self = (struct page *)type->tp_alloc(type, 0);
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
	struct page *self = (struct page *)object;

	if (self->fd >= 0)
		close(self->fd);
	if (self->reader_fd >= 0)
		close(self->reader_fd);
	if (self->lock_fd >= 0)
		close(self->lock_fd);
	free_object(object);
}

PyDoc_STRVAR(page_holder_doc,
	     "holder()\n--\n\n"
	     "The pid of the process that has the writer's lock, 0 when no other process has.");

static PyObject *page_holder(PyObject *object, PyObject *Py_UNUSED(none))
{
	pid_t pid = vdso_page_holder(((struct page *)object)->fd);

	return pid < 0 ? vdso_raise_errno(pid) : PyLong_FromLong(pid);
}

static PyObject *page_get_fd(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((struct page *)object)->fd);
}

static PyObject *page_get_reader_fd(PyObject *object, void *Py_UNUSED(closure))
{
	struct page *self = (struct page *)object;
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
	return PyLong_FromUnsignedLong(((struct page *)object)->header.slots);
}

static PyObject *page_get_record_size(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLong(((struct page *)object)->header.record_size);
}

static PyObject *page_get_size(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((struct page *)object)->header.page_size);
}

static PyObject *page_get_schema_hash(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((struct page *)object)->header.schema_hash);
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
	.basicsize = sizeof(struct page),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = page_slots,
};

/* ---- PageWriter ---- */

static PyObject *raise_busy(struct page *file)
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
	struct page *file;
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
	struct page *file = self->file;

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

/* ---- PageReader ---- */

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
		err = vdso_page_wait(&self->page, seen, timeout);
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

int vdso_add_page(PyObject *module)
{
	if (vdso_add_type(module, &page_spec) != 0 || vdso_add_type(module, &writer_spec) != 0)
		return -1;
	return vdso_add_type(module, &reader_spec);
}
