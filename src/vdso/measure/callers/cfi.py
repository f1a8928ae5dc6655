"""Unwind information: an object's .eh_frame, by its address table, one function at a time.

The Linux Standard Base has .eh_frame and .eh_frame_hdr, DWARF 5, section 6.4, the instructions. Written here
and not asked of pyelftools: that one reads a whole section, of 75,000 functions in Node, before it gives the
first, gives up on DW_CFA_GNU_args_size, which C++ libraries have, and trusts what it reads. The tests hold
the two against each other.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from vdso.errors import CannotUnwind
from vdso.measure.callers.cursor import ABSOLUTE, OMITTED, TO_TABLE, Cursor
from vdso.measure.callers.objects import Object
from vdso.measure.callers.rules import RIP, Rules, Saved

SOURCE = ".eh_frame"
# The table of .eh_frame_hdr that can be searched: pairs of 32-bit numbers, relative to the header.
SORTED = TO_TABLE | 0x0B
ENTRY_BYTES_MAX = 1 << 20
# Where they have to be gone through one by one, which takes seconds.
ENTRIES_MAX = 1 << 18
STATES_MAX = 64


@dataclass(frozen=True, slots=True)
class Common:
    """What the functions of one CIE have in common."""

    code_factor: int
    data_factor: int
    return_register: int
    encoding: int
    augmented: bool
    signal: bool
    instructions: bytes


@dataclass(slots=True)
class _State:
    cfa: tuple[int, int] | bytes | None
    saved: dict[int, Saved]

    def copy(self) -> "_State":
        return _State(self.cfa, dict(self.saved))


class Frames:
    """An object's unwind information."""

    def __init__(self, of: Object) -> None:
        self._object = of
        self._common: dict[int, Common] = {}

    def function(self, address: int) -> tuple[int, int] | None:
        """Where the function that has this address starts and ends; None where nothing is said of it. Raises
        CannotUnwind.
        """
        found = self._find(address)
        return None if found is None else found[:2]

    def rules(self, address: int) -> Rules | None:
        """The rules at the instruction of this address; None where nothing is said of it. Raises
        CannotUnwind, SourceError.
        """
        found = self._find(address)
        if found is None:
            return None
        start, _end, common, instructions = found
        state = _State(None, {})
        _run(Cursor(common.instructions), state, common, start, address, None)
        _run(Cursor(instructions), state, common, start, address, state.copy())
        if state.cfa is None:
            raise CannotUnwind("unwind information that does not say where the frame ends")
        saved = state.saved
        if common.return_register != RIP and common.return_register in saved:
            one = saved.pop(common.return_register)
            saved[RIP] = Saved(RIP, one.kind, one.argument)
        return Rules(state.cfa, tuple(saved.values()), SOURCE, common.signal)

    # ---- finding the function ----

    def _find(self, address: int) -> tuple[int, int, Common, bytes] | None:
        if self._table is not None:
            at = self._table.find(address)
        else:
            index = bisect_right(self._listed[0], address) - 1
            at = self._listed[1][index] if index >= 0 else None
        if at is None:
            return None
        found = self._description(at)
        return found if found[0] <= address < found[1] else None

    @cached_property
    def _table(self) -> "_Table | None":
        header = self._object.unwind_header
        if header is None:
            return None
        data = self._object.at(header.address, header.file_size)
        cursor = Cursor(data, header.address)
        if cursor.byte() != 1:
            return None
        section, counted, listed = cursor.byte(), cursor.byte(), cursor.byte()
        if section == OMITTED or counted == OMITTED or listed != SORTED:
            return None
        cursor.pointer(section, header.address)
        count = cursor.pointer(counted, header.address)
        if count == 0 or cursor.at + 8 * count > len(data):
            return None
        return _Table(data, cursor.at, count, header.address)

    @cached_property
    def _listed(self) -> tuple[list[int], list[int]]:
        """Where there is no table: every function's start and its description's address, by start."""
        found = []
        for at in self._descriptions():
            try:
                found.append((self._description(at)[0], at))
            except CannotUnwind:
                continue
        found.sort()
        return [start for start, _ in found], [at for _, at in found]

    def _descriptions(self) -> Iterator[int]:
        """The addresses of all function descriptions of the section."""
        section = self._object.sections.get(".eh_frame")
        if section is None:
            return
        data = self._object.contents(".eh_frame")
        at = 0
        for _ in range(ENTRIES_MAX):
            if at + 8 > len(data):
                return
            length = int.from_bytes(data[at : at + 4], "little")
            head = 4
            if length == 0xFFFFFFFF:
                length, head = int.from_bytes(data[at + 4 : at + 12], "little"), 12
            if length == 0:
                return
            if data[at + head : at + head + 4] != b"\0\0\0\0":
                yield section.address + at
            at += head + length

    # ---- its description ----

    def _entry(self, address: int) -> Cursor:
        """A cursor on what follows an entry's length, and that ends with the entry."""
        data = self._object.at(address, 12)
        cursor = Cursor(data)
        length = cursor.number("<I")
        if length == 0xFFFFFFFF:
            length = cursor.number("<Q")
        if not 4 <= length <= ENTRY_BYTES_MAX:
            raise CannotUnwind(f"unwind information with an entry of {length} bytes")
        data = self._object.at(address + cursor.at, length)
        if len(data) < length:
            raise CannotUnwind("unwind information that is cut off")
        return Cursor(data, address + cursor.at)

    def _description(self, address: int) -> tuple[int, int, Common, bytes]:
        """A function's start and end, what it has in common with others, and its instructions."""
        cursor = self._entry(address)
        back = cursor.number("<I")
        if back == 0:
            raise CannotUnwind("unwind information that leads to no function")
        origin = cursor.address - back
        common = self._common.get(origin)
        if common is None:
            common = self._common[origin] = self._read_common(origin)
        start = cursor.pointer(common.encoding)
        # The length has the start's form and is relative to nothing.
        size = cursor.pointer(common.encoding & 0x0F)
        if common.augmented:
            cursor.block()
        return start, start + size, common, cursor.data[cursor.at :]

    def _read_common(self, address: int) -> Common:
        cursor = self._entry(address)
        if cursor.number("<I") != 0:
            raise CannotUnwind("unwind information whose common part is none")
        version = cursor.byte()
        letters = cursor.string()
        if version == 4:
            cursor.take(2)  # the sizes of an address and of a segment's number
        elif version not in (1, 3):
            raise CannotUnwind(f"unwind information of version {version}")
        code_factor, data_factor = cursor.uleb(), cursor.sleb()
        return_register = cursor.byte() if version == 1 else cursor.uleb()
        encoding, signal = ABSOLUTE, False
        if letters[:1] == b"z":
            following = Cursor(cursor.block(), cursor.address + cursor.at)
            for letter in letters[1:].decode("latin-1"):
                if letter == "R":
                    encoding = following.byte()
                elif letter == "L":
                    following.byte()
                elif letter == "P":
                    # Only its length matters, and what it is relative to has none.
                    following.pointer(following.byte() & 0x0F)
                elif letter == "S":
                    signal = True
                else:
                    break
        elif letters:
            raise CannotUnwind("unwind information with an unknown addition")
        rest = cursor.data[cursor.at :]
        return Common(code_factor, data_factor, return_register, encoding, letters != b"", signal, rest)


@dataclass(frozen=True, slots=True)
class _Table:
    """The table of .eh_frame_hdr: pairs of a function's start and its description's address, by start."""

    data: bytes
    at: int
    count: int
    address: int

    def find(self, address: int) -> int | None:
        """The description of the last function that starts at or below the address."""
        wanted = address - self.address
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self._number(2 * middle) <= wanted:
                low = middle + 1
            else:
                high = middle
        return None if low == 0 else self.address + self._number(2 * low - 1)

    def _number(self, index: int) -> int:
        start = self.at + 4 * index
        return int.from_bytes(self.data[start : start + 4], "little", signed=True)


def _run(cursor: Cursor, state: _State, common: Common, at: int, until: int, initial: _State | None) -> None:
    """Carries out the instructions up to the address `until`. `initial`: what "restore" restores to."""
    states: list[_State] = []
    while cursor.more():
        byte = cursor.byte()
        op, low = byte & 0xC0, byte & 0x3F
        if op == 0x40:  # advance_loc
            at += low * common.code_factor
        elif byte in (0x02, 0x03, 0x04):  # advance_loc1, 2, 4
            at += cursor.number({0x02: "<B", 0x03: "<H", 0x04: "<I"}[byte]) * common.code_factor
        elif byte == 0x01:  # set_loc
            at = cursor.pointer(common.encoding)
        elif byte == 0x0A:  # remember_state
            if len(states) == STATES_MAX:
                raise CannotUnwind("unwind information that remembers without end")
            states.append(state.copy())
        elif byte == 0x0B:  # restore_state
            if not states:
                raise CannotUnwind("unwind information that restores what it has not remembered")
            remembered = states.pop()
            state.cfa, state.saved = remembered.cfa, remembered.saved
        elif op in (0x80, 0xC0):  # offset, restore
            _register(cursor, state, common, initial, op, low)
        else:
            _other(cursor, state, common, initial, byte)
        if at > until:
            return


def _register(
    cursor: Cursor, state: _State, common: Common, initial: _State | None, op: int, register: int
) -> None:
    """The instructions that carry a register's number in themselves, and their long forms."""
    if op == 0x80:
        state.saved[register] = Saved(register, "offset", cursor.uleb() * common.data_factor)
    elif initial is None:
        raise CannotUnwind("unwind information that restores what it has not set")
    elif register in initial.saved:
        state.saved[register] = initial.saved[register]
    else:
        state.saved.pop(register, None)


def _other(cursor: Cursor, state: _State, common: Common, initial: _State | None, byte: int) -> None:
    factor = common.data_factor
    if byte in (0x0C, 0x12):  # def_cfa, def_cfa_sf
        register = cursor.uleb()
        state.cfa = (register, cursor.uleb() if byte == 0x0C else cursor.sleb() * factor)
    elif byte in (0x0D, 0x0E, 0x13):  # def_cfa_register, def_cfa_offset, def_cfa_offset_sf
        if not isinstance(state.cfa, tuple):
            raise CannotUnwind("unwind information that changes half of what it has not set")
        register, offset = state.cfa
        if byte == 0x0D:
            state.cfa = (cursor.uleb(), offset)
        else:
            state.cfa = (register, cursor.uleb() if byte == 0x0E else cursor.sleb() * factor)
    elif byte == 0x0F:  # def_cfa_expression
        state.cfa = cursor.block()
    elif byte in (0x05, 0x06):  # offset_extended, restore_extended
        _register(cursor, state, common, initial, 0x80 if byte == 0x05 else 0xC0, cursor.uleb())
    elif byte == 0x2E:  # GNU_args_size: only a landing pad goes by it
        cursor.uleb()
    elif byte == 0x08:  # same_value
        state.saved.pop(cursor.uleb(), None)
    elif byte != 0x00:  # nop
        register = cursor.uleb()
        state.saved[register] = _saved(cursor, register, byte, factor)


def _saved(cursor: Cursor, register: int, byte: int, factor: int) -> Saved:
    match byte:
        case 0x07:  # undefined
            return Saved(register, "undefined")
        case 0x09:  # register
            return Saved(register, "register", cursor.uleb())
        case 0x10:  # expression
            return Saved(register, "expression", cursor.block())
        case 0x11:  # offset_extended_sf
            return Saved(register, "offset", cursor.sleb() * factor)
        case 0x14:  # val_offset
            return Saved(register, "value", cursor.uleb() * factor)
        case 0x15:  # val_offset_sf
            return Saved(register, "value", cursor.sleb() * factor)
        case 0x16:  # val_expression
            return Saved(register, "value expression", cursor.block())
        case 0x2F:  # GNU_negative_offset_extended
            return Saved(register, "offset", -cursor.uleb() * factor)
    raise CannotUnwind(f"unwind information with the unknown instruction {byte:#x}")
