/*
 * vdso-follower: started by `vdso run` and `vdso attach`, never by hand.
 *
 *   vdso-follower --control FD --image FD --clock FD --filter FLAGS [--life FD] [--counts FD] [--counter] [--strict]
 *                 [--direct PID | --attached PID --way FD] [-- COMMAND...]
 *
 * Without a command it leaves its parent at once and follows what the parent becomes. With one it starts it, and its parent
 * waits. With --attached it says that it waits, follows whoever sends the listener by --way, and ends if nobody does. It leaves
 * the message where it is: should we end over it, another one that has the same way can take it up.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "count.h"
#include "descriptor.h"
#include "filter.h"
#include "guard.h"
#include "procfs.h"
#include "space.h"

static bool parse(struct vdso_follower *f, int argc, char **argv, bool *counter, bool *strict, int *attached)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		int number = atoi(value);

		if (strcmp(argv[i], "--") == 0) {
			f->command = argv + i + 1;
			f->front = true;
			break;
		}
		if (strcmp(argv[i], "--counter") == 0) {
			*counter = true;
			continue;
		}
		if (strcmp(argv[i], "--strict") == 0) {
			*strict = true;
			continue;
		}
		i++;
		if (strcmp(argv[i - 1], "--control") == 0)
			f->control = number;
		else if (strcmp(argv[i - 1], "--image") == 0)
			f->image_fd = number;
		else if (strcmp(argv[i - 1], "--clock") == 0)
			f->clock_fd[0] = number;
		else if (strcmp(argv[i - 1], "--filter") == 0)
			f->filter = (unsigned)number;
		else if (strcmp(argv[i - 1], "--life") == 0)
			f->life = number;
		else if (strcmp(argv[i - 1], "--counts") == 0)
			f->counts_fd = number;
		else if (strcmp(argv[i - 1], "--direct") == 0)
			f->direct = number;
		else if (strcmp(argv[i - 1], "--attached") == 0)
			*attached = number;
		else if (strcmp(argv[i - 1], "--way") == 0)
			f->way = number;
		else
			return false;
	}
	return f->control > 0 && f->image_fd > 0 && f->clock_fd[0] > 0;
}

int main(int argc, char **argv)
{
	static struct vdso_follower follower = {
		.listener = -1, .image_fd = -1, .clock_fd = {-1}, .guard = -1, .control = -1, .way = -1, .release = -1,
		.life = -1, .counts_fd = -1, .watch.changed = -1};
	struct vdso_follower *f = &follower;
	bool counter = false, strict = false;
	int attached = 0, low;
	Elf64_Ehdr header;
	sigset_t terminal;
	struct vdso_space own;
	uint32_t no_new_privs = 0;
	struct stat st;

	/* Ctrl-C while we start is for the command line and the command; we end by their end. */
	sigemptyset(&terminal);
	sigaddset(&terminal, SIGINT);
	sigaddset(&terminal, SIGQUIT);
	sigaddset(&terminal, SIGTSTP);
	sigaddset(&terminal, SIGHUP);
	sigprocmask(SIG_BLOCK, &terminal, &f->mask);
	if (!parse(f, argc, argv, &counter, &strict, &attached)) {
		fprintf(stderr, "vdso-follower: for vdso's own use\n");
		return 2;
	}
	/* Where the caller has closed 0, 1 or 2, nothing of ours may take its place; closed again at a command's exec. */
	while ((low = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && low < 3)
		;
	if (low >= 3)
		close(low);
	fcntl(f->control, F_SETFD, FD_CLOEXEC);
	fcntl(f->way, F_SETFD, FD_CLOEXEC);
	fcntl(f->image_fd, F_SETFD, FD_CLOEXEC);
	fcntl(f->clock_fd[0], F_SETFD, FD_CLOEXEC);
	fcntl(f->life, F_SETFD, FD_CLOEXEC);
	fcntl(f->counts_fd, F_SETFD, FD_CLOEXEC);

	f->shared = mmap(NULL, sizeof(*f->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f->shared == MAP_FAILED || vdso_area_learn(&f->area) != 0 || fstat(f->clock_fd[0], &st) != 0 ||
	    pread(f->image_fd, &header, sizeof(header), 0) != sizeof(header))
		return 1;
	if (f->counts_fd >= 0 && (f->counts = vdso_counts_map(f->counts_fd)) == NULL)
		return 1;
	f->landing = header.e_entry;
	f->page_device = st.st_dev;
	f->shared->session[0] = (struct vdso_follower_session){.inode = st.st_ino, .counter = counter, .strict = strict};
	f->shared->sessions = 1;
	f->shared->attached = attached != 0;
	f->shared->command = attached;
	f->clock_fd[VDSO_ON_HOST] = -1;
	if (vdso_space_read_file("/proc/self/maps", &own) == 0 && own.image_end - own.image == f->area.image_size)
		f->kernel_image = (const uint8_t *)own.image;
	vdso_procfs_time_namespace(getpid(), f->time_namespace, sizeof(f->time_namespace));

	if (!f->front) {
		if (attached == 0 && fork() != 0) /* who attaches has left us already */
			_exit(0);
		vdso_command_leave(f, -1);
		if (f->filter & VDSO_FILTER_LISTENS) {
			if (attached != 0) /* whoever has gone by now may have sent it all the same */
				vdso_follower_tell(f, 'W', 0);
			f->listener = attached != 0 ? vdso_descriptor_receive(f->way, MSG_PEEK, &no_new_privs) :
						      vdso_descriptor_receive(f->control, 0, &no_new_privs);
			close(f->way);
			f->way = -1;
			if (f->listener < 0)
				return 1; /* the filter was refused, and the command line knows */
			f->no_new_privs = no_new_privs != 0;
		}
	}
	return vdso_guard_run(f);
}
