/*
 * vdso-base: writes the AT_SYSINFO_EHDR of its own auxiliary vector, 8 bytes, to its standard output. Executed by the
 * hundreds (placement.c), so it has no C library, no loader and no other page than it needs.
 */
#include <elf.h>
#include <stdint.h>
#include <sys/syscall.h>

static long call(long number, long a, const void *b, long c)
{
	long ret;

	__asm__ __volatile__("syscall" : "=a"(ret) : "0"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}

/* The stack as the kernel leaves it: argc, argv, NULL, envp, NULL, auxv. */
static __attribute__((used, noreturn)) void begin(const uintptr_t *stack)
{
	const uintptr_t *word = stack + 1 + stack[0] + 1;
	uint64_t base = 0;

	while (*word != 0)
		word++;
	for (word++; word[0] != AT_NULL; word += 2)
		if (word[0] == AT_SYSINFO_EHDR)
			base = word[1];
	call(SYS_exit, call(SYS_write, 1, &base, sizeof(base)) != sizeof(base), 0, 0);
	__builtin_unreachable();
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
