#include "vsyscall.h"

#include <stdio.h>
#include <string.h>

bool vdso_vsyscall_line(const char *line)
{
	unsigned long start;
	char execute;
	int name = 0;

	/* address perms offset device inode name */
	if (sscanf(line, "%lx-%*x %*c%*c%c%*c %*x %*s %*u %n", &start, &execute, &name) != 2 || name == 0)
		return false;
	return start == VDSO_VSYSCALL_ADDRESS && execute == 'x' && strcspn(line + name, "\n") == strlen("[vsyscall]") &&
	       strncmp(line + name, "[vsyscall]", strlen("[vsyscall]")) == 0;
}
