/* A field's bytes as a Python value. */
#include "record.h"

#include <string.h>

/* numpy's, of the kinds that are numbers. */
static const char *const codes[] = {"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?"};

PyObject *vdso_number_load(enum vdso_kind kind, const void *at)
{
#define LOAD(type, make)                                                                                                    \
	{                                                                                                                   \
		type number;                                                                                                \
		memcpy(&number, at, sizeof(number));                                                                        \
		return make(number);                                                                                        \
	}
	switch (kind) {
	case VDSO_I8:
		LOAD(int8_t, PyLong_FromLong)
	case VDSO_I16:
		LOAD(int16_t, PyLong_FromLong)
	case VDSO_I32:
		LOAD(int32_t, PyLong_FromLong)
	case VDSO_I64:
		LOAD(int64_t, PyLong_FromLongLong)
	case VDSO_U8:
		LOAD(uint8_t, PyLong_FromLong)
	case VDSO_U16:
		LOAD(uint16_t, PyLong_FromLong)
	case VDSO_U32:
		LOAD(uint32_t, PyLong_FromUnsignedLong)
	case VDSO_U64:
		LOAD(uint64_t, PyLong_FromUnsignedLongLong)
	case VDSO_F32:
		LOAD(float, PyFloat_FromDouble)
	case VDSO_F64:
		LOAD(double, PyFloat_FromDouble)
	case VDSO_BOOL:
		LOAD(uint8_t, PyBool_FromLong)
	default:
		Py_UNREACHABLE();
	}
#undef LOAD
}

static PyObject *item_load(const struct vdso_field *field, const char *at, uint64_t version)
{
	struct vdso_snapshot *inner;

	switch (field->kind) {
	case VDSO_STR:
		/* The bytes may be anybody's: what is no UTF-8 is shown as such. */
		return PyUnicode_DecodeUTF8(at, (Py_ssize_t)strnlen(at, field->item_size), "replace");
	case VDSO_BYTES:
		return PyBytes_FromStringAndSize(at, field->item_size);
	case VDSO_RECORD:
		inner = vdso_snapshot_new(field->record);
		if (inner != NULL) {
			inner->version = version;
			memcpy(inner->data, at, field->item_size);
			memset(inner->data + field->item_size, 0, field->record->record_size - field->item_size);
		}
		return (PyObject *)inner;
	default:
		return vdso_number_load(field->kind, at);
	}
}

/* Nested tuples; `at` moves on by what was read. */
static PyObject *tuple_load(const struct vdso_field *field, int dimension, const char **at, uint64_t version)
{
	PyObject *ret;

	if (dimension == field->dimensions || dimension == VDSO_DIMENSIONS_MAX) {
		ret = item_load(field, *at, version);
		*at += field->item_size;
		return ret;
	}
	ret = PyTuple_New(field->shape[dimension]);
	for (uint32_t i = 0; ret != NULL && i < field->shape[dimension]; i++) {
		PyObject *item = tuple_load(field, dimension + 1, at, version);

		if (item == NULL)
			Py_CLEAR(ret);
		else
			PyTuple_SET_ITEM(ret, i, item);
	}
	return ret;
}

/* numpy's part in this field, found at the first use: importing numpy takes a tenth of a second. */
static int find_numpy(struct vdso_record *record, struct vdso_field *field)
{
	PyObject *numpy = NULL, *empty = NULL, *dtype = NULL, *shape = NULL;
	int ret = -1;

	if (record->empty == NULL) {
		numpy = PyImport_ImportModule("numpy");
		if (numpy == NULL) {
			if (!PyErr_ExceptionMatches(PyExc_ImportError))
				return -1;
			PyErr_Clear();
			record->empty = Py_NewRef(Py_None);
			return 0;
		}
		empty = PyObject_GetAttrString(numpy, "empty");
		if (empty == NULL)
			goto done;
	}
	if (record->empty != Py_None) {
		if (numpy == NULL && (numpy = PyImport_ImportModule("numpy")) == NULL)
			goto done;
		dtype = PyObject_CallMethod(numpy, "dtype", "s", codes[field->kind]);
		shape = PyTuple_New(field->dimensions);
		if (dtype == NULL || shape == NULL)
			goto done;
		for (int i = 0; i < field->dimensions; i++) {
			PyObject *length = PyLong_FromUnsignedLong(field->shape[i]);

			if (length == NULL)
				goto done;
			PyTuple_SET_ITEM(shape, i, length);
		}
		field->shape_object = Py_NewRef(shape);
		field->dtype = Py_NewRef(dtype);
	}
	if (empty != NULL)
		record->empty = Py_NewRef(empty);
	ret = 0;
done:
	Py_XDECREF(numpy);
	Py_XDECREF(empty);
	Py_XDECREF(dtype);
	Py_XDECREF(shape);
	return ret;
}

static PyObject *array_load(struct vdso_record *record, struct vdso_field *field, const char *at)
{
	Py_buffer view;
	PyObject *ret;
	int err = 0;

	Py_BEGIN_CRITICAL_SECTION((PyObject *)record);
	if (record->empty == NULL || (record->empty != Py_None && field->dtype == NULL))
		err = find_numpy(record, field);
	Py_END_CRITICAL_SECTION();
	if (err != 0)
		return NULL;
	if (record->empty == Py_None)
		return tuple_load(field, 0, &at, 0);
	ret = PyObject_CallFunctionObjArgs(record->empty, field->shape_object, field->dtype, NULL);
	if (ret == NULL)
		return NULL;
	if (PyObject_GetBuffer(ret, &view, PyBUF_WRITABLE) != 0) {
		Py_DECREF(ret);
		return NULL;
	}
	memcpy(view.buf, at, (size_t)view.len < field->size ? (size_t)view.len : field->size);
	PyBuffer_Release(&view);
	return ret;
}

PyObject *vdso_field_load(struct vdso_record *record, const struct vdso_field *field, const void *at, uint64_t version)
{
	const char *bytes = at;

	if (field->dimensions == 0)
		return item_load(field, bytes, version);
	if (field->kind < VDSO_STR)
		return array_load(record, (struct vdso_field *)field, bytes);
	return tuple_load(field, 0, &bytes, version);
}
