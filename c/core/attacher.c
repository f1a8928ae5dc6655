#include "attacher.h"

#include <string.h>
#include <sys/prctl.h>

#include "procfs.h"

#define SEIZES "vdso-attach"
#define HAS_INTERRUPTED "vdso-attach:all" /* as long as a name may be */
#define FOLLOWER "vdso-follower"

void vdso_attacher_seizes(void)
{
	prctl(PR_SET_NAME, SEIZES);
}

void vdso_attacher_has_interrupted(void)
{
	prctl(PR_SET_NAME, HAS_INTERRUPTED);
}

static bool tracer_name(pid_t tid, char *ret, size_t size)
{
	int tracer = vdso_procfs_number(tid, "TracerPid:");

	if (tracer <= 0)
		return false;
	vdso_procfs_name(tracer, ret, size);
	return true;
}

enum vdso_attacher vdso_attacher_of(pid_t tid)
{
	char name[32];

	/* The task is seized by then: had it been after the name was read, that name would be the earlier one. */
	if (!tracer_name(tid, name, sizeof(name)))
		return VDSO_ATTACHER_NONE;
	return strcmp(name, HAS_INTERRUPTED) == 0 ? VDSO_ATTACHER_HOLDS :
	       strcmp(name, SEIZES) == 0	  ? VDSO_ATTACHER_SEIZES :
						    VDSO_ATTACHER_NONE;
}

bool vdso_attacher_follower_of(pid_t tid)
{
	char name[32];

	return tracer_name(tid, name, sizeof(name)) && strcmp(name, FOLLOWER) == 0;
}
