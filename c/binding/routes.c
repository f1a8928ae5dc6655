/* Routes to a clock, timed: c/core/routes.h. */
#include "module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "routes.h"

PyDoc_STRVAR(route_ns_doc,
	     "route_ns(route, count, function=0, clock_id=0, call=CALL_CLOCK_GETTIME, /)\n--\n\n"
	     "The ns that `count` calls by that route (ROUTE_...) take together: one batch; 0 gives the timer's own cost.\n"
	     "function is the address of that call's function, for ROUTE_FUNCTION.\n\n"
	     "OSError: EINVAL when the route answers with an error, ENOSYS when there is none such for this call, or on\n"
	     "this machine.");

static PyObject *route_ns(PyObject *Py_UNUSED(module), PyObject *args)
{
	int route, clock = 0, call = VDSO_CALL_CLOCK_GETTIME;
	unsigned long long function = 0, count;
	int64_t ns;

	if (!PyArg_ParseTuple(args, "iK|Kii:route_ns", &route, &count, &function, &clock, &call))
		return NULL;
	if (route < 0 || route >= VDSO_ROUTES || call < 0 || call >= VDSO_CALLS)
		return vdso_raise_errno(EINVAL);
	Py_BEGIN_ALLOW_THREADS
	ns = vdso_route_time((enum vdso_route)route, (enum vdso_call)call, (uintptr_t)function, clock, count);
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

static PyObject *hypervisor(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
	char name[13];

	vdso_route_hypervisor(name);
	return PyUnicode_DecodeLatin1(name, (Py_ssize_t)strlen(name), NULL);
}

static PyMethodDef functions[] = {
	{"route_ns", route_ns, METH_VARARGS, route_ns_doc},
	{"route_compare", route_compare, METH_VARARGS, route_compare_doc},
	{"has_vsyscall", has_vsyscall, METH_NOARGS,
	 "has_vsyscall()\n--\n\nWhether the kernel lets programs call into the vsyscall page."},
	{"hypervisor", hypervisor, METH_NOARGS,
	 "hypervisor()\n--\n\nWho answers CPUID's hypervisor leaf (\"KVMKVMKVM\"), \"\" where none does."},
	{NULL, NULL, 0, NULL},
};

static const struct {
	const char *name;
	int value;
} constants[] = {
	{"ROUTE_LOOP", VDSO_ROUTE_LOOP},
	{"ROUTE_EMPTY", VDSO_ROUTE_EMPTY},
	{"ROUTE_FUNCTION", VDSO_ROUTE_FUNCTION},
	{"ROUTE_LIBC", VDSO_ROUTE_LIBC},
	{"ROUTE_SYSCALL", VDSO_ROUTE_SYSCALL},
	{"ROUTE_VSYSCALL", VDSO_ROUTE_VSYSCALL},
	{"ROUTE_RDTSC", VDSO_ROUTE_RDTSC},
	{"ROUTE_RDTSCP", VDSO_ROUTE_RDTSCP},
	{"ROUTE_LFENCE_RDTSC", VDSO_ROUTE_LFENCE_RDTSC},
	{"CALL_CLOCK_GETTIME", VDSO_CALL_CLOCK_GETTIME},
	{"CALL_CLOCK_GETRES", VDSO_CALL_CLOCK_GETRES},
	{"CALL_GETTIMEOFDAY", VDSO_CALL_GETTIMEOFDAY},
	{"CALL_TIME", VDSO_CALL_TIME},
	{"CALL_GETCPU", VDSO_CALL_GETCPU},
	{"CALL_GETRANDOM", VDSO_CALL_GETRANDOM},
	{"CALL_GETPPID", VDSO_CALL_GETPPID},
	{"ROUTE_RANDOM_BYTES", VDSO_ROUTE_RANDOM_BYTES},
};

int vdso_add_routes(PyObject *module)
{
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) != 0)
			return -1;
	return PyModule_AddFunctions(module, functions);
}
