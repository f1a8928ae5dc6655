/*
 * A record's fields for the binding: how an attribute's name leads to bytes, and bytes to a Python value and back.
 *
 * Everything here works on private memory. What copies it from or into a page is reader.c and publisher.c.
 */
#ifndef VDSO_BINDING_RECORD_H
#define VDSO_BINDING_RECORD_H

#include "module.h"

#include <stdbool.h>
#include <stdint.h>

#define VDSO_DIMENSIONS_MAX 4

/* In the order of vdso.pages.schema.KINDS. */
enum vdso_kind {
	VDSO_I8,
	VDSO_I16,
	VDSO_I32,
	VDSO_I64,
	VDSO_U8,
	VDSO_U16,
	VDSO_U32,
	VDSO_U64,
	VDSO_F32,
	VDSO_F64,
	VDSO_BOOL,
	VDSO_STR,
	VDSO_BYTES,
	VDSO_RECORD,
	VDSO_KINDS,
};

struct vdso_field {
	PyObject *name; /* interned */
	enum vdso_kind kind;
	uint32_t offset;
	uint32_t item_size;
	uint32_t size;                       /* bytes of all items together */
	bool number;                         /* a single number, which lies within one word */
	int dimensions;                      /* 0: a single item */
	uint32_t shape[VDSO_DIMENSIONS_MAX]; /* outermost first */
	struct vdso_record *record;          /* VDSO_RECORD */
	PyObject *shape_object;              /* arrays of numbers: what numpy.empty() takes, NULL before the first use */
	PyObject *dtype;
};

/* Fields by the addresses of their interned names, open addressing; a NULL name ends a search. */
struct vdso_place {
	PyObject *name;
	const struct vdso_field *field;
};

static inline const struct vdso_field *vdso_place_find(const struct vdso_place *places, uint32_t mask, PyObject *name)
{
	uint32_t at = (uint32_t)((uintptr_t)name >> 4) & mask;

	while (places[at].name != name) {
		if (places[at].name == NULL)
			return NULL;
		at = (at + 1) & mask;
	}
	return places[at].field;
}

struct vdso_record {
	PyObject_HEAD
	PyObject *layout; /* vdso.pages.schema.Layout */
	PyObject *name;
	uint32_t size;        /* sizeof the C struct */
	uint32_t record_size; /* up to a multiple of 8 */
	uint32_t count;
	struct vdso_field *fields;
	struct vdso_place *places;
	uint32_t mask;
	PyTypeObject *snapshot;
	PyTypeObject *astuple;
	PyObject *name_astuple; /* interned */
	/* One that has gone, for the next, with its reference to the type. Unused where there is no GIL. */
	struct vdso_snapshot *spare;
	struct vdso_astuple *spare_astuple;
	PyObject *empty;             /* numpy.empty, None without numpy, NULL before the first use */
};

/* Where in a record a value belongs, for errors. */
struct vdso_where {
	const struct vdso_where *up;
	PyObject *name;   /* a field, or NULL */
	Py_ssize_t index; /* else an item of an array */
};

/* Also for a name that is not interned. NULL without an exception: there is no such field. */
const struct vdso_field *vdso_record_find(const struct vdso_record *record, PyObject *name);

/* A number out of the word that holds it; the kind is none of STR, BYTES and RECORD, and the field no array. */
PyObject *vdso_number_load(enum vdso_kind kind, const void *at);

/* The field's value; `at` is where it begins. Snapshots of nested records get `version`. */
PyObject *vdso_field_load(struct vdso_record *record, const struct vdso_field *field, const void *at, uint64_t version);

/* 0, or -1 with BadValue set; the bytes may then be half changed. `up` is where the record itself belongs. */
int vdso_field_store(const struct vdso_field *field, void *record_bytes, PyObject *value, const struct vdso_where *up);

/* The same for all fields: from a snapshot, a mapping, a sequence by position, a numpy record, or anything's attributes. */
int vdso_record_store(const struct vdso_record *record, void *bytes, PyObject *value, const struct vdso_where *up);

/* BadValue with the field's whole name; returns -1. */
int vdso_raise_value(const struct vdso_where *where, const char *format, ...);

/* BadValue: there is no such field; returns -1. */
int vdso_raise_no_field(const struct vdso_record *record, PyObject *name, const struct vdso_where *up);

/* snapshot.c */
struct vdso_snapshot {
	PyObject_VAR_HEAD
	struct vdso_record *record;
	uint64_t version;
	_Alignas(8) char data[];
};

/* A snapshot's astuple, ready to be called. A bound method of Python's own costs half of what the tuple does. */
struct vdso_astuple {
	PyObject_HEAD
	vectorcallfunc call;
	struct vdso_snapshot *of;
};

/* Its data and version are the caller's to fill in. */
static inline struct vdso_snapshot *vdso_snapshot_new(struct vdso_record *record)
{
	struct vdso_snapshot *self = record->spare;

	if (self != NULL) {
		record->spare = NULL;
		Py_SET_REFCNT((PyObject *)self, 1);
	} else {
		self = PyObject_NewVar(struct vdso_snapshot, record->snapshot, record->record_size);
		if (self == NULL)
			return NULL;
	}
	Py_INCREF(record);
	self->record = record;
	return self;
}

/* The module's own type, as an argument of a type that the module made. New reference. */
PyObject *vdso_type_beside(PyTypeObject *type, const char *name);

#endif
