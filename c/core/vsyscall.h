/* The vsyscall page, at one address in every process: arch/x86/include/uapi/asm/vsyscall.h, an ABI. */
#ifndef VDSO_CORE_VSYSCALL_H
#define VDSO_CORE_VSYSCALL_H

#include <stdbool.h>
#include <stdint.h>

#define VDSO_VSYSCALL_ADDRESS UINT64_C(0xffffffffff600000)
#define VDSO_VSYSCALL_BYTES 4096u

/* Whether this line of /proc/PID/maps is the page, with the permission to execute. A file's name may hold any word, and a
 * part of a long line may look like a whole one; nothing else is at that address. */
bool vdso_vsyscall_line(const char *line);

#endif
