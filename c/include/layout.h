/* Where the pages stand: [clock page, 2 pages][process page][image, 2 pages]. Read by C and by the linker script. */
#ifndef VDSO_LAYOUT_H
#define VDSO_LAYOUT_H

#define VDSO_PAGE_BYTES 4096
#define VDSO_CLOCK_BYTES 8192
#define VDSO_DATA_BYTES 12288 /* the clock page and the process page */
#define VDSO_IMAGE_BYTES 8192 /* what every x86-64 kernel since 3.16 gives its own */

/*
 * The image's file has a third page, the annex, for code that there is no need to have in the image: it stands wherever there
 * is a place for it. It begins with struct vdso_annex (process.h).
 */
#define VDSO_ANNEX_BYTES 4096
#define VDSO_FILE_BYTES 12288

#endif
