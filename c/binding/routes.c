/* Routes to a clock, timed: c/core/routes.h. */
#include "module.h"

#include <errno.h>
#include <stdlib.h>

#include "routes.h"

PyDoc_STRVAR(route_ns_doc,
	     "route_ns(route, count, function=0, clock_id=0, /)\n--\n\n"
	     "The ns that `count` calls by that route (ROUTE_...) take together: one batch. function is an address, for\n"
	     "ROUTE_FUNCTION.\n\n"
	     "OSError: EINVAL when the route answers with an error, ENOSYS when this machine has none such.");

static PyObject *route_ns(PyObject *Py_UNUSED(module), PyObject *args)
{
	unsigned long long function = 0, count;
	int route, clock = 0;
	int64_t ns;

	if (!PyArg_ParseTuple(args, "iK|Ki:route_ns", &route, &count, &function, &clock))
		return NULL;
	if (route < 0 || route >= VDSO_ROUTES)
		return vdso_raise_errno(EINVAL);
	Py_BEGIN_ALLOW_THREADS
	ns = vdso_route_time((enum vdso_route)route, (uintptr_t)function, clock, count);
	Py_END_ALLOW_THREADS
	return ns < 0 ? vdso_raise_errno((int)ns) : PyLong_FromLongLong(ns);
}

PyDoc_STRVAR(route_compare_doc,
	     "route_compare(first, second, clock_id, count, /)\n--\n\n"
	     "Two functions of clock_gettime's form, by their addresses, read in turns. A list of (counter before, first's ns,\n"
	     "counter between, second's ns, counter after, first's ns once more).\n\nOSError as route_ns().");

static PyObject *route_compare(PyObject *Py_UNUSED(module), PyObject *args)
{
	unsigned long long first, second;
	struct vdso_route_sample *samples;
	PyObject *ret = NULL;
	Py_ssize_t count;
	int clock, error;

	if (!PyArg_ParseTuple(args, "KKin:route_compare", &first, &second, &clock, &count))
		return NULL;
	if (count < 0 || count > 1 << 24)
		return vdso_raise_errno(EINVAL);
	samples = calloc((size_t)count + 1, sizeof(*samples));
	if (samples == NULL)
		return PyErr_NoMemory();
	Py_BEGIN_ALLOW_THREADS
	error = vdso_route_compare((uintptr_t)first, (uintptr_t)second, clock, samples, (size_t)count);
	Py_END_ALLOW_THREADS
	if (error != 0)
		vdso_raise_errno(error);
	else
		ret = PyList_New(count);
	for (Py_ssize_t i = 0; ret != NULL && i < count; i++) {
		const struct vdso_route_sample *s = &samples[i];
		PyObject *item = Py_BuildValue("(KLKLKL)", (unsigned long long)s->counter[0], (long long)s->first_ns,
					       (unsigned long long)s->counter[1], (long long)s->second_ns,
					       (unsigned long long)s->counter[2], (long long)s->again_ns);

		if (item == NULL)
			Py_CLEAR(ret);
		else
			PyList_SET_ITEM(ret, i, item);
	}
	free(samples);
	return ret;
}

static PyObject *has_vsyscall(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
	return PyBool_FromLong(vdso_route_vsyscall());
}

static PyMethodDef functions[] = {
	{"route_ns", route_ns, METH_VARARGS, route_ns_doc},
	{"route_compare", route_compare, METH_VARARGS, route_compare_doc},
	{"has_vsyscall", has_vsyscall, METH_NOARGS,
	 "has_vsyscall()\n--\n\nWhether the kernel lets programs call into the vsyscall page."},
	{NULL, NULL, 0, NULL},
};

int vdso_add_routes(PyObject *module)
{
	if (PyModule_AddIntConstant(module, "ROUTE_EMPTY", VDSO_ROUTE_EMPTY) != 0 ||
	    PyModule_AddIntConstant(module, "ROUTE_FUNCTION", VDSO_ROUTE_FUNCTION) != 0 ||
	    PyModule_AddIntConstant(module, "ROUTE_LIBC", VDSO_ROUTE_LIBC) != 0 ||
	    PyModule_AddIntConstant(module, "ROUTE_SYSCALL", VDSO_ROUTE_SYSCALL) != 0 ||
	    PyModule_AddIntConstant(module, "ROUTE_VSYSCALL", VDSO_ROUTE_VSYSCALL) != 0 ||
	    PyModule_AddIntConstant(module, "ROUTE_RDTSC", VDSO_ROUTE_RDTSC) != 0 ||
	    PyModule_AddIntConstant(module, "ROUTE_RDTSCP", VDSO_ROUTE_RDTSCP) != 0 ||
	    PyModule_AddIntConstant(module, "ROUTE_LFENCE_RDTSC", VDSO_ROUTE_LFENCE_RDTSC) != 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
