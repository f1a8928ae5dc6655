/* What pages need of files and Python's os does not have. */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>

#include "claim.h"
#include "page.h"

PyDoc_STRVAR(filesystem_doc,
	     "filesystem(path, /)\n--\n\n"
	     "(noexec, volatile) of the filesystem that a path is on. volatile: it is in memory, and no disk stalls a writer.");

static PyObject *filesystem(PyObject *Py_UNUSED(module), PyObject *arg)
{
	struct statfs fs;
	PyObject *path;
	int err;

	if (!PyUnicode_FSConverter(arg, &path))
		return NULL;
	err = statfs(PyBytes_AS_STRING(path), &fs) != 0 ? errno : 0;
	Py_DECREF(path);
	if (err != 0) {
		errno = err;
		return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, arg);
	}
	return Py_BuildValue("(OO)", fs.f_flags & ST_NOEXEC ? Py_True : Py_False,
			     fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC ? Py_True : Py_False);
}

PyDoc_STRVAR(page_find_doc,
	     "page_find(fd, /)\n--\n\n"
	     "(offset, slots, record_size, fields_at, fields_size) of the page in a file, checked against the file's size.\n\n"
	     "PageNotThere: there is none, or none that this version reads.");

static PyObject *page_find(PyObject *Py_UNUSED(module), PyObject *arg)
{
	struct vdso_page_header header;
	int fd = PyObject_AsFileDescriptor(arg), err;
	off_t offset;

	if (fd < 0)
		return NULL;
	err = vdso_page_find(fd, &offset);
	if (err == 0)
		err = vdso_page_check(fd, offset, &header);
	if (err != 0)
		return vdso_raise_not_a_page(err);
	return Py_BuildValue("(LIIKK)", (long long)offset, header.slots, header.record_size,
			     header.fields_offset == 0 ? 0ull : (unsigned long long)offset + header.fields_offset,
			     (unsigned long long)header.fields_size);
}

PyDoc_STRVAR(page_state_doc,
	     "page_state(fd, offset, /)\n--\n\n"
	     "(version, age in s or None, publisher's pid, STATE_*, whether it lives) of the page at offset, read without\n"
	     "mapping the file, which its owner may truncate.\n\n"
	     "PageNotThere: there is none, or none that this version reads.");

static PyObject *page_state(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct vdso_page_header header;
	struct vdso_page page = {.header = &header};
	PyObject *age = Py_None;
	struct timespec now;
	long long offset;
	bool alive;
	int fd, err;

	if (!PyArg_ParseTuple(args, "iL:page_state", &fd, &offset))
		return NULL;
	err = vdso_page_check(fd, offset, &header);
	if (err != 0)
		return vdso_raise_not_a_page(err);
	alive = header.writer_pid != 0 && (vdso_page_held(fd) || vdso_page_writer_alive(&page));
	if (header.heartbeat_ns != 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		age = PyFloat_FromDouble((double)(now.tv_sec * 1000000000ll + now.tv_nsec - (int64_t)header.heartbeat_ns) / 1e9);
		if (age == NULL)
			return NULL;
	} else {
		Py_INCREF(age);
	}
	return Py_BuildValue("(KNKKN)", (unsigned long long)header.head, age, (unsigned long long)header.writer_pid,
			     (unsigned long long)header.state, PyBool_FromLong(alive));
}

PyDoc_STRVAR(page_create_doc,
	     "page_create(fd, offset, record_size, slots, schema_hash, fields_at, fields_size, /)\n--\n\n"
	     "Lays an empty page into a file, whose space is allocated. OSError: ENOSPC and others.");

static PyObject *page_create(PyObject *Py_UNUSED(module), PyObject *args)
{
	unsigned long long hash, fields_at, fields_size;
	struct vdso_page_shape shape;
	long long offset;
	int fd, err;

	if (!PyArg_ParseTuple(args, "iLIIKKK:page_create", &fd, &offset, &shape.record_size, &shape.slots, &hash,
			      &fields_at, &fields_size))
		return NULL;
	shape.schema_hash = hash;
	shape.fields_offset = fields_at - (unsigned long long)offset;
	shape.fields_size = fields_size;
	err = vdso_page_create(fd, offset, &shape);
	if (err != 0)
		return vdso_raise_errno(err);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(page_retire_doc, "page_retire(fd, offset, /)\n--\n\nSays in a page without a writer that it has been replaced.");

static PyObject *page_retire(PyObject *Py_UNUSED(module), PyObject *args)
{
	long long offset;
	int fd, err;

	if (!PyArg_ParseTuple(args, "iL:page_retire", &fd, &offset))
		return NULL;
	err = vdso_page_retire(fd, offset);
	if (err != 0)
		return vdso_raise_not_a_page(err);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(lock_file_doc,
	     "lock_file(fd, /)\n--\n\n"
	     "Takes a lock on a file that the kernel drops when this process ends, and that its children do not have.\n"
	     "BlockingIOError: another process has it.");

static PyObject *lock_file(PyObject *Py_UNUSED(module), PyObject *arg)
{
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = PyObject_AsFileDescriptor(arg);

	if (fd < 0)
		return NULL;
	if (fcntl(fd, F_SETLK, &range) != 0)
		return vdso_raise_errno(errno == EACCES ? EAGAIN : errno);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(lock_holder_doc,
	     "lock_holder(fd, /)\n--\n\n"
	     "The pid of another process that has the lock, 0 when none has; negative when it is in a pid namespace that this\n"
	     "process does not see.");

static PyObject *lock_holder(PyObject *Py_UNUSED(module), PyObject *arg)
{
	struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int fd = PyObject_AsFileDescriptor(arg);

	if (fd < 0)
		return NULL;
	if (fcntl(fd, F_GETLK, &range) != 0)
		return vdso_raise_errno(errno);
	if (range.l_type == F_UNLCK)
		return PyLong_FromLong(0);
	return PyLong_FromLong(range.l_pid > 0 ? range.l_pid : -1);
}

PyDoc_STRVAR(claim_doc,
	     "claim(directory_fd, name, /)\n--\n\n"
	     "Claims a name in a directory for the caller, in all of this process: what unclaim() is to be given.\n"
	     "BlockingIOError: somebody in this process has it. A forked child has claimed nothing.");

static PyObject *claim(PyObject *Py_UNUSED(module), PyObject *args)
{
	uint64_t number;
	const char *name;
	int fd, err;

	if (!PyArg_ParseTuple(args, "is:claim", &fd, &name))
		return NULL;
	err = vdso_claim(fd, name, &number);
	if (err != 0)
		return vdso_raise_errno(err == -EBUSY ? EAGAIN : err);
	return PyLong_FromUnsignedLongLong(number);
}

PyDoc_STRVAR(unclaim_doc, "unclaim(claim, /)\n--\n\nGives a claim up, after the name's lock is closed.");

static PyObject *unclaim(PyObject *Py_UNUSED(module), PyObject *arg)
{
	unsigned long long number = PyLong_AsUnsignedLongLong(arg);

	if (number == (unsigned long long)-1 && PyErr_Occurred())
		return NULL;
	vdso_unclaim(number);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(name_locked_doc,
	     "name_locked(directory_fd, name, /)\n--\n\n"
	     "Whether anybody has the name's lock, in this process or another; None: its file is not to be had.");

static PyObject *name_locked(PyObject *Py_UNUSED(module), PyObject *args)
{
	const char *name;
	int fd, ret;

	if (!PyArg_ParseTuple(args, "is:name_locked", &fd, &name))
		return NULL;
	ret = vdso_name_locked(fd, name);
	if (ret < 0)
		Py_RETURN_NONE;
	return PyBool_FromLong(ret);
}

static PyMethodDef functions[] = {
	{"filesystem", filesystem, METH_O, filesystem_doc},
	{"page_find", page_find, METH_O, page_find_doc},
	{"page_state", page_state, METH_VARARGS, page_state_doc},
	{"page_create", page_create, METH_VARARGS, page_create_doc},
	{"page_retire", page_retire, METH_VARARGS, page_retire_doc},
	{"lock_file", lock_file, METH_O, lock_file_doc},
	{"lock_holder", lock_holder, METH_O, lock_holder_doc},
	{"claim", claim, METH_VARARGS, claim_doc},
	{"unclaim", unclaim, METH_O, unclaim_doc},
	{"name_locked", name_locked, METH_VARARGS, name_locked_doc},
	{NULL, NULL, 0, NULL},
};

int vdso_add_file(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
