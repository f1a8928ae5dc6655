/* A session's clock page, written for a moment by one of its holders, between all others that do. */
#ifndef VDSO_CORE_WRITING_H
#define VDSO_CORE_WRITING_H

#include "page.h"

/* As the writer, by a description of its own: the descriptor may be for reading only. Waits for others. 0 or a negative
 * errno. */
int vdso_writing_open(int clock_fd, struct vdso_page *ret);

/* Starts a line that runs fast anew, before its nanoseconds leave 62 bits: due each VDSO_RENEW_S seconds (adjust.h). */
void vdso_writing_renew(int clock_fd);

#endif
