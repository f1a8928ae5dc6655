/* Which session a program is on, and the sessions that inner command lines bring to an outer follower. */
#ifndef VDSO_CORE_SESSIONS_H
#define VDSO_CORE_SESSIONS_H

#include "adjust.h"
#include "clock.h"
#include "follower.h"
#include "page.h"

/* The session that the task is on, and its next program; VDSO_ON_HOST: none. */
uint32_t vdso_sessions_of(struct vdso_follower *follower, pid_t tid);

/*
 * Whether a task on no session may set the host's clock: only if it, or whoever has started it, shows that it has been
 * detached. Else it may be a program that could not be given a session's clock.
 */
bool vdso_sessions_let_set(struct vdso_follower *follower, pid_t tid);

/* Whether the task's program reads a clock page of ours. */
bool vdso_sessions_swapped(struct vdso_follower *follower, pid_t tid);

/* The same, and of which session. */
bool vdso_sessions_runs_on(struct vdso_follower *follower, pid_t tid, uint32_t *ret);

/* VDSO_PROCESS_* for a program of that session. */
uint32_t vdso_sessions_flags(const struct vdso_follower *follower, pid_t tid, uint32_t session);

/* Whether the task's program is to run swapped or not at all; of no task, the first session's. */
bool vdso_sessions_strict(const struct vdso_follower *follower, const struct vdso_task *task);

/*
 * Takes a session over, for what `program` execs next: its clock page is open there as fd. 0 or a negative errno; -ENOSPC:
 * as many sessions as there can be are in use.
 */
int vdso_sessions_adopt(struct vdso_follower *follower, pid_t program, int fd, bool counter, bool strict);

/* The same for a process that is being attached to it: its own jumps will show that it is on it, and what it execs follows. */
int vdso_sessions_join(struct vdso_follower *follower, pid_t tid, int fd, bool counter);

/* The record in force, and its version. */
bool vdso_sessions_look(const struct vdso_follower *follower, uint32_t session, struct vdso_clock_record *ret,
			uint64_t *version);

/* The session's page, for writing: to be closed soon. 0 or a negative errno; -EPERM: it is a keeper's, or no end of
 * another's. */
int vdso_sessions_write(struct vdso_follower *follower, uint32_t session, struct vdso_page *ret);

/* As functions of adjust.h; a clock that is not to be adjusted is -EPERM, and a time that none has -EINVAL. The page is open
 * for writing. */
int vdso_sessions_adjust(struct vdso_page *page, const struct vdso_adjustment *adjustment);
int vdso_sessions_now(const struct vdso_follower *follower, uint32_t session, struct vdso_adjusted *ret);

/* Lines that are so old that they must be renewed, in all of the sessions: every VDSO_RENEW_S. */
void vdso_sessions_renew(struct vdso_follower *follower);

/* From now on follower->watch tells of its changes, and once now. */
void vdso_sessions_watch(struct vdso_follower *follower, uint32_t session);

/* Lets go of the sessions of an attached process that nobody is on any more. */
void vdso_sessions_tidy(struct vdso_follower *follower);

/* The program has exec'd, or its id has come to another one. */
void vdso_sessions_forget(struct vdso_follower *follower, pid_t program);

#endif
