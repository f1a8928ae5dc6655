/*
 * Sleeps and timeouts for a length of time, which take the host's whatever the session's rate: said once of each program, by
 * name, that is found in one. Nothing of a program's is slower for it: while a clock has another rate than 1 the follower looks
 * now and then at what its programs' threads wait in.
 */
#ifndef VDSO_CORE_SLEEP_H
#define VDSO_CORE_SLEEP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define VDSO_SLEEP_SESSIONS 64u
#define VDSO_SLEEP_NEW 64u

struct vdso_follower;

/* When to look. Times are CLOCK_MONOTONIC's; 0: not at all. */
struct vdso_sleep {
	uint64_t rate[VDSO_SLEEP_SESSIONS]; /* of each session's clock, in 32.32; 0: as the host's, or not known */
	bool own[VDSO_SLEEP_SESSIONS];      /* MONOTONIC and BOOTTIME too */
	struct {
		pid_t program; /* 0: none */
		uint64_t due_ns, pause_ns;
	} fresh[VDSO_SLEEP_NEW]; /* that have begun of late */
	uint64_t due_ns, pause_ns; /* of all programs */
};

/* A waiting system call, as /proc/PID/syscall shows it. */
struct vdso_sleep_call {
	long number;
	uint64_t argument[6];
};

enum vdso_sleep_kind {
	VDSO_SLEEP_NOT,     /* for something to happen, or until a time that is the session's */
	VDSO_SLEEP_PURE,    /* for so long */
	VDSO_SLEEP_TIMEOUT, /* for something to happen, for so long at the most */
	VDSO_SLEEP_SOCKET,  /* for a descriptor: for how long, only the descriptor tells */
};

/* `own`: the session's MONOTONIC is scaled too. The call's name, in *name, where it has one. */
enum vdso_sleep_kind vdso_sleep_classify(const struct vdso_sleep_call *call, bool own, const char **name);

/* A program of that session has begun. */
void vdso_sleep_begin(struct vdso_follower *follower, pid_t program, uint32_t session);

/* A session's clock has changed, or has been added. */
void vdso_sleep_changed(struct vdso_follower *follower);

/* How long until the next look, in ns; -1: for ever. */
int64_t vdso_sleep_patience_ns(const struct vdso_follower *follower);

/* Looks at what is due. */
void vdso_sleep_look(struct vdso_follower *follower);

#endif
