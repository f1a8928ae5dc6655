"""`vdso look`: the vDSO of a process, or the images in a file, in full.

Prints; vdso.measure.look finds out.
"""

import sys

from vdso.commands.output import bold, print_json
from vdso.commands.parser import Parser
from vdso.errors import shown
from vdso.kernel.image import Function, Image
from vdso.measure import routes
from vdso.measure.look import KERNEL_NAME, Look, look_at_file, look_at_process
from vdso.measure.placement import Placement

HELP = """\
usage: vdso look [SOURCE] [--image N] [--json]

Shows the vDSO image: where it is, what it says of itself, its functions, the data pages before it, the
vsyscall page, which way the C library takes to each clock, and whether ASLR moves it.

  SOURCE       nothing or self: this process; a PID; an ELF file; a core file; a kernel image (vmlinuz,
               vmlinux)
  --image N    only the Nth image of a file that holds several
  --json       for programs; docs/look.md has the fields

The C library's routes are observed: children make each call, and what reaches the kernel or the vDSO is
seen. ASLR is measured over 200 executions of a small program.

example:
  vdso look
  vdso look $(pidof nginx | cut -d' ' -f1)
  vdso look /boot/vmlinuz --json | jq '.images[].functions[].name'

exit status:
  0; 1 where SOURCE cannot be read or holds no image; 2 usage
"""

LABEL_COLUMNS = 15


def main(words: list[str]) -> int:
    """Looks, prints, and returns the exit status."""
    parser = Parser("look", HELP)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--image", type=int, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.read(words)
    if options is None:
        return 0
    found = look(options.source, options.image)
    if options.json:
        print_json(found)
    else:
        sys.stdout.write("\n".join(lines(found)) + "\n")
    return 0


def look(source: str | None, number: int | None) -> Look:
    """What SOURCE has. Raises SourceError."""
    from vdso.kernel import process
    from vdso.kernel import source as sources

    if source is None or source == sources.SELF or sources.is_pid(source):
        pid = None if source is None or source == sources.SELF else int(source)
        if number is not None:
            sources.pick((sources.from_process(pid),), number, process.named(pid))
        return look_at_process(pid)
    return look_at_file(sources.read_file(source), number)


# ---- what people read ----


def lines(found: Look) -> list[str]:
    """The whole text, a line each."""
    text: list[str] = []
    for number, image in enumerate(found.images, 1):
        title = found.source if len(found.images) == 1 else f"{found.source}, image {number}"
        text += [*([""] if text else []), bold(title), *image_lines(image, found)]
    if found.pages is not None:
        text += page_lines(found)
    if found.routes is not None:
        text += ["", bold(f"{found.routes.library}: where each call goes, observed in children")]
        width = max(len(route.label) for route in found.routes.calls)
        for route in found.routes.calls:
            entered = f" ({route.syscall})" if route.syscall else ""
            text.append(f"  {route.label:<{width}}  {routes.ROUTES[route.route]}{entered}")
    if found.aslr is not None:
        text += ["", bold(f"ASLR, over {found.aslr.execs} executions"), *placement_lines(found.aslr)]
    if found.unknown:
        text += ["", bold("not found out")]
        text += [f"  {unknown.what}: {unknown.why}" for unknown in found.unknown]
    return text


def image_lines(image: Image, found: Look) -> list[str]:
    text = [fact("machine", f"{image.machine}, {image.bits} bits")]
    if image.address is not None:
        pages = f"{image.size_bytes} bytes, {image.size_pages} pages"
        permissions = f", {found.permissions}" if found.permissions else ""
        text.append(fact("address", f"{image.address:#x}, {pages}{permissions}"))
    else:
        text.append(fact("size", f"{image.size_bytes} bytes, {image.size_pages} pages"))
    if found.origin is not None and found.origin != KERNEL_NAME:
        text.append(fact("origin", f"not the kernel's: {shown(found.origin) or 'a mapping without a name'}"))
    if found.pages is not None and found.sysinfo_ehdr is None:
        text.append(fact("found by", "nobody: the auxiliary vector has no AT_SYSINFO_EHDR"))
    text.append(fact("SONAME", image.soname or "none"))
    text.append(fact("build id", image.build_id or "none"))
    note = "none" if image.version_note is None else f"{image.kernel_version} ({image.version_note:#x})"
    text.append(fact("kernel note", note))
    tables = [
        f"{table.kind}, {table.symbols} symbols in {table.buckets} buckets"
        + (f", {table.word_bytes}-byte words" if table.kind == "sysv" and table.word_bytes != 4 else "")
        + (f", does not find {', '.join(table.missing)}" if table.missing else "")
        for table in image.hash_tables
    ]
    text.append(fact("hash tables", "; ".join(tables) or "none"))
    return [*text, fact("functions", str(len(groups(image)))), *function_lines(image)]


def groups(image: Image) -> list[list[Function]]:
    """The functions, those of one address together, the first its proper name."""
    found: dict[int, list[Function]] = {}
    for function in image.functions:
        found.setdefault(function.value, []).append(function)
    return list(found.values())


def function_lines(image: Image) -> list[str]:
    if not image.functions:
        return []
    rows = [("  name", "version", "value", "size", "also")]
    for first, *others in groups(image):
        also = ", ".join(f"{other.name} ({other.binding})" for other in others)
        rows.append((f"  {first.name}", first.version or "none", f"{first.value:#x}", str(first.size), also))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    name, version, value, size = widths
    return [
        f"  {row[0]:<{name}}  {row[1]:<{version}}  {row[2]:>{value}}  {row[3]:>{size}}  {row[4]}".rstrip()
        for row in rows
    ]


def page_lines(found: Look) -> list[str]:
    text = ["", bold("before the image")]
    for page in found.pages or ():
        pages = f"{page.size} bytes, {page.size // 4096} pages"
        text.append(f"  {shown(page.name) or 'no name':<13}  {page.start:#x}, {pages}, {page.permissions}")
    if not found.pages:
        text.append("  nothing")
    vsyscall = found.vsyscall
    if vsyscall is not None:
        what = {
            "none": "not there: old programs that call it are killed",
            "xonly": "executable, not readable: a call traps into the kernel, which makes it",
            "emulate": "readable; a call traps into the kernel, which makes it",
        }.get(vsyscall.mode, "")
        where = "" if vsyscall.address is None else f"{vsyscall.address:#x} in every process; "
        text += ["", bold("vsyscall"), fact("mode", vsyscall.mode), fact("page", where + what)]
    return text


def placement_lines(placed: Placement) -> list[str]:
    if placed.without_vdso == placed.execs:
        return ["  none of them had a vDSO"]
    if placed.moves:
        shared = "none shared" if placed.shared == 0 else f"{placed.shared} of them shared"
        text = [
            fact("addresses", f"{placed.distinct} different ones, {shared}"),
            fact(
                "entropy",
                f"{placed.entropy_bits} bits, if each place in the range is as likely",
            ),
            fact("range", f"{placed.lowest:#x} to {placed.highest:#x}"),
        ]
    else:
        why = "it is off: randomize_va_space is 0" if placed.randomize_va_space == 0 else ""
        if placed.randomization_off:
            why = "it is off for this process (ADDR_NO_RANDOMIZE, as by setarch -R)"
        text = [fact("addresses", f"always {placed.lowest:#x}"), *([fact("why", why)] if why else [])]
    setting = "cannot be read" if placed.randomize_va_space is None else str(placed.randomize_va_space)
    return [*text, fact("setting", f"kernel.randomize_va_space = {setting}")]


def fact(label: str, value: str) -> str:
    return f"  {label:<{LABEL_COLUMNS - 2}}  {value}"
