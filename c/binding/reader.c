/*
 * A page's reader: an attribute is a field of the newest version, read in the page and nowhere kept.
 *
 * What is not reserved (vdso.pages.schema.RESERVED) and does not begin with _ may be a field's name, so nothing here is
 * called anything else.
 */
#include "mapping.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)
/* Fields up to this are copied to the stack. */
#define SMALL 512u

struct reader {
	PyObject_HEAD
	struct vdso_mapping *mapping;
	struct vdso_record *record; /* the mapping's */
	PyObject *name_snapshot;    /* interned */
	PyObject *snapshot;         /* the mapping's function of that name */
	/* The record's and the mapping's, at hand. A closed reader finds no field here, and then learns why. */
	const struct vdso_place *places;
	uint32_t mask;
	struct vdso_window window;
};

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"fd", "offset", "record", NULL};
	PyObject *record_type = NULL, *mapping_type = NULL, *record;
	struct reader *self = NULL;
	PyTypeObject *base = type;
	long long offset;
	int fd, err;

	/* A class of Python's derives from it, and the module is the base's. */
	while (base->tp_base != &PyBaseObject_Type)
		base = base->tp_base;
	record_type = vdso_type_beside(base, "Record");
	mapping_type = record_type == NULL ? NULL : vdso_type_beside(base, "Mapping");
	if (record_type == NULL || mapping_type == NULL ||
	    !PyArg_ParseTupleAndKeywords(args, kwargs, "iLO!:RecordReader", names, &fd, &offset, record_type, &record))
		goto done;
	self = (struct reader *)type->tp_alloc(type, 0);
	if (self == NULL)
		goto done;
	self->mapping = (struct vdso_mapping *)((PyTypeObject *)mapping_type)->tp_alloc((PyTypeObject *)mapping_type, 0);
	if (self->mapping != NULL)
		self->mapping->fd = self->mapping->page.fd = -1; /* first: what is freed half made closes it */
	self->name_snapshot = PyUnicode_InternFromString("snapshot");
	if (self->mapping == NULL || self->name_snapshot == NULL)
		goto failed;
	self->snapshot = PyCFunction_New(&vdso_mapping_snapshot_def, (PyObject *)self->mapping);
	if (self->snapshot == NULL)
		goto failed;
	self->record = (struct vdso_record *)record;
	self->mapping->record = (struct vdso_record *)Py_NewRef(record);
	err = vdso_page_open_reader(fd, offset, &self->mapping->page);
	if (err != 0) {
		vdso_raise_not_a_page(err);
		goto failed;
	}
	if (self->mapping->page.window.record_size != self->record->record_size) {
		vdso_raise("PageUnreadable", "(s)", "the page's records and its field table disagree");
		goto failed;
	}
	self->mapping->fd = fd;
	self->places = self->record->places;
	self->mask = self->record->mask;
	self->window = self->mapping->page.window;
	goto done;
failed:
	Py_CLEAR(self);
done:
	Py_XDECREF(record_type);
	Py_XDECREF(mapping_type);
	return (PyObject *)self;
}

static void reader_dealloc(PyObject *object)
{
	struct reader *self = (struct reader *)object;
	PyTypeObject *type = Py_TYPE(object);

	Py_XDECREF((PyObject *)self->mapping);
	Py_XDECREF(self->name_snapshot);
	Py_XDECREF(self->snapshot);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *load_wide(struct vdso_mapping *self, const struct vdso_field *field)
{
	uint32_t first = field->offset / 8 * 8, bytes = (field->offset + field->size + 7) / 8 * 8 - first;
	int status;
	uint64_t small[SMALL / 8], *words = small, version = 0;
	PyObject *ret;

	if (bytes > SMALL) {
		words = PyMem_Malloc(bytes);
		if (words == NULL)
			return PyErr_NoMemory();
	}
	status = vdso_mapping_copy(self, first, bytes, words, &version);
	if (status == VDSO_PAGE_OK)
		ret = vdso_field_load(self->record, field, (char *)words + (field->offset - first), version);
	else
		ret = vdso_mapping_refuse(status);
	if (words != small)
		PyMem_Free(words);
	return ret;
}

static PyObject *load(struct vdso_mapping *self, const struct vdso_field *field)
{
	uint64_t word, version;
	int status;

	if (atomic_load_explicit(&self->closed, memory_order_relaxed))
		return vdso_mapping_refuse(VDSO_PAGE_NOT_THERE);
	if (!field->number)
		return load_wide(self, field);
	status = vdso_mapping_copy(self, field->offset & ~7u, 8, &word, &version);
	if (status != VDSO_PAGE_OK)
		return vdso_mapping_refuse(status);
	return vdso_number_load(field->kind, (char *)&word + (field->offset & 7u));
}

static PyObject *reader_getattro(PyObject *object, PyObject *name)
{
	struct reader *self = (struct reader *)object;
	const struct vdso_field *field;
	PyObject *ret;

	/* Not by way of a bound method, which would have to be made for each call. */
	if (name == self->name_snapshot)
		return Py_NewRef(self->snapshot);
	field = vdso_place_find(self->places, self->mask, name);
	if (field != NULL) {
		/* The first try of load(), which nearly always is the last. */
		uint64_t head = atomic_load_explicit(&self->window.header->head, memory_order_acquire), word;
		const _Atomic uint64_t *slot = vdso_window_slot(&self->window, head);

#ifdef Py_GIL_DISABLED
		if (atomic_load_explicit(&self->mapping->closed, memory_order_relaxed))
			return vdso_mapping_refuse(VDSO_PAGE_NOT_THERE);
#endif
		if (field->number) {
			word = atomic_load_explicit(slot + field->offset / 8u, memory_order_relaxed);
			atomic_thread_fence(memory_order_acquire);
			if (vdso_window_version(&self->window, slot) == head && head != 0) {
				if (field->kind == VDSO_F64) {
					double number;

					memcpy(&number, &word, sizeof(number));
					return PyFloat_FromDouble(number);
				}
				return vdso_number_load(field->kind, (char *)&word + (field->offset & 7u));
			}
		}
		return load(self->mapping, field);
	}
	ret = PyObject_GenericGetAttr(object, name);
	if (ret != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
		return ret;
	field = vdso_record_find(self->record, name);
	if (field == NULL)
		return NULL;
	PyErr_Clear();
	return load(self->mapping, field);
}

static int64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

PyDoc_STRVAR(wait_doc,
	     "_wait(seen, timeout_ns)\n--\n\n"
	     "Sleeps until the newest version is not `seen`. 1: it is so; 0: timeout_ns went by; -1: the page was replaced.\n\n"
	     "PageClosed, also when another thread closes the reader meanwhile.");

static PyObject *reader_wait(PyObject *object, PyObject *args)
{
	struct vdso_mapping *self = ((struct reader *)object)->mapping;
	unsigned long long seen;
	long long timeout;
	int64_t end;
	int err;

	if (!PyArg_ParseTuple(args, "KL:_wait", &seen, &timeout))
		return NULL;
	if (atomic_load_explicit(&self->closed, memory_order_relaxed))
		return vdso_mapping_refuse(VDSO_PAGE_NOT_THERE);
	if (timeout > INT64_MAX / 4)
		timeout = INT64_MAX / 4;
	end = timeout < 0 ? 0 : monotonic_ns() + timeout;
	Py_INCREF((PyObject *)self);
	/* Before `closed` is looked at: close() looks in the other order. */
	atomic_fetch_add(&self->waiting, 1);
	for (;;) {
		Py_BEGIN_ALLOW_THREADS
		err = vdso_page_wait(&self->page, seen, timeout, &self->closed);
		Py_END_ALLOW_THREADS
		if (err != -EINTR)
			break;
		if (PyErr_CheckSignals() != 0)
			break;
		if (timeout >= 0) {
			timeout = end - monotonic_ns();
			if (timeout < 0)
				timeout = 0;
		}
	}
	atomic_fetch_sub(&self->waiting, 1);
	Py_DECREF((PyObject *)self);
	if (PyErr_Occurred())
		return NULL;
	if (err == -ECANCELED)
		return vdso_mapping_refuse(VDSO_PAGE_NOT_THERE);
	if (err != 0 && err != -ETIMEDOUT && err != -ESTALE)
		return vdso_raise_errno(err);
	return PyLong_FromLong(err == 0 ? 1 : err == -ESTALE ? -1 : 0);
}

PyDoc_STRVAR(close_doc, "close()\n--\n\nEnds reading, also of threads that wait for a version. Closing again does nothing.");

static PyObject *reader_close(PyObject *object, PyObject *Py_UNUSED(none))
{
	static const struct vdso_place nothing[1];
	struct reader *self = (struct reader *)object;

	/* The mapping itself goes with the object: another thread may be reading in it. */
	atomic_store(&self->mapping->closed, 1);
	if (atomic_load(&self->mapping->waiting) != 0)
		vdso_page_wake(&self->mapping->page);
#ifndef Py_GIL_DISABLED
	self->places = nothing;
	self->mask = 0;
#else
	(void)nothing;
#endif
	Py_RETURN_NONE;
}

static const struct vdso_page_header *header_of(PyObject *object)
{
	return ((struct reader *)object)->mapping->page.header;
}

/* The page is still mapped, and looking at it would do no harm; but a closed reader says so whatever it is asked. */
static int is_closed(PyObject *object)
{
	if (!atomic_load_explicit(&((struct reader *)object)->mapping->closed, memory_order_relaxed))
		return 0;
	vdso_mapping_refuse(VDSO_PAGE_NOT_THERE);
	return 1;
}

static PyObject *reader_version(PyObject *object, void *Py_UNUSED(closure))
{
	if (is_closed(object))
		return NULL;
	return PyLong_FromUnsignedLongLong(atomic_load_explicit(&header_of(object)->head, memory_order_acquire));
}

static PyObject *reader_age(PyObject *object, void *Py_UNUSED(closure))
{
	int64_t at = (int64_t)atomic_load_explicit(&header_of(object)->heartbeat_ns, memory_order_relaxed);

	if (is_closed(object))
		return NULL;
	if (at == 0)
		Py_RETURN_NONE;
	return PyFloat_FromDouble((double)(monotonic_ns() - at) / (double)NS_PER_S);
}

static PyObject *reader_page_locked(PyObject *object, void *Py_UNUSED(closure))
{
	const struct vdso_mapping *self = ((struct reader *)object)->mapping;

	if (is_closed(object))
		return NULL;
	return PyBool_FromLong(atomic_load_explicit(&self->page.header->writer_pid, memory_order_relaxed) != 0 &&
			       vdso_page_held(self->fd));
}

static PyObject *reader_publisher_alive(PyObject *object, void *Py_UNUSED(closure))
{
	const struct vdso_mapping *self = ((struct reader *)object)->mapping;
	int alive;

	if (is_closed(object))
		return NULL;
	/* By the page's own lock, which knows no namespaces of pids; it may be lost while its holder lives, and then the
	 * signature is left. */
	alive = atomic_load_explicit(&self->page.header->writer_pid, memory_order_relaxed) != 0 &&
		(vdso_page_held(self->fd) || vdso_page_writer_alive(&self->page));
	return PyBool_FromLong(alive);
}

static PyObject *reader_state(PyObject *object, void *Py_UNUSED(closure))
{
	if (is_closed(object))
		return NULL;
	return PyLong_FromUnsignedLongLong(atomic_load_explicit(&header_of(object)->state, memory_order_acquire));
}

static PyObject *reader_writer_pid(PyObject *object, void *Py_UNUSED(closure))
{
	if (is_closed(object))
		return NULL;
	return PyLong_FromUnsignedLongLong(atomic_load_explicit(&header_of(object)->writer_pid, memory_order_relaxed));
}

static PyObject *reader_fd(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((struct reader *)object)->mapping->fd);
}

static PyObject *reader_slots_(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLong(((struct reader *)object)->window.slot_mask + 1);
}

static PyObject *reader_record(PyObject *object, void *Py_UNUSED(closure))
{
	return Py_NewRef((PyObject *)((struct reader *)object)->record);
}

static PyObject *reader_slot_versions(PyObject *object, void *Py_UNUSED(closure))
{
	const struct vdso_window *window = &((struct reader *)object)->window;
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

static PyObject *reader_address(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromVoidPtr((void *)(uintptr_t)header_of(object));
}

/* For dir() and help(): attributes of an instance go by reader_getattro(). */
static PyObject *reader_snapshot(PyObject *object, PyObject *Py_UNUSED(none))
{
	return vdso_mapping_snapshot(((struct reader *)object)->mapping);
}

static PyMethodDef reader_methods[] = {
	{"snapshot", reader_snapshot, METH_NOARGS, vdso_mapping_snapshot_doc},
	{"_wait", reader_wait, METH_VARARGS, wait_doc},
	{"close", reader_close, METH_NOARGS, close_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef reader_getset[] = {
	{"version", reader_version, NULL, "The newest version's number; 0: nothing has been published yet.", NULL},
	{"age", reader_age, NULL, "Seconds since the newest version was published; None: nothing has been.", NULL},
	{"publisher_alive", reader_publisher_alive, NULL, "Whether a publisher has the page.", NULL},
	{"_page_locked", reader_page_locked, NULL, "Whether another process has the page's own lock.", NULL},
	{"_state", reader_state, NULL, "STATE_* of the page.", NULL},
	{"_writer_pid", reader_writer_pid, NULL, "The publisher's pid; 0: it closed in order.", NULL},
	{"_fd", reader_fd, NULL, "The page's file, not to be closed.", NULL},
	{"_slots", reader_slots_, NULL, "How many slots.", NULL},
	{"_slot_versions", reader_slot_versions, NULL, "Each slot's version; one past the newest is being written.", NULL},
	{"_record", reader_record, NULL, "What a record consists of.", NULL},
	{"_address", reader_address, NULL, "Where the page is mapped.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(reader_doc,
	     "RecordReader(fd, offset, record)\n--\n\n"
	     "Reads the page at `offset` of a file, as `record` says. The descriptor is the reader's from then on.\n\n"
	     "PageNotThere: there is no page, or none of such records.");

static PyType_Slot reader_slots[] = {
	{Py_tp_doc, (void *)reader_doc},
	{Py_tp_new, reader_new},
	{Py_tp_dealloc, reader_dealloc},
	{Py_tp_getattro, reader_getattro},
	{Py_tp_methods, reader_methods},
	{Py_tp_getset, reader_getset},
	{0, NULL},
};

static PyType_Spec reader_spec = {
	.name = "vdso._core.RecordReader",
	.basicsize = sizeof(struct reader),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_BASETYPE,
	.slots = reader_slots,
};

int vdso_add_reader(PyObject *module)
{
	return vdso_add_type(module, &reader_spec);
}
