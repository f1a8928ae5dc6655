#include "registers.h"

#include <elf.h>
#include <errno.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "memory.h"

#define GET_RSEQ_CONFIGURATION 0x420f /* PTRACE_GET_RSEQ_CONFIGURATION, Linux 5.13 */

struct rseq_configuration {
	uint64_t area;
	uint32_t size;
	uint32_t signature;
	uint32_t flags;
	uint32_t pad;
};

struct rseq_section {
	uint32_t version;
	uint32_t flags;
	uint64_t start;
	uint64_t length;
	uint64_t abort;
};

int vdso_registers_get(pid_t tid, struct user_regs_struct *ret)
{
	struct iovec iov = {ret, sizeof(*ret)};

	if (ptrace(PTRACE_GETREGSET, tid, (long)NT_PRSTATUS, &iov) != 0)
		return -errno;
	return iov.iov_len == sizeof(*ret) ? 0 : -ENOEXEC;
}

int vdso_registers_set(pid_t tid, const struct user_regs_struct *regs)
{
	struct iovec iov = {(void *)regs, sizeof(*regs)};

	return ptrace(PTRACE_SETREGSET, tid, (long)NT_PRSTATUS, &iov) == 0 ? 0 : -errno;
}

void vdso_registers_hide_interruption(pid_t tid)
{
	struct user_regs_struct regs;

	if (vdso_registers_get(tid, &regs) != 0 || regs.orig_rax == VDSO_NO_CALL || (int64_t)regs.rax != -EINTR ||
	    regs.orig_rax == SYS_close)
		return;
	regs.rax = (uint64_t)VDSO_RESTART_NOHAND;
	vdso_registers_set(tid, &regs);
}

uint64_t vdso_registers_sequence_abort(pid_t tid, int mem, uint64_t rip)
{
	struct rseq_configuration c;
	struct rseq_section section;
	uint64_t at;

	if (ptrace((enum __ptrace_request)GET_RSEQ_CONFIGURATION, tid, sizeof(c), &c) != sizeof(c) || c.area == 0)
		return 0;
	if (vdso_memory_read(mem, &at, sizeof(at), c.area + 8) != 0 || at == 0 ||
	    vdso_memory_read(mem, &section, sizeof(section), at) != 0)
		return 0;
	return rip - section.start < section.length ? section.abort : 0;
}
