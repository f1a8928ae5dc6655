/*
 * The first instructions that a swapped program runs: get the descriptors, map the image, enter its landing. Copied by the
 * follower into the target, so position-independent; rbx leads to the order. When anything fails nothing has been changed:
 * say so, and run the program as if untouched, or not at all when the order is strict.
 */
#include "process.h"

#define NR_mmap 9
#define NR_munmap 11
#define NR_execve 59
#define NR_exit_group 231

	.section .rodata
	.globl vdso_bootstrap
	.globl vdso_bootstrap_end
	.hidden vdso_bootstrap
	.hidden vdso_bootstrap_end

vdso_bootstrap:
	movl VDSO_ORDER_IMAGE_FD(%rbx), %r12d
	testl %r12d, %r12d
	js 1f
	movl VDSO_ORDER_CLOCK_FD(%rbx), %eax
	shlq $20, %rax
	orq %rax, %r12
	movl VDSO_ORDER_FLAGS(%rbx), %eax
	shlq $40, %rax
	orq %rax, %r12
	jmp 2f

1:	movl $NR_execve, %eax
	movabsq $VDSO_ASK_PATH, %rdi
	movl $VDSO_ASK_DESCRIPTORS, %esi
	xorl %edx, %edx
	syscall
	movq %rax, %r12
	testq %rax, %rax
	js 4f

2:	movl $NR_mmap, %eax
	xorl %edi, %edi
	movl $VDSO_FILE_BYTES, %esi
	movl $5, %edx /* PROT_READ | PROT_EXEC */
	movl $2, %r10d /* MAP_PRIVATE */
	movl %r12d, %r8d
	andl $0xfffff, %r8d
	xorl %r9d, %r9d
	syscall
	cmpq $-4096, %rax
	ja 3f

	movq %rax, %r13
	movq %rbx, %rdi
	movq %r12, %rsi
	movq %rax, %rdx
	addq VDSO_ORDER_LANDING(%rbx), %rax
	call *%rax
	/* Still here: nothing was changed. */
	negq %rax
	movq %rax, %r12
	movl $NR_munmap, %eax
	movq %r13, %rdi
	movl $VDSO_FILE_BYTES, %esi
	syscall
	jmp 4f

3:	movq %rax, %r12 /* the descriptors stay open: mmap of two pages has failed, and much else will */
4:	movl $NR_execve, %eax
	movabsq $VDSO_ASK_PATH, %rdi
	movl $VDSO_ASK_FAILED, %esi
	movq %r12, %rdx
	negq %rdx
	syscall
	/* Where we stand on the program's own code there is nothing to go back to: only the landing can restore it. */
	cmpl $0, VDSO_ORDER_COVERED_SIZE(%rbx)
	jne 6f
	cmpl $0, VDSO_ORDER_STRICT(%rbx)
	je 5f
6:	movl $NR_exit_group, %eax
	movl $VDSO_STRICT_STATUS, %edi
	syscall

5:	movq VDSO_ORDER_ENTRY(%rbx), %rax
	movq %rax, -8(%rsp)
	xorl %eax, %eax
	xorl %ebx, %ebx
	xorl %ecx, %ecx
	xorl %edx, %edx
	xorl %esi, %esi
	xorl %edi, %edi
	xorl %r8d, %r8d
	xorl %r9d, %r9d
	xorl %r10d, %r10d
	xorl %r11d, %r11d
	xorl %r12d, %r12d
	xorl %r13d, %r13d
	jmp *-8(%rsp)
vdso_bootstrap_end:

	.section .note.GNU-stack, "", @progbits
