/* A page's file for the binding: what page.c makes and pagewriter.c takes the lock on. */
#ifndef VDSO_BINDING_PAGEFILE_H
#define VDSO_BINDING_PAGEFILE_H

#include "module.h"

#include "page.h"

struct vdso_page_file {
	PyObject_HEAD
	int fd;
	int reader_fd; /* -1: not asked for yet */
	int lock_fd;   /* what a writer was refused on: closing it might drop the lock of another writer of this process */
	struct vdso_page_header header;
};

#endif
