/* Which line of /proc/PID/maps is the vsyscall page. */
#include "vsyscall.h"

#include "check.h"

static void wants(bool wanted, const char *line)
{
	check(vdso_vsyscall_line(line) == wanted, "%s: %.*s", wanted ? "is the page" : "is not", (int)strcspn(line, "\n"), line);
}

int main(void)
{
	wants(true, "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n");
	wants(true, "ffffffffff600000-ffffffffff601000 r-xp 00000000 00:00 0                  [vsyscall]\n");
	wants(false, "ffffffffff600000-ffffffffff601000 r--p 00000000 00:00 0                  [vsyscall]\n");
	/* Names that only have the word in them, or all of it. */
	wants(false, "7f0000000000-7f0000001000 r-xp 00000000 08:01 42                  /tmp/[vsyscall]\n");
	wants(false, "7f0000000000-7f0000001000 r-xp 00000000 08:01 42                  /tmp/a [vsyscall]\n");
	wants(false, "7f0000000000-7f0000001000 r-xp 00000000 08:01 42                  [vsyscall]\n");
	wants(false, "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall].\n");
	wants(false, "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0\n");
	wants(false, "[vsyscall]\n");
	wants(false, "");
	return check_done();
}
