/*
 * Runs once inside a process that is being attached to, on one of its threads, all others standing still: maps the region
 * and receives the descriptors. Copied into the unused end of the kernel's image, behind VDSO_INJ_SINCE_BYTES, and as much of it
 * as is needed, since that is not large: what puts a filter in; what every process needs; a struct vdso_injection; what maps the
 * counts. Uses no stack, whose size is the program's business (a goroutine's may be full), and is never interrupted, since all
 * signals are blocked.
 *
 * When it has come to its end it waits for the tracer to put the thread back. If none does, the tracer has died: it unmaps
 * what it mapped and goes back by itself. No jump leads to the region before that.
 *
 * r12 region, r15 scratch, r13d result, r14d step
 */
#include "attachment.h"
#include "counting.h"
#include "process.h"

#define NR_close 3
#define NR_mmap 9
#define NR_mprotect 10
#define NR_munmap 11
#define NR_rt_sigprocmask 14
#define NR_madvise 28
#define NR_socket 41
#define NR_connect 42
#define NR_sendmsg 46
#define NR_recvmsg 47
#define NR_socketpair 53
#define NR_execve 59
#define NR_rt_sigpending 127
#define NR_prctl 157
#define NR_ppoll 271
#define NR_seccomp 317

#define DATA(offset) (vdso_injected_end + (offset))(%rip)
#define REG(index) DATA(VDSO_INJ_REGISTERS + 8 * (index))

	.section .rodata
	.globl vdso_injected_follow
	.globl vdso_injected
	.globl vdso_injected_call
	.globl vdso_injected_wait
	.globl vdso_injected_waited
	.globl vdso_injected_end
	.globl vdso_injected_counts_end
	.hidden vdso_injected_follow
	.hidden vdso_injected
	.hidden vdso_injected_call
	.hidden vdso_injected_wait
	.hidden vdso_injected_waited
	.hidden vdso_injected_end
	.hidden vdso_injected_counts_end

	.balign 8
vdso_injected_follow:
.Lfollow:
	/* Whoever follows it already: the question is an exec that fails with EFAULT where nobody does. */
	cmpq $0, DATA(VDSO_INJ_ASK)
	je 9f
	movl $VDSO_STEP_ASK, %r14d
	movl $NR_execve, %eax
	movabsq $VDSO_ASK_PATH, %rdi
	movl $VDSO_ASK_JOIN, %esi
	movl VDSO_SCR_FDS + 4(%r15), %edx
	orq DATA(VDSO_INJ_ASK), %rdx
	syscall
	movl $VDSO_FOLLOWED_BEFORE, VDSO_SCR_FOLLOWED(%r15)
	testl %eax, %eax
	jz .Lwipe
	movl $VDSO_FOLLOWED_NOT, VDSO_SCR_FOLLOWED(%r15)
	movl %eax, %r13d
	cmpl $-28, %eax /* ENOSPC, EOPNOTSUPP, ENOEXEC: its answer is that it cannot, or must not */
	je .Lwipe
	cmpl $-95, %eax
	je .Lwipe
	cmpl $-8, %eax
	je .Lwipe

	/* From here on there is no way back: a filter stays. So all that can fail has been done before, and for the listener there is
	 * room where that one was. */
9:	movl VDSO_SCR_FDS(%r15), %edi
	movl $NR_close, %eax
	syscall
	orl $-1, VDSO_SCR_FDS(%r15)
	movl $VDSO_STEP_FILTER, %r14d
	movl DATA(VDSO_INJ_FILTER), %r13d
.Lfilter:
	movl $NR_seccomp, %eax
	movl $1, %edi /* SECCOMP_SET_MODE_FILTER */
	movl %r13d, %esi
	leaq VDSO_SCR_PROGRAM(%r15), %rdx
	syscall
	testl %eax, %eax
	jns .Lfiltered
	cmpl $-22, %eax /* EINVAL */
	jne 9f
	btrl $5, %r13d /* SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, since Linux 5.19 */
	jc .Lfilter
9:	cmpl $-13, %eax /* EACCES: no CAP_SYS_ADMIN */
	jne 9f
	cmpl $0, VDSO_SCR_NO_NEW_PRIVS(%r15)
	jne 9f
	movl $NR_prctl, %eax
	movl $38, %edi /* PR_SET_NO_NEW_PRIVS */
	movl $1, %esi
	xorl %edx, %edx
	xorl %r10d, %r10d
	xorl %r8d, %r8d
	syscall
	movl $1, VDSO_SCR_NO_NEW_PRIVS(%r15)
	jmp .Lfilter
9:	movl %eax, %r13d
	cmpl $-16, %eax /* EBUSY: whose listener it is that is there, the tracer knows */
	jne .Lwipe
	movl $VDSO_FOLLOWED_UNKNOWN, VDSO_SCR_FOLLOWED(%r15)
	movl $VDSO_INJ_DONE, %r13d
	jmp .Lwipe

	/* In the control message that the descriptors came in, which names its level and type. */
.Lfiltered:
	movl %eax, VDSO_SCR_FDS(%r15)
	movq $20, VDSO_SCR_CONTROL(%r15)
	movq $20, VDSO_SCR_MESSAGE + 40(%r15)
	leaq VDSO_SCR_NO_NEW_PRIVS(%r15), %rax
	movq %rax, VDSO_SCR_VECTOR(%r15)
	movq $4, VDSO_SCR_VECTOR + 8(%r15)
	movl $NR_sendmsg, %eax
	movl VDSO_SCR_FDS + 8(%r15), %edi
	leaq VDSO_SCR_MESSAGE(%r15), %rsi
	movl $0x4000, %edx /* MSG_NOSIGNAL */
	syscall
	movl $VDSO_FOLLOWED_ANEW, VDSO_SCR_FOLLOWED(%r15)
	movl $VDSO_INJ_DONE, %r13d
	testl %eax, %eax
	jns .Lwipe
	/* A limit or a security module of the process's own is in the way: the tracer takes it out, and sends it. */
	movl $VDSO_FOLLOWED_LOST, VDSO_SCR_FOLLOWED(%r15)
	movl $VDSO_INJ_KEEPS, VDSO_SCR_STATE(%r15)
	movl $NR_ppoll, %eax
	leaq VDSO_SCR_POLL(%r15), %rdi
	movl $1, %esi
	leaq DATA(VDSO_INJ_SCRATCH + VDSO_SCR_PATIENCE), %rdx
	xorl %r10d, %r10d
	movl $8, %r8d
	syscall

.Lwipe:
	leaq VDSO_SCR_FILTER(%r15), %rdi
	movl VDSO_SCR_PROGRAM(%r15), %ecx
	xorl %eax, %eax
	rep stosq
	cmpl $VDSO_FOLLOWED_BEFORE, VDSO_SCR_FOLLOWED(%r15)
	jne .Lclose
	jmp .Ldone

	.balign 8
vdso_injected:
	cld
	movq DATA(VDSO_INJ_REGION), %r12
	leaq VDSO_SCRATCH_AT(%r12), %r15
	cmpq $0, DATA(VDSO_INJ_FRESH)
	je 1f

	movl $VDSO_STEP_REGION, %r14d
	movl $NR_mmap, %eax
	movq %r12, %rdi
	movl $VDSO_REGION_BYTES, %esi
	movl $3, %edx /* PROT_READ | PROT_WRITE */
	movl $0x100022, %r10d /* MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE */
	movq $-1, %r8
	xorl %r9d, %r9d
	syscall
	movl %eax, %r13d
	cmpq %r12, %rax
	je 1f
	cmpq $-4096, %rax
	ja vdso_injected_wait /* nothing is there; r13 and r14 say why */
	/* A kernel before 4.17 takes the address for a wish. */
	movq %rax, %rdi
	movl $VDSO_REGION_BYTES, %esi
	movl $NR_munmap, %eax
	syscall
	movl $-17, %r13d /* EEXIST */
	jmp vdso_injected_wait

1:	movq %r15, %rdi
	leaq DATA(VDSO_INJ_SCRATCH), %rsi
	movl $VDSO_SCR_BYTES, %ecx
	rep movsb

	movl $VDSO_STEP_SOCKET, %r14d
	cmpq $0, VDSO_SCR_NAME_SIZE(%r15)
	jne 4f
	movl $NR_socketpair, %eax
	movl $1, %edi /* AF_UNIX */
	movl $0x80005, %esi /* SOCK_SEQPACKET | SOCK_CLOEXEC */
	xorl %edx, %edx
	leaq VDSO_SCR_OFFERED(%r15), %r10
	syscall
	movl %eax, %r13d
	testl %eax, %eax
	jnz .Lclose
	jmp 5f

4:	movl $NR_socket, %eax
	movl $1, %edi
	movl $0x80005, %esi
	xorl %edx, %edx
	syscall
	movl %eax, %r13d
	testl %eax, %eax
	js .Lclose
	movl %eax, VDSO_SCR_OFFERED(%r15)
	movl $VDSO_STEP_CONNECT, %r14d
	movl %eax, %edi
	movl $NR_connect, %eax
	leaq VDSO_SCR_NAME(%r15), %rsi
	movl VDSO_SCR_NAME_SIZE(%r15), %edx
	syscall
	movl %eax, %r13d
	testl %eax, %eax
	js .Lclose

5:	movl VDSO_SCR_OFFERED(%r15), %eax
	movl %eax, VDSO_SCR_POLL(%r15)
	movl $VDSO_INJ_OFFERS, VDSO_SCR_STATE(%r15)

	movl $VDSO_STEP_RECEIVE, %r14d
	movl $NR_ppoll, %eax
	leaq VDSO_SCR_POLL(%r15), %rdi
	movl $1, %esi
	leaq DATA(VDSO_INJ_SCRATCH + VDSO_SCR_PATIENCE), %rdx
	xorl %r10d, %r10d
	movl $8, %r8d
	syscall
	movl $-110, %r13d /* ETIMEDOUT */
	cmpl $1, %eax
	jne .Lclose
	movl $NR_recvmsg, %eax
	movl VDSO_SCR_OFFERED(%r15), %edi
	leaq VDSO_SCR_MESSAGE(%r15), %rsi
	movl $0x40000040, %edx /* MSG_CMSG_CLOEXEC | MSG_DONTWAIT */
	syscall
	movl %eax, %r13d
	testl %eax, %eax
	js .Lclose
	movl $-24, %r13d /* EMFILE: it has no room for all of them */
	testb $8, VDSO_SCR_MESSAGE + 48(%r15) /* MSG_CTRUNC */
	jnz .Lclose
	movl $-71, %r13d /* EPROTO: they did not come with it */
	movq DATA(VDSO_INJ_SCRATCH + VDSO_SCR_MESSAGE + 40), %rax
	cmpq %rax, VDSO_SCR_CONTROL(%r15)
	jne .Lclose

	movl $VDSO_STEP_CLOCK, %r14d
	movl $NR_mmap, %eax
	movq %r12, %rdi
	movl $VDSO_CLOCK_BYTES, %esi
	movl $1, %edx /* PROT_READ */
	movl $0x11, %r10d /* MAP_SHARED | MAP_FIXED */
	movl VDSO_SCR_FDS + 4(%r15), %r8d
	xorl %r9d, %r9d
	syscall
	movl %eax, %r13d
	cmpq $-4096, %rax
	ja .Lclose
	cmpq $0, DATA(VDSO_INJ_FRESH)
	je 2f

	movl $VDSO_STEP_IMAGE, %r14d
	movl $NR_mmap, %eax
	leaq VDSO_DATA_BYTES(%r12), %rdi
	movl $VDSO_FILE_BYTES, %esi
	movl $5, %edx /* PROT_READ | PROT_EXEC */
	movl $0x12, %r10d /* MAP_PRIVATE | MAP_FIXED */
	movl VDSO_SCR_FDS(%r15), %r8d
	xorl %r9d, %r9d
	syscall
	movl %eax, %r13d
	cmpq $-4096, %rax
	ja .Lclose

	movl $VDSO_STEP_DETOURS, %r14d
	movl $NR_mmap, %eax
	leaq VDSO_DETOURS_AT(%r12), %rdi
	movl $VDSO_PAGE_BYTES, %esi
	movl $5, %edx
	movl $0x32, %r10d /* MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS */
	movq $-1, %r8
	xorl %r9d, %r9d
	syscall
	movl %eax, %r13d
	cmpq $-4096, %rax
	ja .Lclose

	movl $VDSO_STEP_SEAL, %r14d
	movl $NR_mprotect, %eax
	leaq VDSO_CLOCK_BYTES(%r12), %rdi
	movl $VDSO_PAGE_BYTES, %esi
	movl $1, %edx
	syscall
	movl %eax, %r13d
	testl %eax, %eax
	jnz .Lclose

2:	cmpq $0, DATA(VDSO_INJ_COUNTS)
	jne .Lcount
	cmpq $0, DATA(VDSO_INJ_FILTER)
	jne .Lfollow

.Ldone:
	movl $VDSO_INJ_DONE, %r13d

.Lclose:
	movl $VDSO_SCR_FD_COUNT, %ebx
1:	movl VDSO_SCR_FDS - 4(%r15,%rbx,4), %edi /* -1, where there is none */
	movl $NR_close, %eax
	syscall
	decl %ebx
	jnz 1b

	movl %r14d, VDSO_SCR_STEP(%r15)
	movl %r13d, VDSO_SCR_STATE(%r15)
	jmp vdso_injected_wait

/* What a thread is borrowed for (borrow.c), with r14 VDSO_STEP_REGION: one call at a time, each under the tracer's eyes. */
vdso_injected_call:
	syscall

vdso_injected_wait:
	movl $NR_ppoll, %eax
	xorl %edi, %edi
	xorl %esi, %esi
	leaq DATA(VDSO_INJ_SCRATCH + VDSO_SCR_PATIENCE), %rdx /* where the kernel cannot write what is left of it */
	xorl %r10d, %r10d
	movl $8, %r8d
	syscall

vdso_injected_waited:
	/* Nobody has come. Whether a signal is waiting has to be asked while there is memory to have it written to. */
	xorl %ebx, %ebx
	cmpl $VDSO_STEP_REGION, %r14d
	je 3f
	movl $NR_rt_sigpending, %eax
	movq %r15, %rdi
	movl $8, %esi
	syscall
	movq DATA(VDSO_INJ_MASK), %rbx
	notq %rbx
	andq (%r15), %rbx
	/* What is in use may not go, and a region that was there before may be. */
	cmpq $0, DATA(VDSO_INJ_FRESH)
	je 3f
	movl $NR_munmap, %eax
	movq %r12, %rdi
	movl $VDSO_REGION_BYTES, %esi
	movq VDSO_SCR_COUNTS(%r15), %rbp /* 0: the private page may be there, and stays */
	testq %rbp, %rbp
	jz 7f
	subq $VDSO_COUNT_PRIVATE_BYTES, %rdi
	addq $VDSO_COUNT_PRIVATE_BYTES, %rsi
7:	syscall
	testq %rbp, %rbp
	jz 3f
	movl $NR_munmap, %eax
	movq %rbp, %rdi
	movl $VDSO_COUNT_BYTES, %esi
	syscall

	/* What the last system call does not use. */
3:	movq REG(6), %rbp
	movq REG(8), %r8
	movq REG(9), %r9
	movq REG(12), %r12
	movq REG(13), %r13
	movq REG(14), %r14
	movq REG(15), %r15
	movl $NR_rt_sigprocmask, %eax
	movl $2, %edi /* SIG_SETMASK */
	leaq DATA(VDSO_INJ_MASK), %rsi
	xorl %edx, %edx
	movl $8, %r10d
	/* The flags outlive it. Signals come in behind it, and find the program's own stack. */
	testq %rbx, %rbx
	movq REG(1), %rbx
	leaq DATA(VDSO_INJ_FLAGS), %rsp
	jnz 6f
	popfq
	movq REG(7), %rsp
	syscall
	movq REG(0), %rax
	movq REG(2), %rcx
	movq REG(3), %rdx
	movq REG(4), %rsi
	movq REG(5), %rdi
	movq REG(10), %r10
	movq REG(11), %r11
	jmp *DATA(VDSO_INJ_RIP)

	/* The same, for a call that a signal ends. */
6:	popfq
	movq REG(7), %rsp
	syscall
	movq DATA(VDSO_INJ_EINTR_RAX), %rax
	movq REG(2), %rcx
	movq REG(3), %rdx
	movq REG(4), %rsi
	movq REG(5), %rdi
	movq REG(10), %r10
	movq REG(11), %r11
	jmp *DATA(VDSO_INJ_EINTR_RIP)
	.balign 8
vdso_injected_end:
	.skip VDSO_INJ_BYTES

.Lcount:
	movl $0x11, %r10d /* MAP_SHARED | MAP_FIXED */
	movq DATA(VDSO_INJ_COUNTS), %rdi
	cmpq $VDSO_COUNTS_ANYWHERE, %rdi
	jne 9f

	movl $VDSO_STEP_PRIVATE, %r14d
	movl $NR_mmap, %eax
	leaq -VDSO_COUNT_PRIVATE_BYTES(%r12), %rdi
	movl $VDSO_COUNT_PRIVATE_BYTES, %esi
	movl $3, %edx
	movl $0x100022, %r10d /* MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE */
	movq $-1, %r8
	xorl %r9d, %r9d
	syscall
	movl %eax, %r13d
	cmpq $-4096, %rax
	ja .Lclose
	movl $-17, %r13d /* EEXIST: a kernel before 4.17 has put it elsewhere */
	cmpq %rdi, %rax
	jne .Lclose
	movl $NR_madvise, %eax
	movl $18, %edx /* MADV_WIPEONFORK */
	syscall
	movl %eax, %r13d
	testl %eax, %eax
	jnz .Lclose
	xorl %edi, %edi
	movl $1, %r10d /* MAP_SHARED */

9:	movl $VDSO_STEP_COUNTS, %r14d
	movl $NR_mmap, %eax
	movl $VDSO_COUNT_BYTES, %esi
	movl $3, %edx
	movl VDSO_SCR_FDS + 8(%r15), %r8d
	xorl %r9d, %r9d
	syscall
	movl %eax, %r13d
	cmpq $-4096, %rax
	ja .Lclose
	movq %rax, VDSO_SCR_COUNTS(%r15)
	jmp .Ldone
	.balign 8
vdso_injected_counts_end:

	.section .note.GNU-stack, "", @progbits
