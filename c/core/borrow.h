/*
 * A thread of a program that stands still under ptrace, borrowed for system calls that only its own process can make, and put
 * back where it was. Should we die over it, it goes back by itself (injected.S).
 *
 * Takes turns with whoever waits for its stops: each call lets the thread go, and ends in a stop that vdso_borrow_stopped() is
 * told of. Functions return 0 or a negative errno.
 */
#ifndef VDSO_CORE_BORROW_H
#define VDSO_CORE_BORROW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "area.h"
#include "attachment.h"

#define VDSO_BORROW_BYTES 1024u /* of code and data, at the most */

struct vdso_borrow {
	pid_t tid;
	int mem;     /* /proc/TID/mem */
	uint64_t at; /* of what has been put in the unused tail of the kernel's image; 0: nothing is there */
	uint32_t size;
	const uint8_t *original; /* what was there */
	uint64_t room;  /* VDSO_REGION_BYTES of memory there, for answers; 0: none */
	uint64_t mask;  /* the signals that it had blocked */
	bool inside;    /* of a call */
	bool was_stopped; /* by a SIGSTOP, which was kept from it */
	struct user_regs_struct before;
};

/*
 * At a stop that PTRACE_INTERRUPT has made: `kernel_image` is where the kernel's image is there, `harmless` as
 * vdso_inject_may_call() has it. -ENOSPC: no room in the image; -EBUSY: something is there already, by which a thread that was
 * borrowed when its borrower died goes back; `alone`: it has been there so long that none does any more. What a thread of
 * another process has there, or one that has ended, is a copy that nobody needs. That no thread which is borrowed now has its
 * code there is the caller's to know. -EACCES: a filter of the program's own may end it for our calls. When it fails nothing
 * has been changed.
 */
int vdso_borrow_begin(struct vdso_borrow *borrow, pid_t tid, uint64_t kernel_image, const struct vdso_area *area, int harmless,
		      bool alone);
#define VDSO_BORROW_LEFT_NS UINT64_C(1000000000) /* so long: far longer than to go back, and for a handler to return */

/* Puts bytes where a call of it can read them: up to VDSO_BORROW_ARGUMENT of them, at *at. */
#define VDSO_BORROW_ARGUMENT 32u
int vdso_borrow_give(struct vdso_borrow *borrow, const void *bytes, size_t size, uint64_t *at);

/* Lets it make the call. */
int vdso_borrow_call(struct vdso_borrow *borrow, long number, const uint64_t argument[6]);

enum vdso_borrow_stop {
	VDSO_BORROW_GOES_ON,
	VDSO_BORROW_ANSWERED, /* *result is what the call has answered */
	VDSO_BORROW_FAULTED,  /* what was put there is no longer what it was: to be put back at once */
};

/* It has stopped, with that status of waitpid(). */
enum vdso_borrow_stop vdso_borrow_stopped(struct vdso_borrow *borrow, int status, int64_t *result);

/* What its calls may write into from now on: they have made it. */
void vdso_borrow_use_room(struct vdso_borrow *borrow, uint64_t room);

/* Whether a stop with that status, not an event's, is a fault of what was put there: only those and SIGSTOP come through. */
bool vdso_borrow_has_faulted(struct vdso_borrow *borrow, int status);

/* On its way to the stop where vdso_borrow_end() puts it back, and the kernel makes its interrupted call again. */
int vdso_borrow_return(struct vdso_borrow *borrow);

/* At that stop, or at the end of a call: back where it was, and let go. With `result` it has made its call, which answers
 * that. */
void vdso_borrow_end(struct vdso_borrow *borrow, const int64_t *result);

/* It has gone. */
void vdso_borrow_lost(struct vdso_borrow *borrow);

#endif
