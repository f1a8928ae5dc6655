#include "lender.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "borrow.h"
#include "procfs.h"
#include "task.h"
#include "threads.h"
#include "timers.h"

#define BEYOND_NS UINT64_C(1000000000)       /* what cannot be now may be then */
#define LONG_BEYOND_NS UINT64_C(60000000000) /* what hardly changes before an exec */

static struct vdso_lender *find_lender(const struct vdso_follower *f, pid_t program)
{
	for (uint32_t i = 0; i < VDSO_FOLLOWER_LENDERS; i++)
		if (f->shared->lender[i].program == program)
			return &f->shared->lender[i];
	return NULL;
}

static uint64_t last_of(const struct vdso_lender *l)
{
	return l->program == 0 ? 0 : l->beyond_until_ns > l->busy_since_ns ? l->beyond_until_ns : l->busy_since_ns;
}

/* The same; one that is not known yet takes the place of the one that has been known for longest. */
static struct vdso_lender *take_lender(struct vdso_follower *f, pid_t program)
{
	struct vdso_lender *l = find_lender(f, program);

	if (l != NULL)
		return l;
	l = f->shared->lender;
	for (uint32_t i = 1; i < VDSO_FOLLOWER_LENDERS; i++)
		if (last_of(&f->shared->lender[i]) < last_of(l))
			l = &f->shared->lender[i];
	*l = (struct vdso_lender){0};
	/* Whoever succeeds us must not find one program with the times of another. */
	atomic_signal_fence(memory_order_seq_cst);
	l->program = program;
	return l;
}

void vdso_lender_forget(struct vdso_follower *f, pid_t program)
{
	struct vdso_lender *l = find_lender(f, program);

	if (l != NULL)
		*l = (struct vdso_lender){0};
}

bool vdso_lender_is_beyond(const struct vdso_follower *f, pid_t program)
{
	const struct vdso_lender *l = find_lender(f, program);

	return l != NULL && vdso_threads_now_ns() < l->beyond_until_ns;
}

void vdso_lender_put_beyond(struct vdso_follower *f, pid_t program, int error)
{
	bool lasts = error == -EACCES || error == -ENOSPC || error == -EFAULT;

	if (error == -ESRCH)
		return;
	take_lender(f, program)->beyond_until_ns = vdso_threads_now_ns() + (lasts ? LONG_BEYOND_NS : BEYOND_NS);
	vdso_timers_warn(f, program, error);
}

void vdso_lender_note(struct vdso_follower *f, pid_t program, int error)
{
	struct vdso_lender *l = error == -EBUSY ? take_lender(f, program) : find_lender(f, program);

	if (l != NULL && error != -EBUSY)
		l->busy_since_ns = 0;
	else if (l != NULL && l->busy_since_ns == 0)
		l->busy_since_ns = vdso_threads_now_ns();
}

bool vdso_lender_is_left_alone(const struct vdso_follower *f, pid_t program)
{
	const struct vdso_lender *l = find_lender(f, program);

	return l != NULL && l->busy_since_ns != 0 && vdso_threads_now_ns() - l->busy_since_ns > VDSO_BORROW_LEFT_NS;
}

/* Calls that end by any interruption: made again, but a finite timeout begins anew. */
static bool ends_by_interruption(long number)
{
	switch (number) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case 441: /* epoll_pwait2 */
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_rt_sigtimedwait:
	case SYS_io_getevents:
		return true;
	}
	return false;
}

pid_t vdso_lender_choose(const struct vdso_follower *f, pid_t program)
{
	pid_t best = 0;
	int best_rank = 3;
	struct dirent *entry;
	char path[64], line[32];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)program);
	dir = opendir(path);
	while (dir != NULL && best_rank > 0 && (entry = readdir(dir)) != NULL) {
		pid_t tid = atoi(entry->d_name);
		int rank = 2;
		FILE *file;

		if (tid <= 0 || vdso_task_find(f->shared, tid) != NULL || vdso_procfs_has_ended(tid))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
		file = fopen(path, "re");
		if (file == NULL || fgets(line, sizeof(line), file) == NULL)
			rank = 2;
		else if (line[0] >= '0' && line[0] <= '9')
			rank = ends_by_interruption(atol(line)) ? 2 : 0;
		else
			rank = 1;
		if (file != NULL)
			fclose(file);
		if (rank < best_rank) {
			best = tid;
			best_rank = rank;
		}
	}
	if (dir != NULL)
		closedir(dir);
	return best;
}
