/*
 * vdso-attach: attaches one process to a clock page, or detaches it, and says on its standard output what came of it: one line
 * of NAME=VALUE, as in struct vdso_attach_report.
 *
 *   vdso-attach attach PID --clock FD --image FD [--counts FD --program N] [--follower FD --talk FD --filter N [--counter 1]]
 *                      [--powerless 1] [--flags N] [--timeout-ms N] [--go FD]
 *   vdso-attach detach PID [--timeout-ms N] [--go FD]
 *
 * --go: begin when a byte comes there. A process that has itself attached names the program as its tracer before.
 *
 * A program of its own, since it needs the kernel's image as the kernel gives it, waits for every child that it has, and
 * must be small: it is forked for each try. SIGINT ends the tries when the one that is being made is over. Status 0: it has said
 * what came of it.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"

static int usage(void)
{
	fprintf(stderr, "vdso-attach: for vdso's own use\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct vdso_attach order = {.clock_fd = -1, .image_fd = -1, .counts_fd = -1, .follower_fd = -1, .talk_fd = -1};
	struct vdso_attach_report report;
	sigset_t interrupts;
	int go = -1;
	char byte;

	if (argc < 3)
		return usage();
	order.detach = strcmp(argv[1], "detach") == 0;
	order.pid = atoi(argv[2]);
	for (int i = 3; i + 1 < argc; i += 2) {
		unsigned long long number = strtoull(argv[i + 1], NULL, 10);

		if (strcmp(argv[i], "--clock") == 0)
			order.clock_fd = (int)number;
		else if (strcmp(argv[i], "--image") == 0)
			order.image_fd = (int)number;
		else if (strcmp(argv[i], "--counts") == 0)
			order.counts_fd = (int)number;
		else if (strcmp(argv[i], "--program") == 0)
			order.program = (uint32_t)number;
		else if (strcmp(argv[i], "--flags") == 0)
			order.flags = number;
		else if (strcmp(argv[i], "--follower") == 0)
			order.follower_fd = (int)number;
		else if (strcmp(argv[i], "--talk") == 0)
			order.talk_fd = (int)number;
		else if (strcmp(argv[i], "--filter") == 0)
			order.filter = (unsigned)number;
		else if (strcmp(argv[i], "--powerless") == 0)
			order.powerless = number != 0;
		else if (strcmp(argv[i], "--counter") == 0)
			order.counter = number != 0;
		else if (strcmp(argv[i], "--timeout-ms") == 0)
			order.timeout_ns = number * 1000000u;
		else if (strcmp(argv[i], "--go") == 0)
			go = (int)number;
		else
			return usage();
	}
	if (order.pid <= 0 || (!order.detach && (order.clock_fd < 0 || order.image_fd < 0)))
		return usage();
	sigemptyset(&interrupts);
	sigaddset(&interrupts, SIGINT);
	/* Of one that is ignored nobody is to hear, and a blocked one would wait. */
	if (signal(SIGINT, SIG_IGN) != SIG_IGN && sigprocmask(SIG_BLOCK, &interrupts, NULL) == 0)
		signal(SIGINT, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL); /* ignored before us, our child would leave no status */
	if (go >= 0 && read(go, &byte, 1) != 1)
		return 1;
	vdso_attach(&order, &report);
	printf("outcome=%s error=%" PRId32 " other=%" PRId32 " threads=%" PRId32 " tries=%" PRIu32 " state=%" PRIu32 " stood_ns=%" PRIu64
	       " longest_ns=%" PRIu64 " followed=%" PRIu32 " filter=%" PRIu32 " what=%s\n",
	       vdso_attach_outcome_name((enum vdso_attach_outcome)report.outcome), -report.error, report.other, report.threads,
	       report.tries, report.state, report.stood_ns, report.longest_ns, report.followed, report.filter, report.what);
	return 0;
}
