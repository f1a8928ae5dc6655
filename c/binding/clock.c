#include "module.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "process.h"

PyDoc_STRVAR(kernel_clock_ns_doc,
	     "kernel_clock_ns(clock_id, /)\n--\n\n"
	     "The kernel's clock in ns, by the true system call: no vDSO, and so no image of ours, has a part in it.\n\n"
	     "OSError (EINVAL) for a clock that the kernel does not have.");

static PyObject *kernel_clock_ns(PyObject *Py_UNUSED(module), PyObject *arg)
{
	long id = PyLong_AsLong(arg);
	struct timespec now;

	if (id == -1 && PyErr_Occurred())
		return NULL;
	if (id != (int)id) {
		PyErr_SetString(PyExc_OverflowError, "a clock id is a C int");
		return NULL;
	}
	/* Marked as the image's own are, so that under `vdso run --strict` too it is the kernel's. */
	if (syscall(SYS_clock_gettime, (int)id, &now, 0L, 0L, 0L, VDSO_MARK) != 0)
		return vdso_raise_errno(errno);
	/* 64 bits of ns end in 2262; the clock does not. */
	if (now.tv_sec > -9000000000LL && now.tv_sec < 9000000000LL)
		return PyLong_FromLongLong((long long)now.tv_sec * 1000000000LL + now.tv_nsec);

	PyObject *sec = PyLong_FromLongLong(now.tv_sec), *billion = PyLong_FromLong(1000000000L);
	PyObject *nsec = PyLong_FromLong(now.tv_nsec), *product = NULL, *ret = NULL;

	if (sec != NULL && billion != NULL && nsec != NULL && (product = PyNumber_Multiply(sec, billion)) != NULL)
		ret = PyNumber_Add(product, nsec);
	Py_XDECREF(product);
	Py_XDECREF(nsec);
	Py_XDECREF(billion);
	Py_XDECREF(sec);
	return ret;
}

/* By the true system call: C libraries have stopped to ask the kernel for it. */
static PyObject *kernel_timezone(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
	struct timezone zone;

	if (syscall(SYS_gettimeofday, NULL, &zone) != 0)
		return vdso_raise_errno(errno);
	return Py_BuildValue("(ii)", zone.tz_minuteswest, zone.tz_dsttime);
}

static PyMethodDef functions[] = {
	{"kernel_clock_ns", kernel_clock_ns, METH_O, kernel_clock_ns_doc},
	{"kernel_timezone", kernel_timezone, METH_NOARGS,
	 "kernel_timezone()\n--\n\nThe kernel's time zone: (minutes west of Greenwich, DST). Raises OSError."},
	{NULL, NULL, 0, NULL},
};

int vdso_add_clock(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
