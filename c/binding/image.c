/* LocalImage: the clock image mapped into this process, beside the kernel's vDSO. */
#include "module.h"

#include <time.h>

#include "local.h"

struct image {
	PyObject_HEAD
	struct vdso_local local;
};

static const char *const names[VDSO_FN_COUNT] = {
	[VDSO_FN_CLOCK_GETTIME] = "clock_gettime", [VDSO_FN_GETTIMEOFDAY] = "gettimeofday", [VDSO_FN_TIME] = "time",
	[VDSO_FN_GETCPU] = "getcpu",               [VDSO_FN_CLOCK_GETRES] = "clock_getres", [VDSO_FN_GETRANDOM] = "getrandom",
	[VDSO_FN_SGX_ENTER] = "sgx_enter_enclave",
};

static PyObject *image_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"image_fd", "clock_fd", "flags", "counts_fd", NULL};
	unsigned long long flags = 0;
	int image_fd, clock_fd, counts_fd = -1, error;
	struct image *self;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii|Ki:LocalImage", keywords, &image_fd, &clock_fd, &flags, &counts_fd))
		return NULL;
	self = (struct image *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	error = vdso_local_map(image_fd, clock_fd, flags, &self->local);
	if (error == 0 && counts_fd >= 0)
		error = vdso_local_count(&self->local, counts_fd);
	if (error != 0) {
		Py_DECREF(self);
		return vdso_raise_errno(error);
	}
	return (PyObject *)self;
}

static void image_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);

	vdso_local_unmap(&((struct image *)object)->local);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *image_clock_ns(PyObject *object, PyObject *arg)
{
	const struct vdso_local *local = &((struct image *)object)->local;
	int (*function)(int, struct timespec *) = (int (*)(int, struct timespec *))local->function[VDSO_FN_CLOCK_GETTIME];
	long id = PyLong_AsLong(arg);
	struct timespec now;
	int error;

	if (id == -1 && PyErr_Occurred())
		return NULL;
	error = function((int)id, &now);
	if (error != 0)
		return vdso_raise_errno(error);
	return PyLong_FromLongLong((long long)now.tv_sec * 1000000000LL + now.tv_nsec);
}

static PyObject *as_dict(const uintptr_t *functions)
{
	PyObject *ret = PyDict_New();

	for (unsigned i = 0; ret != NULL && i < VDSO_FN_COUNT; i++) {
		PyObject *address;
		int error;

		if (functions[i] == 0)
			continue;
		address = PyLong_FromUnsignedLongLong(functions[i]);
		error = address == NULL ? -1 : PyDict_SetItemString(ret, names[i], address);
		Py_XDECREF(address);
		if (error != 0)
			Py_CLEAR(ret);
	}
	return ret;
}

static PyObject *image_functions(PyObject *object, void *Py_UNUSED(closure))
{
	return as_dict(((struct image *)object)->local.function);
}

static PyObject *image_kernel(PyObject *object, void *Py_UNUSED(closure))
{
	return as_dict(((struct image *)object)->local.kernel);
}

static PyMethodDef image_methods[] = {
	{"clock_ns", image_clock_ns, METH_O,
	 "clock_ns(clock_id, /)\n--\n\nWhat our clock_gettime gives, in ns. OSError as the system call would."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef image_getset[] = {
	{"functions", image_functions, NULL, "Addresses of our functions, by their unprefixed names.", NULL},
	{"kernel", image_kernel, NULL, "Addresses of the kernel's own, as far as it has them.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot image_slots[] = {
	{Py_tp_doc, "LocalImage(image_fd, clock_fd, flags=0, counts_fd=-1)\n--\n\n"
		    "The clock image, mapped here beside the kernel's vDSO and reading that clock page. Raises OSError."},
	{Py_tp_new, image_new},
	{Py_tp_dealloc, image_dealloc},
	{Py_tp_methods, image_methods},
	{Py_tp_getset, image_getset},
	{0, NULL},
};

static PyType_Spec image_spec = {
	.name = "vdso._core.LocalImage",
	.basicsize = sizeof(struct image),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = image_slots,
};

int vdso_add_image(PyObject *module)
{
	return vdso_add_type(module, &image_spec);
}
