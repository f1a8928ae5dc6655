/* x86-64: copies of memory that changes meanwhile, and system calls. */
#ifndef VDSO_READER_X86_64_H
#define VDSO_READER_X86_64_H

#include <stddef.h>
#include <stdint.h>

#define NR_read 0
#define NR_open 2
#define NR_close 3
#define NR_futex 202
#define NR_clock_gettime 228

static inline long system_call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/*
 * Copies whole words that another process may be writing. In assembly, since to C such a copy is a data race: the compiler may neither
 * drop, repeat nor move these loads. SSE2 is in every x86-64; a line of the cache is read by four loads instead of eight.
 * Loads pass no earlier load on x86, so the caller's acquire load and fence order these too.
 */
static inline void copy_racing_words(void *to, const void *from, size_t size)
{
	uint64_t word;

	__asm__ volatile("subq $64, %2\n\t"
			 "jb 2f\n"
			 "1:\n\t"
			 "movups (%1), %%xmm0\n\t"
			 "movups 16(%1), %%xmm1\n\t"
			 "movups 32(%1), %%xmm2\n\t"
			 "movups 48(%1), %%xmm3\n\t"
			 "movups %%xmm0, (%0)\n\t"
			 "movups %%xmm1, 16(%0)\n\t"
			 "movups %%xmm2, 32(%0)\n\t"
			 "movups %%xmm3, 48(%0)\n\t"
			 "addq $64, %1\n\t"
			 "addq $64, %0\n\t"
			 "subq $64, %2\n\t"
			 "jae 1b\n"
			 "2:\n\t"
			 "addq $48, %2\n\t" /* what is left, less 16 */
			 "js 4f\n"
			 "3:\n\t"
			 "movups (%1), %%xmm0\n\t"
			 "movups %%xmm0, (%0)\n\t"
			 "addq $16, %1\n\t"
			 "addq $16, %0\n\t"
			 "subq $16, %2\n\t"
			 "jns 3b\n"
			 "4:\n\t"
			 "addq $16, %2\n\t"
			 "jz 5f\n\t"
			 "movq (%1), %3\n\t"
			 "movq %3, (%0)\n"
			 "5:"
			 : "+r"(to), "+r"(from), "+r"(size), "=&r"(word)
			 :
			 : "xmm0", "xmm1", "xmm2", "xmm3", "memory", "cc");
}

/* What a size that is no multiple of eight leaves. */
static inline void copy_racing_bytes(char *out, const char *in, size_t size)
{
	for (; size != 0; size--, in++, out++) {
		uint32_t byte;

		__asm__ volatile("movzbl (%2), %0\n\t"
				 "movb %b0, (%1)"
				 : "=&q"(byte)
				 : "r"(out), "r"(in)
				 : "memory");
	}
}

#endif
