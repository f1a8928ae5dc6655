#include "standing.h"

#include <string.h>

#include "memory.h"
#include "procfs.h"

#define IMAGE_MAX 32768u

static struct vdso_standing *place(struct vdso_follower *f, pid_t tid)
{
	return &f->standing[(uint32_t)tid % VDSO_FOLLOWER_STANDINGS];
}

/* No jump leads anywhere: the kernel's image is as every program has it. */
static bool is_untouched(const struct vdso_follower *f, int mem, uint64_t image)
{
	uint8_t bytes[IMAGE_MAX];
	size_t size = f->area.image_size;

	return f->kernel_image != NULL && size <= sizeof(bytes) && vdso_memory_read(mem, bytes, size, image) == 0 &&
	       memcmp(bytes, f->kernel_image, size) == 0;
}

/* What was known of a task may be another's by now, and is looked at again. */
static bool still_stands(const struct vdso_follower *f, int mem, const struct vdso_membership *m)
{
	struct vdso_process process;
	uint8_t jump[VDSO_JUMP_BYTES];

	switch (m->kind) {
	case VDSO_MEMBER_SWAPPED:
		return vdso_membership_process(mem, m->region, &process) && (process.flags & VDSO_PROCESS_LOCAL) == 0;
	case VDSO_MEMBER_ATTACHED:
		/* Anew, perhaps, and to another page, as its process page says. One that travels changes its clock page and nothing
		 * else; it has attached itself, and not to be followed. */
		return (m->process.flags & VDSO_PROCESS_FOLLOWED) != 0 && m->jump != 0 &&
		       vdso_memory_read(mem, jump, sizeof(jump), m->jump) == 0 &&
		       vdso_membership_leads(jump, m->jump, m->region) && vdso_membership_process(mem, m->region, &process) &&
		       process.clock == m->process.clock && process.flags == m->process.flags;
	default:
		return m->image != 0 && is_untouched(f, mem, m->image);
	}
}

/*
 * Most that notify for the first time are forks of one that has, about to exec: what is where it was in that one is the same. A
 * page alone does not say whose it is, nor does an image that nobody has touched: these are looked for.
 */
static bool is_like(const struct vdso_follower *f, int mem, const struct vdso_membership *m)
{
	struct vdso_process process;

	if (m->kind == VDSO_MEMBER_NOT || (m->kind == VDSO_MEMBER_SWAPPED && f->shared->sessions > 1))
		return false;
	return still_stands(f, mem, m) && (m->kind != VDSO_MEMBER_DETACHED || vdso_membership_process(mem, m->region, &process));
}

static bool recognise(const struct vdso_follower *f, int mem, struct vdso_membership *ret)
{
	for (unsigned kind = 0; kind < VDSO_MEMBER_KINDS; kind++)
		if (f->likely[kind].kind == kind && is_like(f, mem, &f->likely[kind])) {
			*ret = f->likely[kind];
			return true;
		}
	return false;
}

/* Without a search: by what was known of the thread, of its group, or of another program. */
static bool is_known(struct vdso_follower *f, pid_t tid, int mem, struct vdso_membership *ret)
{
	const struct vdso_standing *own = place(f, tid), *group;
	pid_t program;

	if (own->tid == tid && still_stands(f, mem, &own->member)) {
		*ret = own->member;
		return true;
	}
	if (recognise(f, mem, ret))
		return true;
	program = vdso_procfs_number(tid, "Tgid:");
	group = place(f, program);
	if (program == tid || group->tid != program || !still_stands(f, mem, &group->member))
		return false;
	*ret = group->member;
	return true;
}

static const struct vdso_membership *look(struct vdso_follower *f, pid_t tid, int mem)
{
	struct vdso_standing *own = place(f, tid);
	struct vdso_membership found;
	pid_t program;

	if (own->tid == tid && own->round == f->round)
		return &own->member;
	if (!is_known(f, tid, mem, &found)) { /* of whom nothing is to be seen nothing is known */
		vdso_membership_look(tid, &found);
		f->likely[found.kind] = found;
		/* One search for all its threads: it takes a /proc/TID/maps, which may be long. */
		program = vdso_procfs_number(tid, "Tgid:");
		*place(f, program) = (struct vdso_standing){.tid = program, .round = f->round, .member = found};
	}
	*own = (struct vdso_standing){.tid = tid, .round = f->round, .member = found};
	return &own->member;
}

const struct vdso_membership *vdso_standing_look(struct vdso_follower *f, pid_t tid)
{
	const struct vdso_membership *ret;
	struct vdso_argument memory;

	if (vdso_argument_open(tid, &memory) != 0)
		memory.fd = -1;
	ret = look(f, tid, memory.fd);
	if (memory.fd >= 0)
		vdso_argument_close(&memory);
	return ret;
}

bool vdso_standing_find(struct vdso_follower *f, pid_t tid, const struct vdso_argument *memory, struct vdso_process *ret)
{
	const struct vdso_membership *m = look(f, tid, memory->fd);

	*ret = m->process;
	return (m->kind == VDSO_MEMBER_SWAPPED || m->kind == VDSO_MEMBER_ATTACHED) && m->process.magic == VDSO_PROCESS_MAGIC;
}

void vdso_standing_forget(struct vdso_follower *f, pid_t tid)
{
	if (place(f, tid)->tid == tid)
		place(f, tid)->tid = 0;
}
