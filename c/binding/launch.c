/* Starting followers, keepers and commands: c/core/launch.h. Their errors come back as numbers, since what to do about
 * them is swap/run.py's to decide. */
#include "module.h"

#include <errno.h>
#include <stdlib.h>

#include "filter.h"
#include "front.h"
#include "launch.h"

/* A NULL-terminated vector of the file-system encoded strings; each is kept alive by *hold. */
static char **as_vector(PyObject *words, PyObject **hold)
{
	PyObject *list = PySequence_List(words);
	Py_ssize_t count = list == NULL ? -1 : PyList_GET_SIZE(list);
	char **vector = count < 0 ? NULL : calloc((size_t)count + 1, sizeof(*vector));

	for (Py_ssize_t i = 0; vector != NULL && i < count; i++) {
		PyObject *bytes = NULL;

		if (!PyUnicode_FSConverter(PyList_GET_ITEM(list, i), &bytes)) {
			free(vector);
			Py_DECREF(list);
			return NULL;
		}
		vector[i] = PyBytes_AS_STRING(bytes);
		PyList_SetItem(list, i, bytes);
	}
	if (vector == NULL) {
		Py_XDECREF(list);
		if (!PyErr_Occurred())
			PyErr_NoMemory();
		return NULL;
	}
	*hold = list;
	return vector;
}

PyDoc_STRVAR(launch_doc,
	     "launch(follower, image_fd, clock_fd, filter, life_fd, counts_fd, counter, strict, command, /)\n--\n\n"
	     "With command None: (0, step, 0) once the caller may exec, and its next exec is swapped.\n"
	     "With a list of words: runs it, waits, and gives (0, step, wait status).\n"
	     "Else (errno, step, 0), with step one of LAUNCH_START, LAUNCH_FILTER, LAUNCH_HOLD.");

static PyObject *launch(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct vdso_launch l = {0};
	enum vdso_launch_step step;
	PyObject *follower = NULL, *command = NULL, *hold = NULL;
	int counter, strict, status = 0, error;

	if (!PyArg_ParseTuple(args, "O&iiIiippO:launch", PyUnicode_FSConverter, &follower, &l.image_fd, &l.clock_fd,
			      &l.filter, &l.life_fd, &l.counts_fd, &counter, &strict, &command))
		return NULL;
	if (command != Py_None && (l.command = as_vector(command, &hold)) == NULL) {
		Py_DECREF(follower);
		return NULL;
	}
	l.follower = PyBytes_AS_STRING(follower);
	l.counter = counter;
	l.strict = strict;
	Py_BEGIN_ALLOW_THREADS
	error = vdso_launch(&l, &status, &step);
	Py_END_ALLOW_THREADS
	free(l.command);
	Py_XDECREF(hold);
	Py_DECREF(follower);
	return Py_BuildValue("(iii)", -error, (int)step, error == 0 ? status : 0);
}

PyDoc_STRVAR(launch_apart_doc,
	     "launch_apart(path, words, fds, /)\n--\n\n"
	     "Starts a program in a session of its own that is nobody's child, with these descriptors. Raises OSError.");

static PyObject *launch_apart(PyObject *Py_UNUSED(module), PyObject *args)
{
	PyObject *path = NULL, *words, *fd_list, *hold = NULL;
	int fds[8], error;
	Py_ssize_t count;
	char **argv;

	if (!PyArg_ParseTuple(args, "O&OO!:launch_apart", PyUnicode_FSConverter, &path, &words, &PyList_Type, &fd_list))
		return NULL;
	count = PyList_GET_SIZE(fd_list);
	argv = count <= 8 ? as_vector(words, &hold) : NULL;
	if (argv == NULL) {
		Py_DECREF(path);
		return PyErr_Occurred() ? NULL : vdso_raise_errno(E2BIG);
	}
	for (Py_ssize_t i = 0; i < count; i++)
		fds[i] = (int)PyLong_AsLong(PyList_GET_ITEM(fd_list, i));
	error = PyErr_Occurred() ? 0 : vdso_launch_apart(PyBytes_AS_STRING(path), argv, fds, (size_t)count);
	free(argv);
	Py_DECREF(hold);
	Py_DECREF(path);
	if (PyErr_Occurred())
		return NULL;
	if (error != 0)
		return vdso_raise_errno(error);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(adopt_doc,
	     "adopt(clock_fd, counter, strict, /)\n--\n\n"
	     "Asks a follower above us to run our next exec on this clock page. None: there is none above us; else 0 or an errno.");

static PyObject *adopt(PyObject *Py_UNUSED(module), PyObject *args)
{
	int fd, counter, strict, error;

	if (!PyArg_ParseTuple(args, "ipp:adopt", &fd, &counter, &strict))
		return NULL;
	if (!vdso_launch_adopt(fd, counter, strict, &error))
		Py_RETURN_NONE;
	return PyLong_FromLong(-error);
}

PyDoc_STRVAR(refuse_clock_setting_doc,
	     "refuse_clock_setting()\n--\n\n"
	     "From now on, and in what we exec, setting the clock fails: by a filter, or by dropping CAP_SYS_TIME. Raises OSError.");

static PyObject *refuse_clock_setting(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
	int listener;
	int error = vdso_filter_install(0, &listener);

	if (error != 0)
		error = vdso_filter_drop_time();
	if (error != 0)
		return vdso_raise_errno(error);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(end_as_doc, "end_as(wait_status, /)\n--\n\nEnds this process as that status says another one ended.");

static PyObject *end_as(PyObject *Py_UNUSED(module), PyObject *arg)
{
	long status = PyLong_AsLong(arg);

	if (status == -1 && PyErr_Occurred())
		return NULL;
	vdso_front_end((int)status);
}

static PyMethodDef functions[] = {
	{"launch", launch, METH_VARARGS, launch_doc},
	{"launch_apart", launch_apart, METH_VARARGS, launch_apart_doc},
	{"adopt", adopt, METH_VARARGS, adopt_doc},
	{"refuse_clock_setting", refuse_clock_setting, METH_NOARGS, refuse_clock_setting_doc},
	{"end_as", end_as, METH_O, end_as_doc},
	{NULL, NULL, 0, NULL},
};

int vdso_add_launch(PyObject *module)
{
	if (PyModule_AddIntConstant(module, "FILTER_EXEC", VDSO_FILTER_EXEC) != 0 ||
	    PyModule_AddIntConstant(module, "FILTER_DEADLINES", VDSO_FILTER_DEADLINES) != 0 ||
	    PyModule_AddIntConstant(module, "FILTER_ALL", VDSO_FILTER_ALL) != 0 ||
	    PyModule_AddIntConstant(module, "FILTER_READS", VDSO_FILTER_READS) != 0 ||
	    PyModule_AddIntConstant(module, "FILTER_EXITS", VDSO_FILTER_EXITS) != 0 ||
	    PyModule_AddIntConstant(module, "FILTER_LAST", VDSO_FILTER_LAST) != 0 ||
	    PyModule_AddIntConstant(module, "FILTER_NONE", VDSO_FILTER_NONE) != 0 ||
	    PyModule_AddIntConstant(module, "LAUNCH_START", VDSO_LAUNCH_START) != 0 ||
	    PyModule_AddIntConstant(module, "LAUNCH_FILTER", VDSO_LAUNCH_FILTER) != 0 ||
	    PyModule_AddIntConstant(module, "LAUNCH_HOLD", VDSO_LAUNCH_HOLD) != 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
