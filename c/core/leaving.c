#include "leaving.h"

#include <linux/audit.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "count.h"
#include "filter.h"
#include "notification.h"
#include "procfs.h"

#define TEXT_MAX 262144u

bool vdso_leaving_is(const struct seccomp_data *data)
{
	return data->arch == AUDIT_ARCH_X86_64 && data->nr == SYS_exit_group;
}

/* The lines of what is executable: no other is asked for. */
static size_t read_maps(pid_t pid, char *ret, size_t size)
{
	char path[32], line[4352];
	size_t used = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
		const char *permissions = strchr(line, ' ');
		size_t length = strlen(line);

		if (permissions == NULL || strncmp(permissions, " r-x", 4) != 0 || used + length > size)
			continue;
		memcpy(ret + used, line, length);
		used += length;
	}
	if (maps != NULL)
		fclose(maps);
	return used;
}

void vdso_leaving_note(struct vdso_follower *f, pid_t tid)
{
	static char text[TEXT_MAX]; /* the follower's only thread is its only user */
	bool wanted = f->counts != NULL && !vdso_counts_ended(f->counts) && (f->filter & VDSO_FILTER_EXITS) != 0;
	pid_t program = wanted ? vdso_procfs_number(tid, "Tgid:") : 0;

	if (program > 0)
		vdso_counts_leave(f->counts, program, text, read_maps(program, text, sizeof(text)));
}

void vdso_leaving_answer(struct vdso_follower *f, const struct seccomp_notif *n)
{
	vdso_leaving_note(f, (pid_t)n->pid);
	vdso_notification_go_on(f->listener, n->id);
}
