/*
 * What the files of the binding share. Each adds what it defines by its vdso_add_NOUN(), listed below and in module.c's
 * `rooms`; types are heap types made from specs, so that each interpreter has its own.
 */
#ifndef VDSO_BINDING_MODULE_H
#define VDSO_BINDING_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <sys/types.h>

/* Each returns 0, or -1 with an exception set. */
int vdso_add_clock(PyObject *module);
int vdso_add_clockpage(PyObject *module);
int vdso_add_constants(PyObject *module);
int vdso_add_counts(PyObject *module);
int vdso_add_counter(PyObject *module);
int vdso_add_draft(PyObject *module);
int vdso_add_file(PyObject *module);
int vdso_add_held(PyObject *module);
int vdso_add_image(PyObject *module);
int vdso_add_launch(PyObject *module);
int vdso_add_mapping(PyObject *module);
int vdso_add_membership(PyObject *module);
int vdso_add_observe(PyObject *module);
int vdso_add_page(PyObject *module);
int vdso_add_pagereader(PyObject *module);
int vdso_add_pagewriter(PyObject *module);
int vdso_add_publisher(PyObject *module);
int vdso_add_reader(PyObject *module);
int vdso_add_record(PyObject *module);
int vdso_add_routes(PyObject *module);
int vdso_add_vvar(PyObject *module);
int vdso_add_snapshot(PyObject *module);
int vdso_add_tracepoint(PyObject *module);
int vdso_add_travel(PyObject *module);

/* error.c: raise a class of vdso.errors, made from the arguments by Py_BuildValue's format. All return NULL. */
PyObject *vdso_raise(const char *class_name, const char *format, ...);
PyObject *vdso_raise_errno(int err); /* OSError; err is positive or negative */
/* For a descriptor that could not be opened as a page, by the errors of c/core/page.h. */
PyObject *vdso_raise_not_a_page(int err);

int vdso_add_type(PyObject *module, PyType_Spec *spec);

/* Serialises calls on one object where there is no GIL to do so; until 3.13 there always is one. */
#if PY_VERSION_HEX < 0x030d0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

#endif
