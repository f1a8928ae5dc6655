/* Ways to the vDSO, observed: c/core/observe.h, c/core/placement.h. */
#include "module.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "observe.h"
#include "placement.h"

PyDoc_STRVAR(observe_doc,
	     "observe_calls()\n--\n\n"
	     "Makes each call of the C library's that a vDSO could serve once in each of two forked children. A list of (name, clock id or -1,\n"
	     "vdso, caller, system call): vdso is 1 when it entered the vDSO, 0 when not, -1 when that could not be seen; caller\n"
	     "is CALLER_NOBODY when it stayed out of the kernel, -1 when it never came back; the system call is a name or None.\n\n"
	     "OSError: no child to be had, or seccomp refused the filter.");

static PyObject *observe_calls(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
	struct vdso_observed calls[VDSO_OBSERVED_MAX];
	PyObject *ret;
	int count;

	/* The children are of the C library's fork, and know nothing of the interpreter. */
	Py_BEGIN_ALLOW_THREADS
	count = vdso_observe(calls);
	Py_END_ALLOW_THREADS
	if (count < 0)
		return vdso_raise_errno(count);
	ret = PyList_New(count);
	for (int i = 0; ret != NULL && i < count; i++) {
		const struct vdso_observed *c = &calls[i];
		PyObject *item = Py_BuildValue("(siiiz)", c->call, c->clock, c->vdso, c->caller, vdso_observed_name(c->number));

		if (item == NULL)
			Py_CLEAR(ret);
		else
			PyList_SET_ITEM(ret, i, item);
	}
	return ret;
}

PyDoc_STRVAR(placement_doc,
	     "placement(program, count, /)\n--\n\n"
	     "The vDSO's address in `count` fresh executions of vdso-base, whose path is given; 0: without one.\n\nOSError.");

static PyObject *placement(PyObject *Py_UNUSED(module), PyObject *args)
{
	PyObject *path, *ret = NULL;
	uint64_t *found;
	Py_ssize_t count;
	int error;

	if (!PyArg_ParseTuple(args, "O&n:placement", PyUnicode_FSConverter, &path, &count))
		return NULL;
	if (count < 0 || count > 1 << 20) {
		Py_DECREF(path);
		return vdso_raise_errno(EINVAL);
	}
	found = calloc((size_t)count + 1, sizeof(*found));
	if (found == NULL) {
		Py_DECREF(path);
		return PyErr_NoMemory();
	}
	Py_BEGIN_ALLOW_THREADS
	error = vdso_placement(PyBytes_AS_STRING(path), (size_t)count, found);
	Py_END_ALLOW_THREADS
	Py_DECREF(path);
	if (error != 0)
		vdso_raise_errno(error);
	else
		ret = PyList_New(count);
	for (Py_ssize_t i = 0; ret != NULL && i < count; i++) {
		PyObject *item = PyLong_FromUnsignedLongLong(found[i]);

		if (item == NULL)
			Py_CLEAR(ret);
		else
			PyList_SET_ITEM(ret, i, item);
	}
	free(found);
	return ret;
}

static PyObject *sysinfo_ehdr(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
	return PyLong_FromUnsignedLong(getauxval(AT_SYSINFO_EHDR));
}

static PyMethodDef functions[] = {
	{"observe_calls", observe_calls, METH_NOARGS, observe_doc},
	{"placement", placement, METH_VARARGS, placement_doc},
	{"sysinfo_ehdr", sysinfo_ehdr, METH_NOARGS,
	 "sysinfo_ehdr()\n--\n\nThe vDSO's address as this process was told it (getauxval(3)), 0: it was told of none."},
	{NULL, NULL, 0, NULL},
};

int vdso_add_observe(PyObject *module)
{
	if (PyModule_AddIntConstant(module, "CALLER_NOBODY", VDSO_CALLER_NOBODY) != 0 ||
	    PyModule_AddIntConstant(module, "CALLER_LIBRARY", VDSO_CALLER_LIBRARY) != 0 ||
	    PyModule_AddIntConstant(module, "CALLER_VDSO", VDSO_CALLER_VDSO) != 0 ||
	    PyModule_AddIntConstant(module, "CALLER_VSYSCALL", VDSO_CALLER_VSYSCALL) != 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
