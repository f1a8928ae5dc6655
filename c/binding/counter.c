/* The CPUs' counter, and how finely clocks count: c/core/counter.h, c/core/resolution.h. */
#include "module.h"

#include <errno.h>
#include <sys/prctl.h>

#include "counter.h"
#include "resolution.h"

static uint64_t read_counter(void *context)
{
	(void)context;
	return vdso_counter();
}

PyDoc_STRVAR(counter_compare_doc,
	     "counter_compare(budget_ns, /)\n--\n\n"
	     "Holds the counters of the CPUs that this process may use against each other, for some budget_ns in all: (pairs,\n"
	     "handovers, warps, the widest in counts, whether every pair has met often enough to tell, whether each CPU was\n"
	     "held against each, or for want of time against the first alone).\n\n"
	     "OSError: ENOSYS where the architecture's counter is not known here.");

static PyObject *counter_compare(PyObject *Py_UNUSED(module), PyObject *arg)
{
#if defined(__x86_64__) || defined(__aarch64__)
	unsigned long long budget_ns = PyLong_AsUnsignedLongLong(arg);
	struct vdso_counter_trust trust = {0};
	int error;

	if (budget_ns == (unsigned long long)-1 && PyErr_Occurred())
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	error = vdso_counter_warp(read_counter, NULL, true, budget_ns, &trust);
	Py_END_ALLOW_THREADS
	return Py_BuildValue("(IKKKNN)", trust.pairs, (unsigned long long)trust.handovers, (unsigned long long)trust.warps,
			     (unsigned long long)trust.warp_max, PyBool_FromLong(error == 0), PyBool_FromLong(trust.all));
#else
	(void)arg;
	(void)read_counter;
	return vdso_raise_errno(ENOSYS);
#endif
}

/* PR_GET_TSC is of x86 alone; others' counters have no such switch for a process. */
static PyObject *counter_allowed(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
	int mode = PR_TSC_ENABLE;

	if (prctl(PR_GET_TSC, &mode, 0, 0, 0) != 0 && errno != EINVAL)
		return vdso_raise_errno(errno);
	return PyBool_FromLong(mode == PR_TSC_ENABLE);
}

PyDoc_STRVAR(clock_step_doc,
	     "clock_step(clock_id, limit_ns, /)\n--\n\n"
	     "The smallest step in ns that the clock is seen to make between two reads; 0: it stood still for limit_ns.\n\n"
	     "OSError (EINVAL) for a clock that there is not.");

static PyObject *clock_step(PyObject *Py_UNUSED(module), PyObject *args)
{
	unsigned long long limit_ns;
	int64_t step;
	int clock;

	if (!PyArg_ParseTuple(args, "iK:clock_step", &clock, &limit_ns))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	step = vdso_resolution_step(clock, limit_ns);
	Py_END_ALLOW_THREADS
	return step < 0 ? vdso_raise_errno((int)step) : PyLong_FromLongLong(step);
}

static PyMethodDef functions[] = {
	{"counter_compare", counter_compare, METH_O, counter_compare_doc},
	{"counter_allowed", counter_allowed, METH_NOARGS,
	 "counter_allowed()\n--\n\nWhether this process may read the counter: False after PR_SET_TSC. OSError."},
	{"clock_step", clock_step, METH_VARARGS, clock_step_doc},
	{NULL, NULL, 0, NULL},
};

int vdso_add_counter(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
