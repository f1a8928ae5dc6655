/* What differs between architectures. A new one is a header beside x86_64.h with the same functions, and an encoder of
 * trampolines in src/vdso/pages/trampolines.py; arm64's place is arch/aarch64.h. */
#ifndef VDSO_READER_ARCH_H
#define VDSO_READER_ARCH_H

#if defined(__x86_64__)
#include "arch/x86_64.h"
#else
#error "no reader code for this architecture: c/reader/arch"
#endif

#endif
