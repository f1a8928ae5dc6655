/* A program that is held at its exec: c/core/held.h. */
#include "module.h"

#include "held.h"

static PyObject *held_ask(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
	int error = vdso_held_ask();

	return error != 0 ? vdso_raise_errno(error) : Py_NewRef(Py_None);
}

static PyObject *held_wait(PyObject *Py_UNUSED(module), PyObject *arg)
{
	long pid = PyLong_AsLong(arg);
	int held;

	if (pid == -1 && PyErr_Occurred())
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	held = vdso_held_wait((pid_t)pid);
	Py_END_ALLOW_THREADS
	return held < 0 ? vdso_raise_errno(held) : PyBool_FromLong(held);
}

static PyMethodDef functions[] = {
	{"held_ask", held_ask, METH_NOARGS,
	 "held_ask()\n--\n\nIn a forked child: its next successful exec stops it before its first instruction. OSError."},
	{"held_wait", held_wait, METH_O,
	 "held_wait(pid, /)\n--\n\nWhether the child is held at its exec now; False: it has ended. By the thread that forked it.\n\nOSError."},
	{NULL, NULL, 0, NULL},
};

int vdso_add_held(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
