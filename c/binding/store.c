/* A Python value as a field's bytes, and what is said where it cannot be. */
#include "record.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

static const struct {
	int64_t least;
	uint64_t most;
	const char *name;
	const char *format; /* struct's, as buffers have it */
} kinds[] = {
	[VDSO_I8] = {INT8_MIN, INT8_MAX, "i8", "b"},
	[VDSO_I16] = {INT16_MIN, INT16_MAX, "i16", "h"},
	[VDSO_I32] = {INT32_MIN, INT32_MAX, "i32", "i"},
	[VDSO_I64] = {INT64_MIN, INT64_MAX, "i64", "ql"},
	[VDSO_U8] = {0, UINT8_MAX, "u8", "B"},
	[VDSO_U16] = {0, UINT16_MAX, "u16", "H"},
	[VDSO_U32] = {0, UINT32_MAX, "u32", "I"},
	[VDSO_U64] = {0, UINT64_MAX, "u64", "QL"},
	[VDSO_F32] = {0, 0, "f32", "f"},
	[VDSO_F64] = {0, 0, "f64", "d"},
	[VDSO_BOOL] = {0, 1, "bool", "?"},
	[VDSO_STR] = {0, 0, "str", ""},
	[VDSO_BYTES] = {0, 0, "bytes", ""},
	[VDSO_RECORD] = {0, 0, "record", ""},
};

static PyObject *where_text(const struct vdso_where *where)
{
	PyObject *text = NULL, *longer;

	/* From the inside out. */
	for (; where != NULL; where = where->up) {
		PyObject *part = where->name != NULL ? Py_NewRef(where->name) : PyUnicode_FromFormat("[%zd]", where->index);

		if (part == NULL || text == NULL)
			longer = part;
		else
			longer = PyUnicode_FromFormat(PyUnicode_READ_CHAR(text, 0) == '[' ? "%U%U" : "%U.%U", part, text);
		if (longer != part)
			Py_XDECREF(part);
		Py_XDECREF(text);
		text = longer;
		if (text == NULL)
			return NULL;
	}
	return text != NULL ? text : PyUnicode_FromString("record");
}

/* What a value's own code raises is for the caller, as it is: an interrupt, or a mistake of its own. What only says that
 * the value is not of a kind is cleared. */
static bool for_the_caller(void)
{
	if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError) &&
	    !PyErr_ExceptionMatches(PyExc_OverflowError) && !PyErr_ExceptionMatches(PyExc_LookupError) &&
	    !PyErr_ExceptionMatches(PyExc_AttributeError) && !PyErr_ExceptionMatches(PyExc_BufferError))
		return true;
	PyErr_Clear();
	return false;
}

int vdso_raise_value(const struct vdso_where *where, const char *format, ...)
{
	PyObject *field, *reason;
	va_list list;

	if (for_the_caller())
		return -1;
	va_start(list, format);
	reason = PyUnicode_FromFormatV(format, list);
	va_end(list);
	field = where_text(where);
	if (field != NULL && reason != NULL)
		vdso_raise("BadValue", "(OO)", field, reason);
	Py_XDECREF(field);
	Py_XDECREF(reason);
	return -1;
}

/* The same with the value itself between `before` and the format. Not every value can be shown: Python writes no number
 * of more than 4,300 digits, and a __repr__ may fail. */
static int raise_showing(const struct vdso_where *where, const char *before, PyObject *value, const char *format, ...)
{
	PyObject *shown, *after;
	va_list list;

	if (for_the_caller())
		return -1;
	shown = PyObject_Repr(value);
	if (shown == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
		PyErr_Clear();
		shown = PyUnicode_FromFormat("this %.100s", Py_TYPE(value)->tp_name);
	}
	if (shown == NULL)
		return -1;
	va_start(list, format);
	after = PyUnicode_FromFormatV(format, list);
	va_end(list);
	if (after != NULL)
		vdso_raise_value(where, "%s%.100U%U", before, shown, after);
	Py_XDECREF(after);
	Py_DECREF(shown);
	return -1;
}

int vdso_raise_no_field(const struct vdso_record *record, PyObject *name, const struct vdso_where *up)
{
	struct vdso_where where = {up, name, 0};

	return vdso_raise_value(&where, "%U has no such field", record->name);
}

static int integer_store(const struct vdso_field *field, char *at, PyObject *value, const struct vdso_where *where)
{
	PyObject *number;
	long long narrow;
	uint64_t bits;
	int overflow;

	if (PyLong_Check(value)) {
		number = Py_NewRef(value);
	} else if (!PyIndex_Check(value) || (number = PyNumber_Index(value)) == NULL) {
		return vdso_raise_value(where, "%s wants a whole number, not %.100s", kinds[field->kind].name,
					Py_TYPE(value)->tp_name);
	}
	narrow = PyLong_AsLongLongAndOverflow(number, &overflow);
	bits = (uint64_t)narrow;
	if (overflow > 0 && field->kind == VDSO_U64) {
		bits = PyLong_AsUnsignedLongLong(number);
		if (bits == UINT64_MAX && PyErr_Occurred())
			goto outside;
	} else if (overflow != 0 || narrow < kinds[field->kind].least ||
		   (narrow > 0 && (uint64_t)narrow > kinds[field->kind].most)) {
		goto outside;
	}
	Py_DECREF(number);
	memcpy(at, &bits, field->item_size); /* little-endian: the low bytes come first */
	return 0;
outside:
	PyErr_Clear();
	Py_DECREF(number);
	return raise_showing(where, "", value, " is out of range: %s holds %lld to %llu", kinds[field->kind].name,
			     (long long)kinds[field->kind].least, (unsigned long long)kinds[field->kind].most);
}

static int float_store(const struct vdso_field *field, char *at, PyObject *value, const struct vdso_where *where)
{
	double number;
	float narrow;

	if (PyFloat_CheckExact(value)) {
		number = PyFloat_AS_DOUBLE(value);
	} else {
		number = PyUnicode_Check(value) ? -1 : PyFloat_AsDouble(value);
		if (PyUnicode_Check(value) || (number == -1 && PyErr_Occurred())) {
			if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError))
				return vdso_raise_value(where, "a number out of %s's range", kinds[field->kind].name);
			return vdso_raise_value(where, "%s wants a number, not %.100s", kinds[field->kind].name,
						Py_TYPE(value)->tp_name);
		}
	}
	if (field->kind == VDSO_F64) {
		memcpy(at, &number, sizeof(number));
		return 0;
	}
	narrow = (float)number;
	if (isinf(narrow) && !isinf(number))
		return raise_showing(where, "", value, " is out of f32's range");
	memcpy(at, &narrow, sizeof(narrow));
	return 0;
}

static int bool_store(char *at, PyObject *value, const struct vdso_where *where)
{
	if (value == Py_True || value == Py_False) {
		*at = value == Py_True;
		return 0;
	}
	/* 0 and 1, and numpy's own two, which are no numbers. */
	if (PyIndex_Check(value) || strstr(Py_TYPE(value)->tp_name, "bool") != NULL) {
		PyObject *number = PyIndex_Check(value) ? PyNumber_Index(value) : PyNumber_Long(value);
		long flag = number == NULL ? -1 : PyLong_AsLong(number);

		Py_XDECREF(number);
		if (flag == 0 || flag == 1) {
			*at = (char)flag;
			return 0;
		}
	}
	return raise_showing(where, "bool wants True or False, not ", value, "");
}

static int str_store(const struct vdso_field *field, char *at, PyObject *value, const struct vdso_where *where)
{
	const char *text;
	Py_ssize_t size;

	/* numpy has no text of a fixed number of bytes: its records hold a kind of bytes of its own. */
	if (PyBytes_Check(value) && !PyBytes_CheckExact(value)) {
		PyObject *decoded = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), NULL);
		int err = decoded == NULL ? vdso_raise_value(where, "bytes that are no UTF-8")
					  : str_store(field, at, decoded, where);

		Py_XDECREF(decoded);
		return err;
	}
	if (!PyUnicode_Check(value))
		return vdso_raise_value(where, "str wants text, not %.100s", Py_TYPE(value)->tp_name);
	text = PyUnicode_AsUTF8AndSize(value, &size);
	if (text == NULL)
		return vdso_raise_value(where, "text that has no UTF-8");
	if (size > (Py_ssize_t)field->item_size)
		return vdso_raise_value(where, "text of %zd bytes is too long: str[%u] holds %u", size, field->item_size,
					field->item_size);
	/* It would be shorter when it is read. */
	if (memchr(text, 0, (size_t)size) != NULL)
		return vdso_raise_value(where, "text with a zero character in it");
	memcpy(at, text, (size_t)size);
	memset(at + size, 0, field->item_size - (size_t)size);
	return 0;
}

static int bytes_store(const struct vdso_field *field, char *at, PyObject *value, const struct vdso_where *where)
{
	Py_buffer view;

	if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) != 0)
		return vdso_raise_value(where, "bytes wants bytes, not %.100s", Py_TYPE(value)->tp_name);
	if (view.len > (Py_ssize_t)field->item_size) {
		Py_ssize_t size = view.len;

		PyBuffer_Release(&view);
		return vdso_raise_value(where, "%zd bytes are too many: bytes[%u] holds %u", size, field->item_size,
					field->item_size);
	}
	memcpy(at, view.buf, (size_t)view.len);
	memset(at + view.len, 0, field->item_size - (size_t)view.len);
	PyBuffer_Release(&view);
	return 0;
}

static int item_store(const struct vdso_field *field, char *at, PyObject *value, const struct vdso_where *where)
{
	switch (field->kind) {
	case VDSO_F32:
	case VDSO_F64:
		return float_store(field, at, value, where);
	case VDSO_BOOL:
		return bool_store(at, value, where);
	case VDSO_STR:
		return str_store(field, at, value, where);
	case VDSO_BYTES:
		return bytes_store(field, at, value, where);
	case VDSO_RECORD:
		return vdso_record_store(field->record, at, value, where);
	default:
		return integer_store(field, at, value, where);
	}
}

/* Whether the value is an array of exactly this type and shape, whose bytes can be taken as they are. */
static bool buffer_store(const struct vdso_field *field, char *at, PyObject *value)
{
	bool same = false;
	Py_buffer view;

	if (field->kind >= VDSO_STR || !PyObject_CheckBuffer(value))
		return false;
	if (PyObject_GetBuffer(value, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0) {
		PyErr_Clear();
		return false;
	}
	if (view.ndim == field->dimensions && view.format != NULL && strlen(view.format) == 1 &&
	    strchr(kinds[field->kind].format, view.format[0]) != NULL && view.len == (Py_ssize_t)field->size) {
		same = true;
		for (int i = 0; i < view.ndim; i++)
			same = same && view.shape[i] == (Py_ssize_t)field->shape[i];
	}
	if (same)
		memcpy(at, view.buf, field->size);
	/* A C program's bool is 0 or 1, and the buffer's may be anything. */
	for (uint32_t i = 0; same && field->kind == VDSO_BOOL && i < field->size; i++)
		at[i] = at[i] != 0;
	PyBuffer_Release(&view);
	return same;
}

static int array_store(const struct vdso_field *field, int dimension, char **at, PyObject *value,
		       const struct vdso_where *up)
{
	struct vdso_where where = {up, NULL, 0};
	PyObject *items;
	int err = 0;

	if (dimension == field->dimensions || dimension == VDSO_DIMENSIONS_MAX) {
		err = item_store(field, *at, value, up);
		*at += field->item_size;
		return err;
	}
	if (PyUnicode_Check(value) || PyDict_Check(value) || !PySequence_Check(value) ||
	    (items = PySequence_Fast(value, "")) == NULL)
		return vdso_raise_value(up, "an array wants %u items, not %.100s", field->shape[dimension],
					Py_TYPE(value)->tp_name);
	if (PySequence_Fast_GET_SIZE(items) != (Py_ssize_t)field->shape[dimension])
		err = vdso_raise_value(up, "%zd items, and the array has %u", PySequence_Fast_GET_SIZE(items),
				       field->shape[dimension]);
	/* The size again each time: what converts an item is the caller's code, and may change the list. */
	for (; err == 0 && where.index < (Py_ssize_t)field->shape[dimension]; where.index++) {
		PyObject *item;

		if (where.index >= PySequence_Fast_GET_SIZE(items)) {
			err = vdso_raise_value(up, "the items changed meanwhile");
			break;
		}
		item = Py_NewRef(PySequence_Fast_GET_ITEM(items, where.index));
		err = array_store(field, dimension + 1, at, item, &where);
		Py_DECREF(item);
	}
	Py_DECREF(items);
	return err;
}

int vdso_field_store(const struct vdso_field *field, void *record_bytes, PyObject *value, const struct vdso_where *up)
{
	struct vdso_where where = {up, field->name, 0};
	char *at = (char *)record_bytes + field->offset;

	if (field->dimensions == 0)
		return item_store(field, at, value, &where);
	if (buffer_store(field, at, value))
		return 0;
	return array_store(field, 0, &at, value, &where);
}

static int from_mapping(const struct vdso_record *record, char *bytes, PyObject *value, const struct vdso_where *up)
{
	PyObject *keys, *key, *iterator;
	int err = 0;

	for (uint32_t i = 0; i < record->count; i++) {
		struct vdso_where where = {up, record->fields[i].name, 0};
		PyObject *item = PyObject_GetItem(value, record->fields[i].name);

		if (item == NULL)
			return vdso_raise_value(&where, "no value is given");
		err = vdso_field_store(&record->fields[i], bytes, item, up);
		Py_DECREF(item);
		if (err != 0)
			return err;
	}
	if (PyMapping_Size(value) == (Py_ssize_t)record->count)
		return 0;
	/* There are more: find one, to name it. */
	keys = PyMapping_Keys(value);
	iterator = keys == NULL ? NULL : PyObject_GetIter(keys);
	while (err == 0 && iterator != NULL && (key = PyIter_Next(iterator)) != NULL) {
		if (!PyUnicode_Check(key) || vdso_record_find(record, key) == NULL) {
			PyObject *text = PyObject_Str(key);

			err = text == NULL ? -1 : vdso_raise_no_field(record, text, up);
			Py_XDECREF(text);
		}
		Py_DECREF(key);
	}
	Py_XDECREF(keys);
	Py_XDECREF(iterator);
	return PyErr_Occurred() ? -1 : err;
}

static int from_sequence(const struct vdso_record *record, char *bytes, PyObject *value, const struct vdso_where *up)
{
	if (PySequence_Size(value) != (Py_ssize_t)record->count)
		return vdso_raise_value(up, "%zd values, and %U has %u fields", PySequence_Size(value), record->name,
					record->count);
	for (uint32_t i = 0; i < record->count; i++) {
		PyObject *item = PySequence_GetItem(value, i);
		int err = item == NULL ? -1 : vdso_field_store(&record->fields[i], bytes, item, up);

		Py_XDECREF(item);
		if (err != 0)
			return err;
	}
	return 0;
}

static int from_attributes(const struct vdso_record *record, char *bytes, PyObject *value, const struct vdso_where *up,
			   bool items)
{
	for (uint32_t i = 0; i < record->count; i++) {
		struct vdso_where where = {up, record->fields[i].name, 0};
		PyObject *item = items ? PyObject_GetItem(value, record->fields[i].name)
				       : PyObject_GetAttr(value, record->fields[i].name);
		int err;

		if (item == NULL)
			return vdso_raise_value(&where, "%.100s has no such value", Py_TYPE(value)->tp_name);
		err = vdso_field_store(&record->fields[i], bytes, item, up);
		Py_DECREF(item);
		if (err != 0)
			return err;
	}
	return 0;
}

/* A record of numpy's has its fields as items. A field may be called dtype, and hold anything, in a class of any other kind. */
static bool is_numpy_record(PyObject *value)
{
	PyObject *dtype = PyMapping_Check(value) ? PyObject_GetAttrString(value, "dtype") : NULL;
	PyObject *names = dtype != NULL ? PyObject_GetAttrString(dtype, "names") : NULL;
	bool is = names != NULL && PyTuple_Check(names);

	PyErr_Clear();
	Py_XDECREF(names);
	Py_XDECREF(dtype);
	return is;
}

int vdso_record_store(const struct vdso_record *record, void *bytes, PyObject *value, const struct vdso_where *up)
{
	if (Py_IS_TYPE(value, record->snapshot) && ((struct vdso_snapshot *)value)->record == record) {
		memcpy(bytes, ((struct vdso_snapshot *)value)->data, record->size);
		return 0;
	}
	if (PyDict_Check(value) || (PyMapping_Check(value) && PyObject_HasAttrString(value, "keys")))
		return from_mapping(record, bytes, value, up);
	if (PyTuple_Check(value) || PyList_Check(value))
		return from_sequence(record, bytes, value, up);
	return from_attributes(record, bytes, value, up, is_numpy_record(value));
}
