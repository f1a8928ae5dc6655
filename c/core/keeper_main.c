/*
 * vdso-keeper --page FD --offset-sec N --offset-nsec N --life FD --ready FD
 *
 * Keeps the clock page that is open (for writing) at one descriptor until another says that nobody is left. Says "ok", or in
 * one line why not, on the third. Exits 0 when it is no longer needed, 2 when it was called wrongly, 3 when the counter
 * cannot be trusted, 1 when anything else is in the way.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "background.h"
#include "counter.h"
#include "descriptor.h"
#include "keeper.h"

enum { OK = 0, FAILED = 1, USAGE = 2, UNTRUSTED = 3 };

/* All descriptors that the keeper has of its caller's, moved to 3, 4 and 5. */
enum { PAGE = 3, LIFE = 4, READY = 5, AFTER = 6 };

struct options {
	int page, life, ready;
	int64_t sec, nsec;
};

static bool number(const char *text, int64_t low, int64_t high, int64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoll(text, &end, 10);
	return errno == 0 && *text != '\0' && *end == '\0' && *ret >= low && *ret <= high;
}

static bool parse(int argc, char **argv, struct options *ret)
{
	static const struct option known[] = {
		{"page", required_argument, NULL, 'p'},       {"offset-sec", required_argument, NULL, 's'},
		{"offset-nsec", required_argument, NULL, 'n'}, {"life", required_argument, NULL, 'l'},
		{"ready", required_argument, NULL, 'r'},       {0},
	};
	int option;

	opterr = 0;
	*ret = (struct options){.page = -1, .life = -1, .ready = -1};
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		bool is_fd = option == 'p' || option == 'l' || option == 'r';
		int64_t value;

		if (option == '?' || !number(optarg, is_fd ? 0 : INT64_MIN, is_fd ? INT32_MAX : INT64_MAX, &value))
			return false;
		switch (option) {
		case 'p': ret->page = (int)value; break;
		case 's': ret->sec = value; break;
		case 'n': ret->nsec = value; break;
		case 'l': ret->life = (int)value; break;
		case 'r': ret->ready = (int)value; break;
		}
	}
	return optind == argc && ret->page >= 0 && ret->life >= 0 && ret->ready >= 0;
}

static void say(const char *line)
{
	/* Nobody may be listening any more. */
	ssize_t written = write(READY, line, strlen(line));

	if (written >= 0)
		written = write(READY, "\n", 1);
	(void)written;
	close(READY);
}

static int start(struct vdso_keeper *keeper, struct vdso_source *source, struct vdso_page *page, const struct options *o,
		 char *reason, size_t size)
{
	struct vdso_counter_trust trust;
	int err = vdso_page_open_writer(PAGE, 0, page);

	if (err == -EBUSY) {
		snprintf(reason, size, "the page has a keeper already: process %d", (int)vdso_page_holder(PAGE));
		return FAILED;
	}
	if (err == 0 && (page->header->record_size != sizeof(struct vdso_clock_record) ||
			 page->header->schema_hash != VDSO_CLOCK_SCHEMA))
		err = -EBADMSG;
	if (err != 0) {
		snprintf(reason, size, "the clock page cannot be written: %s", strerror(-err));
		return FAILED;
	}
	vdso_source_init(source);
	err = vdso_source_watch(source);
	if (err != 0) {
		snprintf(reason, size, "no timer can be had: %s", strerror(-err));
		return FAILED;
	}
	vdso_keeper_init(keeper, source, page, o->sec, o->nsec);
	err = vdso_keeper_prepare(keeper);
	if (err == 0) {
		/* While the clocks run on towards the second look. */
		vdso_counter_trust(&trust);
		if (!trust.trusted) {
			snprintf(reason, size, "%s", trust.reason);
			return UNTRUSTED;
		}
		err = vdso_keeper_start(keeper);
	}
	if (err != 0) {
		snprintf(reason, size, "%s", keeper->reason[0] != '\0' ? keeper->reason : strerror(-err));
		return UNTRUSTED;
	}
	return OK;
}

/*
 * Forks a process that does nothing but wait, and takes the keeper's place should it be killed. Returns false in the keeper,
 * and true in its successor; the successor of a keeper that has ended in order is not needed.
 */
static bool stand_by(void)
{
	/* Before there are two: the keeper may be killed, and gone, before the other has run. */
	struct pollfd wait[2] = {{.fd = LIFE, .events = POLLIN},
				 {.fd = (int)syscall(SYS_pidfd_open, getpid(), 0), .events = POLLIN}};

	if (wait[1].fd < 0)
		return false;
	if (fork() != 0) {
		close(wait[1].fd);
		return false;
	}
	prctl(PR_SET_NAME, "vdso-standby");
	close(READY); /* the keeper's to answer */
	while (wait[1].revents == 0) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (vdso_keeper_unwanted(&wait[0]))
			_exit(0);
	}
	close(wait[1].fd);
	prctl(PR_SET_NAME, "vdso-keeper");
	return true;
}

int main(int argc, char **argv)
{
	struct vdso_source source = {.step_fd = -1};
	struct vdso_page page = {.fd = -1};
	struct vdso_keeper keeper;
	struct options options;
	char reason[192];
	bool successor = false;
	int status;

	if (!parse(argc, argv, &options) ||
	    !vdso_descriptor_keep((const int[]){options.page, options.life, options.ready}, AFTER - PAGE))
		return USAGE;
	vdso_background("vdso-keeper");
	for (;;) {
		status = start(&keeper, &source, &page, &options, reason, sizeof(reason));
		if (status != OK) {
			if (!successor)
				say(reason);
			break;
		}
		if (!stand_by()) {
			if (!successor)
				say("ok");
			vdso_keeper_run(&keeper, LIFE);
			break;
		}
		successor = true;
		/* The page's mapping is not ours, and its lock has gone with our predecessor. */
		vdso_source_deinit(&source);
	}
	vdso_page_close(&page);
	vdso_source_deinit(&source);
	return status;
}
