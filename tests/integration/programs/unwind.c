/*
 * unwind SAMPLES: interrupts itself while it reads the page of live.h, and each time unwinds from wherever that was to
 * outermost(). Prints how many of the samples were within the library.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unwind.h>

#include "live.h"

static struct live_page page;
static volatile sig_atomic_t inside, astray;
static uintptr_t low, high;

static int outermost(long samples);

static _Unwind_Reason_Code look(struct _Unwind_Context *context, void *found)
{
	void *function = _Unwind_FindEnclosingFunction((void *)_Unwind_GetIP(context));

	*(int *)found |= function == (void *)(uintptr_t)outermost;
	return *(int *)found ? _URC_END_OF_STACK : _URC_NO_REASON;
}

static void sample(int number, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	int found = 0;

	(void)number;
	(void)info;
	if (at < low || at >= high)
		return;
	inside++;
	_Unwind_Backtrace(look, &found);
	astray += !found;
}

__attribute__((noinline)) static int outermost(long samples)
{
	struct live record;
	char venue[32];
	double depth[10];

	while (inside < samples) {
		live_snapshot_from(&page, &record, NULL);
		page.venue(venue, sizeof(venue));
		page.depth_copy(depth, 10);
		page.wait(page.version() + 1, 0);
		page.publisher_alive();
		page.half();
	}
	return astray != 0;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = sample, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct itimerval every = {.it_interval = {0, 500}, .it_value = {0, 500}};
	const char *wrong = live_open(&page, NULL);
	uintptr_t code;
	int status;

	if (wrong != NULL) {
		fprintf(stderr, "%s\n", wrong);
		return 2;
	}
	/* The library's code is two or three pages, whose last part are the trampolines. */
	code = (uintptr_t)page.version;
	low = code - 12288;
	high = code + 4096;
	_Unwind_Backtrace(look, &status); /* loads what it needs, outside the handler */
	sigaction(SIGPROF, &action, NULL);
	setitimer(ITIMER_PROF, &every, NULL);
	status = outermost(argc > 1 ? atol(argv[1]) : 100);
	every.it_value.tv_usec = 0;
	setitimer(ITIMER_PROF, &every, NULL);
	printf("%d inside, %d astray\n", (int)inside, (int)astray);
	return status;
}
