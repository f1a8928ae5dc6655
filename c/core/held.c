#include "held.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

int vdso_held_ask(void)
{
	return ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 ? 0 : -errno;
}

int vdso_held_wait(pid_t pid)
{
	for (;;) {
		siginfo_t info = {0};
		int status;

		/* Left unreaped, should it have ended: whoever started it waits for that. */
		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WNOWAIT) != 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED)
			return 0;
		if (waitpid(pid, &status, __WALL) != pid)
			return -errno;
		if (WSTOPSIG(status) == SIGTRAP)
			return 1;
		/* A signal that came before the exec: it is the program's. */
		if (ptrace(PTRACE_CONT, pid, 0, (long)WSTOPSIG(status)) != 0 && errno != ESRCH)
			return -errno;
	}
}
