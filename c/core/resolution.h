/* How finely a clock counts: what it is seen to do, which is not always what clock_getres(2) says. */
#ifndef VDSO_CORE_RESOLUTION_H
#define VDSO_CORE_RESOLUTION_H

#include <stdint.h>

/*
 * The smallest step forward, in ns, between two reads of the clock that follow each other, by the C library: a clock that
 * counts more finely than it can be read shows what a read takes. Reads until it has seen many steps, or a few of a coarse
 * clock's, or `limit_ns` have gone by. 0: it stood still for limit_ns. -EINVAL: there is no such clock.
 */
int64_t vdso_resolution_step(int clock, uint64_t limit_ns);

#endif
