/* The one place that knows which architecture the image is built for. */
#if defined(__x86_64__)
#include "arch/x86_64.h"
#else
#error "no arch/ file for this architecture yet"
#endif
