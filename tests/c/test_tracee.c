/*
 * The swap's order, given to a program that this test holds at its exec: with the kernel's pages as they are, sealed
 * (mseal), or gone (as under vdso=0), and with descriptors that are no good. Either the swap is whole, or the program
 * runs as if untouched, or it is not started.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image.h"
#include "tracee.h"

#define OFFSET_SEC 86400000
#define NR_MSEAL 462
#define EVENT_OF(status) ((unsigned)(status) >> 16)

enum { IMAGE_FD = 70, CLOCK_FD = 71, NO_FD = 72, WRONG_FD = 73 };

enum pages { AS_THEY_ARE, SEALED, GONE };

static const char *const pages_names[] = {"as they are", "sealed", "gone"};
static struct vdso_area area;
static uint64_t landing;
static char directory[2048];
static bool can_seal, may_set_auxv;

struct ending {
	int status;
	char text[1024];
};

static int wait_for(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, __WALL) != pid)
		fail("waitpid");
	return status;
}

/* One system call of a task that stands outside any. Its registers and code are as before. */
static long inject(pid_t pid, long number, uint64_t a, uint64_t b, uint64_t c)
{
	struct user_regs_struct before, regs;
	long word;

	if (ptrace(PTRACE_GETREGS, pid, 0L, &before) != 0)
		fail("PTRACE_GETREGS");
	regs = before;
	word = ptrace(PTRACE_PEEKTEXT, pid, before.rip, 0L);
	ptrace(PTRACE_POKETEXT, pid, before.rip, (word & ~0xffffl) | 0x050f);
	regs.rax = (unsigned long)number;
	regs.rdi = a;
	regs.rsi = b;
	regs.rdx = c;
	if (ptrace(PTRACE_SETREGS, pid, 0L, &regs) != 0 || ptrace(PTRACE_SINGLESTEP, pid, 0L, 0L) != 0)
		fail("PTRACE_SINGLESTEP");
	wait_for(pid);
	ptrace(PTRACE_GETREGS, pid, 0L, &regs);
	ptrace(PTRACE_POKETEXT, pid, before.rip, word);
	ptrace(PTRACE_SETREGS, pid, 0L, &before);
	return (long)regs.rax;
}

/* AT_SYSINFO_EHDR on the stack; 0 in *at where there is none. */
static uint64_t kernel_image_of(pid_t pid, uint64_t *at)
{
	struct user_regs_struct regs;
	uint64_t word;

	ptrace(PTRACE_GETREGS, pid, 0L, &regs);
	*at = regs.rsp + 8 * ((uint64_t)ptrace(PTRACE_PEEKDATA, pid, regs.rsp, 0L) + 2);
	while (ptrace(PTRACE_PEEKDATA, pid, *at, 0L) != 0)
		*at += 8;
	for (*at += 8; (word = (uint64_t)ptrace(PTRACE_PEEKDATA, pid, *at, 0L)) != AT_NULL; *at += 16)
		if (word == AT_SYSINFO_EHDR)
			return (uint64_t)ptrace(PTRACE_PEEKDATA, pid, *at + 8, 0L);
	*at = 0;
	return 0;
}

static void prepare_pages(pid_t pid, enum pages pages)
{
	uint64_t at, image = kernel_image_of(pid, &at);
	uint64_t first = image - area.before, size = area.before + area.image_size;
	long error = 0;

	if (pages == SEALED)
		error = inject(pid, NR_MSEAL, first, size, 0);
	if (pages == GONE) {
		error = inject(pid, SYS_munmap, first, size, 0);
		ptrace(PTRACE_POKEDATA, pid, at, (long)AT_IGNORE);
	}
	if (error != 0)
		check(false, "the pages could not be prepared: %s", strerror((int)-error));
}

static struct ending run(const char *program, enum pages pages, int image_fd, int clock_fd, bool strict)
{
	struct vdso_swap swap = {.landing = landing, .image_fd = image_fd, .clock_fd = clock_fd, .strict = strict};
	struct ending ret = {0};
	int out[2], go[2], status, error = 0;
	size_t size = 0;
	char path[4096], byte;
	ssize_t got;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s", directory, program);
	if (pipe2(out, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0)
		fail("pipe");
	pid = fork();
	if (pid == 0) {
		dup2(out[1], 1);
		close(go[1]);
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		for (int fd = IMAGE_FD; fd <= WRONG_FD; fd++)
			fcntl(fd, F_SETFD, 0);
		execl(path, program, "an argument", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	close(go[0]);
	if (vdso_tracee_seize(pid) != 0)
		fail("vdso_tracee_seize");
	if (write(go[1], "g", 1) != 1)
		fail("write");
	close(go[1]);
	status = wait_for(pid);
	if (EVENT_OF(status) != PTRACE_EVENT_EXEC)
		fail(path);
	if (pages != AS_THEY_ARE) { /* out of execve, where a call can be injected */
		ptrace(PTRACE_SYSCALL, pid, 0L, 0L);
		wait_for(pid);
		prepare_pages(pid, pages);
	}
	if (vdso_tracee_order(pid, &area, &swap, &error) != VDSO_SWAP_ORDERED)
		check(false, "%s, pages %s: no order: %s", program, pages_names[pages], strerror(-error));
	vdso_tracee_detach(pid, 0);
	while ((got = read(out[0], ret.text + size, sizeof(ret.text) - 1 - size)) > 0)
		size += (size_t)got;
	close(out[0]);
	ret.status = wait_for(pid);
	return ret;
}

static const char *outcome(const struct ending *e)
{
	long long real, day, seconds, mono, host = kernel_ns(CLOCK_REALTIME) / 1000000000;
	long long host_mono = kernel_ns(CLOCK_MONOTONIC) / 1000000000;
	char image[512], argument[64];
	int same, argc;

	if (WIFSIGNALED(e->status))
		return "crashed";
	if (WEXITSTATUS(e->status) == VDSO_STRICT_STATUS && e->text[0] == '\0')
		return "not started";
	if (WEXITSTATUS(e->status) != 7 || sscanf(e->text, "%lld %lld %lld %lld %500s %d %d %60[^\n]", &real, &day, &seconds, &mono,
						   image, &same, &argc, argument) != 8)
		return "said nothing";
	if (argc != 2 || strcmp(argument, "an argument") != 0 || host_mono - mono < 0 || host_mono - mono > 60)
		return "confused";
	if (host - real >= 0 && host - real < 60 && host - day < 60 && host - day >= 0 && host - seconds < 60 &&
	    strstr(image, "vdso-clock.so") == NULL)
		return "untouched";
	host += OFFSET_SEC;
	if (host - real >= 0 && host - real < 60 && host - day < 60 && host - day >= 0 && host - seconds < 60 &&
	    strstr(image, "vdso-clock.so") != NULL && (same || !may_set_auxv))
		return "swapped";
	return "half swapped";
}

static void expect(const char *program, enum pages pages, int image_fd, int clock_fd, bool strict, const char *expected)
{
	struct ending e = run(program, pages, image_fd, clock_fd, strict);
	const char *got = outcome(&e);

	check(strcmp(got, expected) == 0, "%s, pages %s, %s%s: %s%s%s", program, pages_names[pages],
	      image_fd != IMAGE_FD   ? "no image"
	      : clock_fd == NO_FD    ? "no clock page"
	      : clock_fd == WRONG_FD ? "another page"
				     : "all there",
	      strict ? ", strictly" : "", got, strcmp(got, expected) == 0 ? "" : ": ",
	      strcmp(got, expected) == 0 ? "" : e.text);
}

/* mseal came with Linux 6.10. */
static bool seals(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(syscall(NR_MSEAL, NULL, 0, 0) != 0 && errno == ENOSYS);
	status = wait_for(pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
	static const char *const programs[] = {"reading", "reading-static"};
	const char *path = getenv("VDSO_CLOCK_IMAGE");
	struct vdso_clock_record record;
	struct image image;
	Elf64_Ehdr header;
	int fd;

	(void)argc;
	snprintf(directory, sizeof(directory), "%s", argv[0]);
	*(strrchr(directory, '/') != NULL ? strrchr(directory, '/') : directory) = '\0';
	vdso_record_offset(&record, OFFSET_SEC, 1);
	image = map_image(&record);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header) || vdso_area_learn(&area) != 0)
		fail("vdso_area_learn");
	landing = header.e_entry;
	can_seal = seals();
	may_set_auxv = prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE, 0, 0, 0) == 1 && geteuid() == 0;
	if (!can_seal)
		printf("ok   this kernel has no mseal: nothing is sealed\n");
	dup3(fd, IMAGE_FD, O_CLOEXEC);
	dup3(vdso_page_reopen_readonly(image.page_fd), CLOCK_FD, O_CLOEXEC);
	fd = memfd_create("vdso-clock", MFD_CLOEXEC); /* large enough, and not a clock page */
	if (ftruncate(fd, VDSO_CLOCK_BYTES) != 0 || dup3(fd, WRONG_FD, O_CLOEXEC) < 0)
		fail("memfd_create");

	for (unsigned p = 0; p < 2; p++)
		for (enum pages pages = AS_THEY_ARE; pages <= GONE; pages++) {
			if (pages == SEALED && !can_seal)
				continue;
			expect(programs[p], pages, IMAGE_FD, CLOCK_FD, false, "swapped");
			expect(programs[p], pages, IMAGE_FD, CLOCK_FD, true, "swapped");
			expect(programs[p], pages, IMAGE_FD, NO_FD, false, "untouched");
			expect(programs[p], pages, IMAGE_FD, NO_FD, true, "not started");
			expect(programs[p], pages, IMAGE_FD, WRONG_FD, false, "untouched");
			expect(programs[p], pages, IMAGE_FD, WRONG_FD, true, "not started");
			/* Without a vDSO the bootstrap covers the program's own code, and only the image can put it back. */
			expect(programs[p], pages, NO_FD, CLOCK_FD, false, pages == GONE ? "not started" : "untouched");
			expect(programs[p], pages, NO_FD, CLOCK_FD, true, "not started");
		}
	unmap_image(&image);
	return check_done();
}
