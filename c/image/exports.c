/* What each image has beside the clocks: the architecture's own exports, and what tells it from the kernel's. */
#include "arch.h"

ARCH_EXPORTS;

/* Tells our image from the kernel's, to whoever wants to know before touching the pages in front of it. */
__asm__(".pushsection .note.vdso, \"a\", @note\n"
	"	.balign 4\n"
	"	.long 2f - 1f, 4f - 3f, 1\n"
	"1:	.asciz \"vdso-project\"\n"
	"2:	.balign 4\n"
	"3:	.long 1\n"
	"4:	.balign 4\n"
	".popsection\n");
