/*
 * A page's publisher: takes values by their fields' names and puts whole records into the page.
 *
 * It keeps the newest record in private memory. Converting a value can run anybody's code, in which other threads get their
 * turn, so values are first brought together beside it; then, in one go, they are copied in and the record is published.
 */
#include "record.h"

#include <errno.h>
#include <string.h>
#include <structmember.h>
#include <time.h>
#include <unistd.h>

#include "page.h"

/* Records up to this are brought together on the stack. */
#define SMALL 1024u

struct publisher {
	PyObject_HEAD
	struct vdso_page page; /* header NULL: closed */
	struct vdso_record *record;
	char *bytes; /* the newest record, or what the first one begins with */
	int notify;
};

/* In the object's critical section: close() takes `here` away. */
static int refused(const struct publisher *self)
{
	if (self->page.header == NULL)
		vdso_raise("PageClosed", "()");
	else if (*self->page.here != 1)
		vdso_raise("NotPublisher", "()");
	else
		return 0;
	return -1;
}

/* The same for who is not in it, and will ask again when he is. */
static int refused_early(PyObject *object)
{
	int err;

	Py_BEGIN_CRITICAL_SECTION(object);
	err = refused((struct publisher *)object);
	Py_END_CRITICAL_SECTION();
	return err;
}

/* Room for a record, all zero: what is between fields is published too. */
static char *room_for(const struct vdso_record *record, char *small)
{
	char *ret;

	if (record->record_size <= SMALL)
		return memset(small, 0, record->record_size);
	ret = PyMem_Calloc(1, record->record_size);
	if (ret == NULL)
		PyErr_NoMemory();
	return ret;
}

static void leave(char *room, const char *small)
{
	if (room != small)
		PyMem_Free(room);
}

/* Publishes the bytes. In the object's critical section, and no Python code until it is done. */
static uint64_t put(struct publisher *self)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	vdso_page_beat(&self->page, (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec);
	vdso_page_publish(&self->page, self->bytes, self->notify);
	return atomic_load_explicit(&self->page.header->head, memory_order_relaxed);
}

static PyObject *publisher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"fd", "offset", "record", "notify", NULL};
	PyObject *record_type = NULL, *record;
	struct publisher *self = NULL;
	PyTypeObject *base = type;
	long long offset;
	int fd, notify, err;
	uint64_t head;

	while (base->tp_base != &PyBaseObject_Type)
		base = base->tp_base;
	record_type = vdso_type_beside(base, "Record");
	if (record_type == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "iLO!p:RecordPublisher", names, &fd, &offset,
								record_type, &record, &notify))
		goto done;
	self = (struct publisher *)type->tp_alloc(type, 0);
	if (self == NULL)
		goto done;
	self->page.fd = -1;
	self->record = (struct vdso_record *)Py_NewRef(record);
	self->notify = notify;
	self->bytes = PyMem_Calloc(1, self->record->record_size);
	if (self->bytes == NULL) {
		PyErr_NoMemory();
		goto failed;
	}
	err = vdso_page_succeed(fd, offset, &self->page);
	if (err != 0) {
		vdso_raise_not_a_page(err);
		goto failed;
	}
	if (self->page.window.record_size != self->record->record_size) {
		self->page.fd = -1; /* still the caller's */
		vdso_raise("PageUnreadable", "(s)", "the page's records and its field table disagree");
		goto failed;
	}
	vdso_page_set_state(&self->page, notify ? 0 : VDSO_STATE_SILENT, notify ? VDSO_STATE_SILENT : 0);
	head = atomic_load_explicit(&self->page.header->head, memory_order_relaxed);
	if (head != 0)
		vdso_copy_out(self->bytes, vdso_slot_words(self->page.header, head), self->record->record_size);
	goto done;
failed:
	Py_CLEAR(self);
done:
	Py_XDECREF(record_type);
	return (PyObject *)self;
}

static void publisher_dealloc(PyObject *object)
{
	struct publisher *self = (struct publisher *)object;
	PyTypeObject *type = Py_TYPE(object);

	vdso_page_close(&self->page);
	PyMem_Free(self->bytes);
	Py_XDECREF((PyObject *)self->record);
	type->tp_free(object);
	Py_DECREF(type);
}

PyDoc_STRVAR(update_doc,
	     "update(**fields)\n--\n\n"
	     "Publishes one version in which these fields are changed and the others as they were; returns its number.\n\n"
	     "BadValue: a field cannot hold the value, and nothing is published. NotPublisher: in a forked child.");

static PyObject *publisher_update(PyObject *object, PyObject *const *values, Py_ssize_t count, PyObject *names)
{
	struct publisher *self = (struct publisher *)object;
	Py_ssize_t fields = names == NULL ? 0 : PyTuple_GET_SIZE(names);
	char small[SMALL], *room;
	uint64_t version = 0;
	int err = 0;

	if (count != 0) {
		PyErr_SetString(PyExc_TypeError, "update() takes fields by name only");
		return NULL;
	}
	if (refused_early(object) != 0 || (room = room_for(self->record, small)) == NULL)
		return NULL;
	for (Py_ssize_t i = 0; err == 0 && i < fields; i++) {
		const struct vdso_field *field = vdso_record_find(self->record, PyTuple_GET_ITEM(names, i));

		if (field == NULL)
			err = vdso_raise_no_field(self->record, PyTuple_GET_ITEM(names, i), NULL);
		else
			err = vdso_field_store(field, room, values[i], NULL);
	}
	if (err == 0) {
		Py_BEGIN_CRITICAL_SECTION(object);
		if (refused(self) == 0) {
			for (Py_ssize_t i = 0; i < fields; i++) {
				const struct vdso_field *field =
					vdso_record_find(self->record, PyTuple_GET_ITEM(names, i));

				memcpy(self->bytes + field->offset, room + field->offset, field->size);
			}
			version = put(self);
		}
		Py_END_CRITICAL_SECTION();
	}
	leave(room, small);
	return version == 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

PyDoc_STRVAR(set_doc,
	     "set(record, /)\n--\n\n"
	     "Publishes one version with all fields: from an instance of the schema, a mapping, values in the fields' order,\n"
	     "a snapshot, a numpy record, or anything with these attributes. Returns its number. BadValue, NotPublisher.");

static PyObject *publisher_set(PyObject *object, PyObject *value)
{
	struct publisher *self = (struct publisher *)object;
	char small[SMALL], *room;
	uint64_t version = 0;

	if (refused_early(object) != 0 || (room = room_for(self->record, small)) == NULL)
		return NULL;
	if (vdso_record_store(self->record, room, value, NULL) == 0) {
		Py_BEGIN_CRITICAL_SECTION(object);
		if (refused(self) == 0) {
			memcpy(self->bytes, room, self->record->size);
			version = put(self);
		}
		Py_END_CRITICAL_SECTION();
	}
	leave(room, small);
	return version == 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

PyDoc_STRVAR(base_doc, "_begin_with(name, value)\n--\n\nWhat a field is in the first version if nobody says otherwise.");

static PyObject *publisher_begin_with(PyObject *object, PyObject *args)
{
	struct publisher *self = (struct publisher *)object;
	const struct vdso_field *field;
	PyObject *name, *value;

	if (!PyArg_ParseTuple(args, "UO:_begin_with", &name, &value) || refused_early(object) != 0)
		return NULL;
	field = vdso_record_find(self->record, name);
	if (field == NULL)
		vdso_raise_no_field(self->record, name, NULL);
	else if (atomic_load_explicit(&self->page.header->head, memory_order_relaxed) == 0)
		vdso_field_store(field, self->bytes, value, NULL);
	if (PyErr_Occurred())
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(current_doc, "_current()\n--\n\nThe newest record as bytes, or what the first one begins with.");

static PyObject *publisher_current(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct publisher *self = (struct publisher *)object;
	PyObject *ret = NULL;

	Py_BEGIN_CRITICAL_SECTION(object);
	if (refused(self) == 0)
		ret = PyBytes_FromStringAndSize(self->bytes, self->record->record_size);
	Py_END_CRITICAL_SECTION();
	return ret;
}

PyDoc_STRVAR(merge_doc,
	     "_merge(before, after)\n--\n\n"
	     "Publishes the fields in which two records' bytes differ, beside what the others are by now.");

static PyObject *publisher_merge(PyObject *object, PyObject *args)
{
	struct publisher *self = (struct publisher *)object;
	Py_buffer before, after;
	uint64_t version = 0;

	if (!PyArg_ParseTuple(args, "y*y*:_merge", &before, &after))
		return NULL;
	Py_BEGIN_CRITICAL_SECTION(object);
	if (before.len != (Py_ssize_t)self->record->record_size || after.len != before.len) {
		PyErr_SetString(PyExc_ValueError, "these are no such records");
	} else if (refused(self) == 0) {
		for (uint32_t i = 0; i < self->record->count; i++) {
			const struct vdso_field *field = &self->record->fields[i];
			const char *changed = (char *)after.buf + field->offset;

			if (memcmp((char *)before.buf + field->offset, changed, field->size) != 0)
				memcpy(self->bytes + field->offset, changed, field->size);
		}
		version = put(self);
	}
	Py_END_CRITICAL_SECTION();
	PyBuffer_Release(&before);
	PyBuffer_Release(&after);
	return version == 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

static PyObject *publisher_close(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct publisher *self = (struct publisher *)object;

	Py_BEGIN_CRITICAL_SECTION(object);
	vdso_page_close(&self->page);
	Py_END_CRITICAL_SECTION();
	Py_RETURN_NONE;
}

PyDoc_STRVAR(leave_doc, "_leave()\n--\n\nIn a child that has just been forked: closes the descriptor that came along.");

static PyObject *publisher_leave(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct publisher *self = (struct publisher *)object;

	vdso_page_leave(&self->page);
	Py_RETURN_NONE;
}

static PyObject *publisher_version(PyObject *object, void *Py_UNUSED(closure))
{
	struct publisher *self = (struct publisher *)object;
	uint64_t version = 0;
	int err;

	Py_BEGIN_CRITICAL_SECTION(object);
	err = refused(self);
	if (err == 0)
		version = atomic_load_explicit(&self->page.header->head, memory_order_relaxed);
	Py_END_CRITICAL_SECTION();
	return err != 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

static PyObject *publisher_here(PyObject *object, void *Py_UNUSED(closure))
{
	struct publisher *self = (struct publisher *)object;
	int here;

	Py_BEGIN_CRITICAL_SECTION(object);
	here = self->page.header != NULL && *self->page.here == 1;
	Py_END_CRITICAL_SECTION();
	return PyBool_FromLong(here);
}

static PyMethodDef publisher_methods[] = {
	{"update", (PyCFunction)(void (*)(void))publisher_update, METH_FASTCALL | METH_KEYWORDS, update_doc},
	{"set", publisher_set, METH_O, set_doc},
	{"_begin_with", publisher_begin_with, METH_VARARGS, base_doc},
	{"_current", publisher_current, METH_NOARGS, current_doc},
	{"_merge", publisher_merge, METH_VARARGS, merge_doc},
	{"_close", publisher_close, METH_NOARGS, NULL},
	{"_leave", publisher_leave, METH_NOARGS, leave_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef publisher_getset[] = {
	{"version", publisher_version, NULL, "The newest version's number; 0: nothing has been published yet.", NULL},
	{"_here", publisher_here, NULL, "Whether this process may publish: not closed, and no forked child.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef publisher_members[] = {
	{"_record", T_OBJECT, offsetof(struct publisher, record), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(publisher_doc,
	     "RecordPublisher(fd, offset, record, notify)\n--\n\n"
	     "Publishes in the page at `offset` of a file; the caller has made sure that nobody else does. The descriptor is\n"
	     "the publisher's from then on.");

static PyType_Slot publisher_slots[] = {
	{Py_tp_doc, (void *)publisher_doc},
	{Py_tp_new, publisher_new},
	{Py_tp_dealloc, publisher_dealloc},
	{Py_tp_methods, publisher_methods},
	{Py_tp_getset, publisher_getset},
	{Py_tp_members, publisher_members},
	{0, NULL},
};

static PyType_Spec publisher_spec = {
	.name = "vdso._core.RecordPublisher",
	.basicsize = sizeof(struct publisher),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_BASETYPE,
	.slots = publisher_slots,
};

int vdso_add_publisher(PyObject *module)
{
	return vdso_add_type(module, &publisher_spec);
}
