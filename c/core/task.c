#include "task.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "attacher.h"
#include "notification.h"
#include "tracee.h"

#define SEIZE_TRIES 3

struct vdso_task *vdso_task_find(struct vdso_follower_shared *s, pid_t tid)
{
	for (uint32_t i = 0; i < s->tasks; i++)
		if (s->task[i].phase != VDSO_TASK_NONE && s->task[i].tid == tid)
			return &s->task[i];
	return NULL;
}

struct vdso_task *vdso_task_take(struct vdso_follower_shared *s)
{
	while (s->tasks > 0 && s->task[s->tasks - 1].phase == VDSO_TASK_NONE)
		s->tasks--;
	for (uint32_t i = 0; i < s->tasks; i++)
		if (s->task[i].phase == VDSO_TASK_NONE)
			return &s->task[i];
	if (s->tasks < VDSO_FOLLOWER_TASKS)
		return &s->task[s->tasks++];
	/* Killed between its order and its question: it is not our tracee by then, and nobody has told us. */
	for (uint32_t i = 0; i < s->tasks; i++)
		if (s->task[i].phase >= VDSO_TASK_ORDERED && kill(s->task[i].tid, 0) != 0 && errno == ESRCH)
			return &s->task[i];
	return NULL;
}

bool vdso_task_is_held(const struct vdso_task *task)
{
	return task->phase == VDSO_TASK_HELD || task->phase == VDSO_TASK_LATE || task->phase == VDSO_TASK_DIRECT ||
	       task->phase == VDSO_TASK_TURNED || task->phase == VDSO_TASK_LENT;
}

int vdso_task_seize(struct vdso_follower *f, struct vdso_task *task)
{
	for (int tries = 0; tries < SEIZE_TRIES; tries++) {
		int error = vdso_tracee_seize(task->tid);

		if (error != -EPERM)
			return error;
		switch (vdso_attacher_of(task->tid)) {
		case VDSO_ATTACHER_SEIZES:
			task->phase = VDSO_TASK_WAITING;
			f->soon = true;
			return -EAGAIN;
		case VDSO_ATTACHER_HOLDS: /* interrupted, so that it does make it again */
			task->phase = VDSO_TASK_NONE;
			vdso_notification_answer(f->listener, task->id, 0, VDSO_TURNED);
			return -EAGAIN;
		case VDSO_ATTACHER_NONE: /* or no more */
			break;
		}
	}
	return -EPERM;
}

static bool sibling_held(const struct vdso_follower_shared *s, pid_t tid, bool in_exec)
{
	char path[64];

	for (uint32_t i = 0; i < s->tasks; i++) {
		if (!vdso_task_is_held(&s->task[i]) || s->task[i].tid == tid ||
		    (in_exec && (s->task[i].phase == VDSO_TASK_TURNED || s->task[i].phase == VDSO_TASK_LENT)))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)s->task[i].tid, (int)tid);
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

bool vdso_task_sibling_held(const struct vdso_follower_shared *s, pid_t tid)
{
	return sibling_held(s, tid, false);
}

bool vdso_task_sibling_in_exec(const struct vdso_follower_shared *s, pid_t tid)
{
	return sibling_held(s, tid, true);
}

bool vdso_task_any_held(const struct vdso_follower_shared *s)
{
	for (uint32_t i = 0; i < s->tasks; i++)
		if (vdso_task_is_held(&s->task[i]))
			return true;
	return false;
}
