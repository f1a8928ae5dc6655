/*
 * A 32-bit program without a C library: prints the time, read through its own vDSO's entry for system calls, and becomes
 * the command named. gcc -m32 -nostdlib.
 */
#define AT_SYSINFO 32

static unsigned long entry;

static long call(long number, long first, long second, long third)
{
	long ret;

	if (entry != 0)
		__asm__ volatile("call *%[entry]"
				 : "=a"(ret)
				 : "0"(number), "b"(first), "c"(second), "d"(third), [entry] "m"(entry)
				 : "memory");
	else
		__asm__ volatile("int $0x80" : "=a"(ret) : "0"(number), "b"(first), "c"(second), "d"(third) : "memory");
	return ret;
}

static long call_by_interrupt(long number, long first, long second, long third)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "0"(number), "b"(first), "c"(second), "d"(third) : "memory");
	return ret;
}

__attribute__((used)) void begin(unsigned long *stack)
{
	unsigned long argc = stack[0];
	char **argv = (char **)(stack + 1);
	char **environment = argv + argc + 1;
	unsigned long *auxv = (unsigned long *)environment;
	char line[32] = "wall ";
	char digits[16];
	unsigned long now;
	int count = 0, length = 5;

	while (*auxv++ != 0)
		;
	for (; auxv[0] != 0; auxv += 2)
		if (auxv[0] == AT_SYSINFO)
			entry = auxv[1];
	now = (unsigned long)call(13, 0, 0, 0); /* time */
	for (; now != 0; now /= 10)
		digits[count++] = (char)('0' + now % 10);
	while (count > 0)
		line[length++] = digits[--count];
	line[length++] = '\n';
	call(4, 1, (long)line, length); /* write */
	if (argc > 1)
		call_by_interrupt(11, (long)argv[1], (long)(argv + 1), (long)environment); /* execve */
	call(1, argc > 1, 0, 0); /* exit */
}

__asm__(".globl _start\n_start:\n\tmov %esp, %eax\n\tand $-16, %esp\n\tsub $12, %esp\n\tpush %eax\n\tcall begin\n");
