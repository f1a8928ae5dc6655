#include "watch.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NR_FUTEX_WAITV 449 /* Linux 5.16 */
#define SIZE_U32 2u        /* FUTEX2_SIZE_U32; without FUTEX2_PRIVATE, since other processes wake */
#define STACK_BYTES 65536
#define SPARE_DESCRIPTORS 8u

/* Before Linux 5.16 one futex is waited for, and the others are looked at as often. */
#define OLD_LOOK_S 1

struct waiter { /* struct futex_waitv, which older headers lack */
	uint64_t value, address;
	uint32_t flags, reserved;
};

/* Acquire, as a reader of the page: whoever is told of this head finds its record. */
static uint32_t head_of(const struct vdso_page *page)
{
	return (uint32_t)atomic_load_explicit(&page->header->head, memory_order_acquire);
}

/* Whom to wait for; every word that is not what it was when it was last looked at says so once. */
static unsigned look(struct vdso_watch *w, struct waiter *ret)
{
	unsigned count = 1;
	bool changed = false;

	pthread_mutex_lock(&w->lock);
	ret[0] = (struct waiter){
		.value = atomic_load_explicit(&w->order, memory_order_relaxed), .address = (uint64_t)&w->order, .flags = SIZE_U32};
	for (unsigned i = 0; i < VDSO_WATCH_PAGES; i++) {
		uint32_t now;

		if (!w->open[i])
			continue;
		now = head_of(&w->page[i]);
		changed |= now != w->seen[i];
		w->seen[i] = now;
		ret[count++] =
			(struct waiter){.value = now, .address = (uint64_t)vdso_page_word(&w->page[i]), .flags = SIZE_U32};
	}
	pthread_mutex_unlock(&w->lock);
	if (changed)
		eventfd_write(w->changed, 1);
	return count;
}

static void *run(void *arg)
{
	const struct timespec old_look = {.tv_sec = OLD_LOOK_S};
	struct waiter waiter[VDSO_WATCH_PAGES + 1];
	struct vdso_watch *w = arg;
	bool old = false;

	while (!atomic_load_explicit(&w->end, memory_order_acquire)) {
		unsigned count = look(w, waiter);

		/* A page that is unmapped meanwhile is EFAULT, and looked for anew. */
		bool waited = !old && (syscall(NR_FUTEX_WAITV, waiter, count, 0, NULL, 0) >= 0 || errno == EAGAIN ||
				       errno == EFAULT || errno == EINTR);

		old |= !waited && errno == ENOSYS;
		if (!waited)
			syscall(SYS_futex, waiter[count - 1].address, FUTEX_WAIT, (uint32_t)waiter[count - 1].value, &old_look,
				NULL, 0);
	}
	return NULL;
}

static void kick(struct vdso_watch *w)
{
	atomic_fetch_add_explicit(&w->order, 1, memory_order_release);
	syscall(SYS_futex, &w->order, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

int vdso_watch_start(struct vdso_watch *w)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	struct rlimit limit;
	int error;

	pthread_mutex_init(&w->lock, NULL);
	atomic_store_explicit(&w->end, false, memory_order_relaxed);
	w->changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->changed < 0)
		return -errno;
	/* Where descriptors are so few that it would be the last, what its caller needs them for comes first. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)w->changed + SPARE_DESCRIPTORS >= limit.rlim_cur) {
		close(w->changed);
		w->changed = -1;
		return -EMFILE;
	}
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	/* Signals are its creator's. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	error = pthread_create(&w->thread, &attributes, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error != 0) {
		close(w->changed);
		w->changed = -1;
	}
	w->running = error == 0;
	return -error;
}

void vdso_watch_stop(struct vdso_watch *w)
{
	if (!w->running)
		return;
	atomic_store_explicit(&w->end, true, memory_order_release);
	kick(w);
	pthread_join(w->thread, NULL);
	for (unsigned i = 0; i < VDSO_WATCH_PAGES; i++)
		if (w->open[i])
			vdso_page_close(&w->page[i]);
	memset(w->open, 0, sizeof(w->open));
	close(w->changed);
	w->changed = -1;
	w->running = false;
}

int vdso_watch_page(struct vdso_watch *w, uint32_t index, int fd)
{
	struct vdso_page page, old = {0};
	int error = vdso_page_open_reader(fd, 0, &page);
	bool had;

	if (error != 0)
		return error;
	pthread_mutex_lock(&w->lock);
	had = w->open[index];
	old = w->page[index];
	w->page[index] = page;
	w->open[index] = true;
	/* As if it had just been changed: whoever asks for it to be watched has not looked at it since. */
	w->seen[index] = head_of(&page) - 1;
	pthread_mutex_unlock(&w->lock);
	if (had)
		vdso_page_close(&old);
	kick(w);
	return 0;
}

void vdso_watch_forget(struct vdso_watch *w, uint32_t index)
{
	struct vdso_page old;
	bool had;

	if (!w->running)
		return;
	pthread_mutex_lock(&w->lock);
	had = w->open[index];
	old = w->page[index];
	w->open[index] = false;
	pthread_mutex_unlock(&w->lock);
	if (had)
		vdso_page_close(&old);
	kick(w);
}

bool vdso_watch_take(struct vdso_watch *w)
{
	eventfd_t count;

	return w->changed >= 0 && eventfd_read(w->changed, &count) == 0;
}
