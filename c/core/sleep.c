#include "sleep.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "descriptor.h"
#include "follower.h"
#include "process.h"
#include "procfs.h"
#include "sessions.h"
#include "threads.h"
#include "transform.h"
#include "warning.h"

/* What the warning is about; calls have their numbers. */
#define ABOUT_SLEEP 10001

/* A fresh program is looked at after this, and after three times as long each time until it is no longer fresh. */
#define FRESH_NS UINT64_C(10000000)
#define FRESH_END_NS UINT64_C(3000000000)

/* All of them, ever more rarely, and never for more than a 200th of our time: looking through /proc takes a while. */
#define ROUND_NS UINT64_C(1000000000)
#define ROUND_MAX_NS UINT64_C(300000000000)
#define SHARE 200u

#define THREADS_MAX 256u /* of one program, at one look */

enum { ABSOLUTE = 1 };
enum { FUTEX_WAIT = 0, FUTEX_WAIT_BITSET = 9, FUTEX_WAIT_REQUEUE_PI = 11, FUTEX_LOCK_PI2 = 13, FUTEX_REALTIME = 256 };
enum { NR_EPOLL_PWAIT2 = 441, NR_FUTEX_WAITV = 449, NR_FUTEX_WAIT = 455 };

/* ---- what a call waits for ---- */

/* Calls whose timeout is an argument: a pointer, NULL for none, or a number that is below 1 for none. */
static const struct {
	long number;
	const char *name;
	int timeout;
	bool pointer;
	int count; /* the argument that says for how many descriptors; -1: none does */
} timed[] = {
	{SYS_poll, "poll", 2, false, 1},
	{SYS_ppoll, "ppoll", 2, true, 1},
	{SYS_select, "select", 4, true, 0},
	{SYS_pselect6, "pselect", 4, true, 0},
	{SYS_epoll_wait, "epoll_wait", 3, false, -1},
	{SYS_epoll_pwait, "epoll_pwait", 3, false, -1},
	{NR_EPOLL_PWAIT2, "epoll_pwait2", 3, true, -1},
	{SYS_rt_sigtimedwait, "sigtimedwait", 2, true, -1},
	{SYS_semtimedop, "semtimedop", 3, true, -1},
	{SYS_io_getevents, "io_getevents", 4, true, -1},
	{SYS_recvmmsg, "recvmmsg", 4, true, -1},
};

/* Those of a descriptor, which may be a socket that has one (SO_RCVTIMEO, SO_SNDTIMEO). */
static const struct {
	long number;
	const char *name;
	int option;
} on_socket[] = {
	{SYS_read, "read", SO_RCVTIMEO},         {SYS_readv, "readv", SO_RCVTIMEO},     {SYS_recvfrom, "recv", SO_RCVTIMEO},
	{SYS_recvmsg, "recvmsg", SO_RCVTIMEO},   {SYS_accept, "accept", SO_RCVTIMEO},   {SYS_accept4, "accept", SO_RCVTIMEO},
	{SYS_write, "write", SO_SNDTIMEO},       {SYS_writev, "writev", SO_SNDTIMEO},   {SYS_sendto, "send", SO_SNDTIMEO},
	{SYS_sendmsg, "sendmsg", SO_SNDTIMEO},   {SYS_connect, "connect", SO_SNDTIMEO},
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Until a time of MONOTONIC is for so long, as many a library does it, where the session leaves that clock alone. */
static enum vdso_sleep_kind until(const struct vdso_sleep_call *call, bool own, uint64_t timeout, bool real)
{
	if (timeout == 0 || real || own)
		return VDSO_SLEEP_NOT;
	for (int i = 0; i < 6; i++)
		if (call->argument[i] == VDSO_MARK) /* the image's own, for a time of the session's */
			return VDSO_SLEEP_NOT;
	return VDSO_SLEEP_TIMEOUT;
}

static enum vdso_sleep_kind classify_futex(const struct vdso_sleep_call *call, bool own)
{
	uint32_t op = (uint32_t)call->argument[1];

	switch (op & 0x7f) {
	case FUTEX_WAIT: /* for so long, on any clock */
		return until(call, false, call->argument[3], false);
	case FUTEX_WAIT_BITSET:
	case FUTEX_WAIT_REQUEUE_PI:
	case FUTEX_LOCK_PI2:
		return until(call, own, call->argument[3], (op & FUTEX_REALTIME) != 0);
	}
	return VDSO_SLEEP_NOT;
}

enum vdso_sleep_kind vdso_sleep_classify(const struct vdso_sleep_call *call, bool own, const char **name)
{
	const uint64_t *a = call->argument;

	*name = "";
	switch (call->number) {
	case SYS_nanosleep:
		return VDSO_SLEEP_PURE;
	case SYS_clock_nanosleep:
		if ((a[1] & ABSOLUTE) == 0)
			return VDSO_SLEEP_PURE;
		return !own && ((int)a[0] == VDSO_ID_MONOTONIC || (int)a[0] == VDSO_ID_BOOTTIME) ? VDSO_SLEEP_PURE :
												   VDSO_SLEEP_NOT;
	case SYS_futex:
		*name = "futex";
		return classify_futex(call, own);
	case NR_FUTEX_WAITV:
		*name = "futex_waitv";
		return until(call, own, a[3], (int)a[4] == VDSO_ID_REALTIME);
	case NR_FUTEX_WAIT:
		*name = "futex_wait";
		return until(call, own, a[4], (int)a[5] == VDSO_ID_REALTIME);
	}
	for (size_t i = 0; i < LENGTH(timed); i++) {
		if (timed[i].number != call->number)
			continue;
		*name = timed[i].name;
		if (timed[i].pointer ? a[timed[i].timeout] == 0 : (int)a[timed[i].timeout] < 1)
			return VDSO_SLEEP_NOT;
		return timed[i].count >= 0 && (uint32_t)a[timed[i].count] == 0 ? VDSO_SLEEP_PURE : VDSO_SLEEP_TIMEOUT;
	}
	for (size_t i = 0; i < LENGTH(on_socket); i++)
		if (on_socket[i].number == call->number) {
			*name = on_socket[i].name;
			return VDSO_SLEEP_SOCKET;
		}
	return VDSO_SLEEP_NOT;
}

/* ---- looking ---- */

static bool has_timeout(pid_t program, const struct vdso_sleep_call *call)
{
	int fd = vdso_descriptor_copy(program, (int)call->argument[0]);
	struct timeval timeout = {0};
	socklen_t size = sizeof(timeout);

	if (fd < 0)
		return false;
	for (size_t i = 0; i < LENGTH(on_socket); i++)
		if (on_socket[i].number == call->number &&
		    getsockopt(fd, SOL_SOCKET, on_socket[i].option, &timeout, &size) != 0)
			timeout = (struct timeval){0}; /* no socket */
	close(fd);
	return timeout.tv_sec != 0 || timeout.tv_usec != 0;
}

/* Of a task that waits in one. */
static bool read_call(pid_t tid, struct vdso_sleep_call *ret)
{
	unsigned long a[6];
	char path[64], line[256];
	FILE *file;
	bool good;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	good = fgets(line, sizeof(line), file) != NULL &&
	       sscanf(line, "%ld %lx %lx %lx %lx %lx %lx", &ret->number, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5]) == 7;
	fclose(file);
	for (int i = 0; good && i < 6; i++)
		ret->argument[i] = a[i];
	return good && ret->number >= 0;
}

/* Whom a warning is for: whoever has that name, since a script may start a thousand of them. Below every process id. */
static int32_t number_of(const char *name)
{
	uint32_t ret = 2166136261; /* FNV-1a */

	for (; *name != '\0'; name++)
		ret = (ret ^ (uint8_t)*name) * 16777619;
	return -(int32_t)(ret >> 1) - 1;
}

/* Whether it has been told, now or before. */
static bool look_at(struct vdso_follower *f, pid_t program, uint32_t session)
{
	const char *call_name;
	struct vdso_sleep_call call;
	struct dirent *entry;
	unsigned threads = 0;
	char path[64], name[32];
	bool found = false, pure = false;
	DIR *dir;

	vdso_procfs_name(program, name, sizeof(name));
	if (vdso_follower_is_told(f, number_of(name), ABOUT_SLEEP))
		return true;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)program);
	dir = opendir(path);
	while (dir != NULL && !found && threads < THREADS_MAX && (entry = readdir(dir)) != NULL) {
		pid_t tid = atoi(entry->d_name);
		enum vdso_sleep_kind kind;

		if (tid <= 0 || !read_call(tid, &call))
			continue;
		threads++;
		kind = vdso_sleep_classify(&call, f->sleep.own[session], &call_name);
		pure = kind == VDSO_SLEEP_PURE;
		found = pure || kind == VDSO_SLEEP_TIMEOUT || (kind == VDSO_SLEEP_SOCKET && has_timeout(program, &call));
	}
	if (dir != NULL)
		closedir(dir);
	if (!found)
		return false;
	vdso_follower_first_time(f, number_of(name), ABOUT_SLEEP);
	if (pure)
		vdso_warn(program, "%s (pid %d) sleeps for a length of time: that is the host's, whatever the rate of the clock", name,
			  (int)program);
	else
		vdso_warn(program, "%s (pid %d) waits in %s with a timeout: that is the host's, whatever the rate of the clock", name,
			  (int)program, call_name);
	return true;
}

/* Every program of a session whose clock has a rate. */
static void look_at_all(struct vdso_follower *f)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		pid_t program = atoi(entry->d_name);
		uint32_t session;

		if (program > 0 && program != getpid() && vdso_sessions_runs_on(f, program, &session) && f->sleep.rate[session] != 0)
			look_at(f, program, session);
	}
	if (proc != NULL)
		closedir(proc);
}

/* ---- when ---- */

static bool any_rate(const struct vdso_follower *f)
{
	for (uint32_t i = 0; i < f->shared->sessions; i++)
		if (f->sleep.rate[i] != 0)
			return true;
	return false;
}

void vdso_sleep_changed(struct vdso_follower *f)
{
	struct vdso_sleep *s = &f->sleep;
	bool new_rate = false;

	for (uint32_t i = 0; i < f->shared->sessions; i++) {
		const struct vdso_clock *clock;
		struct vdso_clock_record record;
		uint64_t version, rate;

		if (f->shared->session[i].counter || !vdso_sessions_look(f, i, &record, &version))
			continue;
		clock = &record.clock[VDSO_ID_REALTIME];
		/* Frozen is a rate too; one beyond all stands for it. */
		rate = clock->kind != VDSO_KIND_LINE || clock->line[1].rate == VDSO_RATE_ONE ? 0 :
		       clock->line[1].rate == 0					      ? UINT64_MAX :
											clock->line[1].rate;
		new_rate = new_rate || (rate != 0 && rate != s->rate[i]);
		s->rate[i] = rate;
		s->own[i] = record.clock[VDSO_ID_MONOTONIC].kind != VDSO_KIND_JUMP;
	}
	if (new_rate) {
		s->pause_ns = ROUND_NS;
		s->due_ns = vdso_threads_now_ns() + FRESH_NS;
	} else if (!any_rate(f)) {
		s->due_ns = 0;
	}
}

void vdso_sleep_begin(struct vdso_follower *f, pid_t program, uint32_t session)
{
	struct vdso_sleep *s = &f->sleep;

	if (s->rate[session] == 0)
		return;
	for (unsigned i = 0; i < VDSO_SLEEP_NEW; i++)
		if (s->fresh[i].program == 0 || s->fresh[i].program == program) {
			s->fresh[i].program = program;
			s->fresh[i].pause_ns = FRESH_NS;
			s->fresh[i].due_ns = vdso_threads_now_ns() + FRESH_NS;
			return;
		}
	/* So many begin at once that some wait for the round. */
}

static uint64_t next_due(const struct vdso_sleep *s)
{
	uint64_t ret = s->due_ns;

	for (unsigned i = 0; i < VDSO_SLEEP_NEW; i++)
		if (s->fresh[i].program != 0 && (ret == 0 || s->fresh[i].due_ns < ret))
			ret = s->fresh[i].due_ns;
	return ret;
}

int64_t vdso_sleep_patience_ns(const struct vdso_follower *f)
{
	uint64_t due = next_due(&f->sleep), now = vdso_threads_now_ns();

	return due == 0 ? -1 : due > now ? (int64_t)(due - now) : 0;
}

void vdso_sleep_look(struct vdso_follower *f)
{
	struct vdso_sleep *s = &f->sleep;
	uint64_t now = vdso_threads_now_ns(), took;

	for (unsigned i = 0; i < VDSO_SLEEP_NEW; i++) {
		uint32_t session;

		if (s->fresh[i].program == 0 || s->fresh[i].due_ns > now)
			continue;
		s->fresh[i].pause_ns *= 3;
		s->fresh[i].due_ns = now + s->fresh[i].pause_ns;
		if (s->fresh[i].pause_ns > FRESH_END_NS || !vdso_sessions_runs_on(f, s->fresh[i].program, &session) ||
		    s->rate[session] == 0 || look_at(f, s->fresh[i].program, session))
			s->fresh[i].program = 0;
	}
	if (s->due_ns == 0 || s->due_ns > now)
		return;
	if (any_rate(f))
		look_at_all(f);
	took = vdso_threads_now_ns() - now;
	s->due_ns = any_rate(f) ? now + took + (s->pause_ns > SHARE * took ? s->pause_ns : SHARE * took) : 0;
	s->pause_ns = s->pause_ns < ROUND_MAX_NS / 2 ? s->pause_ns * 2 : ROUND_MAX_NS;
}
