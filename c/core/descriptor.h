/* Descriptors passed over a unix socket, and those given up. */
#ifndef VDSO_CORE_DESCRIPTOR_H
#define VDSO_CORE_DESCRIPTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* 0 or a negative errno. The number goes with it. */
int vdso_descriptor_send(int socket, int fd, uint32_t number);

/*
 * The descriptor, close-on-exec, or a negative errno; -ECONNRESET when the other side has closed. A number that comes
 * without a descriptor is an errno: its negative.
 */
int vdso_descriptor_receive(int socket, int flags, uint32_t *number);

/*
 * Moves these, `count` of them, to the numbers from 3 on, close-on-exec, and closes whatever else the caller's caller had open:
 * who works in the background holds nobody's pipe or terminal open. False: there is no room for them.
 */
bool vdso_descriptor_keep(const int *wanted, int count);

/* A copy, close-on-exec, of a descriptor of another process's, or of a thread's that has its own; or a negative errno. */
int vdso_descriptor_copy(pid_t task, int fd);

/* Puts /dev/null in the place of the standard streams: who works in the background holds nobody's pipe open. */
void vdso_descriptor_drop_standard(void);

#endif
