/* Descriptors passed over a unix socket. */
#ifndef VDSO_CORE_DESCRIPTOR_H
#define VDSO_CORE_DESCRIPTOR_H

/* 0 or a negative errno. */
int vdso_descriptor_send(int socket, int fd);

/* The descriptor, close-on-exec, or a negative errno; -ECONNRESET when the other side has closed. */
int vdso_descriptor_receive(int socket, int flags);

#endif
