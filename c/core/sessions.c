#include "sessions.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"
#include "guard.h"
#include "procfs.h"
#include "source.h"
#include "writing.h"

/* The session with this clock page, -1 if it is none of ours. Later ones first: an index may be used again. */
static int by_inode(const struct vdso_follower_shared *s, uint64_t inode)
{
	for (uint32_t i = s->sessions; inode != 0 && i-- > 0;)
		if (s->session[i].inode == inode)
			return (int)i;
	return -1;
}

uint32_t vdso_sessions_of(struct vdso_follower *f, pid_t tid)
{
	struct vdso_follower_shared *s = f->shared;
	pid_t program;

	if (s->sessions == 1)
		return 0;
	program = vdso_procfs_number(tid, "Tgid:");
	for (uint32_t i = 1; i < s->sessions; i++)
		if (s->adopted[i].program == program && s->adopted[i].start == vdso_procfs_start(program))
			return i;
	/* A program shows by its own clock page where it is; one that has none (a 32-bit one) goes with its parents. */
	for (pid_t at = tid; at > 1; at = vdso_procfs_parent(at)) {
		int index = by_inode(s, vdso_procfs_clock_inode(at));

		if (index >= 0)
			return (uint32_t)index;
	}
	return 0;
}

bool vdso_sessions_runs_on(const struct vdso_follower *f, pid_t tid, uint32_t *ret)
{
	int index = by_inode(f->shared, vdso_procfs_clock_inode(tid));

	*ret = index >= 0 ? (uint32_t)index : 0;
	return index >= 0;
}

bool vdso_sessions_swapped(const struct vdso_follower *f, pid_t tid)
{
	uint32_t session;

	return vdso_sessions_runs_on(f, tid, &session);
}

uint32_t vdso_sessions_flags(const struct vdso_follower *f, pid_t tid, uint32_t session)
{
	char theirs[64];

	if (!f->shared->session[session].counter)
		return 0;
	vdso_procfs_time_namespace(tid, theirs, sizeof(theirs));
	return strcmp(theirs, f->time_namespace) == 0 ? 0 : VDSO_PROCESS_NO_COUNTER;
}

bool vdso_sessions_strict(const struct vdso_follower *f, const struct vdso_task *task)
{
	return f->shared->session[task != NULL ? task->session : 0].strict;
}

void vdso_sessions_forget(struct vdso_follower *f, pid_t program)
{
	for (uint32_t i = 1; i < f->shared->sessions; i++)
		if (f->shared->adopted[i].program == program)
			f->shared->adopted[i].program = 0;
}

/* An index whose session nobody is on any more, 0 if there is none: looks at every process, and so only when all are used. */
static uint32_t find_unused(struct vdso_follower *f)
{
	struct vdso_follower_shared *s = f->shared;
	bool used[VDSO_FOLLOWER_SESSIONS] = {false};
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	if (proc == NULL)
		return 0;
	while ((entry = readdir(proc)) != NULL) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		int index = pid > 0 ? by_inode(s, vdso_procfs_clock_inode(pid)) : -1;

		if (index >= 0)
			used[index] = true;
	}
	closedir(proc);
	for (uint32_t i = 0; i < s->tasks; i++)
		if (s->task[i].phase != VDSO_TASK_NONE)
			used[s->task[i].session] = true;
	for (uint32_t i = 1; i < s->sessions; i++)
		if (s->adopted[i].program != 0 && s->adopted[i].start == vdso_procfs_start(s->adopted[i].program))
			used[i] = true;
	for (uint32_t i = 1; i < s->sessions; i++)
		if (!used[i])
			return i;
	return 0;
}

bool vdso_sessions_look(const struct vdso_follower *f, uint32_t session, struct vdso_clock_record *ret, uint64_t *version)
{
	struct vdso_page page;
	bool good = vdso_page_open_reader(f->clock_fd[session], 0, &page) == 0;

	if (good) {
		good = vdso_page_get(&page, 0, ret, version) == VDSO_PAGE_OK;
		vdso_page_close(&page);
	}
	return good;
}

int vdso_sessions_write(struct vdso_follower *f, uint32_t session, struct vdso_page *ret)
{
	/* Not as the descriptor is that programs are given, which is for reading. */
	return f->shared->session[session].counter ? -EBUSY : vdso_writing_open(f->clock_fd[session], ret);
}

int vdso_sessions_adjust(struct vdso_follower *f, uint32_t session, const struct vdso_adjustment *adjustment)
{
	struct vdso_source source;
	struct vdso_page page;
	int err = vdso_sessions_write(f, session, &page);

	vdso_source_init(&source);
	if (err == 0) {
		err = vdso_adjust(&page, &source, adjustment);
		vdso_page_close(&page);
	}
	vdso_source_deinit(&source);
	/* A keeper's page is nobody else's to write, and its time not to be set. */
	return err == -EOPNOTSUPP || err == -EBUSY ? -EPERM : err == -ERANGE ? -EINVAL : err;
}

int vdso_sessions_now(const struct vdso_follower *f, uint32_t session, struct vdso_adjusted *ret)
{
	struct vdso_clock_record record;
	struct vdso_source source;
	uint64_t version;
	int err;

	if (!vdso_sessions_look(f, session, &record, &version))
		return -ENODATA;
	vdso_source_init(&source);
	err = vdso_adjust_look(&record, &source, ret);
	vdso_source_deinit(&source);
	return err;
}

void vdso_sessions_renew(struct vdso_follower *f)
{
	for (uint32_t i = 0; i < f->shared->sessions; i++)
		if (!f->shared->session[i].counter)
			vdso_writing_renew(f->clock_fd[i]);
}

void vdso_sessions_watch(struct vdso_follower *f, uint32_t session)
{
	/* A keeper's page changes all the time, and never by a step or a rate. */
	if (f->watch.running && !f->shared->session[session].counter)
		vdso_watch_page(&f->watch, session, f->clock_fd[session]);
}

int vdso_sessions_adopt(struct vdso_follower *f, pid_t program, int fd_there, bool counter, bool strict)
{
	struct vdso_follower_shared *s = f->shared;
	uint32_t index = s->sessions < VDSO_FOLLOWER_SESSIONS ? s->sessions : find_unused(f);
	struct stat st;
	int fd;

	if (f->counts != NULL) /* deadlines on a clock that is moved would not be seen: the filter has no rule for them */
		return -EOPNOTSUPP;
	if (index == 0)
		return -ENOSPC;
	fd = vdso_descriptor_copy(program, fd_there);
	if (fd < 0)
		fd = vdso_procfs_open_fd(program, fd_there, O_RDONLY);
	if (fd < 0)
		return -EBADF;
	if (fstat(fd, &st) != 0 || st.st_size < VDSO_CLOCK_BYTES || vdso_guard_keep(f->guard, fd, index) != 0) {
		close(fd);
		return -EINVAL;
	}
	if (index < s->sessions)
		close(f->clock_fd[index]);
	vdso_sessions_forget(f, program);
	f->clock_fd[index] = fd;
	s->session[index] = (struct vdso_follower_session){.inode = st.st_ino, .counter = counter, .strict = strict};
	s->adopted[index].start = vdso_procfs_start(program);
	s->adopted[index].program = program;
	if (index == s->sessions)
		s->sessions = index + 1;
	vdso_sessions_watch(f, index);
	vdso_sleep_changed(f);
	return 0;
}
