#include "sharing.h"

#include <dirent.h>
#include <linux/kcmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ASKED 64u

static bool shares(pid_t tid, pid_t other)
{
	return syscall(SYS_kcmp, tid, other, KCMP_VM, 0L, 0L) == 0;
}

/* Everybody but the process itself (`tid` is a thread of it that has not ended), since a child may have been left to another
 * parent. Where kcmp is not to be had nothing is known. */
pid_t vdso_sharing_find(pid_t pid, pid_t tid)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	pid_t ret = 0;

	while (dir != NULL && ret == 0 && (entry = readdir(dir)) != NULL) {
		pid_t other = atoi(entry->d_name);

		if (other > 0 && other != pid && shares(tid, other))
			ret = other;
	}
	if (dir != NULL)
		closedir(dir);
	return ret;
}

/* Those that have come since, while the process stands still. */
pid_t vdso_sharing_find_child(const struct vdso_threads *threads, pid_t any)
{
	/* A fork that shares the address space without its parent waiting for it, in that one moment, is rare; to ask for the
	 * children of a thousand threads takes longer than they may stand still. */
	for (size_t i = 0; i < threads->count && threads->count <= ASKED; i++) {
		pid_t tid = threads->thread[i].tid;
		char path[64];
		FILE *file;
		int child;

		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)threads->pid, (int)tid);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		while (fscanf(file, "%d", &child) == 1)
			if (shares(any, child)) {
				fclose(file);
				return child;
			}
		fclose(file);
	}
	return 0;
}
