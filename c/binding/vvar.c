/* The kernel's clock data where it stands in this process: c/core/vvar.h. */
#include "module.h"

#include <errno.h>
#include <string.h>

#include "vvar.h"

#define COPY_MAX (1 << 20)
#define PATIENCE_NS 100000000u

struct vvar_clock {
	PyObject_HEAD
	struct vdso_vvar_clock clock; /* not changed once it is made */
};

static PyObject *clock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"address", "size", "seq",   "mode",    "cycle_last", "mask",
				   "mult",    "shift", "bases", "counter", "pvclock",    NULL};
	struct vdso_vvar_layout layout = {0};
	unsigned long long address, pvclock = 0;
	int counter = VDSO_VVAR_COUNTER_NONE, error;
	struct vvar_clock *self;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "K|$IIIIIIIIiK:VvarClock", keywords, &address, &layout.size, &layout.seq,
					 &layout.mode, &layout.cycle_last, &layout.mask, &layout.mult, &layout.shift,
					 &layout.bases, &counter, &pvclock))
		return NULL;
	self = (struct vvar_clock *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	error = vdso_vvar_clock_init(&self->clock, (uintptr_t)address, (uintptr_t)pvclock, (enum vdso_vvar_counter)counter,
				     &layout);
	if (error != 0) {
		Py_DECREF(self);
		return vdso_raise_errno(error);
	}
	return (PyObject *)self;
}

static void clock_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);

	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *clock_snapshot(PyObject *object, PyObject *Py_UNUSED(none))
{
	const struct vdso_vvar_clock *clock = &((struct vvar_clock *)object)->clock;
	unsigned char copy[VDSO_VVAR_CLOCK_MAX];
	uint32_t seq;
	int error;

	Py_BEGIN_ALLOW_THREADS
	error = vdso_vvar_snapshot(clock, PATIENCE_NS, copy, &seq);
	Py_END_ALLOW_THREADS
	if (error != 0)
		return vdso_raise_errno(error);
	return Py_BuildValue("(Iy#)", (unsigned)seq, copy, (Py_ssize_t)clock->layout.size);
}

static PyObject *clock_prove(PyObject *object, PyObject *args)
{
	const struct vdso_vvar_clock *clock = &((struct vvar_clock *)object)->clock;
	struct vdso_vvar_proof proof = {0};
	unsigned long long function, count;
	long long offset_ns;
	unsigned id;
	int fine, error;

	if (!PyArg_ParseTuple(args, "pKILK:prove", &fine, &function, &id, &offset_ns, &count))
		return NULL;
	if (function == 0)
		return vdso_raise_errno(EINVAL);
	Py_BEGIN_ALLOW_THREADS
	error = (fine ? vdso_vvar_prove_fine : vdso_vvar_prove_coarse)(clock, (vdso_vvar_function *)(uintptr_t)function, id,
								       offset_ns, count, &proof);
	Py_END_ALLOW_THREADS
	if (error != 0)
		return vdso_raise_errno(error);
	return Py_BuildValue("(KKKLLLK)", (unsigned long long)proof.good, (unsigned long long)proof.ticks,
			     (unsigned long long)proof.bad, (long long)proof.before, (long long)proof.computed,
			     (long long)proof.after, (unsigned long long)proof.width);
}

static PyObject *clock_wait(PyObject *object, PyObject *args)
{
	const struct vdso_vvar_clock *clock = &((struct vvar_clock *)object)->clock;
	unsigned long long looked_ns, first_ns, poll_ns, timeout_ns;
	struct vdso_vvar_tick tick;
	unsigned seen;
	int error;

	if (!PyArg_ParseTuple(args, "IKKKK:wait", &seen, &looked_ns, &first_ns, &poll_ns, &timeout_ns))
		return NULL;
	if (poll_ns == 0)
		return vdso_raise_errno(EINVAL);
	Py_BEGIN_ALLOW_THREADS
	error = vdso_vvar_wait(clock, seen, looked_ns, first_ns, poll_ns, timeout_ns, &tick);
	Py_END_ALLOW_THREADS
	if (error == -EINTR && PyErr_CheckSignals() != 0)
		return NULL;
	/* A signal whose handler raises nothing may have asked the caller to stop all the same: it is his turn. */
	if (error == -ETIMEDOUT || error == -EINTR)
		Py_RETURN_NONE;
	if (error != 0)
		return vdso_raise_errno(error);
	return Py_BuildValue("(IKKK)", (unsigned)tick.seq, (unsigned long long)tick.cycle_last,
			     (unsigned long long)tick.seen_ns, (unsigned long long)tick.late_ns);
}

static PyMethodDef clock_methods[] = {
	{"snapshot", clock_snapshot, METH_NOARGS,
	 "snapshot()\n--\n\nThe even sequence and a copy of the clock's bytes that belong together.\n\n"
	 "OSError: EAGAIN when a write was in progress for 0.1 s."},
	{"prove", clock_prove, METH_VARARGS,
	 "prove(fine, function, clock_id, offset_ns, count, /)\n--\n\n"
	 "Compares `count` times with the kernel's clock_gettime at the address `function`: (good, ticks, bad, and of the first\n"
	 "bad one before, computed and after in ns, and the good ones' brackets together, in ns). Coarse: the base itself, to the ns;\n"
	 "fine: what is computed from the counter, between two answers.\n\n"
	 "OSError: EINVAL when the function fails or there is no counter, EAGAIN as snapshot()."},
	{"wait", clock_wait, METH_VARARGS,
	 "wait(seen, looked_ns, first_ns, poll_ns, timeout_ns, /)\n--\n\n"
	 "Sleeps until the sequence is another than `seen`: (sequence, cycle_last, when in ns, no older than so many ns).\n"
	 "None after timeout_ns, or after a signal."},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot clock_slots[] = {
	{Py_tp_doc, "VvarClock(address, *, size, seq, mode, cycle_last, mask, mult, shift, bases, counter=0, pvclock=0)\n--\n\n"
		    "One clock of the kernel's data page, at that address, its members at those offsets in bytes.\n\n"
		    "OSError: EFAULT when the page is not backed, EINVAL for offsets outside `size`."},
	{Py_tp_new, clock_new},
	{Py_tp_dealloc, clock_dealloc},
	{Py_tp_methods, clock_methods},
	{0, NULL},
};

static PyType_Spec clock_spec = {
	.name = "vdso._core.VvarClock",
	.basicsize = sizeof(struct vvar_clock),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = clock_slots,
};

static PyObject *copy(PyObject *Py_UNUSED(module), PyObject *args)
{
	unsigned long long address;
	Py_ssize_t size;
	PyObject *ret;
	int error;

	if (!PyArg_ParseTuple(args, "Kn:vvar_copy", &address, &size))
		return NULL;
	if (size < 0 || size > COPY_MAX)
		return vdso_raise_errno(EINVAL);
	ret = PyBytes_FromStringAndSize(NULL, size);
	if (ret == NULL)
		return NULL;
	error = vdso_vvar_copy((uintptr_t)address, PyBytes_AS_STRING(ret), (size_t)size);
	if (error != 0) {
		Py_DECREF(ret);
		return vdso_raise_errno(error);
	}
	return ret;
}

static PyMethodDef functions[] = {
	{"vvar_copy", copy, METH_VARARGS,
	 "vvar_copy(address, size, /)\n--\n\n"
	 "Bytes of this process's memory, copied by the kernel. OSError: EFAULT where they cannot be read."},
	{NULL, NULL, 0, NULL},
};

int vdso_add_vvar(PyObject *module)
{
	if (PyModule_AddIntConstant(module, "VVAR_COUNTER_NONE", VDSO_VVAR_COUNTER_NONE) != 0 ||
	    PyModule_AddIntConstant(module, "VVAR_COUNTER_TSC", VDSO_VVAR_COUNTER_TSC) != 0 ||
	    PyModule_AddIntConstant(module, "VVAR_COUNTER_PVCLOCK", VDSO_VVAR_COUNTER_PVCLOCK) != 0 ||
	    PyModule_AddIntConstant(module, "VVAR_CLOCK_BYTES_MAX", VDSO_VVAR_CLOCK_MAX) != 0 ||
	    PyModule_AddIntConstant(module, "VVAR_BASES", VDSO_VVAR_BASES) != 0)
		return -1;
	return vdso_add_type(module, &clock_spec) != 0 ? -1 : PyModule_AddFunctions(module, functions);
}
