#include "module.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

PyObject *vdso_raise(const char *class_name, const char *format, ...)
{
	PyObject *errors = NULL, *class = NULL, *args = NULL, *error = NULL;
	va_list list;

	va_start(list, format);
	args = Py_VaBuildValue(format, list);
	va_end(list);
	if (args == NULL || (errors = PyImport_ImportModule("vdso.errors")) == NULL)
		goto done;
	class = PyObject_GetAttrString(errors, class_name);
	if (class == NULL)
		goto done;
	error = PyObject_CallObject(class, args);
	if (error != NULL)
		PyErr_SetObject(class, error);
done:
	Py_XDECREF(error);
	Py_XDECREF(class);
	Py_XDECREF(errors);
	Py_XDECREF(args);
	return NULL;
}

PyObject *vdso_raise_errno(int err)
{
	errno = abs(err);
	return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *vdso_raise_not_a_page(int err)
{
	switch (err) {
	case -ENODATA:
		return vdso_raise("PageNotThere", "(s)", "the file is too short for a page");
	case -EBADMSG:
		return vdso_raise("PageNotThere", "(s)", "the file holds no page");
	case -EPROTONOSUPPORT:
		return vdso_raise("PageNotThere", "(s)", "the page has another format than this version of vdso reads");
	case -EOVERFLOW:
		return vdso_raise("PageNotThere", "(s)", "the page claims more than its file holds");
	}
	return vdso_raise_errno(err);
}
