#include "question.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "count.h"
#include "notification.h"
#include "procfs.h"
#include "sessions.h"
#include "task.h"
#include "warning.h"

static int add_fd(struct vdso_follower *f, uint64_t id, int fd)
{
	struct seccomp_notif_addfd add = {.id = id, .srcfd = (uint32_t)fd, .newfd_flags = O_CLOEXEC};
	int there = ioctl(f->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);

	return there >= 0 ? there : -errno;
}

/* One that a follower gave which was killed before it could say so: else the program would keep it. No other is
 * close-on-exec in a program that has not run yet. */
static int given_fd(pid_t tid, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? vdso_procfs_find_fd(tid, st.st_dev, st.st_ino) : -1;
}

static void give_descriptors(struct vdso_follower *f, const struct seccomp_notif *n)
{
	struct vdso_task *task = vdso_task_find(f->shared, (pid_t)n->pid);
	uint32_t session = task != NULL ? task->session : 0;
	bool again = task != NULL && task->phase == VDSO_TASK_GIVING;
	int image = again ? given_fd((pid_t)n->pid, f->image_fd) : -1;
	int clock = again ? given_fd((pid_t)n->pid, f->clock_fd[session]) : -1;

	if (task != NULL)
		task->phase = VDSO_TASK_GIVING;
	if (image < 0)
		image = add_fd(f, n->id, f->image_fd);
	if (clock < 0)
		clock = image >= 0 ? add_fd(f, n->id, f->clock_fd[session]) : image;
	if (image < 0) {
		vdso_notification_answer(f->listener, n->id, 0, image);
		return;
	}
	if (clock < 0) {
		/* It has one descriptor that it must not keep: let the landing fail, which closes it. */
		if (task != NULL)
			task->error = clock;
		vdso_notification_answer(f->listener, n->id, (int64_t)image | VDSO_NO_DESCRIPTOR << 20, 0);
		return;
	}
	vdso_notification_answer(f->listener, n->id,
		(int64_t)image | (int64_t)clock << 20 |
			(int64_t)vdso_sessions_flags(f, (pid_t)n->pid, session) << 40,
		0);
	if (task != NULL)
		task->phase = f->counts != NULL ? VDSO_TASK_ORDERED : VDSO_TASK_NONE; /* the next question is to come */
}

uint32_t vdso_question_program(struct vdso_follower *f, pid_t pid)
{
	char name[32];

	vdso_procfs_name(pid, name, sizeof(name));
	return vdso_counts_program(f->counts, pid, name);
}

static void give_counts(struct vdso_follower *f, const struct seccomp_notif *n)
{
	struct vdso_task *task = vdso_task_find(f->shared, (pid_t)n->pid);
	bool again = task != NULL && task->phase == VDSO_TASK_COUNTED;
	int there = again ? given_fd((pid_t)n->pid, f->counts_fd) : -1;

	if (task != NULL)
		task->phase = VDSO_TASK_COUNTED;
	if (there < 0)
		there = f->counts != NULL ? add_fd(f, n->id, f->counts_fd) : -ENOSYS;
	if (there < 0)
		vdso_notification_answer(f->listener, n->id, 0, there);
	else
		vdso_notification_answer(f->listener, n->id, (int64_t)there | (int64_t)vdso_question_program(f, (pid_t)n->pid) << 20,
					 0);
	if (task != NULL)
		task->phase = VDSO_TASK_NONE;
}

void vdso_question_answer(struct vdso_follower *f, const struct seccomp_notif *n)
{
	switch (n->data.args[1]) {
	case VDSO_ASK_DESCRIPTORS:
		give_descriptors(f, n);
		return;
	case VDSO_ASK_COUNTS:
		give_counts(f, n);
		return;
	case VDSO_ASK_FAILED: {
		struct vdso_task *task = vdso_task_find(f->shared, (pid_t)n->pid);

		vdso_warn_unswapped((pid_t)n->pid, vdso_follower_fate(f, vdso_sessions_strict(f, task)),
				  task != NULL && task->error != 0 ? task->error : -(int)n->data.args[2]);
		if (task != NULL)
			task->phase = VDSO_TASK_NONE;
		vdso_notification_answer(f->listener, n->id, 0, -EFAULT);
		return;
	}
	case VDSO_ASK_ADOPT:
		vdso_notification_answer(f->listener, n->id, 0,
			vdso_sessions_adopt(f, (pid_t)n->pid, (int)(n->data.args[2] & VDSO_NO_DESCRIPTOR),
					    (n->data.args[2] & VDSO_ADOPT_COUNTER) != 0,
					    (n->data.args[2] & VDSO_ADOPT_STRICT) != 0));
		return;
	case VDSO_ASK_JOIN:
		vdso_notification_answer(f->listener, n->id, 0,
			vdso_sessions_join(f, (pid_t)n->pid, (int)(n->data.args[2] & VDSO_NO_DESCRIPTOR),
					   (n->data.args[2] & VDSO_ADOPT_COUNTER) != 0));
		return;
	default:
		vdso_notification_answer(f->listener, n->id, 0, -EFAULT);
	}
}
