/* Which clock page a process computes its time by: since its exec, or by the jumps that attaching it has put in. */
#ifndef VDSO_CORE_MEMBERSHIP_H
#define VDSO_CORE_MEMBERSHIP_H

#include <stdint.h>
#include <sys/types.h>

/*
 * The page's inode; 0: it runs on the host's clock, as it does once it is detached, whatever of ours is still mapped there. Where
 * its memory may not be read, jumps are taken to lead to a region that is there. 0 or a negative errno.
 */
int vdso_membership_read(pid_t pid, uint64_t *ret);

#endif
