/* Where the kernel puts the vDSO, exec after exec: what address space layout randomisation does with it. */
#ifndef VDSO_CORE_PLACEMENT_H
#define VDSO_CORE_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Executes `program` (vdso-base, which writes its AT_SYSINFO_EHDR to its standard output) `count` times and fills `ret`; 0
 * stands for a process without a vDSO. 0 or a negative errno; -EPROTO when one of them said something else.
 */
int vdso_placement(const char *program, size_t count, uint64_t *ret);

#endif
