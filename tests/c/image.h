/* The built image in this process, over a page of the test's, and a keeper that can be killed. */
#ifndef VDSO_TESTS_IMAGE_H
#define VDSO_TESTS_IMAGE_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "local.h"
#include "transform.h"

struct image {
	struct vdso_local local;
	int page_fd;
	int (*clock_gettime)(int, struct timespec *);
	int (*gettimeofday)(struct timeval *, void *);
	int64_t (*time)(int64_t *);
};

static inline void fail(const char *what)
{
	printf("FAIL %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline void publish(int page_fd, const struct vdso_clock_record *record)
{
	struct vdso_page page;

	/* A descriptor of its own: closing the page closes it, and gives the writer's lock up. */
	if (vdso_page_open_writer(dup(page_fd), 0, &page) != 0 || vdso_page_publish(&page, record, false) != 0)
		fail("publish");
	vdso_page_close(&page);
}

/* Without a record the page is for a keeper to write first. */
static inline struct image map_image(const struct vdso_clock_record *record)
{
	struct vdso_page_shape shape = vdso_clock_shape();
	const char *path = getenv("VDSO_CLOCK_IMAGE");
	int image_fd = open(path != NULL ? path : "vdso-clock.so", O_RDONLY | O_CLOEXEC);
	struct image ret;

	if (image_fd < 0 || vdso_page_create_memfd("vdso-clock", &shape, &ret.page_fd) != 0)
		fail("VDSO_CLOCK_IMAGE");
	if (record != NULL)
		publish(ret.page_fd, record);
	if (vdso_local_map(image_fd, ret.page_fd, 0, &ret.local) != 0)
		fail("vdso_local_map");
	close(image_fd);
	ret.clock_gettime = (int (*)(int, struct timespec *))ret.local.function[VDSO_FN_CLOCK_GETTIME];
	ret.gettimeofday = (int (*)(struct timeval *, void *))ret.local.function[VDSO_FN_GETTIMEOFDAY];
	ret.time = (int64_t (*)(int64_t *))ret.local.function[VDSO_FN_TIME];
	return ret;
}

static inline void unmap_image(struct image *image)
{
	vdso_local_unmap(&image->local);
	close(image->page_fd);
}

static inline int64_t ns_of(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

static inline int64_t read_ns(const struct image *image, int id)
{
	struct timespec ts;

	if (image->clock_gettime(id, &ts) != 0)
		fail("clock_gettime");
	return ns_of(&ts);
}

static inline int64_t kernel_ns(int id)
{
	struct timespec ts;

	if (syscall(SYS_clock_gettime, id, &ts) != 0)
		fail("SYS_clock_gettime");
	return ns_of(&ts);
}

struct kept {
	pid_t pid;
	int life;
};

/* One that was killed may have had a successor, which ends when it sees that its life has: wait for it. */
static inline void wait_for_no_keeper(const struct image *image)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	for (int i = 0; i < 10000; i++) {
		lock.l_type = F_WRLCK;
		if (fcntl(image->page_fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK)
			return;
		usleep(1000);
	}
}

/* The package's own program, which stands beside the image in the build tree. It has published when this returns. */
static inline struct kept start_keeper(const struct image *image, int64_t sec, int64_t nsec)
{
	char path[4096], words[5][32], answer[256] = "";
	const char *beside = getenv("VDSO_CLOCK_IMAGE"), *slash = beside != NULL ? strrchr(beside, '/') : NULL;
	int life[2], ready[2];
	struct kept ret;
	size_t size = 0;
	ssize_t got;

	wait_for_no_keeper(image);
	if (pipe2(life, O_CLOEXEC) != 0 || pipe2(ready, O_CLOEXEC) != 0)
		fail("pipe");
	snprintf(path, sizeof(path), "%.*s/../core/vdso-keeper", slash != NULL ? (int)(slash - beside) : 1,
		 slash != NULL ? beside : ".");
	snprintf(words[0], sizeof(words[0]), "%d", image->page_fd);
	snprintf(words[1], sizeof(words[1]), "%lld", (long long)sec);
	snprintf(words[2], sizeof(words[2]), "%lld", (long long)nsec);
	snprintf(words[3], sizeof(words[3]), "%d", life[0]);
	snprintf(words[4], sizeof(words[4]), "%d", ready[1]);
	ret.pid = fork();
	if (ret.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fcntl(image->page_fd, F_SETFD, 0);
		fcntl(life[0], F_SETFD, 0);
		fcntl(ready[1], F_SETFD, 0);
		execl(path, "vdso-keeper", "--page", words[0], "--offset-sec", words[1], "--offset-nsec", words[2], "--life",
		      words[3], "--ready", words[4], (char *)NULL);
		_exit(127);
	}
	close(life[0]);
	close(ready[1]);
	while ((got = read(ready[0], answer + size, sizeof(answer) - 1 - size)) > 0)
		size += (size_t)got;
	close(ready[0]);
	if (strcmp(answer, "ok\n") != 0) {
		printf("FAIL keeper: %s\n", size > 0 ? answer : path);
		exit(1);
	}
	ret.life = life[1];
	return ret;
}

/* Waits for another writer of the page than this one; with `gone` 0 for any, with `wanted` false for none. */
static inline pid_t await_writer(const struct image *image, pid_t gone, bool wanted)
{
	for (unsigned i = 0; i < 100000; i++) {
		pid_t writer = vdso_page_holder(image->page_fd);

		if (writer >= 0 && writer != gone && (writer > 0) == wanted)
			return writer;
		sleep_ns(100000);
	}
	fail("await_writer");
	return -1;
}

/* Kills whoever keeps the page. Its standby succeeds it. */
static inline void kill_keeper(const struct image *image)
{
	pid_t writer = await_writer(image, 0, true);

	kill(writer, SIGKILL);
	await_writer(image, writer, true);
}

/* The same, and nobody is wanted any more. */
static inline void stop_keeper(const struct image *image, struct kept *keeper)
{
	int status;

	kill(await_writer(image, 0, true), SIGKILL);
	close(keeper->life);
	await_writer(image, -1, false);
	waitpid(keeper->pid, &status, 0);
}

#endif
