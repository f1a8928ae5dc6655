#include "procfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static FILE *open_file(pid_t tid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, name);
	return fopen(path, "re");
}

int vdso_procfs_number(pid_t tid, const char *key)
{
	FILE *file = open_file(tid, "status");
	size_t length = strlen(key);
	char line[256];
	int number = 0;

	if (file == NULL)
		return 0;
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, key, length) == 0) {
			sscanf(line + length, "%d", &number);
			break;
		}
	fclose(file);
	return number;
}

char vdso_procfs_state(pid_t tid)
{
	FILE *file = open_file(tid, "status");
	char line[256], state = 0;

	while (file != NULL && state == 0 && fgets(line, sizeof(line), file) != NULL)
		sscanf(line, "State: %c", &state);
	if (file != NULL)
		fclose(file);
	return state;
}

bool vdso_procfs_signal_waits(pid_t tid, int signal, bool shared)
{
	FILE *file = open_file(tid, "status");
	unsigned long long waits = 0;
	char line[256];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		sscanf(line, shared ? "ShdPnd: %llx" : "SigPnd: %llx", &waits);
	if (file != NULL)
		fclose(file);
	return signal > 0 && signal <= 64 && (waits >> (signal - 1) & 1) != 0;
}

bool vdso_procfs_has_ended(pid_t tid)
{
	char state = vdso_procfs_state(tid);

	return state == 'Z' || state == 'X' || state == 0;
}

pid_t vdso_procfs_living(pid_t program)
{
	struct dirent *entry;
	pid_t tid, ret = 0;
	char path[32];
	DIR *dir;

	if (!vdso_procfs_has_ended(program))
		return program;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)program);
	dir = opendir(path);
	while (dir != NULL && ret == 0 && (entry = readdir(dir)) != NULL) {
		tid = atoi(entry->d_name);
		if (tid > 0 && !vdso_procfs_has_ended(tid))
			ret = tid;
	}
	if (dir != NULL)
		closedir(dir);
	return ret;
}

pid_t vdso_procfs_parent(pid_t tid)
{
	return vdso_procfs_number(tid, "PPid:");
}

void vdso_procfs_name(pid_t tid, char *ret, size_t size)
{
	FILE *file = open_file(tid, "comm");

	snprintf(ret, size, "a program");
	if (file == NULL)
		return;
	if (fgets(ret, (int)size, file) != NULL)
		ret[strcspn(ret, "\n")] = '\0';
	fclose(file);
}

/* What follows the name in a task's stat: the name may hold anything. NULL if it is gone. */
static const char *read_stat(pid_t tid, char *line, size_t size)
{
	FILE *file = open_file(tid, "stat");
	char *after = NULL;

	if (file == NULL)
		return NULL;
	if (fgets(line, (int)size, file) != NULL)
		after = strrchr(line, ')');
	fclose(file);
	return after != NULL ? after + 1 : NULL;
}

uint64_t vdso_procfs_start(pid_t pid)
{
	char line[1024];
	const char *after = read_stat(pid, line, sizeof(line));
	unsigned long long start = 0;

	if (after != NULL)
		sscanf(after, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &start);
	return start;
}

unsigned vdso_procfs_flags(pid_t tid)
{
	char line[1024];
	const char *after = read_stat(tid, line, sizeof(line));
	unsigned flags = 0;

	if (after != NULL)
		sscanf(after, "%*s %*s %*s %*s %*s %*s %u", &flags);
	return flags;
}

bool vdso_procfs_setuid(pid_t tid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)tid);
	return stat(path, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) != 0;
}

void vdso_procfs_time_namespace(pid_t tid, char *ret, size_t size)
{
	char path[64];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%d/ns/time", (int)tid);
	length = readlink(path, ret, size - 1);
	ret[length > 0 ? length : 0] = '\0';
}

int vdso_procfs_find_fd(pid_t tid, dev_t device, ino_t inode)
{
	struct dirent *entry;
	int found = -1;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)tid);
	dir = opendir(path);
	while (dir != NULL && found < 0 && (entry = readdir(dir)) != NULL) {
		int fd = atoi(entry->d_name), flags = 0;
		struct stat st;
		char line[128], name[24];
		FILE *info;

		if (fstatat(dirfd(dir), entry->d_name, &st, 0) != 0 || st.st_dev != device || st.st_ino != inode)
			continue;
		snprintf(name, sizeof(name), "fdinfo/%d", fd);
		info = open_file(tid, name);
		while (info != NULL && fgets(line, sizeof(line), info) != NULL)
			sscanf(line, "flags: %o", (unsigned *)&flags);
		if (info != NULL)
			fclose(info);
		if ((flags & O_CLOEXEC) != 0)
			found = fd;
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

int vdso_procfs_open_fd(pid_t tid, int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tid, fd);
	return open(path, flags | O_CLOEXEC);
}
