/* The record: its fields found by name. */
#include "record.h"

#include <string.h>

#include "page.h"

static void record_dealloc(PyObject *object)
{
	struct vdso_record *self = (struct vdso_record *)object;
	PyTypeObject *type = Py_TYPE(object);

	for (uint32_t i = 0; self->fields != NULL && i < self->count; i++) {
		Py_XDECREF(self->fields[i].name);
		Py_XDECREF((PyObject *)self->fields[i].record);
		Py_XDECREF(self->fields[i].shape_object);
		Py_XDECREF(self->fields[i].dtype);
	}
	PyMem_Free(self->fields);
	PyMem_Free(self->places);
	if (self->spare != NULL) {
		Py_DECREF((PyObject *)self->snapshot);
		PyObject_Free(self->spare);
	}
	if (self->spare_astuple != NULL) {
		Py_DECREF((PyObject *)self->astuple);
		PyObject_Free(self->spare_astuple);
	}
	Py_XDECREF(self->layout);
	Py_XDECREF(self->name);
	Py_XDECREF((PyObject *)self->snapshot);
	Py_XDECREF((PyObject *)self->astuple);
	Py_XDECREF(self->name_astuple);
	Py_XDECREF(self->empty);
	type->tp_free(object);
	Py_DECREF(type);
}

PyObject *vdso_type_beside(PyTypeObject *type, const char *name)
{
	PyObject *module = PyType_GetModule(type);

	return module == NULL ? NULL : PyObject_GetAttrString(module, name);
}

/* (name, kind, offset, item_size, shape, record or None) */
static int read_field(PyTypeObject *type, const struct vdso_record *self, struct vdso_field *field, PyObject *words)
{
	PyObject *name, *shape, *inner;
	unsigned int kind, offset, item_size;
	uint64_t size;

	if (!PyArg_ParseTuple(words, "UIIIO!O", &name, &kind, &offset, &item_size, &PyTuple_Type, &shape, &inner))
		return -1;
	field->name = Py_NewRef(name);
	PyUnicode_InternInPlace(&field->name);
	field->kind = kind;
	field->offset = offset;
	field->item_size = item_size;
	if (inner != Py_None) {
		if (!PyObject_TypeCheck(inner, type)) {
			PyErr_SetString(PyExc_TypeError, "a nested record is a Record");
			return -1;
		}
		field->record = (struct vdso_record *)Py_NewRef(inner);
	}
	size = item_size;
	field->dimensions = (int)PyTuple_GET_SIZE(shape);
	for (int i = 0; i < field->dimensions && i < VDSO_DIMENSIONS_MAX; i++) {
		unsigned long length = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(shape, i));

		if (PyErr_Occurred())
			return -1;
		if (length == 0 || length > VDSO_RECORD_MAX)
			goto bad;
		field->shape[i] = (uint32_t)length;
		size *= length;
		if (size > VDSO_RECORD_MAX)
			goto bad;
	}
	/* Whatever else holds, nothing may ever be read or written outside the record. */
	if (kind >= VDSO_KINDS || field->dimensions > VDSO_DIMENSIONS_MAX || item_size == 0 || size > self->size ||
	    offset > self->size - size || (kind == VDSO_RECORD) != (field->record != NULL) ||
	    (field->record != NULL && field->record->size != item_size))
		goto bad;
	if (kind < VDSO_STR) {
		static const uint8_t sizes[] = {1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 1};

		/* A number must not cross the words that pages are read by. */
		if (item_size != sizes[kind] || offset % item_size != 0)
			goto bad;
	}
	field->size = (uint32_t)size;
	field->number = kind < VDSO_STR && field->dimensions == 0;
	return 0;
bad:
	PyErr_SetString(PyExc_ValueError, "a field that cannot be");
	return -1;
}

static int make_places(struct vdso_record *self)
{
	uint32_t room = 8;

	while (room < 2 * self->count)
		room *= 2;
	self->places = PyMem_Calloc(room, sizeof(*self->places));
	if (self->places == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	self->mask = room - 1;
	for (uint32_t i = 0; i < self->count; i++) {
		uint32_t at = (uint32_t)((uintptr_t)self->fields[i].name >> 4);

		while (self->places[at & self->mask].name != NULL)
			at++;
		self->places[at & self->mask] = (struct vdso_place){self->fields[i].name, &self->fields[i]};
	}
	return 0;
}

static PyObject *record_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"layout", "name", "size", "fields", NULL};
	PyObject *layout, *name, *fields;
	struct vdso_record *self;
	unsigned int size;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OUIO!:Record", names, &layout, &name, &size, &PyTuple_Type, &fields))
		return NULL;
	if (size == 0 || size > VDSO_RECORD_MAX || PyTuple_GET_SIZE(fields) == 0 || PyTuple_GET_SIZE(fields) > 65534) {
		PyErr_SetString(PyExc_ValueError, "a record that cannot be");
		return NULL;
	}
	self = (struct vdso_record *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->layout = Py_NewRef(layout);
	self->name = Py_NewRef(name);
	self->size = size;
	self->record_size = (size + 7) / 8 * 8;
	self->snapshot = (PyTypeObject *)vdso_type_beside(type, "Snapshot");
	self->astuple = (PyTypeObject *)vdso_type_beside(type, "AsTuple");
	self->name_astuple = PyUnicode_InternFromString("astuple");
	self->count = (uint32_t)PyTuple_GET_SIZE(fields);
	self->fields = PyMem_Calloc(self->count, sizeof(*self->fields));
	if (self->snapshot == NULL || self->astuple == NULL || self->name_astuple == NULL || self->fields == NULL) {
		if (!PyErr_Occurred())
			PyErr_NoMemory();
		goto failed;
	}
	for (uint32_t i = 0; i < self->count; i++)
		if (read_field(type, self, &self->fields[i], PyTuple_GET_ITEM(fields, i)) != 0)
			goto failed;
	if (make_places(self) != 0)
		goto failed;
	return (PyObject *)self;
failed:
	Py_DECREF(self);
	return NULL;
}

const struct vdso_field *vdso_record_find(const struct vdso_record *record, PyObject *name)
{
	const struct vdso_field *field = vdso_place_find(record->places, record->mask, name);

	if (field != NULL)
		return field;
	for (uint32_t i = 0; i < record->count; i++)
		if (PyUnicode_Compare(record->fields[i].name, name) == 0)
			return &record->fields[i];
	return NULL;
}

static PyObject *record_names(PyObject *object, void *Py_UNUSED(closure))
{
	struct vdso_record *self = (struct vdso_record *)object;
	PyObject *ret = PyTuple_New(self->count);

	for (uint32_t i = 0; ret != NULL && i < self->count; i++)
		PyTuple_SET_ITEM(ret, i, Py_NewRef(self->fields[i].name));
	return ret;
}

static PyObject *record_layout(PyObject *object, void *Py_UNUSED(closure))
{
	return Py_NewRef(((struct vdso_record *)object)->layout);
}

static PyGetSetDef record_getset[] = {
	{"names", record_names, NULL, "The fields' names.", NULL},
	{"layout", record_layout, NULL, "The layout that it was made from.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(record_doc,
	     "Record(layout, name, size, fields)\n--\n\n"
	     "How the bytes of a record are read: `fields` are (name, kind, offset, item_size, shape, Record or None).");

static PyType_Slot record_slots[] = {
	{Py_tp_doc, (void *)record_doc},
	{Py_tp_new, record_new},
	{Py_tp_dealloc, record_dealloc},
	{Py_tp_getset, record_getset},
	{0, NULL},
};

static PyType_Spec record_spec = {
	.name = "vdso._core.Record",
	.basicsize = sizeof(struct vdso_record),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = record_slots,
};

int vdso_add_record(PyObject *module)
{
	return vdso_add_type(module, &record_spec);
}
