#include "reading.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "argument.h"
#include "count.h"
#include "counter.h"
#include "memory.h"
#include "notification.h"
#include "page.h"
#include "procfs.h"
#include "sessions.h"
#include "source.h"
#include "transform.h"

bool vdso_reading_is(const struct seccomp_data *data)
{
	return data->arch == AUDIT_ARCH_X86_64 &&
	       (data->nr == SYS_clock_gettime || data->nr == SYS_gettimeofday || data->nr == SYS_time);
}

static int id_of(const struct seccomp_data *data)
{
	return data->nr == SYS_clock_gettime ? (int)data->args[0] :
	       data->nr == SYS_gettimeofday  ? VDSO_ID_REALTIME :
					       VDSO_ID_REALTIME_COARSE;
}

/* What the image would answer. 1: the clock is the kernel's, which may as well do it. */
static int look(const struct vdso_follower *f, uint32_t session, int id, struct vdso_time *ret)
{
	struct vdso_clock_record record;
	struct vdso_source source;
	struct vdso_page page;
	uint64_t version;
	int err;

	if (id < 0 || id >= (int)VDSO_CLOCK_IDS || vdso_page_open_reader(f->clock_fd[session], 0, &page) != 0)
		return 1;
	vdso_source_init(&source);
	do {
		err = vdso_page_get(&page, 0, &record, &version) == VDSO_PAGE_OK ? 0 : 1;
		if (err == 0)
			err = record.clock[id].kind == VDSO_KIND_JUMP ? 1 : source.clock(source.context, id, ret);
		/* The input belongs to the record only while that is the newest: clock.h says why. */
	} while (err == 0 && atomic_load_explicit(&page.header->head, memory_order_acquire) != version);
	if (err == 0)
		*ret = vdso_clock_evaluate(&record.clock[id], *ret, vdso_counter());
	vdso_page_close(&page);
	return err;
}

static int64_t give(const struct vdso_argument *memory, const struct seccomp_data *data, struct vdso_time now)
{
	int64_t pair[2] = {now.sec, (int64_t)now.nsec};
	int64_t err;

	switch (data->nr) {
	case SYS_clock_gettime:
		return vdso_argument_write(memory, data->args[1], pair, sizeof(pair));
	case SYS_gettimeofday: {
		struct timezone zone;

		pair[1] /= 1000;
		err = data->args[0] != 0 ? vdso_argument_write(memory, data->args[0], pair, sizeof(pair)) : 0;
		if (err == 0 && data->args[1] != 0) {
			gettimeofday(&(struct timeval){0}, &zone);
			err = vdso_argument_write(memory, data->args[1], &zone, sizeof(zone));
		}
		return err;
	}
	default:
		err = data->args[0] != 0 ? vdso_argument_write(memory, data->args[0], pair, sizeof(pair[0])) : 0;
		return err != 0 ? err : now.sec;
	}
}

/* Where a task that waits in a system call has made it: of its registers /proc says these two alone. */
static bool find_place(pid_t tid, uint64_t rip, struct vdso_count_sample *sample)
{
	char path[32], text[256];
	char *last;
	ssize_t size;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	size = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	if (fd >= 0)
		close(fd);
	text[size > 0 ? size : 0] = '\0';
	last = strrchr(text, ' '); /* rip; before it rsp */
	if (last == NULL)
		return false;
	*last = '\0';
	last = strrchr(text, ' ');
	if (last == NULL)
		return false;
	sample->rip = rip;
	sample->rsp = strtoull(last, NULL, 16);
	fd = vdso_memory_open(tid);
	size = fd >= 0 ? pread(fd, sample->stack, sizeof(sample->stack), (off_t)sample->rsp) : -1;
	if (fd >= 0)
		close(fd);
	sample->stack_size = size > 0 ? (uint32_t)size : 0;
	return true;
}

static void count(struct vdso_follower *f, const struct seccomp_notif *n)
{
	uint32_t slot = n->data.nr == SYS_clock_gettime ? vdso_counts_slot(id_of(&n->data)) :
			n->data.nr == SYS_gettimeofday  ? VDSO_COUNT_GETTIMEOFDAY :
							  VDSO_COUNT_TIME;
	struct vdso_count_sample sample;

	if (!vdso_counts_raw(f->counts, 0, (pid_t)n->pid, slot))
		vdso_counts_raw(f->counts, vdso_procfs_number((pid_t)n->pid, "Tgid:"), (pid_t)n->pid, slot);
	if (vdso_counts_raw_sampled(f->counts, (pid_t)n->pid, slot, &sample) &&
	    find_place((pid_t)n->pid, n->data.instruction_pointer, &sample)) {
		sample.clock = id_of(&n->data);
		if (vdso_notification_waits(f->listener, n->id)) /* it was that task, and no other that has its id now */
			vdso_counts_put_sample(f->counts, &sample);
	}
}

void vdso_reading_answer(struct vdso_follower *f, const struct seccomp_notif *n)
{
	struct vdso_argument memory;
	struct vdso_time now;
	int64_t ret;
	int err;

	if (f->counts != NULL) { /* on the host's clock, all of them */
		if (!vdso_counts_ended(f->counts))
			count(f, n);
		vdso_notification_go_on(f->listener, n->id);
		return;
	}
	err = look(f, vdso_sessions_of(f, (pid_t)n->pid), id_of(&n->data), &now);

	if (err == 0)
		err = vdso_argument_open((pid_t)n->pid, &memory);
	if (err != 0) {
		vdso_follower_warn_closed(f, (pid_t)n->pid, err);
		vdso_notification_go_on(f->listener, n->id);
		return;
	}
	ret = vdso_notification_waits(f->listener, n->id) ? give(&memory, &n->data, now) : -ENOENT;
	vdso_argument_close(&memory);
	/* Times before 1970 are negative, and no errors. */
	if (ret < 0 && n->data.nr == SYS_time && ret == now.sec)
		vdso_notification_answer(f->listener, n->id, ret, 0);
	else
		vdso_notification_answer(f->listener, n->id, ret < 0 ? 0 : ret, ret < 0 ? (int32_t)ret : 0);
}
