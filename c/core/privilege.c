#include "privilege.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_USER_NAMESPACE "user:[4026531837]" /* PROC_USER_INIT_INO of include/linux/proc_ns.h */

static int look(pid_t tid, uint64_t *effective, uint64_t *permitted)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, tid};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) != 0)
		return -errno;
	*effective = data[0].effective | (uint64_t)data[1].effective << 32;
	*permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return 0;
}

bool vdso_privilege_has(pid_t tid, int capability)
{
	uint64_t effective = 0, permitted = 0;

	return look(tid, &effective, &permitted) == 0 && (effective >> capability & 1) != 0;
}

bool vdso_privilege_sets_clock(pid_t tid)
{
	uint64_t effective = 0, permitted = 0;
	char path[48], space[64];
	ssize_t length;
	int error = look(tid, &effective, &permitted);

	if (error != 0)
		return error != -ESRCH;
	if (((effective | permitted) >> CAP_SYS_TIME & 1) == 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)tid);
	length = readlink(path, space, sizeof(space));
	return length < 0 ||
	       ((size_t)length == strlen(FIRST_USER_NAMESPACE) && memcmp(space, FIRST_USER_NAMESPACE, (size_t)length) == 0);
}
