#!/bin/sh
# Builds the clock image, or with `counting` the one that counts its calls: build.sh CC SOURCE_DIR INCLUDE_DIR OUT [counting]
#
# Its flags are its own: an environment's -fstack-protector, -fcf-protection=full, -z now or sanitizer would put calls,
# thread-local accesses or relocations into code that has nobody to serve them.
set -eu
cc=$1 source=$2 include=$3 out=$4 counting=${5:+-DVDSO_COUNTING}
unset CFLAGS CPPFLAGS LDFLAGS
# These reach the compiler and the linker by themselves: LD_RUN_PATH alone adds a DT_RUNPATH.
unset CPATH C_INCLUDE_PATH LD_RUN_PATH LDEMULATION
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # FILE FLAG...
	file=$1
	shift
	"$cc" -std=c11 -O2 -ffreestanding -fno-builtin -fno-stack-protector -mgeneral-regs-only -fcf-protection=branch \
		-fPIC -fvisibility=hidden -fno-jump-tables -fno-tree-loop-distribute-patterns -fno-lto -falign-functions=32 -fasynchronous-unwind-tables -Wall -Wextra -Werror \
		-Wframe-larger-than=255 $counting -I"$source" -I"$include" "$@" -c "$source/$file.c" -o "$work/$file.o"
}
if [ -n "$counting" ]; then
	"$cc" -I"$source" -I"$include" -c "$source/arch/x86_64_counting.S" -o "$work/clock.o"
	compile count -Os
	clocks="$work/clock.o $work/count.o"
else
	compile clock
	clocks="$work/clock.o"
fi
compile exports -Os
compile syscalls -Os -falign-functions=1
# In the annex, which has one page; it may stand anywhere, and nobody finds what its unwind information would say.
compile landing -Os -falign-functions=1 -fno-asynchronous-unwind-tables
compile wait -Os -falign-functions=1 -fno-asynchronous-unwind-tables
if nm --undefined-only "$work/wait.o" | grep .; then
	echo "build.sh: the code above is in the annex, from where it does not reach the image" >&2
	exit 1
fi

"$cc" -E -P -x c -I"$source" -I"$include" "$source/image.lds" -o "$work/image.lds"
# shellcheck disable=SC2086 # $clocks may be two words
"$cc" -nostdlib -shared -fno-lto $clocks "$work/exports.o" "$work/syscalls.o" "$work/wait.o" "$work/landing.o" -Wl,-T,"$work/image.lds" \
	-Wl,--hash-style=both -Wl,-Bsymbolic -Wl,-soname,linux-vdso.so.1 -Wl,--build-id=sha1 -Wl,--no-undefined \
	-Wl,-z,noexecstack,-z,max-page-size=4096,-z,norelro -Wl,--eh-frame-hdr -o "$work/image.so" 2>"$work/said" ||
	{ cat "$work/said" >&2; exit 1; }
# That the annex is in no segment is what is meant.
grep -v -e "section \`.annex' not in segment" -e "section \`.got.plt' not in segment" "$work/said" >&2 || true

# It stands in the file's third page, which is no part of the image: no segment, no section.
objcopy -O binary --only-section=.annex "$work/image.so" "$work/annex.bin"
objcopy --remove-section=.annex --remove-section=.got.plt "$work/image.so"

# A debugger that finds a .symtab looks at no .dynsym, so the exports are in both, once: a frame has one name.
objcopy --wildcard --strip-symbol='clock_*' --strip-symbol='get*' --strip-symbol=time --strip-symbol='vdso_pages' \
	--strip-symbol='vdso_process' --strip-symbol='vdso_private' --strip-symbol='vdso_landing' --strip-symbol='vdso_wait_step' \
	--strip-symbol='vdso_waited' --strip-symbol='vdso_wait_end' --strip-symbol='LINUX_*' \
	--strip-symbol='__GNU*' --strip-symbol='*.c' --strip-symbol=_DYNAMIC "$work/image.so"

# The section headers and symbols, which follow the segment, are for debuggers that read them from memory: they have to
# lie within the pages that are mapped. The rest of the second page is zeros.
size=$(wc -c <"$work/image.so")
if [ "$size" -gt 8192 ]; then # a compiler that is less terse: do without the names of the image's own functions
	objcopy --strip-all "$work/image.so"
	size=$(wc -c <"$work/image.so")
fi
if [ "$size" -gt 8192 ]; then
	echo "build.sh: the image is $size bytes, and 8192 are its place" >&2
	exit 1
fi
pad() { # FILE BYTES
	dd if=/dev/zero bs=1 count=$(($2 - $(wc -c <"$1"))) 2>/dev/null >>"$1"
}
pad "$work/image.so" 8192
pad "$work/annex.bin" 4096
cat "$work/annex.bin" >>"$work/image.so"
mv "$work/image.so" "$out"
