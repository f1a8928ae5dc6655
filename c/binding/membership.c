/* Which clock page a process runs on (membership.h). */
#include "module.h"

#include "membership.h"
#include "process.h"

static PyObject *clock_inode(PyObject *Py_UNUSED(module), PyObject *arg)
{
	long pid = PyLong_AsLong(arg);
	uint64_t inode;
	int error;

	if (pid == -1 && PyErr_Occurred())
		return NULL;
	error = vdso_membership_read((pid_t)pid, &inode);
	return error != 0 ? vdso_raise_errno(error) : PyLong_FromUnsignedLongLong(inode);
}

static PyObject *counts_calls(PyObject *Py_UNUSED(module), PyObject *arg)
{
	long pid = PyLong_AsLong(arg);
	struct vdso_membership found;
	int error;

	if (pid == -1 && PyErr_Occurred())
		return NULL;
	error = vdso_membership_look((pid_t)pid, &found);
	return error != 0 ? vdso_raise_errno(error) : PyBool_FromLong(vdso_membership_counts(&found));
}

static PyMethodDef functions[] = {
	{"clock_inode", clock_inode, METH_O,
	 "clock_inode(pid, /)\n--\n\n"
	 "The inode of the clock page that a process computes its time by; 0: it runs on the host's clock.\n\n"
	 "OSError: no such process, or none that we may look into."},
	{"counts_calls", counts_calls, METH_O,
	 "counts_calls(pid, /)\n--\n\n"
	 "Whether a process is on the counting image, and counts its clock calls there.\n\n"
	 "OSError: no such process, or none that we may look into."},
	{NULL, NULL, 0, NULL},
};

int vdso_add_membership(PyObject *module)
{
	if (PyModule_AddIntConstant(module, "PROCESS_NO_COUNTER", VDSO_PROCESS_NO_COUNTER) != 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
