#include "standing.h"

#include "procfs.h"

static bool read_at(const struct vdso_argument *memory, uint64_t at, struct vdso_process *ret)
{
	return vdso_argument_read(memory, at, ret, sizeof(*ret)) == 0 && ret->magic == VDSO_PROCESS_MAGIC &&
	       ret->image == at + VDSO_PAGE_BYTES;
}

static struct vdso_standing *place(struct vdso_follower *f, pid_t tid)
{
	return &f->standing[(uint32_t)tid % VDSO_FOLLOWER_STANDINGS];
}

/* What was known of a task may be another's by now, and is looked at again. */
static bool is_known(const struct vdso_standing *known, pid_t tid, const struct vdso_argument *memory, struct vdso_process *ret)
{
	return known->tid == tid && read_at(memory, known->process, ret);
}

bool vdso_standing_find(struct vdso_follower *f, pid_t tid, const struct vdso_argument *memory, struct vdso_process *ret)
{
	struct vdso_standing *own = place(f, tid), *group;
	pid_t program;

	if (is_known(own, tid, memory, ret))
		return true;
	/* One look for all its threads: it takes a /proc/TID/maps, which may be long. */
	program = vdso_procfs_number(tid, "Tgid:");
	group = place(f, program);
	if (!is_known(group, program, memory, ret)) {
		*group = (struct vdso_standing){program, vdso_procfs_clock_address(tid) + VDSO_CLOCK_BYTES};
		if (!read_at(memory, group->process, ret))
			return false;
	}
	*own = (struct vdso_standing){tid, group->process};
	return true;
}
