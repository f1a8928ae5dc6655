/* Which clock page a process computes its time by: since its exec, or by the jumps that attaching it has put in. */
#ifndef VDSO_CORE_MEMBERSHIP_H
#define VDSO_CORE_MEMBERSHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "detour.h"
#include "process.h"

enum vdso_membership_kind {
	VDSO_MEMBER_NOT,      /* it runs on the host's clock, and nothing of ours is there */
	VDSO_MEMBER_SWAPPED,  /* since its exec */
	VDSO_MEMBER_ATTACHED, /* by jumps */
	VDSO_MEMBER_DETACHED, /* pages of ours are mapped, and nothing leads to them */
	VDSO_MEMBER_KINDS,
};

struct vdso_membership {
	enum vdso_membership_kind kind;
	uint64_t image;  /* the kernel's own, where it is mapped; 0: nowhere */
	/* Of one that is swapped or attached: */
	uint64_t inode;  /* of the clock page's file */
	uint64_t region; /* the clock page's first byte */
	uint64_t jump;   /* one of those that lead there; 0: it is swapped, or its memory may not be read */
	struct vdso_process process; /* what its process page says; zeros where it may not be read */
};

/* 0 or a negative errno. Where the memory may not be read, jumps are taken to lead to a region that is there. */
int vdso_membership_look(pid_t pid, struct vdso_membership *ret);

/* Whether a swapped or attached process counts its clock calls. */
bool vdso_membership_counts(const struct vdso_membership *member);

/* The clock page's inode alone, of a process that travels on a session the session's; 0: the host's clock. 0 or a negative errno. */
int vdso_membership_read(pid_t pid, uint64_t *ret);

/* What the process page of that region says. False: it cannot be read, or there is none. */
bool vdso_membership_process(int mem, uint64_t region, struct vdso_process *ret);

/* Whether these five bytes, which are at that address, are a jump to the region's detours. */
bool vdso_membership_leads(const uint8_t *bytes, uint64_t at, uint64_t region);

#endif
