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
#include "filter.h"
#include "guard.h"
#include "procfs.h"
#include "source.h"
#include "standing.h"
#include "threads.h"
#include "timertable.h"
#include "writing.h"

#define SEARCH_AGAIN_NS UINT64_C(1000000000)
#define TIDY_AFTER_NS UINT64_C(3000000000)

/* The session with this clock page, -1 if it is none of ours. Later ones first: an index may be used again. */
static int by_inode(const struct vdso_follower_shared *s, uint64_t inode)
{
	for (uint32_t i = s->sessions; inode != 0 && i-- > 0;)
		if (s->session[i].inode == inode)
			return (int)i;
	return -1;
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
	vdso_standing_forget(f, program);
	for (uint32_t i = 0; i < f->shared->sessions; i++)
		if (f->shared->adopted[i].program == program)
			f->shared->adopted[i].program = 0;
}

/* By session: whether any process is on it. Looks at every process, and so only when it has to be known. */
static void find_used(struct vdso_follower *f, bool ret[VDSO_FOLLOWER_SESSIONS])
{
	struct vdso_follower_shared *s = f->shared;
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	/* What cannot be seen is taken to be there. */
	for (uint32_t i = 0; i < VDSO_FOLLOWER_SESSIONS; i++)
		ret[i] = proc == NULL;
	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		uint64_t inode = 0;
		int index = pid > 0 && vdso_membership_read(pid, &inode) == 0 ? by_inode(s, inode) : -1;

		if (index >= 0)
			ret[index] = true;
	}
	if (proc != NULL)
		closedir(proc);
	for (uint32_t i = 0; i < s->tasks; i++)
		if (s->task[i].phase != VDSO_TASK_NONE && s->task[i].session < VDSO_FOLLOWER_SESSIONS)
			ret[s->task[i].session] = true;
	for (uint32_t i = 0; i < s->sessions; i++)
		if (s->adopted[i].program != 0 && s->adopted[i].start == vdso_procfs_start(s->adopted[i].program))
			ret[i] = true;
}

/* An index for one more session; VDSO_ON_HOST: there is none. */
static uint32_t find_index(struct vdso_follower *f)
{
	struct vdso_follower_shared *s = f->shared;
	bool used[VDSO_FOLLOWER_SESSIONS];

	for (uint32_t i = 0; i < s->sessions; i++)
		if (s->session[i].inode == 0)
			return i;
	if (s->sessions < VDSO_FOLLOWER_SESSIONS)
		return s->sessions;
	find_used(f, used);
	/* The first one of a `vdso run` is for all that show no other. */
	for (uint32_t i = !s->attached; i < s->sessions; i++)
		if (!used[i])
			return i;
	return VDSO_ON_HOST;
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
	/* Not as the descriptor is that programs are given, which is for reading. A keeper's page is nobody else's to write. */
	int err = f->shared->session[session].counter ? -EBUSY : vdso_writing_open(f->clock_fd[session], ret);

	return err == -EBUSY ? -EPERM : err;
}

int vdso_sessions_adjust(struct vdso_page *page, const struct vdso_adjustment *adjustment)
{
	struct vdso_source source;
	int err;

	vdso_source_init(&source);
	err = vdso_adjust(page, &source, adjustment);
	vdso_source_deinit(&source);
	return err == -EOPNOTSUPP ? -EPERM : err == -ERANGE ? -EINVAL : err;
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
		if (f->shared->session[i].inode != 0 && !f->shared->session[i].counter)
			vdso_writing_renew(f->clock_fd[i]);
}

void vdso_sessions_watch(struct vdso_follower *f, uint32_t session)
{
	/* A keeper's page changes all the time, and never by a step or a rate. */
	if (f->watch.running && !f->shared->session[session].counter)
		vdso_watch_page(&f->watch, session, f->clock_fd[session]);
}

void vdso_sessions_tidy(struct vdso_follower *f)
{
	struct vdso_follower_shared *s = f->shared;
	bool used[VDSO_FOLLOWER_SESSIONS];

	if (!s->attached)
		return;
	find_used(f, used);
	for (uint32_t i = 0; i < s->sessions; i++) {
		if (used[i] || s->session[i].inode == 0)
			continue;
		s->session[i].inode = 0;
		vdso_watch_forget(&f->watch, i);
		f->sleep.rate[i] = 0;
		close(f->clock_fd[i]);
		f->clock_fd[i] = -1;
		vdso_guard_forget(f->guard, i);
	}
}

/* Takes the page, whose descriptor is ours from now on. The session's index, or a negative errno. */
static int take(struct vdso_follower *f, int fd, bool counter, bool strict)
{
	struct vdso_follower_shared *s = f->shared;
	uint32_t index = find_index(f);
	struct stat st;
	int error = index == VDSO_ON_HOST ? -ENOSPC : 0;

	if (error == 0 && (fstat(fd, &st) != 0 || st.st_size < VDSO_CLOCK_BYTES || vdso_guard_keep(f->guard, fd, index) != 0))
		error = -EINVAL;
	if (error != 0) {
		close(fd);
		return error;
	}
	if (index < s->sessions && s->session[index].inode != 0)
		close(f->clock_fd[index]);
	for (uint32_t i = 0; i < s->timers; i++)
		if (s->timer[i].program != 0 && s->timer[i].session == index)
			vdso_timertable_drop(f, &s->timer[i]);
	f->clock_fd[index] = fd;
	s->session[index] = (struct vdso_follower_session){.inode = st.st_ino, .counter = counter, .strict = strict};
	s->adopted[index].program = 0;
	if (index == s->sessions)
		s->sessions = index + 1;
	/* Who attaches, detaches and attaches again leaves sessions behind, whose names are to be free. Not at once: it will show
	 * that it is on this one only when it has been attached. */
	if (s->attached)
		f->tidy_at_ns = vdso_threads_now_ns() + TIDY_AFTER_NS;
	vdso_sessions_watch(f, index);
	vdso_sleep_changed(f);
	return (int)index;
}

/* The page that the program has open under that number, or a negative errno. */
static int open_there(const struct vdso_follower *f, pid_t program, int fd_there)
{
	int fd;

	if (f->counts != NULL) /* deadlines on a clock that is moved would not be seen: the filter has no rule for them */
		return -EOPNOTSUPP;
	if ((f->filter & VDSO_FILTER_EXEC) == 0) /* and what it executes not at all */
		return -ENOEXEC;
	fd = vdso_descriptor_copy(program, fd_there);
	if (fd < 0)
		fd = vdso_procfs_open_fd(program, fd_there, O_RDONLY);
	return fd < 0 ? -EBADF : fd;
}

int vdso_sessions_adopt(struct vdso_follower *f, pid_t tid, int fd_there, bool counter, bool strict)
{
	pid_t program = vdso_procfs_number(tid, "Tgid:");
	int fd = open_there(f, program, fd_there), index = fd < 0 ? fd : take(f, fd, counter, strict);

	if (index < 0)
		return index;
	vdso_sessions_forget(f, program);
	f->shared->session[index].asked = true;
	f->shared->adopted[index].start = vdso_procfs_start(program);
	f->shared->adopted[index].program = program;
	return 0;
}

int vdso_sessions_join(struct vdso_follower *f, pid_t tid, int fd_there, bool counter)
{
	pid_t program = vdso_procfs_number(tid, "Tgid:");
	int fd = open_there(f, program, fd_there), index;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && by_inode(f->shared, st.st_ino) >= 0) {
		close(fd);
		return 0;
	}
	index = fd < 0 ? fd : take(f, fd, counter, false);
	return index < 0 ? index : 0;
}

/* ---- what attaching has put a process on ---- */

/* The file of that inode among those that the process has open, -1 if there is none. */
static int open_held(pid_t pid, uint64_t inode, dev_t device)
{
	char path[64];
	struct dirent *entry;
	int ret = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir != NULL && ret < 0 && (entry = readdir(dir)) != NULL) {
		struct stat st;

		if (fstatat(dirfd(dir), entry->d_name, &st, 0) != 0 || st.st_ino != inode || st.st_dev != device)
			continue;
		ret = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC);
		if (ret >= 0 && (fstat(ret, &st) != 0 || st.st_ino != inode || st.st_dev != device)) {
			close(ret);
			ret = -1;
		}
	}
	if (dir != NULL)
		closedir(dir);
	return ret;
}

static bool is_keepers(int fd)
{
	struct vdso_clock_record record;
	struct vdso_page page;
	uint64_t version;
	bool ret = vdso_page_open_reader(fd, 0, &page) == 0;

	if (ret) {
		ret = vdso_page_get(&page, 0, &record, &version) == VDSO_PAGE_OK && vdso_adjust_is_counter(&record);
		vdso_page_close(&page);
	}
	return ret;
}

/*
 * A process that was attached anew shows a page that nobody has brought us. Who attaches has it held (session_main.c), so it
 * is found as the command line finds it. VDSO_ON_HOST: it is not.
 */
static uint32_t learn(struct vdso_follower *f, uint64_t inode)
{
	DIR *proc;
	struct dirent *entry;
	int fd = -1, index = -1;

	if (inode == f->missing && vdso_threads_now_ns() < f->missing_until_ns)
		return VDSO_ON_HOST;
	proc = opendir("/proc");
	while (proc != NULL && fd < 0 && (entry = readdir(proc)) != NULL) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		char name[32];

		if (pid <= 0)
			continue;
		vdso_procfs_name(pid, name, sizeof(name));
		if (strncmp(name, "vdso-", 5) == 0)
			fd = open_held(pid, inode, f->page_device);
	}
	if (proc != NULL)
		closedir(proc);
	if (fd >= 0)
		index = take(f, fd, is_keepers(fd), false);
	if (index < 0) { /* for a while: every notification of its would have us search again */
		f->missing = inode;
		f->missing_until_ns = vdso_threads_now_ns() + SEARCH_AGAIN_NS;
	}
	return index >= 0 ? (uint32_t)index : VDSO_ON_HOST;
}

/* ---- which a task is on ---- */

/* Of the page that it reads, or, while it travels, of the one in whose place it has a page of its own; -1: of none. */
static int by_member(const struct vdso_follower_shared *s, const struct vdso_membership *m)
{
	int index = by_inode(s, m->inode);

	return index >= 0 ? index : by_inode(s, m->process.clock);
}

/* That the program of the task says by itself; -1: it says nothing. */
static int of_program(struct vdso_follower *f, pid_t tid)
{
	const struct vdso_membership *m = vdso_standing_look(f, tid);
	bool followed = (m->process.flags & VDSO_PROCESS_FOLLOWED) != 0;
	int index = by_member(f->shared, m);

	switch (m->kind) {
	case VDSO_MEMBER_ATTACHED:
		/* A process that travels is attached without, and has asked by itself. */
		if (index >= 0 && (followed || !f->shared->attached || f->shared->session[index].asked))
			return index;
		if (followed)
			return (int)learn(f, m->inode);
		break;
	case VDSO_MEMBER_SWAPPED:
		if (index < 0) /* it may be back on its session's page by the next time, and nothing else of it shows that */
			vdso_standing_forget(f, tid);
		return index;
	case VDSO_MEMBER_DETACHED:
		break;
	default:
		return -1;
	}
	/* Started by `vdso run`, it stays that one's, whatever else has been done to it. */
	return f->shared->attached ? (int)VDSO_ON_HOST : -1;
}

/* That its program has asked for, for what it execs next; -1: none. */
static int of_asker(struct vdso_follower *f, pid_t tid)
{
	struct vdso_follower_shared *s = f->shared;
	pid_t program = 0;

	for (uint32_t i = 0; i < s->sessions; i++) {
		if (s->adopted[i].program == 0)
			continue;
		if (program == 0)
			program = vdso_procfs_number(tid, "Tgid:");
		if (s->adopted[i].program == program && s->adopted[i].start == vdso_procfs_start(program))
			return (int)i;
	}
	return -1;
}

uint32_t vdso_sessions_of(struct vdso_follower *f, pid_t tid)
{
	struct vdso_follower_shared *s = f->shared;
	int index;

	/* As things go. But it may have been attached to another one, and nobody asked (following.c). */
	if (s->sessions == 1 && !s->attached && vdso_standing_look(f, tid)->kind != VDSO_MEMBER_ATTACHED)
		return 0;
	index = of_asker(f, tid);
	/* A program shows by its own clock page where it is; one that has none (a 32-bit one) goes with its parents. */
	for (pid_t at = tid; index < 0 && at > 1;) {
		index = of_program(f, at);
		if (index < 0)
			at = vdso_procfs_parent(at);
	}
	return index >= 0 ? (uint32_t)index : s->attached ? VDSO_ON_HOST : 0;
}

bool vdso_sessions_let_set(struct vdso_follower *f, pid_t tid)
{
	for (pid_t at = tid; at > 1; at = vdso_procfs_parent(at)) {
		const struct vdso_membership *m = vdso_standing_look(f, at);

		if (m->kind == VDSO_MEMBER_SWAPPED || (m->kind == VDSO_MEMBER_ATTACHED && (m->process.flags & VDSO_PROCESS_FOLLOWED) != 0))
			return false;
		if (m->kind != VDSO_MEMBER_NOT)
			return true;
	}
	/* That nothing of ours is left in it says nothing: it may have exec'd from a session what cannot be swapped. */
	return false;
}

bool vdso_sessions_runs_on(struct vdso_follower *f, pid_t tid, uint32_t *ret)
{
	const struct vdso_membership *m = vdso_standing_look(f, tid);
	int index = m->kind == VDSO_MEMBER_SWAPPED || m->kind == VDSO_MEMBER_ATTACHED ? by_member(f->shared, m) : -1;

	*ret = index >= 0 ? (uint32_t)index : 0;
	return index >= 0;
}

bool vdso_sessions_swapped(struct vdso_follower *f, pid_t tid)
{
	uint32_t session;

	return vdso_sessions_runs_on(f, tid, &session);
}
