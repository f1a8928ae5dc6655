/* A kernel's clock_gettime for tests: reads a data page of theirs, laid out as they say, as a vDSO would. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

static unsigned char *first; /* the page's first clock */
static uint32_t stride, cycle_last, mult, shift, bases;
static int64_t offsets[12]; /* of a time namespace, in ns */
static int scribbling;      /* change the page and not its sequence, as no kernel does */

void look(unsigned char *at, uint32_t next, uint32_t last, uint32_t by, uint32_t down, uint32_t base)
{
	first = at;
	stride = next;
	cycle_last = last;
	mult = by;
	shift = down;
	bases = base;
	memset(offsets, 0, sizeof(offsets));
	scribbling = 0;
}

void offset(int id, int64_t ns)
{
	offsets[id] = ns;
}

void scribble(void)
{
	scribbling = 1;
}

static uint64_t word(const unsigned char *at, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, at, size);
	return value;
}

uint64_t counter(void)
{
	uint32_t low, high, cpu;

	__asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(cpu) : : "memory");
	return (uint64_t)high << 32 | low;
}

int say(clockid_t id, struct timespec *ts)
{
	unsigned char *clock = first + (id == 4 ? stride : 0), *base = clock + bases + 16 * id;
	uint64_t ns = word(base + 8, 8);
	unsigned __int128 fine = (unsigned __int128)(counter() - word(clock + cycle_last, 8)) * word(clock + mult, 4);
	int64_t whole;

	if (id < 0 || id > 11)
		return -EINVAL;
	if (scribbling)
		clock[bases + 16 * 3]++;
	if (id != 5 && id != 6)
		ns = (uint64_t)((fine + ns) >> word(clock + shift, 4));
	whole = (int64_t)(word(base, 8) * 1000000000 + ns) + offsets[id];
	ts->tv_sec = whole / 1000000000;
	ts->tv_nsec = whole % 1000000000;
	return 0;
}
