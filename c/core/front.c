#include "front.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "follower.h"
#include "procfs.h"

static const int passed_on[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT, SIGTSTP,
				SIGTTIN, SIGTTOU, SIGWINCH, SIGURG, SIGIO,  SIGPWR,  SIGVTALRM, SIGPROF};

static void pass_on(int signals, int command)
{
	struct signalfd_siginfo info;
	bool stopped;

	/* Looked at before the signal is taken: a stop of the whole process group drops a SIGCONT that is still pending, so one
	 * that we take did not come before a later stop. A command that runs has had its own with the group's, and one from us
	 * could undo that later stop. */
	while (stopped = vdso_procfs_state(command) == 'T', read(signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCONT && !stopped)
			continue;
		/* What the kernel sends of itself comes from the terminal, and has gone to the whole process group. */
		if (command > 0 && info.ssi_code <= 0)
			kill(command, (int)info.ssi_signo);
	}
}

int vdso_front_wait(int control, bool *filter_refused)
{
	struct vdso_follower_message message;
	int signals, command = 0;
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(&set, passed_on[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		return -errno;

	for (;;) {
		struct pollfd wait[2] = {{.fd = control, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
		ssize_t size;

		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (wait[1].revents & POLLIN)
			pass_on(signals, command);
		if (wait[0].revents == 0)
			continue;
		size = recv(control, &message, sizeof(message), MSG_DONTWAIT);
		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (size != sizeof(message))
			return -ECONNRESET;
		if (message.what == 'P')
			command = message.value;
		else if (message.what == 'X' || message.what == 'F') {
			*filter_refused = message.what == 'F';
			return -message.value;
		}
		else if (message.what == 'S') {
			/* Whoever continues the process group continues us both. They may have done so already: then their SIGCONT
			 * is here, and has woken the command by the time it is passed on. */
			pass_on(signals, command);
			if (vdso_procfs_state(command) == 'T')
				raise(SIGSTOP);
		}
		else if (message.what == 'E')
			return message.value;
	}
}

_Noreturn void vdso_front_end(int status)
{
	if (WIFSIGNALED(status)) {
		struct rlimit none = {0, 0};
		sigset_t set;

		setrlimit(RLIMIT_CORE, &none);
		signal(WTERMSIG(status), SIG_DFL);
		sigemptyset(&set);
		sigaddset(&set, WTERMSIG(status));
		raise(WTERMSIG(status));
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		_exit(128 + WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}
