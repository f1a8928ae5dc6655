/* The memory of a task that we hold by ptrace, read and written whatever its protection. */
#ifndef VDSO_CORE_MEMORY_H
#define VDSO_CORE_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* /proc/TID/mem, close-on-exec, or a negative errno. */
int vdso_memory_open(pid_t tid);

/* All or -EFAULT, or another negative errno. */
int vdso_memory_read(int mem, void *bytes, size_t size, uint64_t at);

/*
 * One write where the kernel lets /proc/TID/mem override protections, which nothing can come between on one page; else word
 * by word. What the process shares with others by being mapped private becomes its own. The task must stand still.
 */
int vdso_memory_write(pid_t tid, int mem, const void *bytes, size_t size, uint64_t at);

#endif
