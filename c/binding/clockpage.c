/*
 * ClockPage: a session's clock page, made and written from Python. The records are transform.h's.
 *
 * Made empty and written by whoever has the lock: here, or a keeper that was given the descriptor after release(). As with
 * Page, all descriptors stay open as long as the object lives, since closing one would take a writer's lock away.
 */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "adjust.h"
#include "page.h"
#include "transform.h"

struct clockpage {
	PyObject_HEAD
	int fd;
	int reader_fd;
	int lock_fd;           /* what the writer is opened on, -1 while it is open */
	struct vdso_page page; /* the writer; header NULL while it is released */
};

static struct clockpage *clockpage_alloc(PyTypeObject *type)
{
	struct clockpage *self = (struct clockpage *)type->tp_alloc(type, 0);

	if (self != NULL)
		self->fd = self->reader_fd = self->lock_fd = self->page.fd = -1;
	return self;
}

static PyObject *clockpage_create(PyObject *object, PyObject *arg)
{
	struct vdso_page_shape shape = vdso_clock_shape();
	const char *name = PyUnicode_AsUTF8(arg);
	struct clockpage *self;
	int err;

	if (name == NULL)
		return NULL;
	self = clockpage_alloc((PyTypeObject *)object);
	if (self == NULL)
		return NULL;
	err = vdso_page_create_memfd(name, &shape, &self->fd);
	if (err == 0) {
		self->reader_fd = vdso_page_reopen_readonly(self->fd);
		err = self->reader_fd < 0 ? self->reader_fd : 0;
	}
	if (err != 0) {
		Py_DECREF(self);
		return vdso_raise_errno(err);
	}
	return (PyObject *)self;
}

static PyObject *clockpage_from_fd(PyObject *object, PyObject *arg)
{
	struct vdso_page_header header;
	struct clockpage *self;
	int given = PyObject_AsFileDescriptor(arg), err;

	if (given < 0)
		return NULL;
	err = vdso_page_check(given, 0, &header);
	if (err != 0)
		return vdso_raise_not_a_page(err);
	if (header.record_size != sizeof(struct vdso_clock_record) || header.schema_hash != VDSO_CLOCK_SCHEMA)
		return vdso_raise("PageNotThere", "(s)", "the clock page is another version's");
	self = clockpage_alloc((PyTypeObject *)object);
	if (self == NULL)
		return NULL;
	self->fd = fcntl(given, F_DUPFD_CLOEXEC, 3);
	self->reader_fd = self->fd < 0 ? -errno : vdso_page_reopen_readonly(given);
	if (self->reader_fd < 0) {
		err = self->reader_fd;
		Py_DECREF(self);
		return vdso_raise_errno(err);
	}
	return (PyObject *)self;
}

static void clockpage_dealloc(PyObject *object)
{
	struct clockpage *self = (struct clockpage *)object;
	PyTypeObject *type = Py_TYPE(object);

	vdso_page_close(&self->page);
	if (self->fd >= 0)
		close(self->fd);
	if (self->reader_fd >= 0)
		close(self->reader_fd);
	if (self->lock_fd >= 0)
		close(self->lock_fd);
	type->tp_free(object);
	Py_DECREF(type);
}

/* Becomes the writer, if it is not yet. */
static int take(struct clockpage *self)
{
	int err;

	if (self->page.here != NULL)
		return 0;
	if (self->lock_fd < 0)
		self->lock_fd = fcntl(self->fd, F_DUPFD_CLOEXEC, 3);
	if (self->lock_fd < 0)
		return -errno;
	err = vdso_page_open_writer(self->lock_fd, 0, &self->page);
	if (err == 0)
		self->lock_fd = -1;
	return err;
}

static PyObject *answer(struct clockpage *self, int err)
{
	if (err == -EBUSY)
		return vdso_raise("PageBusy", "(i)", (int)vdso_page_holder(self->fd));
	if (err == -EPERM)
		return vdso_raise("ForkedWriter", "()");
	if (err != 0)
		return vdso_raise_errno(err);
	Py_RETURN_NONE;
}

static PyObject *publish_record(struct clockpage *self, struct vdso_clock_record *record)
{
	int err;

	Py_BEGIN_CRITICAL_SECTION((PyObject *)self);
	err = take(self);
	if (err == 0)
		err = vdso_clock_publish(&self->page, record, true);
	Py_END_CRITICAL_SECTION();
	return answer(self, err);
}

PyDoc_STRVAR(set_identity_doc,
	     "set_identity()\n--\n\nEvery clock the kernel's own.\n\nPageBusy: another process writes the page.");

static PyObject *clockpage_set_identity(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct vdso_clock_record record;

	vdso_record_identity(&record);
	return publish_record((struct clockpage *)object, &record);
}

PyDoc_STRVAR(set_offset_doc,
	     "set_offset(sec, nsec, /)\n--\n\n"
	     "The wall clocks (REALTIME, its other views and TAI) moved by sec and nsec, each of any sign; the others the\n"
	     "kernel's own. A step: it holds from the next read on.\n\nPageBusy: another process writes the page.");

static PyObject *clockpage_set_offset(PyObject *object, PyObject *args)
{
	struct vdso_clock_record record;
	long long sec, nsec;

	if (!PyArg_ParseTuple(args, "LL:set_offset", &sec, &nsec))
		return NULL;
	vdso_record_identity(&record);
	vdso_record_offset(&record, sec, nsec);
	return publish_record((struct clockpage *)object, &record);
}

#define ADJUSTMENT "time, sec, nsec, how, rate"

/* (time, sec, nsec, how, rate), behind as many ints as `first` points to: none or one. */
static bool parse_adjustment(PyObject *args, const char *format, int *first, struct vdso_adjustment *ret)
{
	unsigned long long rate;
	long long sec, nsec;
	int time, how;
	bool parsed = first != NULL ? PyArg_ParseTuple(args, format, first, &time, &sec, &nsec, &how, &rate)
				    : PyArg_ParseTuple(args, format, &time, &sec, &nsec, &how, &rate);

	if (!parsed)
		return false;
	*ret = (struct vdso_adjustment){
		.time = (enum vdso_adjust_time)time,
		.by = vdso_time_add((struct vdso_time){0}, sec, nsec),
		.how = (enum vdso_adjust_rate)how,
		.rate = rate,
	};
	return true;
}

PyDoc_STRVAR(begin_doc,
	     "begin(everything, " ADJUSTMENT ", /)\n--\n\n"
	     "The first record of a page that nobody reads yet: the wall clocks as adjust() would have them, and with\n"
	     "`everything` MONOTONIC, BOOTTIME and RAW at the same rate, from their own value on. OSError: ERANGE.");

static PyObject *clockpage_begin(PyObject *object, PyObject *args)
{
	struct vdso_adjustment adjustment;
	struct vdso_clock_record record;
	struct vdso_source source;
	int everything, err;

	if (!parse_adjustment(args, "piLLiK:begin", &everything, &adjustment))
		return NULL;
	vdso_source_init(&source);
	err = vdso_adjust_first(&source, everything, &adjustment, &record);
	vdso_source_deinit(&source);
	if (err != 0)
		return vdso_raise_errno(err);
	return publish_record((struct clockpage *)object, &record);
}

static int adjust(struct clockpage *self, const struct vdso_adjustment *adjustment)
{
	struct vdso_source source;
	int err = take(self);

	vdso_source_init(&source);
	if (err == 0)
		err = adjustment != NULL ? vdso_adjust(&self->page, &source, adjustment)
					 : vdso_adjust_settle(&self->page, &source);
	vdso_source_deinit(&source);
	return err;
}

static PyObject *adjust_unlocked(struct clockpage *self, const struct vdso_adjustment *adjustment)
{
	int err;

	Py_BEGIN_CRITICAL_SECTION((PyObject *)self);
	Py_BEGIN_ALLOW_THREADS
	err = adjust(self, adjustment);
	Py_END_ALLOW_THREADS
	Py_END_CRITICAL_SECTION();
	return answer(self, err);
}

PyDoc_STRVAR(adjust_doc,
	     "adjust(" ADJUSTMENT ", /)\n--\n\n"
	     "Adjusts the clock while programs read it. time: TIME_KEEP, TIME_AT (REALTIME becomes sec and nsec), TIME_OFFSET\n"
	     "(the host's and sec and nsec), TIME_SHIFT (what it is and sec and nsec): a step, seen by the next read. how:\n"
	     "RATE_KEEP, RATE_SET (to `rate`, 32.32; 0 freezes), RATE_THAW: continuous, and in force some 2 ms later.\n\n"
	     "PageBusy: another process writes the page. OSError: EOPNOTSUPP (a keeper's clock), ERANGE, ETIMEDOUT.");

static PyObject *clockpage_adjust(PyObject *object, PyObject *args)
{
	struct vdso_adjustment adjustment;

	if (!parse_adjustment(args, "iLLiK:adjust", NULL, &adjustment))
		return NULL;
	return adjust_unlocked((struct clockpage *)object, &adjustment);
}

PyDoc_STRVAR(settle_doc,
	     "settle()\n--\n\n"
	     "Waits some milliseconds until a rate of 1 is in force everywhere, and makes an offset of it, which is quicker to\n"
	     "read and says the same. Raises as adjust().");

static PyObject *clockpage_settle(PyObject *object, PyObject *Py_UNUSED(none))
{
	return adjust_unlocked((struct clockpage *)object, NULL);
}

PyDoc_STRVAR(state_doc,
	     "state()\n--\n\n"
	     "(host's REALTIME sec, nsec, the session's sec, nsec, rate, rate after a thaw, everything, counter, moved), at one\n"
	     "instant; rates in 32.32. Raises PageNeverWritten.");

static PyObject *clockpage_state(PyObject *object, PyObject *Py_UNUSED(none))
{
	struct clockpage *self = (struct clockpage *)object;
	struct vdso_page page = {.fd = -1};
	struct vdso_clock_record record;
	struct vdso_adjusted state;
	struct vdso_source source;
	uint64_t version;
	enum vdso_page_answer got = VDSO_PAGE_NEVER_WRITTEN;
	int err = vdso_page_open_reader(self->reader_fd, 0, &page);

	if (err == 0) {
		got = vdso_page_get(&page, 0, &record, &version);
		vdso_page_close(&page);
	}
	if (err != 0)
		return vdso_raise_errno(err);
	vdso_source_init(&source);
	if (got == VDSO_PAGE_OK)
		err = vdso_adjust_look(&record, &source, &state);
	vdso_source_deinit(&source);
	if (got != VDSO_PAGE_OK)
		return vdso_raise("PageNeverWritten", "()");
	if (err != 0)
		return vdso_raise_errno(err);
	return Py_BuildValue("(LKLKKKOOO)", (long long)state.host.sec, (unsigned long long)state.host.nsec,
			     (long long)state.now.sec, (unsigned long long)state.now.nsec, (unsigned long long)state.rate,
			     (unsigned long long)state.thawed, state.all ? Py_True : Py_False,
			     state.counter ? Py_True : Py_False, state.moved ? Py_True : Py_False);
}

PyDoc_STRVAR(release_doc,
	     "release()\n--\n\n"
	     "Gives the writer's lock up: for the keeper, or before an exec. The next set_...() takes it again.");

static PyObject *clockpage_release(PyObject *object, PyObject *Py_UNUSED(none))
{
	Py_BEGIN_CRITICAL_SECTION(object);
	vdso_page_close(&((struct clockpage *)object)->page);
	Py_END_CRITICAL_SECTION();
	Py_RETURN_NONE;
}

static PyObject *clockpage_get_fd(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((struct clockpage *)object)->fd);
}

static PyObject *clockpage_get_reader_fd(PyObject *object, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((struct clockpage *)object)->reader_fd);
}

PyDoc_STRVAR(create_doc, "create(name, /)\n--\n\nAn empty clock page in a new memfd of that name.");

PyDoc_STRVAR(from_fd_doc,
	     "from_fd(fd, /)\n--\n\n"
	     "The clock page that fd, which stays the caller's, has open; for reading and writing, if it is to be adjusted.\n\n"
	     "PageNotThere: it is none.");

static PyMethodDef clockpage_methods[] = {
	{"create", clockpage_create, METH_O | METH_CLASS, create_doc},
	{"from_fd", clockpage_from_fd, METH_O | METH_CLASS, from_fd_doc},
	{"begin", clockpage_begin, METH_VARARGS, begin_doc},
	{"adjust", clockpage_adjust, METH_VARARGS, adjust_doc},
	{"settle", clockpage_settle, METH_NOARGS, settle_doc},
	{"state", clockpage_state, METH_NOARGS, state_doc},
	{"set_identity", clockpage_set_identity, METH_NOARGS, set_identity_doc},
	{"set_offset", clockpage_set_offset, METH_VARARGS, set_offset_doc},
	{"release", clockpage_release, METH_NOARGS, release_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef clockpage_getset[] = {
	{"fd", clockpage_get_fd, NULL, "The page's descriptor, close-on-exec. Not to be closed.", NULL},
	{"reader_fd", clockpage_get_reader_fd, NULL, "A read-only descriptor of the page. Not to be closed.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot clockpage_slots[] = {
	{Py_tp_doc, (void *)"A session's clock page: what swapped processes compute their time from. Made by create()."},
	{Py_tp_dealloc, clockpage_dealloc},
	{Py_tp_methods, clockpage_methods},
	{Py_tp_getset, clockpage_getset},
	{0, NULL},
};

static PyType_Spec clockpage_spec = {
	.name = "vdso._core.ClockPage",
	.basicsize = sizeof(struct clockpage),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = clockpage_slots,
};

int vdso_add_clockpage(PyObject *module)
{
	if (PyModule_AddIntConstant(module, "TIME_KEEP", VDSO_TIME_KEEP) != 0 ||
	    PyModule_AddIntConstant(module, "TIME_AT", VDSO_TIME_AT) != 0 ||
	    PyModule_AddIntConstant(module, "TIME_OFFSET", VDSO_TIME_OFFSET) != 0 ||
	    PyModule_AddIntConstant(module, "TIME_SHIFT", VDSO_TIME_SHIFT) != 0 ||
	    PyModule_AddIntConstant(module, "RATE_KEEP", VDSO_RATE_KEEP) != 0 ||
	    PyModule_AddIntConstant(module, "RATE_SET", VDSO_RATE_SET) != 0 ||
	    PyModule_AddIntConstant(module, "RATE_THAW", VDSO_RATE_THAW) != 0)
		return -1;
	return vdso_add_type(module, &clockpage_spec);
}
