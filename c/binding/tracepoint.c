/* Tracepoints of system calls, as descriptors (tracepoint.h). */
#include "module.h"

#include "tracepoint.h"

static PyObject *tracepoint_find(PyObject *Py_UNUSED(module), PyObject *arg)
{
	const char *name = PyUnicode_AsUTF8(arg);
	int number;

	if (name == NULL)
		return NULL;
	number = vdso_tracepoint_find(name);
	return number < 0 ? vdso_raise_errno(number) : PyLong_FromLong(number);
}

static PyObject *tracepoint_open(PyObject *Py_UNUSED(module), PyObject *args)
{
	const char *filter;
	int number, tid, from_exec, fd;

	if (!PyArg_ParseTuple(args, "izip:tracepoint_open", &number, &filter, &tid, &from_exec))
		return NULL;
	fd = vdso_tracepoint_open(number, filter, tid, from_exec);
	return fd < 0 ? vdso_raise_errno(fd) : PyLong_FromLong(fd);
}

static PyMethodDef functions[] = {
	{"tracepoint_find", tracepoint_find, METH_O,
	 "tracepoint_find(name, /)\n--\n\nThe number of syscalls:sys_enter_NAME. Raises OSError."},
	{"tracepoint_open", tracepoint_open, METH_VARARGS,
	 "tracepoint_open(number, only, tid, from_exec, /)\n--\n\n"
	 "A descriptor from which to read, as 8 bytes, how often the task, and what it starts from now on, has passed it; "
	 "from_exec: each of them only once it has executed a program. Raises OSError."},
	{NULL, NULL, 0, NULL},
};

int vdso_add_tracepoint(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
