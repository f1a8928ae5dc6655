/* Counts: where programs count their clock calls (count.h), made and read from Python. What they say there is not checked. */
#include "module.h"

#include <unistd.h>

#include "count.h"

struct counts {
	PyObject_HEAD
	struct vdso_counts *there;
	int fd;
	pid_t maker; /* a forked child leaves them alone */
};

static PyObject *counts_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {NULL};
	struct counts *self;
	int error;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Counts", keywords))
		return NULL;
	self = (struct counts *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->fd = -1;
	self->maker = getpid();
	error = vdso_counts_create(&self->fd);
	self->there = error == 0 ? vdso_counts_map(self->fd) : NULL;
	if (self->there == NULL) {
		Py_DECREF(self);
		return error != 0 ? vdso_raise_errno(error) : PyErr_SetFromErrno(PyExc_OSError);
	}
	return (PyObject *)self;
}

static void counts_dealloc(PyObject *object)
{
	struct counts *self = (struct counts *)object;
	PyTypeObject *type = Py_TYPE(object);

	vdso_counts_unmap(self->there);
	/* Programs keep them mapped: they need no memory for what nobody reads. */
	if (self->fd >= 0 && self->maker == getpid())
		vdso_counts_discard(self->fd);
	if (self->fd >= 0)
		close(self->fd);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *counts_program(PyObject *object, PyObject *args)
{
	const char *name;
	int pid;

	if (!PyArg_ParseTuple(args, "iy:program", &pid, &name))
		return NULL;
	return PyLong_FromUnsignedLong(vdso_counts_program(((struct counts *)object)->there, pid, name));
}

static PyObject *as_tuple(const struct vdso_count_cell *cell)
{
	PyObject *calls = PyTuple_New(VDSO_COUNT_SLOTS);

	for (unsigned i = 0; calls != NULL && i < VDSO_COUNT_SLOTS; i++) {
		PyObject *number = PyLong_FromUnsignedLongLong(cell->calls[i]);

		if (number == NULL)
			Py_CLEAR(calls);
		else
			PyTuple_SET_ITEM(calls, (Py_ssize_t)i, number);
	}
	if (calls == NULL)
		return NULL;
	return Py_BuildValue("(IiiIy#N)", cell->kind, cell->pid, cell->tid, cell->program, cell->name,
			     (Py_ssize_t)strnlen(cell->name, sizeof(cell->name)), calls);
}

/* Appends what is made, which may be NULL with an exception. */
static int append(PyObject *list, PyObject *item)
{
	int error = item == NULL ? -1 : PyList_Append(list, item);

	Py_XDECREF(item);
	return error;
}

static PyObject *cells(const struct vdso_counts *there)
{
	uint32_t used = vdso_counts_used(there), parts = 2 * used; /* and there are no more, unless a program makes them up */
	PyObject *ret = PyList_New(0);
	struct vdso_count_cell cell, part;

	for (uint32_t i = 0; ret != NULL && i < used; i++)
		if (vdso_counts_cell(there, i, &cell))
			while (ret != NULL && parts > 0 && vdso_counts_part(there, &cell, &part)) {
				parts--;
				if (append(ret, as_tuple(&part)) != 0)
					Py_CLEAR(ret);
			}
	return ret;
}

static PyObject *counts_cells(PyObject *object, PyObject *Py_UNUSED(none))
{
	return cells(((struct counts *)object)->there);
}

static PyObject *counts_look(PyObject *Py_UNUSED(module), PyObject *arg)
{
	long fd = PyLong_AsLong(arg);
	const struct vdso_counts *there;
	PyObject *ret;

	if (fd == -1 && PyErr_Occurred())
		return NULL;
	there = vdso_counts_view((int)fd);
	if (there == NULL)
		return PyErr_SetFromErrno(PyExc_OSError);
	ret = cells(there);
	vdso_counts_unmap(there);
	return ret;
}

static PyMethodDef functions[] = {
	{"counts_look", counts_look, METH_O,
	 "counts_look(fd, /)\n--\n\nThe cells of counts that are another's, which may be open for reading alone. OSError."},
	{NULL, NULL, 0, NULL},
};

static PyObject *counts_sample_one_in(PyObject *object, PyObject *arg)
{
	unsigned long long calls = PyLong_AsUnsignedLongLong(arg);

	if (PyErr_Occurred())
		return NULL;
	vdso_counts_sample_one_in(((struct counts *)object)->there, calls);
	Py_RETURN_NONE;
}

static PyObject *counts_end(PyObject *object, PyObject *Py_UNUSED(none))
{
	vdso_counts_end(((struct counts *)object)->there);
	Py_RETURN_NONE;
}

static PyObject *sample_tuple(const struct vdso_count_sample *s)
{
	return Py_BuildValue("(iiIIiK(KKKKKKKK)y#y#N)", s->pid, s->tid, s->program, s->slot, s->clock, (unsigned long long)s->weight,
			     (unsigned long long)s->rip, (unsigned long long)s->rsp, (unsigned long long)s->rbp,
			     (unsigned long long)s->rbx, (unsigned long long)s->r12, (unsigned long long)s->r13,
			     (unsigned long long)s->r14, (unsigned long long)s->r15, (const char *)s->stack,
			     (Py_ssize_t)s->stack_size, (const char *)s->frame, (Py_ssize_t)s->frame_size, PyBool_FromLong(s->raw == 1));
}

static PyObject *counts_samples(PyObject *object, PyObject *arg)
{
	const struct vdso_counts *there = ((struct counts *)object)->there;
	uint64_t after = PyLong_AsUnsignedLongLong(arg), sampled = vdso_counts_sampled(there);
	PyObject *ret = PyErr_Occurred() ? NULL : PyList_New(0);
	struct vdso_count_sample sample;

	if (sampled > VDSO_COUNT_SAMPLES && after < sampled - VDSO_COUNT_SAMPLES)
		after = sampled - VDSO_COUNT_SAMPLES;
	for (uint64_t i = after + 1; ret != NULL && i <= sampled; i++)
		if (vdso_counts_sample(there, i, &sample) && append(ret, sample_tuple(&sample)) != 0)
			Py_CLEAR(ret);
	return ret == NULL ? NULL : Py_BuildValue("(NK)", ret, (unsigned long long)sampled);
}

static PyObject *counts_left(PyObject *object, PyObject *Py_UNUSED(none))
{
	const struct vdso_counts *there = ((struct counts *)object)->there;
	PyObject *ret = PyList_New(0);
	const char *text;
	uint64_t at = 0;
	size_t size;
	pid_t pid;

	while (ret != NULL && (text = vdso_counts_left(there, &at, &pid, &size)) != NULL)
		if (append(ret, Py_BuildValue("(iy#)", (int)pid, text, (Py_ssize_t)size)) != 0)
			Py_CLEAR(ret);
	return ret;
}

static PyObject *counts_fd(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((struct counts *)object)->fd);
}

static PyMethodDef counts_methods[] = {
	{"program", counts_program, METH_VARARGS,
	 "program(pid, name, /)\n--\n\nA cell for a program; 0 where none is left."},
	{"cells", counts_cells, METH_NOARGS,
	 "cells()\n--\n\nAll that are in use: (CELL_*, pid, tid, the program's cell, name, calls by slot)."},
	{"end", counts_end, METH_NOARGS,
	 "end()\n--\n\nWhat begins from now on is not counted, and left on the kernel's vDSO; what counts already goes on."},
	{"sample_one_in", counts_sample_one_in, METH_O,
	 "sample_one_in(calls, /)\n--\n\nTakes samples of one call in so many from now on, on average; 0: none."},
	{"samples", counts_samples, METH_O,
	 "samples(after, /)\n--\n\n"
	 "Those after that number which are still there, and the number of the last that was begun. Each is\n"
	 "(pid, tid, program, slot, clock, weight, (rip, rsp, rbp, rbx, r12, r13, r14, r15), stack, frame, raw)."},
	{"left", counts_left, METH_NOARGS,
	 "left()\n--\n\nWhat programs had mapped when they ended, or exec'd: (pid, the executable lines of its maps file)."},
	{NULL, NULL, 0, NULL},
};

static PyObject *counts_full(PyObject *object, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(vdso_counts_used(((struct counts *)object)->there) == VDSO_COUNT_CELLS);
}

static PyObject *counts_followed(PyObject *object, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(((struct counts *)object)->there->followed);
}

static PyObject *counts_began_ns(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((struct counts *)object)->there->began_ns);
}

static PyGetSetDef counts_getset[] = {
	{"fd", counts_fd, NULL, "The memfd's descriptor, which stays the object's.", NULL},
	{"began_ns", counts_began_ns, NULL, "When the first program was given a cell, by CLOCK_MONOTONIC; 0: none was.", NULL},
	{"full", counts_full, NULL, "All cells have been handed out.", NULL},
	{"followed", counts_followed, NULL, "A follower has a filter by which it sees execs, and what else was asked for.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot counts_slots[] = {
	{Py_tp_doc, "Counts()\n--\n\nNew ones, in memory that programs share, and that is given back with the object. Raises OSError."},
	{Py_tp_new, counts_new},
	{Py_tp_dealloc, counts_dealloc},
	{Py_tp_methods, counts_methods},
	{Py_tp_getset, counts_getset},
	{0, NULL},
};

static PyType_Spec counts_spec = {
	.name = "vdso._core.Counts",
	.basicsize = sizeof(struct counts),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = counts_slots,
};

int vdso_add_counts(PyObject *module)
{
	static const struct {
		const char *name;
		int value;
	} constants[] = {
		{"CELL_PROGRAM", VDSO_CELL_PROGRAM},       {"CELL_THREAD", VDSO_CELL_THREAD},
		{"CELL_RAW", VDSO_CELL_RAW},               {"COUNT_IDS", VDSO_COUNT_IDS},
		{"COUNT_CPU", VDSO_COUNT_CPU},             {"COUNT_DEVICE", VDSO_COUNT_DEVICE},
		{"COUNT_AUXILIARY", VDSO_COUNT_AUXILIARY}, {"COUNT_UNKNOWN", VDSO_COUNT_UNKNOWN},
		{"COUNT_GETTIMEOFDAY", VDSO_COUNT_GETTIMEOFDAY}, {"COUNT_TIME", VDSO_COUNT_TIME},
		{"COUNT_GETCPU", VDSO_COUNT_GETCPU},       {"COUNT_GETRES", VDSO_COUNT_GETRES},
		{"COUNT_GETRANDOM", VDSO_COUNT_GETRANDOM}, {"COUNT_RAW", VDSO_COUNT_RAW}, {"COUNT_CELLS", VDSO_COUNT_CELLS},
	};

	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) != 0)
			return -1;
	return PyModule_AddFunctions(module, functions) != 0 ? -1 : vdso_add_type(module, &counts_spec);
}
