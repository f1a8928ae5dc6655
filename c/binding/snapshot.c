/* One whole record, taken out of a page and never changed: its fields become Python values when they are asked for. */
#include "record.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

static void snapshot_dealloc(PyObject *object)
{
	struct vdso_record *record = ((struct vdso_snapshot *)object)->record;

#ifndef Py_GIL_DISABLED
	/* Most are short-lived: the next one finds its memory warm. */
	if (record->spare == NULL) {
		record->spare = (struct vdso_snapshot *)object;
		Py_DECREF((PyObject *)record);
		return;
	}
#endif
	PyTypeObject *type = Py_TYPE(object);

	PyObject_Free(object);
	Py_DECREF((PyObject *)record);
	Py_DECREF(type);
}

static PyObject *load(struct vdso_snapshot *self, const struct vdso_field *field)
{
	const char *at = self->data + field->offset;

	if (field->number && field->kind == VDSO_F64) { /* as most numbers are */
		double number;

		memcpy(&number, at, sizeof(number));
		return PyFloat_FromDouble(number);
	}
	return field->number ? vdso_number_load(field->kind, at) : vdso_field_load(self->record, field, at, self->version);
}

static PyObject *snapshot_getattro(PyObject *object, PyObject *name);

/* What a value is within asdict() and astuple(): records all the way down. New reference; takes `value`. */
static PyObject *unfold(PyObject *value, PyObject *(*with)(PyObject *, PyObject *))
{
	PyObject *ret;

	if (value == NULL || !(PyTuple_CheckExact(value) || Py_TYPE(value)->tp_getattro == snapshot_getattro))
		return value;
	if (!PyTuple_CheckExact(value)) {
		ret = with(value, NULL);
	} else {
		ret = PyTuple_New(PyTuple_GET_SIZE(value));
		for (Py_ssize_t i = 0; ret != NULL && i < PyTuple_GET_SIZE(value); i++) {
			PyObject *item = unfold(Py_NewRef(PyTuple_GET_ITEM(value, i)), with);

			if (item == NULL)
				Py_CLEAR(ret);
			else
				PyTuple_SET_ITEM(ret, i, item);
		}
	}
	Py_DECREF(value);
	return ret;
}

PyDoc_STRVAR(asdict_doc, "asdict()\n--\n\nThe fields by name; nested records are dicts too.");

static PyObject *snapshot_asdict(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct vdso_snapshot *self = (struct vdso_snapshot *)object;
	PyObject *ret = PyDict_New();

	for (uint32_t i = 0; ret != NULL && i < self->record->count; i++) {
		PyObject *value = unfold(load(self, &self->record->fields[i]), snapshot_asdict);

		if (value == NULL || PyDict_SetItem(ret, self->record->fields[i].name, value) != 0)
			Py_CLEAR(ret);
		Py_XDECREF(value);
	}
	return ret;
}

PyDoc_STRVAR(astuple_doc, "astuple()\n--\n\nThe fields in their order; nested records are tuples too.");

static PyObject *snapshot_astuple(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct vdso_snapshot *self = (struct vdso_snapshot *)object;
	const struct vdso_field *fields = self->record->fields;
	const Py_ssize_t count = self->record->count;
	PyObject *ret = PyTuple_New(count);

	for (Py_ssize_t i = 0; ret != NULL && i < count; i++) {
		PyObject *value = load(self, &fields[i]);

		if (fields[i].kind == VDSO_RECORD)
			value = unfold(value, snapshot_astuple);
		if (value == NULL)
			Py_CLEAR(ret);
		else
			PyTuple_SET_ITEM(ret, i, value);
	}
	return ret;
}

static PyObject *astuple_call(PyObject *object, PyObject *const *Py_UNUSED(args), size_t given, PyObject *names)
{
	if (PyVectorcall_NARGS(given) != 0 || (names != NULL && PyTuple_GET_SIZE(names) != 0)) {
		PyErr_SetString(PyExc_TypeError, "astuple() takes no arguments");
		return NULL;
	}
	return snapshot_astuple((PyObject *)((struct vdso_astuple *)object)->of, NULL);
}

static PyObject *astuple_new(struct vdso_snapshot *of)
{
	struct vdso_record *record = of->record;
	struct vdso_astuple *self = record->spare_astuple;

	if (self != NULL) {
		record->spare_astuple = NULL;
		Py_SET_REFCNT((PyObject *)self, 1);
	} else {
		self = PyObject_New(struct vdso_astuple, record->astuple);
		if (self == NULL)
			return NULL;
		self->call = astuple_call;
	}
	Py_INCREF(of);
	self->of = of;
	return (PyObject *)self;
}

static void astuple_dealloc(PyObject *object)
{
	struct vdso_snapshot *of = ((struct vdso_astuple *)object)->of;

#ifndef Py_GIL_DISABLED
	if (of->record->spare_astuple == NULL) {
		of->record->spare_astuple = (struct vdso_astuple *)object;
		Py_DECREF((PyObject *)of);
		return;
	}
#endif
	PyTypeObject *type = Py_TYPE(object);

	PyObject_Free(object);
	Py_DECREF((PyObject *)of);
	Py_DECREF(type);
}

static PyMemberDef astuple_members[] = {
	{"__vectorcalloffset__", T_PYSSIZET, offsetof(struct vdso_astuple, call), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot astuple_slots[] = {
	{Py_tp_doc, (void *)"A snapshot's astuple."},
	{Py_tp_dealloc, astuple_dealloc},
	{Py_tp_call, PyVectorcall_Call},
	{Py_tp_members, astuple_members},
	{0, NULL},
};

static PyType_Spec astuple_spec = {
	.name = "vdso._core.AsTuple",
	.basicsize = sizeof(struct vdso_astuple),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION |
		 Py_TPFLAGS_HAVE_VECTORCALL,
	.slots = astuple_slots,
};

static PyObject *snapshot_getattro(PyObject *object, PyObject *name)
{
	struct vdso_snapshot *self = (struct vdso_snapshot *)object;
	const struct vdso_field *field;
	PyObject *ret;

	/* First: no field is called so, and what is not there is what takes longest to look for. */
	if (name == self->record->name_astuple)
		return astuple_new(self);
	field = vdso_place_find(self->record->places, self->record->mask, name);
	if (field != NULL)
		return load(self, field);
	ret = PyObject_GenericGetAttr(object, name);
	if (ret != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
		return ret;
	field = vdso_record_find(self->record, name);
	if (field == NULL)
		return NULL;
	PyErr_Clear();
	return load(self, field);
}

PyDoc_STRVAR(as_doc, "as_(schema)\n--\n\nThe record as an instance of a class that has these fields, or as a numpy record.");

static PyObject *snapshot_as(PyObject *object, PyObject *schema)
{
	PyObject *module = PyImport_ImportModule("vdso.pages.conversion");
	PyObject *ret = module == NULL ? NULL : PyObject_CallMethod(module, "convert", "OO", object, schema);

	Py_XDECREF(module);
	return ret;
}

static PyObject *snapshot_reduce(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct vdso_snapshot *self = (struct vdso_snapshot *)object;
	PyObject *module = PyImport_ImportModule("vdso.pages.conversion"), *restore, *ret = NULL;

	restore = module == NULL ? NULL : PyObject_GetAttrString(module, "restore");
	if (restore != NULL)
		ret = Py_BuildValue("N(OKy#)", restore, self->record->layout, (unsigned long long)self->version, self->data,
				    (Py_ssize_t)self->record->record_size);
	Py_XDECREF(module);
	return ret;
}

static PyObject *snapshot_repr(PyObject *object)
{
	struct vdso_snapshot *self = (struct vdso_snapshot *)object;
	PyObject *parts = PyList_New(0), *comma = NULL, *text = NULL, *ret = NULL;

	for (uint32_t i = 0; parts != NULL && i < self->record->count; i++) {
		PyObject *value = load(self, &self->record->fields[i]);
		PyObject *part = value == NULL ? NULL
					       : PyUnicode_FromFormat("%U=%R", self->record->fields[i].name, value);

		if (part == NULL || PyList_Append(parts, part) != 0)
			Py_CLEAR(parts);
		Py_XDECREF(value);
		Py_XDECREF(part);
	}
	comma = PyUnicode_FromString(", ");
	if (parts != NULL && comma != NULL)
		text = PyUnicode_Join(comma, parts);
	if (text != NULL)
		ret = PyUnicode_FromFormat("%U(%U)", self->record->name, text);
	Py_XDECREF(parts);
	Py_XDECREF(comma);
	Py_XDECREF(text);
	return ret;
}

static PyObject *snapshot_compare(PyObject *object, PyObject *other, int operator)
{
	struct vdso_snapshot *self = (struct vdso_snapshot *)object, *beside = (struct vdso_snapshot *)other;
	int same;

	if (Py_TYPE(object) != Py_TYPE(other) || (operator != Py_EQ && operator != Py_NE))
		Py_RETURN_NOTIMPLEMENTED;
	same = self->record == beside->record ? 1
					      : PyObject_RichCompareBool(self->record->layout, beside->record->layout, Py_EQ);
	if (same < 0)
		return NULL;
	same = same && memcmp(self->data, beside->data, self->record->size) == 0;
	return PyBool_FromLong(same == (operator == Py_EQ));
}

static Py_hash_t snapshot_hash(PyObject *object)
{
	struct vdso_snapshot *self = (struct vdso_snapshot *)object;
	PyObject *bytes = PyBytes_FromStringAndSize(self->data, self->record->size);
	Py_hash_t ret = bytes == NULL ? -1 : PyObject_Hash(bytes);

	Py_XDECREF(bytes);
	return ret;
}

static int snapshot_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
	struct vdso_snapshot *self = (struct vdso_snapshot *)object;

	return PyBuffer_FillInfo(view, object, self->data, self->record->size, 1, flags);
}

static PyObject *snapshot_dir(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct vdso_snapshot *self = (struct vdso_snapshot *)object;
	PyObject *ret = Py_BuildValue("[ssss]", "as_", "asdict", "astuple", "version");

	for (uint32_t i = 0; ret != NULL && i < self->record->count; i++)
		if (PyList_Append(ret, self->record->fields[i].name) != 0)
			Py_CLEAR(ret);
	return ret;
}

static PyObject *snapshot_version(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((struct vdso_snapshot *)object)->version);
}

static PyObject *snapshot_record(PyObject *object, void *Py_UNUSED(closure))
{
	return Py_NewRef((PyObject *)((struct vdso_snapshot *)object)->record);
}

PyDoc_STRVAR(from_bytes_doc, "_from_bytes(record, version, data)\n--\n\nA snapshot of a record that is at hand as bytes.");

static PyObject *snapshot_from_bytes(PyObject *Py_UNUSED(type), PyObject *args)
{
	struct vdso_snapshot *self;
	struct vdso_record *record;
	unsigned long long version;
	PyObject *given;
	Py_buffer data;

	if (!PyArg_ParseTuple(args, "OKy*:_from_bytes", &given, &version, &data))
		return NULL;
	record = (struct vdso_record *)given;
	if (strcmp(Py_TYPE(given)->tp_name, "vdso._core.Record") != 0 || data.len < (Py_ssize_t)record->size) {
		PyBuffer_Release(&data);
		PyErr_SetString(PyExc_ValueError, "the bytes are no such record");
		return NULL;
	}
	self = vdso_snapshot_new(record);
	if (self != NULL) {
		self->version = version;
		memset(self->data, 0, record->record_size);
		memcpy(self->data, data.buf, record->size);
	}
	PyBuffer_Release(&data);
	return (PyObject *)self;
}

static PyMethodDef snapshot_methods[] = {
	{"asdict", snapshot_asdict, METH_NOARGS, asdict_doc},
	{"astuple", snapshot_astuple, METH_NOARGS, astuple_doc},
	{"as_", snapshot_as, METH_O, as_doc},
	{"_from_bytes", snapshot_from_bytes, METH_VARARGS | METH_CLASS, from_bytes_doc},
	{"__reduce__", snapshot_reduce, METH_NOARGS, NULL},
	{"__dir__", snapshot_dir, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef snapshot_getset[] = {
	{"version", snapshot_version, NULL, "The version that this record was published as.", NULL},
	{"_record", snapshot_record, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(snapshot_doc, "One whole record: an attribute a field, and its version. Never changes.");

static PyType_Slot snapshot_slots[] = {
	{Py_tp_doc, (void *)snapshot_doc},
	{Py_tp_dealloc, snapshot_dealloc},
	{Py_tp_getattro, snapshot_getattro},
	{Py_tp_repr, snapshot_repr},
	{Py_tp_richcompare, snapshot_compare},
	{Py_tp_hash, snapshot_hash},
	{Py_tp_methods, snapshot_methods},
	{Py_tp_getset, snapshot_getset},
	{Py_bf_getbuffer, snapshot_getbuffer},
	{0, NULL},
};

static PyType_Spec snapshot_spec = {
	.name = "vdso._core.Snapshot",
	.basicsize = offsetof(struct vdso_snapshot, data),
	.itemsize = 1,
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = snapshot_slots,
};

int vdso_add_snapshot(PyObject *module)
{
	if (vdso_add_type(module, &astuple_spec) != 0)
		return -1;
	return vdso_add_type(module, &snapshot_spec);
}
