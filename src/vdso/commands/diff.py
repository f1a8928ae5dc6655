"""`vdso diff`: what differs between two images; vdso.kernel.comparison finds out."""

import sys
from collections.abc import Iterator

from vdso.commands.output import print_json, styled
from vdso.commands.parser import Parser
from vdso.errors import OutputRefused, SourceError
from vdso.kernel.comparison import Change, Comparison
from vdso.kernel.image import Image
from vdso.kernel.source import Source

HELP = """\
usage: vdso diff A B [--image N] [--json]

Shows what differs between the vDSO images of two sources: functions added and removed, versions, sizes, and
changed code. What only moved, and what the kernel patches at boot for the CPU that it finds, is no change.

  A, B        self: this process; a PID; an ELF file; a core file; a kernel image (vmlinuz, vmlinux)
  --image N   the Nth image of a file that holds several; without it, images of the same machine are compared
  --json      for programs; docs/diff.md has the fields

example:
  vdso diff self /boot/vmlinuz
  vdso diff /boot/vmlinuz-6.1.0-42-amd64 /boot/vmlinuz-6.1.0-50-amd64

exit status:
  as diff(1): 0 nothing differs; 1 something does; 2 A or B cannot be read, or usage
"""

TROUBLE = 2
MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}

FACTS = {"machine": "machine", "kernel": "kernel_version", "build id": "build_id", "bytes": "size_bytes"}

# The images to compare: None where the other source has none of that machine.
Pair = tuple[Image | None, Image | None]


def main(words: list[str]) -> int:
    """Compares, prints, and returns the exit status."""
    parser = Parser("diff", HELP)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--image", type=int, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.read(words)
    if options is None:
        return 0
    from vdso.kernel import source as sources
    from vdso.kernel.comparison import compare

    try:
        a, b = sources.read(options.a), sources.read(options.b)
        pairs = paired(a, b, options.image)
        found = [compare(one, other) for one, other in pairs if one is not None and other is not None]
    except SourceError as error:
        # 1 says that they differ.
        error.exit_code = TROUBLE
        raise
    alone = [pair for pair in pairs if None in pair]
    same = not alone and all(comparison.same for comparison in found)
    try:
        if options.json:
            print_json(
                {
                    "a": a.name,
                    "b": b.name,
                    "same": same,
                    "images": found,
                    "only_a": [one for one, other in pairs if other is None],
                    "only_b": [other for one, other in pairs if one is None],
                }
            )
        else:
            sys.stdout.write("\n".join(lines(a, b, found, alone)) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        refused = OutputRefused(f"standard output cannot be written: {str(error.strerror or error).lower()}")
        refused.exit_code = TROUBLE
        raise refused from None
    return 0 if same else 1


def paired(a: Source, b: Source, number: int | None) -> list[Pair]:
    """Which image of A is compared with which of B. Raises SourceError."""
    from vdso.kernel.source import listed, pick

    if number is not None:
        one, other = (
            pick(side.images, number if len(side.images) > 1 else None, side.name) for side in (a, b)
        )
        return [(one, other)]
    if len(a.images) == len(b.images) == 1:
        return [(a.images[0], b.images[0])]
    pairs: list[Pair] = []
    left = list(b.images)
    for image in a.images:
        match = next((other for other in left if other.machine == image.machine), None)
        if match is not None:
            left.remove(match)
        pairs.append((image, match))
    pairs += [(None, image) for image in left]
    if 1 not in (len(a.images), len(b.images)):
        return pairs
    # One image is compared with one: what else the other source holds is no difference.
    both = [pair for pair in pairs if None not in pair]
    if not both:
        single, many = (a, b) if len(a.images) == 1 else (b, a)
        raise SourceError(
            f"{many.name} has no image for {single.images[0].machine}, which {single.name} is of",
            f"it has {listed(many.images)}; --image N picks one all the same",
        )
    return both


def lines(a: Source, b: Source, found: list[Comparison], alone: list[Pair]) -> Iterator[str]:
    """The whole text, a line each."""
    for index, comparison in enumerate(found):
        if index:
            yield ""
        yield from facts(a, b, comparison)
        yield from changes(comparison)
        yield summary(comparison)
    for one, other in alone:
        image, source = (one, a) if one is not None else (other, b)
        assert image is not None
        yield styled(f"{image.machine}: only in {source.name}", "bold")


def facts(a: Source, b: Source, comparison: Comparison) -> Iterator[str]:
    """What the two say of themselves, side by side."""
    images = (comparison.a, comparison.b)
    rows = [("", a.name, b.name)]
    for name, attribute in FACTS.items():
        left, right = (str(getattr(image, attribute) or "none") for image in images)
        rows.append((name, left, right))
    width = max(len(row[1]) for row in rows)
    for name, left, right in rows:
        line = f"{name:<10}{left:<{width}}  {right}".rstrip()
        yield styled(line, "bold") if not name else line


def changes(comparison: Comparison) -> Iterator[str]:
    """The functions that changed, names of the same change together."""
    together: dict[tuple[object, ...], list[Change]] = {}
    for change in comparison.functions:
        key = (
            change.kind,
            change.what,
            *(side and (side.value, side.version) for side in (change.a, change.b)),
        )
        together.setdefault(key, []).append(change)
    for group in together.values():
        first = group[0]
        mark, style = MARKS[first.kind]
        names = " = ".join(change.name for change in group)
        yield styled(f"{mark} {names}", style) + f"  {detail(first)}"
    for what in comparison.other:
        mark, style = MARKS["changed"]
        yield styled(f"{mark} {what}", style)


def detail(change: Change) -> str:
    there = change.a or change.b
    assert there is not None
    if change.a is None or change.b is None:
        return f"{there.version or 'no version'}, {there.size} bytes"
    parts = []
    for name in change.what:
        before, after = getattr(change.a, name, None), getattr(change.b, name, None)
        parts.append(name if name == "code" else f"{name} {before or 'none'} -> {after or 'none'}")
    return ", ".join(parts)


def summary(comparison: Comparison) -> str:
    count = len(comparison.a.functions)
    parts = ["the same" if comparison.same else "different"]
    if comparison.same:
        parts[0] += f": {count} functions"
    if comparison.patched:
        parts.append(f"{comparison.patched} places are the kernel's to patch at boot")
    if comparison.moved_pages:
        parts.append("the data pages lie elsewhere before the image")
    return "; ".join(parts)
