/*
 * The counting image's functions: each has the kernel's answer, and counts. In that order, since reading the counter waits for
 * whatever comes before it, and what comes after does not. Its clocks are the host's: it has none of the plain image's code.
 *
 * One instruction counts, in a cell that is the thread's own. The thread is known by its thread pointer, which a program
 * without a C library may not have, and by its id where the C library keeps that: another thread may have been given the
 * memory of one that has ended. What does not fit goes to vdso_count() (count.c).
 */
#include "arch.h"
#include "counting.h"
#include "process.h"

#define PROCESS(offset) (vdso_process + (offset))(%rip)
#define PRIVATE(offset) (vdso_private + (offset))(%rip)

/* `function`: its number, as enum vdso_function has it. */
	.macro counted name, function
	.balign 16
	.globl __vdso_\name
	.type __vdso_\name, @function
	.weak \name
	.set \name, __vdso_\name
	.type \name, @function
__vdso_\name:
	.cfi_startproc
	endbr64
	push %rdi
	.cfi_def_cfa_offset 16
	call *PROCESS(VDSO_PROCESS_FUNCTION + 8 * \function)
	pop %rdi
	.cfi_def_cfa_offset 8
	.endm

	.macro ending name
	.cfi_endproc
	.size __vdso_\name, . - __vdso_\name
	.size \name, . - __vdso_\name
	.endm

	.text
	counted clock_gettime, 0
	movl %edi, %r9d
	cmpl $VDSO_COUNT_IDS, %edi
	jae 3f

/* r9: which count. rax, the answer, stays. As own_cell() and mine() in count.c have it. */
1:	cmpl $VDSO_COUNT_BY_THREAD, PROCESS(VDSO_PROCESS_COUNTING)
	jne 2f
	rdfsbase %r10
	movq PRIVATE(VDSO_COUNT_REGION), %rdx
	movl $VDSO_COUNT_SHIFT, %ecx
	imull $VDSO_COUNT_SPREADING, %r10d, %r8d
	movl %edx, %r11d
	shrq $32, %rdx
	addq PROCESS(VDSO_PROCESS_COUNTS), %r11
	subl %edx, %ecx
	movq PRIVATE(VDSO_COUNT_TID_OFFSET), %rdx
	shrl %cl, %r8d
	andl $-(1 << VDSO_COUNT_CELL_SHIFT), %r8d
	leaq (%r11,%r8), %rcx
	movq %r10, %r11
	notq %r11
	cmpq %r11, VDSO_COUNT_KEY(%rcx)
	jne 2f
	movl (%r10,%rdx), %edx
	andl PRIVATE(VDSO_COUNT_TID_MASK), %edx
	cmpl %edx, VDSO_COUNT_CHECK(%rcx)
	jne 2f
	movq PROCESS(VDSO_PROCESS_COUNTS), %r11
	addq $1, VDSO_COUNT_CALLS(%rcx,%r9,8)
	cmpq $0, VDSO_COUNT_THRESHOLD(%r11)
	jne vdso_count_sampled
	ret
2:	xorl %ecx, %ecx
	cmpl $VDSO_COUNT_NOT, PROCESS(VDSO_PROCESS_COUNTING)
	jne vdso_count_sampled
	ret

/* Lays everything out as struct vdso_count_frame for vdso_count(). rcx: the cell that has counted, or 0. */
vdso_count_sampled:
	push %rbp
	.cfi_def_cfa_offset 16
	.cfi_offset %rbp, -16
	movq %rsp, %rbp
	.cfi_def_cfa_register %rbp
	push %rax
	push %rdi
	push %r15
	push %r14
	push %r13
	push %r12
	push %rbx
	movq %rsp, %rdi
	movl %r9d, %esi
	movq %rcx, %rdx
	andq $-16, %rsp
	call vdso_count
	movq -8(%rbp), %rax
	leave
	.cfi_def_cfa %rsp, 8
	.cfi_restore %rbp
	ret

3:	testl %edi, %edi
	js 4f
	leal -16(%rdi), %ecx /* CLOCK_AUX to CLOCK_AUX_LAST */
	movl $VDSO_COUNT_UNKNOWN, %r9d
	cmpl $8, %ecx
	jae 1b
	movl $VDSO_COUNT_AUXILIARY, %r9d
	jmp 1b
4:	movl %edi, %ecx /* what a negative id says in its last three bits: include/linux/posix-timers.h */
	movl $VDSO_COUNT_CPU, %r9d
	andl $7, %ecx
	cmpl $3, %ecx
	jne 1b
	movl $VDSO_COUNT_DEVICE, %r9d
	jmp 1b
	ending clock_gettime

	.macro counted_as name, function, slot
	counted \name, \function
	movl $\slot, %r9d
	jmp 1b
	ending \name
	.endm

	counted_as gettimeofday, 1, VDSO_COUNT_GETTIMEOFDAY
	counted_as time, 2, VDSO_COUNT_TIME
	counted_as getcpu, 3, VDSO_COUNT_GETCPU
	counted_as clock_getres, 4, VDSO_COUNT_GETRES
	counted_as getrandom, 5, VDSO_COUNT_GETRANDOM

	.section .note.GNU-stack, "", @progbits
