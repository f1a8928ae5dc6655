// live FILE READS: as live.c, in Go, by cgo through the generated header.
package main

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "live.h"

static struct live_page page;
static const char *open_page(const char *path) { return live_open(&page, path); }
static int take(struct live *record, uint64_t *version) { return live_snapshot_from(&page, record, version); }
static double half(void) { return page.half(); }
static uint64_t version(void) { return page.version(); }
*/
import "C"

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"
)

func must(good bool, what string, number uint64) {
	if !good {
		fmt.Fprintln(os.Stderr, what, number)
		os.Exit(1)
	}
}

func main() {
	path := C.CString(os.Args[1])
	reads, _ := strconv.ParseUint(os.Args[2], 10, 64)
	if wrong := C.open_page(path); wrong != nil {
		fmt.Fprintln(os.Stderr, C.GoString(wrong))
		os.Exit(1)
	}
	C.free(unsafe.Pointer(path))
	var last, versions uint64
	for i := uint64(0); i < reads || versions < 100; i++ {
		var r C.struct_live
		var seen C.uint64_t
		answer := C.take(&r, &seen)
		if answer == C.VDSO_LAPPED {
			continue
		}
		n := uint64(seen)
		must(answer == C.VDSO_OK && uint64(r.seq) == n && n >= last, "answer", n)
		must(int64(r.neg) == -int64(n) && float64(r.half) == float64(n)/2, "a number", n)
		must(float32(r.third) == float32(n%4096)/4 && uint32(r.low) == uint32(n), "a number", n)
		must(uint8(r.byte) == uint8(n) && bool(r.odd) == (n%2 == 1), "a number", n)
		must(C.GoString(&r.venue[0]) == "v"+strconv.FormatUint(n%100000000000000, 10), "text", n)
		for _, b := range r.blob {
			must(uint8(b) == uint8(n), "bytes", n)
		}
		for k, d := range r.depth {
			must(float64(d) == float64(n)+float64(k), "array", n)
		}
		for k, l := range r.levels {
			must(float64(l.price) == float64(n)*float64(k+1) && uint32(l.count) == uint32(n)+uint32(k), "nested", n)
		}
		must(int16(r.origin.x) == int16(n) && int16(r.origin.y) == int16(^n), "nested", n)
		before := float64(C.version()) / 2
		half := float64(C.half())
		must(before <= half && half <= float64(C.version())/2, "a function", n)
		if n != last {
			versions++
		}
		last = n
	}
	fmt.Println(versions)
}
