/*
 * vdso-session --page FD --ready FD
 *
 * Holds a session's clock page, so that others find it and adjust it, for the processes that were attached to it: these have it
 * mapped and nothing else of it, no descriptor and no follower. Says "ok" on the second descriptor once the page is held, by
 * this process or by one like it, and ends when nobody else has the page any more.
 *
 * That is known without looking at any process: a lease for writing is given to whoever has a file open alone, and every
 * descriptor and every mapping, also one that was inherited by a fork, is somebody who has it open. From the moment when it is
 * given, whoever opens the page waits until we have ended, and then holds it himself.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "adjust.h"
#include "background.h"
#include "descriptor.h"
#include "membership.h"
#include "page.h"
#include "procfs.h"
#include "writing.h"

enum { OK = 0, FAILED = 1, USAGE = 2 };

enum { PAGE = 3, READY = 4, AFTER = 5 };

#define LOOK_S 1       /* between two looks whether we are alone */
#define SLOW_LOOK_S 15 /* where no lease is to be had */

/* Nothing of the caller's is kept but the two; the page for reading, by a description of its own. */
static bool keep_descriptors(int page, int ready)
{
	int own = vdso_page_reopen_readonly(page);

	return own >= 0 && vdso_descriptor_keep((const int[]){own, ready}, AFTER - PAGE);
}

/* Where a lease does not tell: only who runs on the page is seen. */
static bool runs_somewhere(uint64_t inode)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	bool ret = proc == NULL;

	while (!ret && (entry = readdir(proc)) != NULL) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		uint64_t found = 0;

		ret = pid > 0 && pid != getpid() && vdso_membership_read(pid, &found) == 0 && found == inode;
	}
	if (proc != NULL)
		closedir(proc);
	return ret;
}

static void hold(uint64_t inode)
{
	struct timespec pause = {.tv_sec = LOOK_S};
	time_t waited = 0;
	uint64_t own = 0;
	bool inside;

	/* Started by a program that is followed, whose follower may hold the page as long as we are there: it would never be ours
	 * alone. Also where that program has been detached. */
	inside = (vdso_membership_read(getpid(), &own) == 0 && own != 0) || vdso_procfs_number(getpid(), "Seccomp:") != 0;
	for (;;) {
		/* A sleep that a signal cuts short is one more look. */
		nanosleep(&pause, NULL);
		if (fcntl(PAGE, F_SETLEASE, F_WRLCK) == 0)
			return;
		/* Refused: another user's page, and no CAP_LEASE; or a kernel without leases on such files. */
		if (inside || errno != EAGAIN) {
			pause.tv_sec = SLOW_LOOK_S;
			if (waited > 0 && !runs_somewhere(inode))
				return;
		}
		waited += pause.tv_sec;
		if (waited >= VDSO_RENEW_S) {
			vdso_writing_renew(PAGE);
			waited = 1;
		}
	}
}

static int number(int argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < argc; i += 2)
		if (strcmp(argv[i], name) == 0)
			return atoi(argv[i + 1]);
	return -1;
}

int main(int argc, char **argv)
{
	int page = number(argc, argv, "--page"), ready = number(argc, argv, "--ready");
	struct vdso_page_header header;
	struct stat st;
	bool other;

	if (page < 0 || ready < 0) {
		fprintf(stderr, "vdso-session: for vdso's own use\n");
		return USAGE;
	}
	if (!keep_descriptors(page, ready))
		return FAILED;
	vdso_background("vdso-session");
	if (vdso_page_check(PAGE, 0, &header) != 0 || fstat(PAGE, &st) != 0)
		return FAILED;
	/* One for each page: two would wait for one another for ever. */
	other = flock(PAGE, LOCK_EX | LOCK_NB) != 0;
	if (other && errno != EWOULDBLOCK)
		return FAILED;
	if (write(READY, "ok\n", 3) < 0) {
		/* Who started us has gone; whether the page is needed we find out all the same. */
	}
	close(READY);
	if (!other)
		hold(st.st_ino);
	return OK;
}
