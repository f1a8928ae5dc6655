/*
 * A record that can be changed field by field before it is published: private memory behind attributes.
 *
 * A nested record is a draft over its part of the same memory, and so is each of an array of them; an array of numbers is a
 * memoryview of its part, through which items can be assigned.
 */
#include "record.h"

#include <string.h>

struct draft {
	PyObject_HEAD
	struct vdso_record *record;
	struct draft *root; /* whose memory it is; NULL: its own */
	char *bytes;
};

static void draft_dealloc(PyObject *object)
{
	struct draft *self = (struct draft *)object;
	PyTypeObject *type = Py_TYPE(object);

	if (self->root == NULL)
		PyMem_Free(self->bytes);
	Py_XDECREF((PyObject *)self->root);
	Py_XDECREF((PyObject *)self->record);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *draft_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"record", "data", NULL};
	PyObject *record_type = vdso_type_beside(type, "Record"), *record;
	struct draft *self = NULL;
	Py_buffer bytes = {0};

	if (record_type == NULL ||
	    !PyArg_ParseTupleAndKeywords(args, kwargs, "O!y*:Draft", names, record_type, &record, &bytes))
		goto done;
	if (bytes.len != (Py_ssize_t)((struct vdso_record *)record)->record_size) {
		PyErr_SetString(PyExc_ValueError, "the bytes are no such record");
		goto done;
	}
	self = (struct draft *)type->tp_alloc(type, 0);
	if (self == NULL)
		goto done;
	self->record = (struct vdso_record *)Py_NewRef(record);
	self->bytes = PyMem_Malloc((size_t)bytes.len);
	if (self->bytes == NULL) {
		Py_CLEAR(self);
		PyErr_NoMemory();
		goto done;
	}
	memcpy(self->bytes, bytes.buf, (size_t)bytes.len);
done:
	if (bytes.obj != NULL)
		PyBuffer_Release(&bytes);
	Py_XDECREF(record_type);
	return (PyObject *)self;
}

static PyObject *part(struct draft *self, struct vdso_record *record, char *at)
{
	PyTypeObject *type = Py_TYPE(self);
	struct draft *ret = (struct draft *)type->tp_alloc(type, 0);

	if (ret != NULL) {
		ret->record = (struct vdso_record *)Py_NewRef((PyObject *)record);
		ret->root = (struct draft *)Py_NewRef((PyObject *)(self->root != NULL ? self->root : self));
		ret->bytes = at;
	}
	return (PyObject *)ret;
}

static PyObject *parts(struct draft *self, const struct vdso_field *field, int dimension, char **at)
{
	PyObject *ret;

	if (dimension == field->dimensions || dimension == VDSO_DIMENSIONS_MAX) {
		ret = part(self, field->record, *at);
		*at += field->item_size;
		return ret;
	}
	ret = PyTuple_New(field->shape[dimension]);
	for (uint32_t i = 0; ret != NULL && i < field->shape[dimension]; i++) {
		PyObject *item = parts(self, field, dimension + 1, at);

		if (item == NULL)
			Py_CLEAR(ret);
		else
			PyTuple_SET_ITEM(ret, i, item);
	}
	return ret;
}

/* The view's memory is this object's, so it lives as long as the view. */
static PyObject *numbers(struct draft *self, const struct vdso_field *field)
{
	static const char *formats[] = {"b", "h", "i", "q", "B", "H", "I", "Q", "f", "d", "?"};
	PyObject *whole = PyMemoryView_FromObject((PyObject *)self), *ret = NULL, *slice, *shape = NULL;

	slice = whole == NULL ? NULL : PySequence_GetSlice(whole, field->offset, (Py_ssize_t)field->offset + field->size);
	if (slice != NULL)
		shape = PyList_New(field->dimensions);
	for (int i = 0; shape != NULL && i < field->dimensions; i++) {
		PyObject *length = PyLong_FromUnsignedLong(field->shape[i]);

		if (length == NULL)
			Py_CLEAR(shape);
		else
			PyList_SET_ITEM(shape, i, length);
	}
	if (shape != NULL)
		ret = PyObject_CallMethod(slice, "cast", "sO", formats[field->kind], shape);
	Py_XDECREF(whole);
	Py_XDECREF(slice);
	Py_XDECREF(shape);
	return ret;
}

static PyObject *draft_getattro(PyObject *object, PyObject *name)
{
	struct draft *self = (struct draft *)object;
	const struct vdso_field *field = vdso_record_find(self->record, name);
	char *at;

	if (field == NULL)
		return PyObject_GenericGetAttr(object, name);
	at = self->bytes + field->offset;
	if (field->kind == VDSO_RECORD)
		return parts(self, field, 0, &at);
	if (field->dimensions != 0 && field->kind < VDSO_STR)
		return numbers(self, field);
	return vdso_field_load(self->record, field, at, 0);
}

static int draft_setattro(PyObject *object, PyObject *name, PyObject *value)
{
	struct draft *self = (struct draft *)object;
	const struct vdso_field *field = vdso_record_find(self->record, name);
	char *before;
	int err;

	if (field == NULL)
		return vdso_raise_no_field(self->record, name, NULL);
	if (value == NULL) {
		PyErr_SetString(PyExc_AttributeError, "a field cannot be deleted");
		return -1;
	}
	/* What is refused changes nothing, also in the middle of an array. */
	before = PyMem_Malloc(field->size);
	if (before == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	memcpy(before, self->bytes + field->offset, field->size);
	err = vdso_field_store(field, self->bytes, value, NULL);
	if (err != 0)
		memcpy(self->bytes + field->offset, before, field->size);
	PyMem_Free(before);
	return err;
}

static int draft_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
	struct draft *self = (struct draft *)object;
	Py_ssize_t size = self->root == NULL ? self->record->record_size : self->record->size;

	return PyBuffer_FillInfo(view, object, self->bytes, size, 0, flags);
}

static PyObject *draft_dir(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct draft *self = (struct draft *)object;
	PyObject *ret = PyList_New(self->record->count);

	for (uint32_t i = 0; ret != NULL && i < self->record->count; i++)
		PyList_SET_ITEM(ret, i, Py_NewRef(self->record->fields[i].name));
	return ret;
}

static PyMethodDef draft_methods[] = {
	{"__dir__", draft_dir, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(draft_doc, "Draft(record, data)\n--\n\nA record to be changed: an attribute a field.");

static PyType_Slot draft_slots[] = {
	{Py_tp_doc, (void *)draft_doc},
	{Py_tp_new, draft_new},
	{Py_tp_dealloc, draft_dealloc},
	{Py_tp_getattro, draft_getattro},
	{Py_tp_setattro, draft_setattro},
	{Py_tp_methods, draft_methods},
	{Py_bf_getbuffer, draft_getbuffer},
	{0, NULL},
};

static PyType_Spec draft_spec = {
	.name = "vdso._core.Draft",
	.basicsize = sizeof(struct draft),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = draft_slots,
};

int vdso_add_draft(PyObject *module)
{
	return vdso_add_type(module, &draft_spec);
}
