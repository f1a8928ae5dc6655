/* A program that is held at its exec, before its first instruction, so that it can be looked at; by ptrace. */
#ifndef VDSO_CORE_HELD_H
#define VDSO_CORE_HELD_H

#include <sys/types.h>

/* In the child that will exec: its next successful exec stops it. 0 or a negative errno: it will not be held. */
int vdso_held_ask(void);

/* In its parent, on the thread that forked it: waits for that stop. 1: it is held; 0: it has ended, and is still to be waited
 * for; else a negative errno. */
int vdso_held_wait(pid_t pid);

#endif
