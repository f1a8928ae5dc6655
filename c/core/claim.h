/*
 * Which names this process publishes.
 *
 * A name's lock is a POSIX record lock, which a process that has it is given again, and loses by closing any descriptor of
 * the file. So who means to open the lock's file claims the name first, in the whole process: also in its other interpreters,
 * whose modules know nothing of each other. A forked child has claimed nothing.
 */
#ifndef VDSO_CORE_CLAIM_H
#define VDSO_CORE_CLAIM_H

#include <stdint.h>

/* Claims a name in a directory; -EBUSY: somebody in this process has it. Gives what vdso_unclaim() is to be given. */
int vdso_claim(int directory_fd, const char *name, uint64_t *ret);

/* Only after the lock's file is closed. A claim that is not this process's is nobody's: then it does nothing. */
void vdso_unclaim(uint64_t claim);

/* Whether anybody, in this process or another, has the name's lock: 1, 0, or a negative errno where the file is not to be had. */
int vdso_name_locked(int directory_fd, const char *name);

#endif
