#include "claim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct claim {
	struct claim *next;
	uint64_t number;
	dev_t device;
	ino_t inode;
	char name[];
};

/*
 * The process's own, as its locks are, on a page that the kernel wipes in a forked child: the list is empty there, and the
 * mutex, which another thread may have had, is a new one.
 */
struct claims {
	pthread_mutex_t mutex;
	struct claim *first;
};

static struct claims *claims;
static int unavailable;
/* Goes on in a child, so that no claim of its own has the number of one that it has inherited. */
static uint64_t last;

static void prepare(void)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED || madvise(at, size, MADV_WIPEONFORK) != 0) {
		unavailable = -errno;
		return;
	}
	claims = at; /* zeroes are what PTHREAD_MUTEX_INITIALIZER is, in glibc and in musl */
}

static int enter(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, prepare);
	if (claims == NULL)
		return unavailable;
	pthread_mutex_lock(&claims->mutex);
	return 0;
}

static void leave(void)
{
	pthread_mutex_unlock(&claims->mutex);
}

static bool claimed(const struct stat *directory, const char *name)
{
	for (const struct claim *it = claims->first; it != NULL; it = it->next)
		if (it->device == directory->st_dev && it->inode == directory->st_ino && strcmp(it->name, name) == 0)
			return true;
	return false;
}

int vdso_claim(int directory_fd, const char *name, uint64_t *ret)
{
	size_t size = strlen(name) + 1;
	struct claim *made;
	struct stat st;
	int err;

	if (fstat(directory_fd, &st) != 0)
		return -errno;
	made = malloc(sizeof(*made) + size);
	if (made == NULL)
		return -ENOMEM;
	err = enter();
	if (err == 0) {
		if (claimed(&st, name)) {
			err = -EBUSY;
		} else {
			made->device = st.st_dev;
			made->inode = st.st_ino;
			memcpy(made->name, name, size);
			made->number = *ret = ++last;
			made->next = claims->first;
			claims->first = made;
		}
		leave();
	}
	if (err != 0)
		free(made);
	return err;
}

void vdso_unclaim(uint64_t claim)
{
	if (enter() != 0)
		return;
	for (struct claim **at = &claims->first; *at != NULL; at = &(*at)->next) {
		struct claim *found = *at;

		if (found->number == claim) {
			*at = found->next;
			free(found);
			break;
		}
	}
	leave();
}

int vdso_name_locked(int directory_fd, const char *name)
{
	struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	char file[256];
	struct stat st;
	int ret, fd;

	if ((size_t)snprintf(file, sizeof(file), ".%s.lock", name) >= sizeof(file))
		return -ENAMETOOLONG;
	if (fstat(directory_fd, &st) != 0)
		return -errno;
	ret = enter();
	if (ret != 0)
		return ret;
	if (claimed(&st, name)) {
		ret = 1;
	} else {
		/* Nobody here can claim the name, and lock the file, before it is closed again. */
		fd = openat(directory_fd, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		ret = fd < 0 || fcntl(fd, F_GETLK, &range) != 0 ? -errno : range.l_type != F_UNLCK;
		if (fd >= 0)
			close(fd);
	}
	leave();
	return ret;
}
