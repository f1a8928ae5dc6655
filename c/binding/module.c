#include "module.h"

/* In the order in which they are added. */
static int (*const rooms[])(PyObject *module) = {
	vdso_add_constants,
	vdso_add_clock,
	vdso_add_counter,
	vdso_add_held,
	vdso_add_page,
	vdso_add_pagewriter,
	vdso_add_pagereader,
	vdso_add_file,
	vdso_add_snapshot,
	vdso_add_record,
	vdso_add_mapping,
	vdso_add_reader,
	vdso_add_publisher,
	vdso_add_draft,
	vdso_add_clockpage,
	vdso_add_counts,
	vdso_add_image,
	vdso_add_launch,
	vdso_add_membership,
	vdso_add_observe,
	vdso_add_routes,
	vdso_add_vvar,
	vdso_add_tracepoint,
	vdso_add_travel,
};

int vdso_add_type(PyObject *module, PyType_Spec *spec)
{
	PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
	int err;

	if (type == NULL)
		return -1;
	err = PyModule_AddType(module, (PyTypeObject *)type);
	Py_DECREF(type);
	return err;
}

static int module_exec(PyObject *module)
{
	for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++)
		if (rooms[i](module) != 0)
			return -1;
	return 0;
}

static PyModuleDef_Slot module_slots[] = {
	{Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
	{Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
	{Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
	{0, NULL},
};

static struct PyModuleDef module_def = {
	PyModuleDef_HEAD_INIT,
	.m_name = "vdso._core",
	.m_doc = "The mechanism of vdso, in C: pages and clocks. What decides is in the Python modules around it.",
	.m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__core(void)
{
	return PyModuleDef_Init(&module_def);
}
