"""`vdso dump`: an image's bytes, exactly, into a file or a pipe."""

import sys

from vdso.commands.output import write_file
from vdso.commands.parser import Parser
from vdso.errors import OutputRefused, UsageError

HELP = """\
usage: vdso dump [SOURCE] -o FILE [--image N]

Writes the bytes of a vDSO image: of a process exactly what is mapped, of a file exactly what it holds.

  SOURCE              nothing or self: this process; a PID; an ELF file; a core file; a kernel image
                      (vmlinuz, vmlinux)
  -o, --output FILE   where to; - is standard output. A file is written whole or not at all
  --image N           the Nth image of a file that holds several

example:
  vdso dump -o vdso.so && objdump -d vdso.so
  vdso dump /boot/vmlinuz --image 2 -o - | readelf -aW /dev/stdin

exit status:
  0; 1 where SOURCE cannot be read or holds no image, or FILE cannot be written; 2 usage
"""


def main(words: list[str]) -> int:
    """Writes the image and returns the exit status."""
    parser = Parser("dump", HELP)
    parser.add_argument("source", nargs="?")
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    parser.add_argument("--image", type=int, metavar="N")
    options = parser.read(words)
    if options is None:
        return 0
    if options.output == "-":
        if sys.__stdout__ is None:
            raise OutputRefused("standard output is closed")
        if sys.stdout.isatty():
            raise UsageError("an image is no text for a terminal", "-o FILE, or a pipe")
    from vdso.kernel import source as sources

    source = sources.read(options.source)
    image = sources.pick(source.images, options.image, source.name)
    if options.output == "-":
        sys.stdout.buffer.write(image.data)
        sys.stdout.buffer.flush()
    else:
        write_file(options.output, image.data)
    return 0
