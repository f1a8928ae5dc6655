"""What differs between two images, beyond what the kernel patches into one of them at boot.

Code is compared as instructions, and not as bytes, so that what only moved does not count:

- a jump inside a function goes to the nth instruction; one out of it, to a name;
- a place that .altinstructions lists (see alternatives) is the same if it may become the same on the same
  CPUs, and if what stands there now is one of these or, in both, the same. Where an image shows no such list,
  fillers are passed over, and the known ways to read the counter, and the CPU's number, are each one;
- an access to a data page before the image may go to another page, if all accesses to that page go there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vdso.errors import SourceError
from vdso.kernel import alternatives, instructions
from vdso.kernel.alternatives import Site
from vdso.kernel.image import PAGE_BYTES, Function, Image
from vdso.kernel.instructions import ARCHITECTURES, Block, Instruction

NO_NAME = "code without a name"
READ_ONLY_DATA = "read-only data"
CODE_BYTES_MAX = 4 << 20
DATA_MAX = 16


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one function.

    `kind`: "added", "removed" or "changed"; `what` of a changed one: "version", "binding", "type", "size",
    "code"; `a` and `b`: the function in either image, None where it is not there.
    """

    name: str
    kind: str
    what: tuple[str, ...]
    a: Function | None
    b: Function | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two images beside each other.

    `other`: what else changed, "code without a name" or "read-only data"; `patched`: how many places were
    compared as what the kernel patches at boot; `moved_pages`: whether the data pages lie elsewhere before
    the image. `same` is what the exit status goes by: neither functions nor other changed.
    """

    same: bool
    a: Image
    b: Image
    functions: tuple[Change, ...]
    other: tuple[str, ...]
    patched: int
    moved_pages: bool


@dataclass(frozen=True, slots=True)
class _Token:
    """One instruction as it is compared.

    `page`: the number, counted back from the image, of the data page that it accesses. Of a place that is
    patched `now` is what stands there, and `known` whether that is one of the replacements.
    """

    text: str
    page: int | None = None
    now: tuple[str, ...] = ()
    known: bool = False


@dataclass(slots=True)
class _Pages:
    """Which page in one image is which in the other, as far as has been seen."""

    forth: dict[int, int] = field(default_factory=dict)
    back: dict[int, int] = field(default_factory=dict)

    def same(self, a: int | None, b: int | None) -> bool:
        if a is None or b is None:
            return a is b
        return self.forth.setdefault(a, b) == b and self.back.setdefault(b, a) == a


def compare(a: Image, b: Image) -> Comparison:
    """Compares two images, of any machines. Raises SourceError for more code than a vDSO or a library has."""
    # The features' numbers are the kernel's own affair, and change from version to version.
    features = (
        None not in (a.version_note, b.version_note)
        and (a.version_note or 0) >> 8 == (b.version_note or 0) >> 8
    )
    sides = [_Side(image, features) for image in (a, b)]
    listed = all(side.sites is not None for side in sides)
    pages = _Pages()
    of_a, of_b = ({(f.name, f.version): f for f in image.functions} for image in (a, b))
    changes: list[Change] = []
    code: dict[tuple[int, int], bool] = {}
    for key in _paired(of_a, of_b):
        first, second = key
        function, other = of_a.get(first) if first else None, of_b.get(second) if second else None
        if function is None or other is None:
            there = function or other
            assert there is not None
            changes.append(Change(there.name, "removed" if function else "added", (), function, other))
            continue
        what = [
            name
            for name in ("version", "binding", "type", "size")
            if getattr(function, name) != getattr(other, name)
        ]
        if a.machine == b.machine:
            place = (function.value, other.value)
            if place not in code:
                code[place] = _same(sides[0].of(function, listed), sides[1].of(other, listed), pages)
            if not code[place]:
                what.append("code")
        if what:
            changes.append(Change(function.name, "changed", tuple(what), function, other))
    rest = []
    if a.machine == b.machine:
        nameless = [[side.tokens(block, listed) for block in side.nameless] for side in sides]
        if len(nameless[0]) != len(nameless[1]) or not all(
            _same(one, two, pages) for one, two in zip(*nameless, strict=True)
        ):
            rest.append(NO_NAME)
    if sides[0].read_only != sides[1].read_only and None not in (sides[0].read_only, sides[1].read_only):
        rest.append(READ_ONLY_DATA)
    moved = any(one != other for one, other in pages.forth.items())
    patched = len(sides[0].sites or ()) if listed and a.machine == b.machine else 0
    return Comparison(not changes and not rest, a, b, tuple(changes), tuple(rest), patched, moved)


Key = tuple[str, str | None]


def _paired(a: Iterable[Key], b: Iterable[Key]) -> list[tuple[Key | None, Key | None]]:
    """Functions of both by name and version, then by name alone, in the names' order."""
    left, right = set(a), set(b)
    pairs: list[tuple[Key | None, Key | None]] = [(key, key) for key in left & right]
    others: dict[str, list[Key]] = {}
    for key in sorted(right - left, key=str, reverse=True):
        others.setdefault(key[0], []).append(key)
    for key in sorted(left - right, key=str):
        same_name = others.get(key[0])
        pairs.append((key, same_name.pop() if same_name else None))
    pairs += [(None, key) for keys in others.values() for key in keys]
    return sorted(pairs, key=lambda pair: str(pair[0] or pair[1]))


def _same(a: Sequence[_Token], b: Sequence[_Token], pages: _Pages) -> bool:
    if len(a) != len(b):
        return False
    for one, other in zip(a, b, strict=True):
        if one.text != other.text or not pages.same(one.page, other.page):
            return False
        # Two unpatched places show the original, which must then be one and the same.
        if one.now != other.now and not (one.known or other.known):
            return False
    return True


class _Side:
    """One of the two images, and what of it is needed more than once."""

    def __init__(self, image: Image, features: bool) -> None:
        self.image = image
        self.features = features
        self.name = instructions.names(image)
        self.sites = alternatives.sites(image)
        self.readable = image.machine in ARCHITECTURES
        self.blocks = instructions.blocks(image)
        if sum(block.size for block in self.blocks) > CODE_BYTES_MAX:
            raise SourceError(f"more than {CODE_BYTES_MAX >> 20} MiB of code are not compared")
        self.nameless = [block for block in self.blocks if not block.functions]
        self.by_value = {block.value: block for block in self.blocks}
        sections = image.sections()
        self.data = [section for name, section in sections.items() if name.startswith(".rodata")][:DATA_MAX]
        self.read_only = (
            tuple(image.data[section.offset : section.offset + section.size] for section in self.data)
            if sections
            else None
        )

    def of(self, function: Function, listed: bool) -> list[_Token]:
        return self.tokens(self.by_value[self.image.offset(function) + self.image.load_address], listed)

    def tokens(self, block: Block, listed: bool) -> list[_Token]:
        """The block as it is compared. `listed`: both images list what is patched."""
        start = block.value - self.image.load_address
        if not self.readable:
            return [_Token(self.image.data[start : start + block.size].hex())]
        try:
            if listed:
                return self._with_sites(block)
            found = instructions.decode(self.image, block)
            return self._texts(block, _without_variants(self.image.machine, found))
        except SourceError:
            return [_Token(self.image.data[start : start + block.size].hex())]

    def _with_sites(self, block: Block) -> list[_Token]:
        inside = [
            site
            for value, site in sorted((self.sites or {}).items())
            if block.value <= value < block.value + block.size
        ]
        parts: list[Instruction | Site] = []
        at = block.value
        for site in inside:
            if site.value < at:  # they do not overlap, unless they lie
                continue
            parts += self._decode(at, site.value - at, block)
            parts.append(site)
            at = site.value + site.size
        parts += self._decode(at, block.value + block.size - at, block)
        return self._texts(block, parts)

    def _decode(self, value: int, size: int, block: Block) -> list[Instruction]:
        if size <= 0:
            return []
        return list(instructions.decode(self.image, Block(value, size, block.functions)))

    def _texts(self, block: Block, parts: Sequence[Instruction | Site]) -> list[_Token]:
        places = {part.value: index for index, part in enumerate(parts)}
        result = []
        for part in parts:
            if isinstance(part, Site):
                result.append(self._site(part, block, places))
            else:
                text, page = self._text(part, block, places)
                result.append(_Token(text, page))
        return result

    def _site(self, site: Site, block: Block, places: dict[int, int]) -> _Token:
        def texts(value: int, size: int) -> tuple[str, ...]:
            found = _without_fillers(self._decode(value, size, block))
            return tuple(str(self._text(one, block, places)) for one in found)

        becomes = [
            (each.feature if self.features else 0, texts(each.value, each.size)) for each in site.replacements
        ]
        now = texts(site.value, site.size)
        return _Token(f"patched: {site.size} {becomes}", None, now, any(now == text for _, text in becomes))

    def _text(self, one: Instruction, block: Block, places: dict[int, int]) -> tuple[str, int | None]:
        """An instruction without its distances, and the data page that it accesses."""
        target = one.branch if one.branch is not None else one.reference
        if target is None:
            return f"{one.mnemonic} {one.operands}", None
        operands = _without_distance(one)
        if target in places:
            return f"{one.mnemonic} {operands} #{places[target]}", None
        if block.value <= target < block.value + block.size:
            return f"{one.mnemonic} {operands} within", None
        distance = target - self.image.load_address
        if distance < 0:
            return f"{one.mnemonic} {operands} page+{distance % PAGE_BYTES:#x}", -(distance // PAGE_BYTES)
        return f"{one.mnemonic} {operands} {self._place(target)}", None

    def _place(self, target: int) -> str:
        """What stands at a value inside the image, whatever that value is."""
        for section in self.data:
            if section.address <= target < section.address + section.size:
                return f"{section.name}+{target - section.address:#x}"
        for index, block in enumerate(self.nameless):
            if block.value <= target < block.value + block.size:
                return f"nameless {index}{'' if target == block.value else ' within'}"
        name = self.name(target)
        return "image" if name.startswith("image") else name


def _without_distance(one: Instruction) -> str:
    """The operands without the one that says where to."""
    if one.reference is not None and "[rip" in one.operands:
        before, _, after = one.operands.partition("[rip")
        return f"{before}[rip]{after.partition(']')[2]}"
    return one.operands.rpartition(",")[0]


def _without_fillers(found: Iterable[Instruction]) -> list[Instruction]:
    return [one for one in found if one.mnemonic not in instructions.FILLERS and one.operands != "ax, ax"]


def _without_variants(machine: str, found: Iterable[Instruction]) -> list[Instruction]:
    """The stream without fillers, and with each known alternative of x86 as one and the same instruction."""
    result: list[Instruction] = []
    for one in _without_fillers(found):
        if machine in ("x86-64", "x32", "i386"):
            before = result[-1].mnemonic if result else ""
            if one.mnemonic in ("rdtsc", "rdtscp"):
                first = result.pop() if before in ("lfence", "mfence") else one
                result.append(Instruction(first.value, one.data, "read-counter", ""))
                continue
            if one.mnemonic in ("lsl", "rdpid"):
                result.append(Instruction(one.value, one.data, "read-cpu", ""))
                continue
        result.append(one)
    return result
