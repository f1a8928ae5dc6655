#include "inject.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/user.h>
#include <time.h>
#include <unistd.h>

#include "attachment.h"
#include "descriptor.h"
#include "memory.h"
#include "privilege.h"
#include "process.h"
#include "procfs.h"
#include "registers.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif
#define SIGNALS_BYTES 8L
#define LONGEST_NAP_NS 1000000
#define HANG_UP_MS 2 /* between looks at whether it has stopped on the way */
#define LEFT_BEHIND_NS UINT64_C(1000000000) /* far longer than it takes to go back, and a handler to return */

#define NR_RESTART_SYSCALL 219

extern const char vdso_injected_follow[] __attribute__((visibility("hidden")));
extern const char vdso_injected[] __attribute__((visibility("hidden")));
extern const char vdso_injected_wait[] __attribute__((visibility("hidden")));
extern const char vdso_injected_waited[] __attribute__((visibility("hidden")));
extern const char vdso_injected_end[] __attribute__((visibility("hidden")));
extern const char vdso_injected_counts_end[] __attribute__((visibility("hidden")));

/* As much of it as is needed. */
struct code {
	const char *from;
	size_t size;    /* with what stands in front of it */
	uint64_t entry; /* where it begins in the process, */
	uint64_t wait;  /* and waits at its end */
};

uint32_t vdso_inject_bytes(bool follow, bool count)
{
	const char *from = follow ? vdso_injected_follow : vdso_injected;
	const char *to = count ? vdso_injected_counts_end : vdso_injected_end + sizeof(struct vdso_injection);

	return VDSO_INJ_SINCE_BYTES + (uint32_t)(to - from);
}

static struct code code_for(const struct vdso_inject *in)
{
	const char *from = in->follower_fd >= 0 ? vdso_injected_follow : vdso_injected;
	const uint64_t at = in->at + VDSO_INJ_SINCE_BYTES;

	return (struct code){
		.from = from,
		.size = vdso_inject_bytes(in->follower_fd >= 0, in->counts_fd >= 0),
		.entry = at + (uint64_t)(vdso_injected - from),
		.wait = at + (uint64_t)(vdso_injected_wait - from),
	};
}

static void write_code(const struct code *code, const struct vdso_injection *data, uint8_t *ret)
{
	const uint64_t since_ns = vdso_threads_now_ns();

	memcpy(ret, &since_ns, sizeof(since_ns));
	memcpy(ret + VDSO_INJ_SINCE_BYTES, code->from, code->size - VDSO_INJ_SINCE_BYTES);
	memcpy(ret + VDSO_INJ_SINCE_BYTES + (vdso_injected_end - code->from), data, sizeof(*data));
}

/* How many filters it has; before Linux 5.9 only whether it has any. */
static int filters_of(pid_t tid)
{
	int mode = vdso_procfs_number(tid, "Seccomp:"), filters = mode != 0 ? vdso_procfs_number(tid, "Seccomp_filters:") : 0;

	return filters != 0 ? filters : mode;
}

/*
 * Best one that was waiting in a system call: the scheduler lets it run at once, whereas a thread that has kept a CPU busy may
 * have to wait behind other programs, with everybody else standing still.
 *
 * One that is to put a filter in gives all others its own: it must have the fewest. And best it needs no no_new_privs.
 */
static struct vdso_thread *choose(struct vdso_inject *in, struct user_regs_struct *regs)
{
	const bool filters = in->follower_fd >= 0;
	struct vdso_thread *best = NULL;
	int best_rank = INT_MAX, fewest = INT_MAX, most = 0;

	for (size_t i = 0; i < in->threads->count && (best_rank > 0 || filters); i++) {
		struct vdso_thread *thread = &in->threads->thread[i];
		struct user_regs_struct r;
		int rank = 0, own = 0;

		if (!thread->stopped || thread->gone || vdso_registers_get(thread->tid, &r) != 0)
			continue;
		if (r.orig_rax == VDSO_NO_CALL || (int64_t)r.rax > VDSO_RESTART_SYS || (int64_t)r.rax < VDSO_RESTART_BLOCK)
			rank = 1;
		if (r.orig_rax == VDSO_NO_CALL && vdso_registers_sequence_abort(thread->tid, in->mem, r.rip) != 0)
			rank = 2;
		if (filters) {
			own = filters_of(thread->tid);
			rank += vdso_privilege_has(thread->tid, CAP_SYS_ADMIN) ? 0 : 3;
			best_rank = own < fewest ? INT_MAX : best_rank;
			rank = own > fewest ? INT_MAX : rank;
			fewest = own < fewest ? own : fewest;
			most = own > most ? own : most;
		}
		if (rank < best_rank) {
			best = thread;
			best_rank = rank;
			*regs = r;
		}
	}
	in->uneven = best != NULL && fewest < most;
	return best;
}

void vdso_inject_way_back(struct vdso_injection *data, const struct user_regs_struct *r)
{
	const uint64_t reg[VDSO_INJ_REGISTER_COUNT] = {r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rbp, r->rsp,
						       r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
	int64_t result = (int64_t)r->rax;

	memcpy(data->reg, reg, sizeof(reg));
	data->rip = data->eintr_rip = r->rip;
	data->eintr_rax = r->rax;
	data->flags = r->eflags;
	if (r->orig_rax == VDSO_NO_CALL)
		return;
	if (result == VDSO_RESTART_SYS || result == VDSO_RESTART_NOINTR || result == VDSO_RESTART_NOHAND ||
	    result == VDSO_RESTART_BLOCK) {
		data->reg[0] = result == VDSO_RESTART_BLOCK ? NR_RESTART_SYSCALL : r->orig_rax;
		data->rip -= 2; /* the length of the syscall instruction */
	}
	/* Where a handler without SA_RESTART would end the call we do not know of it, and make it again. */
	data->eintr_rax = result == VDSO_RESTART_NOHAND || result == VDSO_RESTART_BLOCK ? (uint64_t)-EINTR : data->reg[0];
	data->eintr_rip = result == VDSO_RESTART_NOHAND || result == VDSO_RESTART_BLOCK ? r->rip : data->rip;
}

static void fill_scratch(struct vdso_scratch *s, uint64_t at, unsigned descriptors)
{
	s->poll_events = 1; /* POLLIN */
	s->patience_nsec = VDSO_INJ_PATIENCE_NS;
	s->message_vector = at + offsetof(struct vdso_scratch, vector_at);
	s->message_vectors = 1;
	s->message_control = at + offsetof(struct vdso_scratch, control_size);
	s->message_control_size = CMSG_LEN(descriptors * sizeof(int));
	s->vector_at = at + offsetof(struct vdso_scratch, byte);
	s->vector_size = 1;
	for (unsigned i = 0; i < 3; i++)
		s->control_fd[i] = -1;
	s->offered[0] = s->offered[1] = -1;
	s->program_at = at + VDSO_SCR_FILTER;
}

bool vdso_inject_may_call(pid_t tid, int harmless, long options, bool *suspended)
{
	int mode = vdso_procfs_number(tid, "Seccomp:"), filters = vdso_procfs_number(tid, "Seccomp_filters:");

	*suspended = false;
	if (mode == SECCOMP_MODE_DISABLED ||
	    (mode == SECCOMP_MODE_FILTER && filters > 0 &&
	     (filters == harmless || filters == vdso_procfs_number(getpid(), "Seccomp_filters:") || vdso_filter_all_ours(tid))))
		return ptrace(PTRACE_SETOPTIONS, tid, 0L, options) == 0;
	*suspended = ptrace(PTRACE_SETOPTIONS, tid, 0L, options | PTRACE_O_SUSPEND_SECCOMP) == 0;
	return *suspended;
}

/*
 * Until the injected code says another state than that, or the time has come. Looks ever more rarely: we are in front of
 * everybody, and waking up every few microseconds would keep the thread from running where it has to share our CPU.
 */
static int32_t await_state(struct vdso_inject *in, struct vdso_thread *thread, int32_t state, uint64_t until_ns)
{
	uint64_t at = in->region + VDSO_SCRATCH_AT, begin = vdso_threads_now_ns(), now_ns;
	int32_t now = state;

	while (vdso_memory_read(in->mem, &now, sizeof(now), at) != 0 || now == state) {
		struct timespec nap = {.tv_nsec = 10000};

		now = state;
		vdso_threads_keep_going(in->threads, thread);
		now_ns = vdso_threads_now_ns();
		if (now_ns >= until_ns)
			return state;
		if (now_ns - begin > 80000)
			nap.tv_nsec = now_ns - begin < 8 * LONGEST_NAP_NS ? (long)((now_ns - begin) / 8) : LONGEST_NAP_NS;
		nanosleep(&nap, NULL);
	}
	return now;
}

/*
 * The other end of a socket of the process's: taken out of it by pidfd_getfd, which works across all namespaces, or, where
 * that is not to be had (before Linux 5.6, or in a container), by a name that it connects to, in its network namespace.
 */
struct line {
	int listener; /* -1: a pair is offered */
	int fd;
};

static bool has_getfd(const struct vdso_inject *in)
{
	int fd = vdso_descriptor_copy(getpid(), in->mem);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int listen_to(struct line *line, struct vdso_scratch *s)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(name);

	line->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The kernel chooses an abstract name that nobody has, and nobody can take as long as we have it. */
	if (line->listener < 0 || bind(line->listener, (struct sockaddr *)&name, sizeof(name.sun_family)) != 0 ||
	    listen(line->listener, 1) != 0 || getsockname(line->listener, (struct sockaddr *)&name, &size) != 0)
		return -errno;
	if (size > sizeof(s->name))
		return -ENAMETOOLONG;
	memcpy(s->name, &name, size);
	s->name_size = size;
	return 0;
}

/* Whoever can see the name may connect to it: only the process is answered. */
static int answer_caller(struct vdso_inject *in, struct line *line)
{
	for (;;) {
		struct ucred peer;
		socklen_t size = sizeof(peer);

		line->fd = accept4(line->listener, NULL, NULL, SOCK_CLOEXEC);
		if (line->fd < 0)
			return -errno;
		if (getsockopt(line->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == in->threads->pid)
			return 0;
		close(line->fd);
	}
}

static int take_offered(struct vdso_inject *in, struct line *line)
{
	uint64_t at = in->region + VDSO_SCRATCH_AT + offsetof(struct vdso_scratch, offered) + sizeof(int32_t);
	int32_t there;
	int error = vdso_memory_read(in->mem, &there, sizeof(there), at);

	if (error != 0)
		return error;
	line->fd = vdso_descriptor_copy(in->threads->pid, there);
	return line->fd < 0 ? line->fd : 0;
}

/* Image and clock page, and the counts or the way to the follower. */
static unsigned descriptors(const struct vdso_inject *in)
{
	return in->counts_fd >= 0 || in->follower_fd >= 0 ? 3 : 2;
}

/* All in one message. */
static int send_descriptors(struct vdso_inject *in, struct line *line)
{
	const size_t size = descriptors(in) * sizeof(int);
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(3 * sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(size), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	const int fds[3] = {in->image_fd, in->clock_fd, in->counts_fd >= 0 ? in->counts_fd : in->follower_fd};
	struct iovec iov = {(char *)"", 1};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_SPACE(size)};
	int error = line->listener >= 0 ? answer_caller(in, line) : take_offered(in, line);

	if (error != 0)
		return error;
	memcpy(CMSG_DATA(&control.header), fds, size);
	return sendmsg(line->fd, &message, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* The listener that it could not send. True: the follower has it. */
static bool relay_listener(struct vdso_inject *in, const struct line *line)
{
	const uint64_t at = in->region + VDSO_SCRATCH_AT;
	uint32_t no_new_privs = 0;
	int32_t there = -1;
	int fd = -1, error;

	error = vdso_memory_read(in->mem, &there, sizeof(there), at + offsetof(struct vdso_scratch, control_fd));
	if (error == 0)
		error = vdso_memory_read(in->mem, &no_new_privs, sizeof(no_new_privs), at + VDSO_SCR_NO_NEW_PRIVS);
	if (error == 0)
		fd = vdso_descriptor_copy(vdso_procfs_state(in->threads->pid) == 'Z' ? in->tid : in->threads->pid, there);
	if (fd >= 0) {
		error = vdso_descriptor_send(in->follower_fd, fd, no_new_privs);
		close(fd);
	}
	if (send(line->fd, "", 1, MSG_NOSIGNAL) != 1) {
		/* then it waits no longer than it has the patience to */
	}
	return fd >= 0 && error == 0;
}

/* It closes its end when it has done with it, and says how it went right after. True: the listener has been sent in its stead. */
static bool await_hang_up(struct vdso_inject *in, struct vdso_thread *thread, const struct line *line)
{
	struct pollfd end = {.fd = line->fd, .events = 0};
	bool kept = false, ret = false;
	int32_t state;

	while (vdso_threads_now_ns() < in->until_ns && poll(&end, 1, HANG_UP_MS) == 0) {
		vdso_threads_keep_going(in->threads, thread);
		if (!kept && vdso_memory_read(in->mem, &state, sizeof(state), in->region + VDSO_SCRATCH_AT) == 0 &&
		    state == VDSO_INJ_KEEPS) {
			kept = true;
			ret = relay_listener(in, line);
		}
	}
	return ret;
}

static void hang_up(struct line *line)
{
	if (line->fd >= 0)
		close(line->fd);
	if (line->listener >= 0)
		close(line->listener);
}

/*
 * Brings the thread back to where it was, from its last wait. LATE when it is not there: it still needs what was put there,
 * or has gone back by itself already, since we were too slow. It is then left alone.
 */
static enum vdso_inject_outcome put_back(struct vdso_inject *in, struct vdso_thread *thread,
					 const struct user_regs_struct *before, uint64_t mask, const struct code *code, int32_t state)
{
	const uint64_t limit_ns = in->until_ns + (in->suspended ? LEFT_BEHIND_NS : 0);
	const struct timespec nap = {.tv_nsec = LONGEST_NAP_NS};
	struct user_regs_struct now;

	for (;;) {
		ptrace(PTRACE_INTERRUPT, thread->tid, 0L, 0L);
		if (vdso_threads_await(in->threads, thread, limit_ns) != 0 || vdso_registers_get(thread->tid, &now) != 0)
			return VDSO_INJECT_LATE;
		if (now.rip - code->wait <= (uint64_t)(vdso_injected_waited - vdso_injected_wait))
			break;
		/* Let go in the middle under a filter that is in force again, it might be ended by it: better too late than that. */
		if (!in->suspended || now.rip - in->at >= code->size ||
		    vdso_threads_now_ns() >= limit_ns)
			return VDSO_INJECT_LATE;
		vdso_threads_go_on(in->threads, thread);
		nanosleep(&nap, NULL);
	}
	vdso_memory_read(in->mem, &state, sizeof(state), in->region + VDSO_SCRATCH_AT);
	in->is_back = true;
	ptrace(PTRACE_SETOPTIONS, thread->tid, 0L, 0L);
	if (vdso_registers_set(thread->tid, before) != 0 || ptrace(PTRACE_SETSIGMASK, thread->tid, SIGNALS_BYTES, &mask) != 0) {
		in->error = -errno;
		return VDSO_INJECT_FAILED;
	}
	if (state == VDSO_INJ_DONE)
		return VDSO_INJECT_DONE;
	if (in->error != 0) /* the descriptors could not be sent, and what it says is only that they did not come */
		return VDSO_INJECT_FAILED;
	if (state < 0) {
		in->error = state;
		if (vdso_memory_read(in->mem, &in->step, sizeof(in->step), in->region + VDSO_SCRATCH_AT + VDSO_SCR_STEP) != 0)
			in->step = VDSO_STEP_REGION;
		if (in->step < VDSO_STEP_REGION || in->step > VDSO_STEP_COUNTS) /* memory of the process's, after all */
			in->step = VDSO_STEP_REGION;
		if (in->step == VDSO_STEP_FILTER && in->uneven)
			in->error = -ESRCH; /* which the kernel says only after it has asked for no_new_privs */
		return VDSO_INJECT_CALL_FAILED;
	}
	if (now.r14 == VDSO_STEP_REGION) {
		in->error = (int32_t)now.r13;
		in->step = VDSO_STEP_REGION;
		return VDSO_INJECT_CALL_FAILED;
	}
	return VDSO_INJECT_LATE;
}

bool vdso_inject_is_free(struct vdso_inject *in)
{
	const size_t size = in->room < VDSO_INJECT_LARGEST ? in->room : VDSO_INJECT_LARGEST;
	uint8_t there[VDSO_INJECT_LARGEST];
	uint64_t since;

	if (size < sizeof(since) || vdso_memory_read(in->mem, there, size, in->at) != 0 || memcmp(there, in->original, size) == 0)
		return true;
	for (size_t i = 0; i < in->threads->count; i++) {
		const struct vdso_thread *thread = &in->threads->thread[i];
		struct user_regs_struct r;

		if (thread->stopped && !thread->gone && (vdso_registers_get(thread->tid, &r) != 0 || r.rip - in->at < size))
			return false;
	}
	/* At its very end it lets signals in: a handler may have interrupted it there. */
	memcpy(&since, there, sizeof(since));
	return vdso_threads_now_ns() - since > LEFT_BEHIND_NS;
}

enum vdso_inject_outcome vdso_inject(struct vdso_inject *in)
{
	const struct code code = code_for(in);
	struct user_regs_struct before, regs;
	struct vdso_injection data = {.region = in->region, .fresh = in->fresh};
	struct sock_filter filter[VDSO_FILTER_MOST];
	enum vdso_inject_outcome outcome;
	uint8_t bytes[VDSO_INJECT_LARGEST];
	struct vdso_thread *thread;
	struct line line = {-1, -1};
	uint64_t all = UINT64_MAX, abort;
	uint32_t none = 0;
	bool relayed = false;
	int32_t state;

	in->error = in->step = 0;
	in->is_back = in->suspended = false;
	in->followed = VDSO_FOLLOWED_NOT;
	if (code.size > in->room || code.size > sizeof(bytes))
		return VDSO_INJECT_NO_ROOM;
	if (!vdso_inject_is_free(in))
		return VDSO_INJECT_LATE;
	thread = choose(in, &before);
	if (thread == NULL)
		return VDSO_INJECT_LATE;
	in->tid = thread->tid;
	if (!vdso_inject_may_call(thread->tid, in->harmless, 0L, &in->suspended))
		return VDSO_INJECT_SECCOMP;
	abort = before.orig_rax == VDSO_NO_CALL ? vdso_registers_sequence_abort(thread->tid, in->mem, before.rip) : 0;
	if (abort != 0)
		before.rip = abort;
	if (ptrace(PTRACE_GETSIGMASK, thread->tid, SIGNALS_BYTES, &data.mask) != 0)
		in->error = -errno;
	if (in->error == 0 && !in->fresh) /* what the last time has left */
		in->error = vdso_memory_write(thread->tid, in->mem, &none, sizeof(none), in->region + VDSO_SCRATCH_AT);
	if (in->error != 0)
		return VDSO_INJECT_FAILED;

	vdso_inject_way_back(&data, &before);
	fill_scratch(&data.scratch, in->region + VDSO_SCRATCH_AT, descriptors(in));
	if (in->counts_fd >= 0)
		data.counts = in->counts_at != 0 ? in->counts_at : VDSO_COUNTS_ANYWHERE;
	if (in->follower_fd >= 0) {
		data.filter = VDSO_FILTER_TO_ALL;
		/* A filter that is suspended notifies nobody. */
		if (!in->suspended && vdso_procfs_number(thread->tid, "Seccomp:") != SECCOMP_MODE_DISABLED)
			data.ask = VDSO_INJ_ASKS | (in->counter ? VDSO_ADOPT_COUNTER : 0);
		data.scratch.program_length = vdso_filter_program(in->filter, filter);
		/* Then it will be refused, and nothing is to be left behind. The question alone may have another answer. */
		data.scratch.no_new_privs = in->uneven;
	}
	/* A leader that has ended before its threads has no descriptors left to be asked for. */
	if (!has_getfd(in) || vdso_procfs_state(in->threads->pid) == 'Z')
		in->error = listen_to(&line, &data.scratch);
	if (in->error != 0) {
		hang_up(&line);
		return VDSO_INJECT_FAILED;
	}
	write_code(&code, &data, bytes);
	in->error = vdso_memory_write(thread->tid, in->mem, bytes, code.size, in->at);
	if (in->error == 0 && ptrace(PTRACE_SETSIGMASK, thread->tid, SIGNALS_BYTES, &all) != 0)
		in->error = -errno;
	regs = before;
	regs.rip = code.entry;
	regs.orig_rax = VDSO_NO_CALL; /* nothing is to be restarted on the way */
	if (in->error == 0)
		in->error = vdso_registers_set(thread->tid, &regs);
	if (in->error != 0) {
		ptrace(PTRACE_SETSIGMASK, thread->tid, SIGNALS_BYTES, &data.mask);
		vdso_memory_write(thread->tid, in->mem, in->original, code.size, in->at);
		hang_up(&line);
		return VDSO_INJECT_FAILED;
	}
	vdso_threads_go_on(in->threads, thread);

	/* Before it has begun it may take as long as it has to; once it waits for us its patience is short. */
	state = await_state(in, thread, 0, in->until_ns - VDSO_INJ_PATIENCE_NS / 2);
	if (state == VDSO_INJ_OFFERS) {
		in->error = vdso_memory_write(thread->tid, in->mem, filter, data.scratch.program_length * sizeof(filter[0]),
					      data.scratch.program_at);
		if (in->error == 0)
			in->error = send_descriptors(in, &line);
		/* Without them it gives up by itself, and closes what it has opened. */
		if (in->error == 0)
			relayed = await_hang_up(in, thread, &line);
		state = await_state(in, thread, VDSO_INJ_OFFERS, in->until_ns);
		if (state == VDSO_INJ_KEEPS)
			state = await_state(in, thread, VDSO_INJ_KEEPS, in->until_ns);
	}
	hang_up(&line);
	outcome = put_back(in, thread, &before, data.mask, &code, state);
	if (in->is_back)
		vdso_memory_write(thread->tid, in->mem, in->original, code.size, in->at);
	if (outcome == VDSO_INJECT_DONE && in->counts_fd >= 0)
		in->error = vdso_memory_read(in->mem, &in->counts_at, sizeof(in->counts_at),
					     in->region + VDSO_SCRATCH_AT + VDSO_SCR_COUNTS);
	if (outcome == VDSO_INJECT_DONE && in->follower_fd >= 0)
		in->error = vdso_memory_read(in->mem, &in->followed, sizeof(in->followed),
					     in->region + VDSO_SCRATCH_AT + VDSO_SCR_FOLLOWED);
	if (relayed)
		in->followed = VDSO_FOLLOWED_ANEW;
	return in->error != 0 && outcome == VDSO_INJECT_DONE ? VDSO_INJECT_FAILED : outcome;
}
