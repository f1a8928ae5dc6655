/* What a program does that works on when whoever started it has gone. */
#ifndef VDSO_CORE_BACKGROUND_H
#define VDSO_CORE_BACKGROUND_H

/* Out of the way of the terminal's signals, of unmounting, and of the eye, under that name. */
void vdso_background(const char *name);

#endif
