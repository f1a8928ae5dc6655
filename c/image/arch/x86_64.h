/*
 * What the image needs of x86-64: names and version of the kernel's exports, the counter, the system call, the landing's
 * first and last instructions. Another architecture is another file like this one. The linker script reads the names.
 */
#ifndef VDSO_ARCH_X86_64_H
#define VDSO_ARCH_X86_64_H

#define VDSO_SYMBOL_VERSION LINUX_2.6
#define VDSO_NAME(function) __vdso_##function
#define ARCH_HAS_SGX 1

#ifndef __ASSEMBLER__

#include <stdint.h>

#include "layout.h"

#define ARCH_TEXT_(x) #x
#define ARCH_TEXT(x) ARCH_TEXT_(x)

/* RDTSCP waits for every earlier load, so a reading cannot be older than what the caller has already seen. Nothing holds
 * later loads back, and nothing has to: the head that is checked afterwards may be fetched some hundred cycles early,
 * against a lead of 2 ms. */
static inline uint64_t arch_counter(void)
{
	uint32_t low, high;

	__asm__ __volatile__("rdtscp" : "=a"(low), "=d"(high) : : "ecx", "memory");
	return (uint64_t)high << 32 | low;
}

enum {
	ARCH_NR_MMAP = 9,
	ARCH_NR_MPROTECT = 10,
	ARCH_NR_MUNMAP = 11,
	ARCH_NR_MREMAP = 25,
	ARCH_NR_CLOSE = 3,
	ARCH_NR_GETTIMEOFDAY = 96,
	ARCH_NR_EXECVE = 59,
	ARCH_NR_PRCTL = 157,
	ARCH_NR_EXIT_GROUP = 231,
	ARCH_NR_TIME = 201,
	ARCH_NR_CLOCK_GETTIME = 228,
	ARCH_NR_CLOCK_GETRES = 229,
	ARCH_NR_GETCPU = 309,
	ARCH_NR_FUTEX = 202,
	ARCH_NR_FUTEX_WAITV = 449,
	ARCH_NR_MADVISE = 28,
	ARCH_NR_GETPID = 39,
	ARCH_NR_GETTID = 186,
};

/* Only where the kernel says that it may be read (HWCAP2_FSGSBASE). */
static inline uint64_t arch_thread_pointer(void)
{
	uint64_t pointer;

	__asm__ __volatile__("rdfsbase %0" : "=r"(pointer));
	return pointer;
}

/* One more, in one instruction: nothing on this CPU comes in between. */
static inline void arch_count(uint64_t *calls)
{
	__asm__ __volatile__("addq $1, %0" : "+m"(*calls) : : "cc");
}

/* high * 2^64 + low by a divisor that is more than high. */
static inline uint64_t arch_divide(uint64_t high, uint64_t low, uint64_t divisor)
{
	uint64_t quotient, rest;

	__asm__("divq %4" : "=a"(quotient), "=d"(rest) : "0"(low), "1"(high), "rm"(divisor) : "cc");
	return quotient;
}

static inline long arch_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ __volatile__("syscall"
			     : "=a"(ret)
			     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			     : "rcx", "r11", "memory");
	return ret;
}

/* Takes its parameters partly on the stack and in registers that C does not pass on: a jump, and nothing else. The
 * processor's exceptions inside it are mended by the kernel, which knows where its image has been moved to. */
#define ARCH_EXPORTS \
	__asm__(".pushsection .text\n" \
	".globl __vdso_sgx_enter_enclave\n" \
	".type __vdso_sgx_enter_enclave, @function\n" \
	"__vdso_sgx_enter_enclave:\n" \
	".cfi_startproc\n" \
	"	endbr64\n" \
	"	jmp *vdso_process+16+6*8(%rip)\n" \
	".cfi_endproc\n" \
	".size __vdso_sgx_enter_enclave, . - __vdso_sgx_enter_enclave\n" \
	".popsection\n")

/*
 * Where a task is turned to in the place of its system call, as if by the call itself: whatever the kernel keeps is kept, the
 * red zone is stepped over, and the way back is in rcx. vdso_wait_step() has the registers as a struct vdso_turned, and says
 * which system calls to make.
 */
#define ARCH_WAIT \
	__asm__(".pushsection .text\n" \
	".globl vdso_wait\n" \
	".hidden vdso_wait\n" \
	".type vdso_wait, @function\n" \
	"vdso_wait:\n" \
	".cfi_startproc\n" \
	".cfi_def_cfa %rsp, 0\n" \
	".cfi_register %rip, %rcx\n" \
	"	lea -128(%rsp), %rsp\n" \
	".cfi_def_cfa_offset 128\n" \
	"	push %r11\n" \
	".cfi_def_cfa_offset 136\n" \
	"	push %rcx\n" \
	".cfi_def_cfa_offset 144\n" \
	".cfi_offset %rip, -144\n" \
	"	push %r9\n" \
	".cfi_def_cfa_offset 152\n" \
	"	push %r8\n" \
	".cfi_def_cfa_offset 160\n" \
	"	push %r10\n" \
	".cfi_def_cfa_offset 168\n" \
	"	push %rdx\n" \
	".cfi_def_cfa_offset 176\n" \
	"	push %rsi\n" \
	".cfi_def_cfa_offset 184\n" \
	"	push %rdi\n" \
	".cfi_def_cfa_offset 192\n" \
	"	push %rax\n" \
	".cfi_def_cfa_offset 200\n" \
	"	push %rbp\n" \
	".cfi_def_cfa_offset 208\n" \
	".cfi_offset %rbp, -208\n" \
	"	mov %rsp, %rbp\n" \
	".cfi_def_cfa_register %rbp\n" \
	"	sub $" ARCH_TEXT(VDSO_WAITING_BYTES) ", %rsp\n" \
	"	and $-16, %rsp\n" \
	"	movl $0, " ARCH_TEXT(VDSO_WAITING_CALLS) "(%rsp)\n" \
	"1:	mov %rsp, %rdi\n" \
	"	lea 8(%rbp), %rsi\n" \
	"	lea vdso_pages(%rip), %rdx\n" \
	"	call *vdso_process+" ARCH_TEXT(VDSO_PROCESS_WAIT_STEP) "(%rip)\n" \
	"	test %al, %al\n" \
	"	jz 2f\n" \
	"	mov (%rsp), %rax\n" \
	"	mov 8(%rsp), %rdi\n" \
	"	mov 16(%rsp), %rsi\n" \
	"	mov 24(%rsp), %rdx\n" \
	"	mov 32(%rsp), %r10\n" \
	"	mov 40(%rsp), %r8\n" \
	"	mov 48(%rsp), %r9\n" \
	"	syscall\n" \
	".globl vdso_waited\n" \
	".hidden vdso_waited\n" \
	"vdso_waited:\n" \
	"	mov %rax, " ARCH_TEXT(VDSO_WAITING_RET) "(%rsp)\n" \
	"	jmp 1b\n" \
	"2:	mov " ARCH_TEXT(VDSO_WAITING_RET) "(%rsp), %rax\n" \
	"	mov 16(%rbp), %rdi\n" \
	"	mov 24(%rbp), %rsi\n" \
	"	mov 32(%rbp), %rdx\n" \
	"	mov 40(%rbp), %r10\n" \
	"	mov 48(%rbp), %r8\n" \
	"	mov 56(%rbp), %r9\n" \
	"	mov 64(%rbp), %rcx\n" \
	"	mov %rbp, %rsp\n" \
	".cfi_def_cfa_register %rsp\n" \
	"	pop %rbp\n" \
	".cfi_def_cfa_offset 200\n" \
	".cfi_restore %rbp\n" \
	".cfi_register %rip, %rcx\n" \
	"	lea 200(%rsp), %rsp\n" \
	".cfi_def_cfa_offset 0\n" \
	"	notrack jmp *%rcx\n" \
	".globl vdso_wait_end\n" \
	".hidden vdso_wait_end\n" \
	"vdso_wait_end:\n" \
	".cfi_endproc\n" \
	".size vdso_wait, . - vdso_wait\n" \
	".popsection\n")

/*
 * The landing. In: rdi the order, rsi the descriptors, rdx where this copy of the image is mapped; on the program's own
 * stack, before its first instruction. vdso_land() answers with the base of the image in its final place and the program's
 * entry: drop the bootstrap's return address, go on in the final place, unmap this first copy but for its annex, clear the
 * registers as the kernel's exec leaves them, and enter the program. Base 0: nothing was changed, return the errno to the
 * bootstrap. Base still this copy's: enter the program without unmapping it.
 */
#define ARCH_LANDING \
	__asm__(".pushsection .text\n" \
	".globl vdso_landing\n" \
	".hidden vdso_landing\n" \
	".type vdso_landing, @function\n" \
	"vdso_landing:\n" \
	".cfi_startproc\n" \
	".cfi_undefined rip\n" \
	"	push %rdx\n" \
	"	call vdso_land\n" \
	"	pop %rdi\n" \
	"	test %rax, %rax\n" \
	"	jz 1f\n" \
	"	lea vdso_leave(%rip), %rcx\n" \
	"	sub %rdi, %rcx\n" \
	"	add %rax, %rcx\n" \
	"	cmp %rdi, %rax\n" \
	"	jne 2f\n" \
	"	xor %edi, %edi\n" \
	"2:" \
	"	add $8, %rsp\n" \
	"	jmp *%rcx\n" \
	"1:	mov %rdx, %rax\n" \
	"	ret\n" \
	".cfi_endproc\n" \
	".size vdso_landing, . - vdso_landing\n" \
	".popsection\n" \
	".pushsection .leave, \"ax\", @progbits\n" \
	".type vdso_leave, @function\n" \
	"vdso_leave:\n" \
	".cfi_startproc\n" \
	".cfi_undefined rip\n" \
	"	mov %rdx, -8(%rsp)\n" \
	"	mov $" ARCH_TEXT(VDSO_IMAGE_BYTES) ", %esi\n" \
	"	mov $11, %eax\n" \
	"	syscall\n" \
	"	xor %eax, %eax\n" \
	"	xor %ebx, %ebx\n" \
	"	xor %ecx, %ecx\n" \
	"	xor %edx, %edx\n" \
	"	xor %esi, %esi\n" \
	"	xor %edi, %edi\n" \
	"	xor %ebp, %ebp\n" \
	"	xor %r8d, %r8d\n" \
	"	xor %r9d, %r9d\n" \
	"	xor %r10d, %r10d\n" \
	"	xor %r11d, %r11d\n" \
	"	xor %r12d, %r12d\n" \
	"	xor %r13d, %r13d\n" \
	"	xor %r14d, %r14d\n" \
	"	xor %r15d, %r15d\n" \
	"	jmp *-8(%rsp)\n" \
	".cfi_endproc\n" \
	".size vdso_leave, . - vdso_leave\n" \
	".popsection\n")

#endif
#endif
