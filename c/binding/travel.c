/* TravelPage: this process's own clock page, found, placed and written: c/core/travel.h. Lines are (in, at, rate): at the
 * host's REALTIME `in` (ns) the clock shows `at` (ns), and goes on from there at the rate (32.32). */
#include "module.h"

#include <errno.h>
#include <string.h>

#include "transform.h"
#include "travel.h"

struct travelpage {
	PyObject_HEAD
	struct vdso_travel travel;
};

static PyObject *travelpage_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct travelpage *self;
	int err;

	if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0)) {
		PyErr_SetString(PyExc_TypeError, "TravelPage() takes no arguments");
		return NULL;
	}
	self = (struct travelpage *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->travel.reader_fd = self->travel.page.fd = -1;
	err = vdso_travel_create(&self->travel);
	if (err != 0) {
		Py_DECREF(self);
		return vdso_raise_errno(err);
	}
	return (PyObject *)self;
}

static void travelpage_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);

	vdso_travel_destroy(&((struct travelpage *)object)->travel);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyObject *answer(int err)
{
	if (err == -EPERM)
		return vdso_raise("ForkedWriter", "()");
	if (err != 0)
		return vdso_raise_errno(err);
	Py_RETURN_NONE;
}

static int placed(struct travelpage *self)
{
	if (self->travel.region != 0)
		return 1;
	PyErr_SetString(PyExc_ValueError, "the page is not placed");
	return 0;
}

/* Rounded down, as every reading of a clock is. */
static struct vdso_line make_line(long long in, long long at, unsigned long long rate)
{
	struct vdso_time time = vdso_time_add((struct vdso_time){0}, 0, at);

	return (struct vdso_line){.in = (uint64_t)in, .sec = time.sec, .nsec = time.nsec, .rate = rate};
}

PyDoc_STRVAR(arrive_doc, "arrive()\n--\n\nFinds itself in this process, which has been attached to it. OSError: ENOENT.");

static PyObject *travelpage_arrive(PyObject *object, PyObject *Py_UNUSED(none))
{
	return answer(vdso_travel_arrive(&((struct travelpage *)object)->travel));
}

PyDoc_STRVAR(succeed_doc,
	     "succeed(before, /)\n--\n\nStands where that one stands, and says the same: in a forked child, instead of the parent's.");

static PyObject *travelpage_succeed(PyObject *object, PyObject *before)
{
	if (Py_TYPE(before) != Py_TYPE(object)) {
		PyErr_SetString(PyExc_TypeError, "a TravelPage is wanted");
		return NULL;
	}
	if (!placed((struct travelpage *)before))
		return NULL;
	return answer(vdso_travel_succeed(&((struct travelpage *)object)->travel, &((struct travelpage *)before)->travel));
}

PyDoc_STRVAR(borrow_doc,
	     "borrow(region, /)\n--\n\n"
	     "Stands for the session's page that is there, which it keeps. OSError: EOPNOTSUPP (it moves more than the date).");

static PyObject *travelpage_borrow(PyObject *object, PyObject *arg)
{
	unsigned long long region = PyLong_AsUnsignedLongLong(arg);

	if (region == (unsigned long long)-1 && PyErr_Occurred())
		return NULL;
	return answer(vdso_travel_borrow(&((struct travelpage *)object)->travel, region));
}

/* A page that is lent to us, or none. */
static PyObject *lend(PyObject *object, int (*how)(struct vdso_travel *))
{
	struct vdso_travel *travel = &((struct travelpage *)object)->travel;

	if (travel->lent == NULL) {
		PyErr_SetString(PyExc_ValueError, "the page is not a session's");
		return NULL;
	}
	return answer(how(travel));
}

PyDoc_STRVAR(give_back_doc, "give_back()\n--\n\nPuts the borrowed session's page back in its place.");

static PyObject *travelpage_give_back(PyObject *object, PyObject *Py_UNUSED(none))
{
	return lend(object, vdso_travel_give_back);
}

PyDoc_STRVAR(borrow_again_doc, "borrow_again()\n--\n\nAfter give_back(): stands for it again.");

static PyObject *travelpage_borrow_again(PyObject *object, PyObject *Py_UNUSED(none))
{
	return lend(object, vdso_travel_borrow_again);
}

PyDoc_STRVAR(stands_doc, "stands()\n--\n\nWhether this process reads its clock from this page: it may have been detached.");

static PyObject *travelpage_stands(PyObject *object, PyObject *Py_UNUSED(none))
{
	return PyBool_FromLong(vdso_travel_stands(&((struct travelpage *)object)->travel));
}

PyDoc_STRVAR(host_ns_doc, "host_ns()\n--\n\nThe host's REALTIME in ns.");

static PyObject *travelpage_host_ns(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct travelpage *self = (struct travelpage *)object;

	return placed(self) ? PyLong_FromLongLong(vdso_travel_host_ns(&self->travel)) : NULL;
}

PyDoc_STRVAR(publish_doc,
	     "publish(in, at, rate, /)\n--\n\nThe wall clocks show that line from the next read on. Raises ForkedWriter.");

static PyObject *travelpage_publish(PyObject *object, PyObject *args)
{
	struct travelpage *self = (struct travelpage *)object;
	unsigned long long rate;
	struct vdso_line line;
	long long in, at;
	int err;

	if (!PyArg_ParseTuple(args, "LLK:publish", &in, &at, &rate) || !placed(self))
		return NULL;
	line = make_line(in, at, rate);
	Py_BEGIN_CRITICAL_SECTION(object);
	err = vdso_travel_publish(&self->travel, &line);
	Py_END_CRITICAL_SECTION();
	return answer(err);
}

PyDoc_STRVAR(bend_doc,
	     "bend(in, at, rate, new_rate, /)\n--\n\n"
	     "From that line, which is in force, to another rate without a jump; waits until it is in force, and gives the\n"
	     "new line. Raises ForkedWriter; OSError: ETIMEDOUT.");

static PyObject *travelpage_bend(PyObject *object, PyObject *args)
{
	struct travelpage *self = (struct travelpage *)object;
	unsigned long long rate, new_rate;
	struct vdso_line line;
	long long in, at;
	int err;

	if (!PyArg_ParseTuple(args, "LLKK:bend", &in, &at, &rate, &new_rate) || !placed(self))
		return NULL;
	line = make_line(in, at, rate);
	Py_BEGIN_CRITICAL_SECTION(object);
	Py_BEGIN_ALLOW_THREADS
	err = vdso_travel_bend(&self->travel, &line, new_rate);
	Py_END_ALLOW_THREADS
	Py_END_CRITICAL_SECTION();
	if (err != 0)
		return answer(err);
	return Py_BuildValue("(LLK)", (long long)line.in,
			     (long long)((uint64_t)line.sec * VDSO_NSEC_PER_SEC + line.nsec), (unsigned long long)line.rate);
}

PyDoc_STRVAR(home_doc, "home()\n--\n\nEvery clock the kernel's own. Raises ForkedWriter.");

static PyObject *travelpage_home(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct travelpage *self = (struct travelpage *)object;
	int err;

	Py_BEGIN_CRITICAL_SECTION(object);
	err = vdso_travel_home(&self->travel);
	Py_END_CRITICAL_SECTION();
	return answer(err);
}

static PyObject *travelpage_get_forked(PyObject *object, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(vdso_travel_forked(&((struct travelpage *)object)->travel));
}

static PyObject *travelpage_get_replaced(PyObject *object, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(vdso_travel_replaced(&((struct travelpage *)object)->travel));
}

static PyObject *travelpage_get_away(PyObject *object, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(((struct travelpage *)object)->travel.away);
}

static PyObject *travelpage_get_reader_fd(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((struct travelpage *)object)->travel.reader_fd);
}

static PyObject *travelpage_get_wake(PyObject *object, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(((struct travelpage *)object)->travel.wake);
}

static int travelpage_set_wake(PyObject *object, PyObject *value, void *Py_UNUSED(closure))
{
	int wake = value == NULL ? 0 : PyObject_IsTrue(value);

	if (wake < 0)
		return -1;
	((struct travelpage *)object)->travel.wake = wake;
	return 0;
}

static PyObject *travelpage_get_borrowed(PyObject *object, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(((struct travelpage *)object)->travel.lent != NULL);
}

static PyMethodDef travelpage_methods[] = {
	{"arrive", travelpage_arrive, METH_NOARGS, arrive_doc},
	{"succeed", travelpage_succeed, METH_O, succeed_doc},
	{"borrow", travelpage_borrow, METH_O, borrow_doc},
	{"borrow_again", travelpage_borrow_again, METH_NOARGS, borrow_again_doc},
	{"give_back", travelpage_give_back, METH_NOARGS, give_back_doc},
	{"stands", travelpage_stands, METH_NOARGS, stands_doc},
	{"host_ns", travelpage_host_ns, METH_NOARGS, host_ns_doc},
	{"publish", travelpage_publish, METH_VARARGS, publish_doc},
	{"bend", travelpage_bend, METH_VARARGS, bend_doc},
	{"home", travelpage_home, METH_NOARGS, home_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef travelpage_getset[] = {
	{"reader_fd", travelpage_get_reader_fd, NULL, "A read-only descriptor of the page; -1 once it is placed.", NULL},
	{"wake", travelpage_get_wake, travelpage_set_wake, "Whether somebody outside of the process waits for its changes.", NULL},
	{"forked", travelpage_get_forked, NULL, "Whether this is a forked child, and the page its parent's.", NULL},
	{"replaced", travelpage_get_replaced, NULL, "Whether the process has been attached again since: its place is another's.", NULL},
	{"away", travelpage_get_away, NULL, "Whether it has been given back.", NULL},
	{"borrowed", travelpage_get_borrowed, NULL, "Whether it stands for a session's page.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot travelpage_slots[] = {
	{Py_tp_doc, (void *)"TravelPage()\n--\n\nThis process's own clock page, which says what the kernel says and is placed nowhere yet."},
	{Py_tp_new, travelpage_new},
	{Py_tp_dealloc, travelpage_dealloc},
	{Py_tp_methods, travelpage_methods},
	{Py_tp_getset, travelpage_getset},
	{0, NULL},
};

static PyType_Spec travelpage_spec = {
	.name = "vdso._core.TravelPage",
	.basicsize = sizeof(struct travelpage),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = travelpage_slots,
};

/*
 * What a journey has of C is the way out of it. A signal handler's exception may come between any two steps of Python, the first of
 * them included, and there is nobody who would come back for what is left undone; a function of C it cannot keep from its second try.
 */
static PyObject *journey_exit(PyObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(count))
{
	PyObject *type, *value, *traceback, *again, *stop = PyUnicode_InternFromString("stop");
	PyObject *ret = stop != NULL ? PyObject_CallMethodNoArgs(self, stop) : NULL;

	if (ret == NULL && stop != NULL) {
		PyErr_Fetch(&type, &value, &traceback);
		again = PyObject_CallMethodNoArgs(self, stop);
		Py_XDECREF(again);
		PyErr_Restore(type, value, traceback); /* in the place of another one */
	}
	Py_XDECREF(stop);
	return ret;
}

static PyMethodDef journey_methods[] = {
	{"__exit__", (PyCFunction)(void (*)(void))journey_exit, METH_FASTCALL,
	 PyDoc_STR("__exit__($self, /, *exc)\n--\n\nCalls stop(), and once more should that be interrupted.")},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot journey_slots[] = {
	{Py_tp_doc, (void *)"Journey()\n--\n\nEnds by stop(), which may be called again for what it has not come to."},
	{Py_tp_methods, journey_methods},
	{0, NULL},
};

static PyType_Spec journey_spec = {
	.name = "vdso._core.Journey",
	.basicsize = sizeof(PyObject),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = journey_slots,
};

PyDoc_STRVAR(find_doc, "travel_region()\n--\n\nWhere this process reads a clock page of ours. 0: it is on the kernel's image.");

static PyObject *travel_region(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
	uint64_t region;
	int err = vdso_travel_find(&region);

	return err != 0 ? vdso_raise_errno(err) : PyLong_FromUnsignedLongLong(region);
}

static PyMethodDef functions[] = {
	{"travel_region", travel_region, METH_NOARGS, find_doc},
	{NULL, NULL, 0, NULL},
};

int vdso_add_travel(PyObject *module)
{
	if (PyModule_AddFunctions(module, functions) != 0 || vdso_add_type(module, &journey_spec) != 0)
		return -1;
	return vdso_add_type(module, &travelpage_spec);
}
