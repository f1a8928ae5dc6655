#!/bin/sh
# Builds the reader code of live libraries: build.sh CC SOURCE_DIR INCLUDE_DIR OUT
#
# The result is an ELF file with two sections, the code and its unwind information, and a symbol a function; library.py
# copies them into each live library. Its flags are its own: an environment's -fstack-protector, sanitizer or -flto would
# put calls, thread-local accesses or relocations into code that has nobody to serve them.
set -eu
cc=$1 source=$2 include=$3 out=$4
unset CFLAGS CPPFLAGS LDFLAGS
unset CPATH C_INCLUDE_PATH LD_RUN_PATH LDEMULATION
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$cc" -std=c11 -O2 -ffreestanding -fno-builtin -fno-stack-protector -fcf-protection=branch -fPIC -fvisibility=hidden \
	-fno-jump-tables -fno-tree-loop-distribute-patterns -fno-reorder-blocks-and-partition -fno-lto -falign-functions=32 \
	-fasynchronous-unwind-tables -Wall -Wextra -Werror -I"$source" -I"$include" -c "$source/reader.c" -o "$work/reader.o"

link() { # BASE FILE
	"$cc" -nostdlib -static -no-pie -fno-lto "$work/reader.o" -Wl,-T,"$source/reader.lds" -Wl,--defsym=BASE="$1" -Wl,-e,0 \
		-Wl,--build-id=none -Wl,--no-undefined -Wl,-z,noexecstack,-z,norelro -o "$work/$2"
}
link 0x10000 reader.elf
# Linked elsewhere it is the same: nothing in it depends on where it stands.
link 0x7fff0000 elsewhere.elf
for file in reader elsewhere; do
	objcopy -O binary "$work/$file.elf" "$work/$file.bin"
done
if ! cmp "$work/reader.bin" "$work/elsewhere.bin" >&2; then
	echo "build.sh: the reader code has addresses in it" >&2
	exit 1
fi
chmod 644 "$work/reader.elf"
mv "$work/reader.elf" "$out"
