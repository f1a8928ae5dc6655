#include "filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "privilege.h"
#include "process.h"
#include "transform.h"

#define GET_FILTER 0x420c /* PTRACE_SECCOMP_GET_FILTER, Linux 4.4 */

#define OURS 0x80000000u /* beside VDSO_FILTER_*, none of which a filter of ours has to have */

#define X32_BIT 0x40000000u
#define I386_ARCH AUDIT_ARCH_I386

/* x86-64's numbers; the x32 numbers are these with X32_BIT, but for the execs. */
enum {
	NR64_EXECVE = 59,
	NR64_EXECVEAT = 322,
	NRX32_EXECVE = 520,
	NRX32_EXECVEAT = 545,
	NR32_EXECVE = 11,
	NR32_EXECVEAT = 358,
	NR64_IOCTL = 16,
	NRX32_IOCTL = 514,
	NR32_IOCTL = 54,
};

static const uint32_t clock_setters_64[] = {159 /* adjtimex */, 164 /* settimeofday */, 227 /* clock_settime */,
					    305 /* clock_adjtime */};
static const uint32_t clock_setters_32[] = {25 /* stime */,           79 /* settimeofday */,   124 /* adjtimex */,
					    264 /* clock_settime */,  343 /* clock_adjtime */, 404 /* clock_settime64 */,
					    405 /* clock_adjtime64 */};

/* What sets a real-time clock or its alarm (linux/rtc.h): requests of these numbers are no other device's. */
static const uint32_t rtc_setters[] = {0x4024700a /* RTC_SET_TIME */, 0x40247007 /* RTC_ALM_SET */,
				       0x4028700f /* RTC_WKALM_SET */, 0x4008700e /* RTC_EPOCH_SET */,
				       0x4004700e /* the same, of a 32-bit program */};

struct program {
	struct sock_filter code[VDSO_FILTER_MOST];
	unsigned short length;
};

static void emit(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
	p->code[p->length++] = (struct sock_filter){code, yes, no, k};
}

static void load(struct program *p, size_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(struct program *p, uint32_t action)
{
	emit(p, BPF_RET | BPF_K, action, 0, 0);
}

/* If the accumulator is `value`, answer. */
static void answer_if(struct program *p, uint32_t value, uint32_t action)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
	answer(p, action);
}

static size_t argument(unsigned index) /* its low half */
{
	return offsetof(struct seccomp_data, args) + index * sizeof(uint64_t);
}

/* Jumps over `rule` when the accumulator is not `number`; what is emitted until close_rule() is the rule. */
static unsigned short open_rule(struct program *p, uint32_t number)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 0);
	return (unsigned short)(p->length - 1);
}

static void close_rule(struct program *p, unsigned short opened)
{
	answer(p, SECCOMP_RET_ALLOW);
	p->code[opened].jf = (uint8_t)(p->length - opened - 1);
}

/* Falls through when (argument & mask) is not 0, else allows. */
static void need_bits(struct program *p, unsigned index, uint32_t mask)
{
	load(p, argument(index));
	emit(p, BPF_JMP | BPF_JSET | BPF_K, mask, 1, 0);
	answer(p, SECCOMP_RET_ALLOW);
}

/* Falls through when the pointer is not NULL, else allows. */
static void need_pointer(struct program *p, unsigned index)
{
	load(p, argument(index));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
	load(p, argument(index) + 4);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
	answer(p, SECCOMP_RET_ALLOW);
}

/* Allows what carries the image's mark in that argument, which the call does not use. */
static void pass_marked(struct program *p, unsigned index)
{
	load(p, argument(index));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)VDSO_MARK, 0, 3);
	load(p, argument(index) + 4);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(VDSO_MARK >> 32), 0, 1);
	answer(p, SECCOMP_RET_ALLOW);
}

/* Falls through when the argument is a clock that the session may move: REALTIME, REALTIME_ALARM or TAI, and with `all`
 * MONOTONIC, BOOTTIME and BOOTTIME_ALARM; else allows. */
static void need_moved_clock(struct program *p, unsigned index, bool all)
{
	static const uint32_t ids[] = {VDSO_ID_REALTIME, VDSO_ID_REALTIME_ALARM, VDSO_ID_TAI,
				       VDSO_ID_MONOTONIC, VDSO_ID_BOOTTIME, VDSO_ID_BOOTTIME_ALARM};
	unsigned count = all ? 6 : 3;

	load(p, argument(index));
	for (unsigned i = 0; i < count; i++)
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, ids[i], (uint8_t)(count - i), 0);
	answer(p, SECCOMP_RET_ALLOW);
}

/*
 * Absolute deadlines, as far as the arguments show the clock. timer_settime's and timerfd_settime's do not: the follower
 * looks the clock up.
 */
static void deadline_rules(struct program *p, bool all)
{
	unsigned short rule;

	rule = open_rule(p, SYS_futex);
	need_pointer(p, 3);
	pass_marked(p, 4);
	pass_marked(p, 5);
	load(p, argument(1));
	emit(p, BPF_ALU | BPF_AND | BPF_K, 0x7f, 0, 0); /* the command: without PRIVATE and CLOCK_REALTIME */
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 6, 5, 0);    /* LOCK_PI: always REALTIME */
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 9, 2, 0);    /* WAIT_BITSET */
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 11, 1, 0);   /* WAIT_REQUEUE_PI */
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 13, 0, 3);   /* LOCK_PI2 */
	load(p, argument(1));
	/* FUTEX_CLOCK_REALTIME; where MONOTONIC is moved too, either way */
	emit(p, BPF_JMP | BPF_JSET | BPF_K, 256, 0, all ? 0 : 1);
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);

	rule = open_rule(p, SYS_clock_nanosleep);
	need_bits(p, 1, 1); /* TIMER_ABSTIME */
	need_moved_clock(p, 0, all);
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);

	rule = open_rule(p, SYS_timer_settime);
	need_bits(p, 1, 1); /* TIMER_ABSTIME */
	pass_marked(p, 4);
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);

	rule = open_rule(p, SYS_timerfd_settime);
	need_bits(p, 1, 1); /* TFD_TIMER_ABSTIME */
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);

	rule = open_rule(p, 449); /* futex_waitv */
	need_pointer(p, 3);
	pass_marked(p, 5);
	need_moved_clock(p, 4, all);
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);

	rule = open_rule(p, 455); /* futex_wait */
	need_pointer(p, 4);
	need_moved_clock(p, 5, all);
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);

	rule = open_rule(p, SYS_mq_timedsend);
	need_pointer(p, 4);
	pass_marked(p, 5);
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);

	rule = open_rule(p, SYS_mq_timedreceive);
	need_pointer(p, 4);
	pass_marked(p, 5);
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);
}

/* Reading the time. Of the image's own calls, which bear the mark, none. */
static void reading_rules(struct program *p, bool all)
{
	static const uint32_t ids[] = {VDSO_ID_REALTIME, VDSO_ID_REALTIME_COARSE, VDSO_ID_TAI, VDSO_ID_MONOTONIC,
				       VDSO_ID_MONOTONIC_COARSE, VDSO_ID_RAW, VDSO_ID_BOOTTIME};
	unsigned count = all ? 7 : 3;
	unsigned short rule = open_rule(p, SYS_clock_gettime);

	pass_marked(p, 5);
	load(p, argument(0));
	for (unsigned i = 0; i < count; i++)
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, ids[i], (uint8_t)(count - i), 0);
	answer(p, SECCOMP_RET_ALLOW);
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);
	for (int i = 0; i < 2; i++) {
		rule = open_rule(p, i == 0 ? SYS_gettimeofday : SYS_time);
		pass_marked(p, 5);
		answer(p, SECCOMP_RET_USER_NOTIF);
		close_rule(p, rule);
	}
}

/* The host's real-time clock would be given the session's time. */
static void rtc_rule(struct program *p, uint32_t number)
{
	unsigned short rule = open_rule(p, number);

	load(p, argument(1));
	for (size_t i = 0; i < sizeof(rtc_setters) / sizeof(rtc_setters[0]); i++)
		answer_if(p, rtc_setters[i], SECCOMP_RET_ERRNO | EPERM);
	close_rule(p, rule);
}

/* Where execs are not followed, the bootstrap's questions alone come through. */
static void question_rule(struct program *p)
{
	unsigned short rule = open_rule(p, NR64_EXECVE);

	load(p, argument(0));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)VDSO_ASK_PATH, 0, 3);
	load(p, argument(0) + 4);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(VDSO_ASK_PATH >> 32), 0, 1);
	answer(p, SECCOMP_RET_USER_NOTIF);
	close_rule(p, rule);
}

static void build(struct program *p, unsigned flags)
{
	/* Somebody who answers for the session, or nobody who may. */
	const uint32_t set = flags & VDSO_FILTER_LISTENS ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ERRNO | EPERM;
	const uint32_t notify = flags & VDSO_FILTER_EXEC ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ALLOW;
	unsigned short other;

	p->length = 0;
	/* The architecture first: an i386 program's numbers, or int $0x80 in a 64-bit one, mean other calls. */
	load(p, offsetof(struct seccomp_data, arch));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, I386_ARCH, 0, 0);
	other = (unsigned short)(p->length - 1);
	load(p, offsetof(struct seccomp_data, nr));
	answer_if(p, NR32_EXECVE, notify);
	answer_if(p, NR32_EXECVEAT, notify);
	for (size_t i = 0; i < sizeof(clock_setters_32) / sizeof(clock_setters_32[0]); i++)
		answer_if(p, clock_setters_32[i], set);
	rtc_rule(p, NR32_IOCTL);
	answer(p, SECCOMP_RET_ALLOW);
	p->code[other].jf = (uint8_t)(p->length - other - 1);

	load(p, offsetof(struct seccomp_data, nr));
	answer_if(p, NRX32_EXECVE | X32_BIT, notify);
	answer_if(p, NRX32_EXECVEAT | X32_BIT, notify);
	emit(p, BPF_ALU | BPF_AND | BPF_K, ~X32_BIT, 0, 0);
	if ((flags & VDSO_FILTER_LISTENS) != 0 && (flags & VDSO_FILTER_EXEC) == 0)
		question_rule(p);
	answer_if(p, NR64_EXECVE, notify);
	answer_if(p, NR64_EXECVEAT, notify);
	for (size_t i = 0; i < sizeof(clock_setters_64) / sizeof(clock_setters_64[0]); i++)
		answer_if(p, clock_setters_64[i], set);
	if (flags & VDSO_FILTER_EXITS)
		answer_if(p, SYS_exit_group, SECCOMP_RET_USER_NOTIF);
	if (flags & VDSO_FILTER_READS)
		reading_rules(p, (flags & VDSO_FILTER_ALL) != 0);
	if (flags & VDSO_FILTER_DEADLINES)
		deadline_rules(p, (flags & VDSO_FILTER_ALL) != 0);
	rtc_rule(p, NR64_IOCTL); /* last: what comes before has no need to pass it */
	rtc_rule(p, NRX32_IOCTL);
	answer(p, SECCOMP_RET_ALLOW);
}

unsigned short vdso_filter_program(unsigned flags, struct sock_filter ret[VDSO_FILTER_MOST])
{
	struct program program;

	build(&program, flags);
	memcpy(ret, program.code, program.length * sizeof(ret[0]));
	return program.length;
}

/* The flags with which it is one of these, 0: it is none. Some that make no difference in the instructions are left out. */
static unsigned flags_of(const struct sock_filter *code, long length)
{
	static const unsigned listening[] = {VDSO_FILTER_EXEC, VDSO_FILTER_LAST, 0};
	static const unsigned more[] = {VDSO_FILTER_DEADLINES, VDSO_FILTER_ALL, VDSO_FILTER_READS, VDSO_FILTER_EXITS};
	struct program program;

	for (unsigned i = 0; i < 3 * 16; i++) {
		unsigned flags = listening[i / 16];

		for (unsigned bit = 0; bit < 4; bit++)
			flags |= (i >> bit & 1) != 0 ? more[bit] : 0;
		build(&program, flags);
		if (program.length == length && memcmp(program.code, code, program.length * sizeof(code[0])) == 0)
			return flags | OURS;
	}
	return 0;
}

/* The task's filters, the newest first. */
static void count_ours(pid_t tid, unsigned *ours, unsigned *others)
{
	struct sock_filter code[VDSO_FILTER_MOST];

	*ours = *others = 0;
	for (unsigned long i = 0;; i++) {
		/* How many instructions; ENOENT: there is no such filter, EMEDIUMTYPE: one that is none of these. */
		long length = ptrace((enum __ptrace_request)GET_FILTER, tid, i, NULL);

		if (length < 0 && errno != EMEDIUMTYPE)
			return;
		if (length > 0 && length <= (long)VDSO_FILTER_MOST && ptrace((enum __ptrace_request)GET_FILTER, tid, i, code) == length &&
		    flags_of(code, length) != 0)
			++*ours;
		else
			++*others;
	}
}

/* Whether it may have a listener: without such an action none would hear of anything. */
static bool may_notify(const struct sock_filter *code, long length)
{
	for (long i = 0; i < length; i++)
		if (code[i].code == (BPF_RET | BPF_A) ||
		    (code[i].code == (BPF_RET | BPF_K) && (code[i].k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF))
			return true;
	return false;
}

unsigned vdso_filter_listening(pid_t tid)
{
	struct sock_filter code[BPF_MAXINSNS];
	unsigned ret = 0;

	for (unsigned long i = 0;; i++) {
		long length = ptrace((enum __ptrace_request)GET_FILTER, tid, i, NULL);
		unsigned flags = 0;

		if (length < 0 && errno != EMEDIUMTYPE)
			return errno == ENOENT ? ret : 0;
		if (length <= 0 || length > BPF_MAXINSNS || ptrace((enum __ptrace_request)GET_FILTER, tid, i, code) != length)
			return 0;
		flags = flags_of(code, length);
		if (flags == 0 && may_notify(code, length))
			return 0;
		/* An older one of ours has lost its listener: else there could be no newer. */
		if (ret == 0 && (flags & VDSO_FILTER_LISTENS) != 0)
			ret = flags & ~OURS;
	}
}

bool vdso_filter_all_ours(pid_t tid)
{
	unsigned ours, others;

	count_ours(tid, &ours, &others);
	return ours > 0 && others == 0;
}

bool vdso_filter_wants_no_new_privs(void)
{
	return !vdso_privilege_has(0, CAP_SYS_ADMIN);
}

int vdso_filter_install(unsigned flags, int *listener)
{
	struct program program;
	struct sock_fprog fprog;
	bool listen = (flags & VDSO_FILTER_LISTENS) != 0;
	unsigned long seccomp_flags = listen ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
	long fd;

	*listener = -1;
	if (vdso_filter_wants_no_new_privs() && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	build(&program, flags);
	fprog = (struct sock_fprog){program.length, program.code};
	/* Once the follower has a notification, only a fatal signal may end the wait: an exec would fail with EINTR under a
	 * handler without SA_RESTART. Since 5.19; before, such an exec can fail. */
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		     listen ? seccomp_flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV : 0, &fprog);
	if (fd < 0 && errno == EINVAL && listen)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, seccomp_flags, &fprog);
	if (fd < 0)
		return -errno;
	if (listen) {
		*listener = (int)fd;
		fcntl(*listener, F_SETFD, FD_CLOEXEC);
	}
	return 0;
}

int vdso_filter_drop_time(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	const uint32_t bit = 1u << (CAP_SYS_TIME % 32);

	if (syscall(SYS_capget, &header, data) != 0)
		return -errno;
	prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0); /* EPERM without CAP_SETPCAP: then no_new_privs has to do */
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_SYS_TIME, 0, 0);
	data[CAP_SYS_TIME / 32].effective &= ~bit;
	data[CAP_SYS_TIME / 32].permitted &= ~bit;
	data[CAP_SYS_TIME / 32].inheritable &= ~bit;
	if (syscall(SYS_capset, &header, data) != 0)
		return -errno;
	if (prctl(PR_CAPBSET_READ, CAP_SYS_TIME, 0, 0, 0) == 1 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	return 0;
}
