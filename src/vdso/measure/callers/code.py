"""One object's code, return address by return address: the function, the ways to its caller, the call in
front.

Everything is found out once for an address, however many samples and processes pass by.
"""

from functools import cached_property

from vdso.errors import CannotUnwind, SourceError
from vdso.measure.callers import assembly
from vdso.measure.callers.cfi import Frames
from vdso.measure.callers.objects import Object
from vdso.measure.callers.rules import Rules
from vdso.measure.callers.symbols import Symbol, Symbols


class Code:
    """The code of an object that is mapped from `path`; `roots`: below which its symbols may be."""

    def __init__(self, of: Object, path: str, roots: tuple[str, ...] = ("",)) -> None:
        self.object = of
        self.symbols = Symbols(of, path, roots)
        self.frames = Frames(of)
        self._points: dict[int, Point] = {}
        self._entries: dict[int, Point | None] = {}

    def point(self, address: int) -> "Point":
        """What is known of a return address, in the object's own addresses."""
        found = self._points.get(address)
        if found is None:
            found = self._points[address] = Point(self.object.name, address, self)
        return found

    def entry(self, address: int) -> "Point | None":
        """The function that starts at an address, as one that ends in a jump; None: none of a name does."""
        if address not in self._entries:
            result = Point(self.object.name, address, self)
            result.tail = True
            named = result.symbol is not None and result.symbol.start == address
            self._entries[address] = result if named else None
        return self._entries[address]

    def fetch(self, address: int, size: int) -> bytes:
        return self.object.at(address, size)


class Point:
    """A return address. `name`: of the object, or of the mapping where there is none; `address`: in the
    object's own addresses, else the program's. Without an object: `why` there is none, the `symbol` if it is
    known, and the bytes `before` the address.
    """

    def __init__(
        self,
        name: str,
        address: int,
        code: Code | None,
        why: str = "",
        symbol: Symbol | None = None,
        before: bytes = b"",
    ) -> None:
        self.name = name
        self.address = address
        self.code = code
        self.why = why
        self.tail = False
        self._symbol = symbol
        self._before = before

    def __repr__(self) -> str:
        return f"<{self.name} {self.function or '?'} {self.address:#x}>"

    @cached_property
    def symbol(self) -> Symbol | None:
        """The function, None where nothing names it. A call may be the last thing in it, so that the return
        address is the next one's.
        """
        if self.code is None:
            return self._symbol
        try:
            return self.code.symbols.find(self.address if self.tail else self.address - 1)
        except SourceError:
            return None

    @property
    def function(self) -> str | None:
        return self.symbol.name if self.symbol is not None else None

    @cached_property
    def start(self) -> int | None:
        """Where the function starts; None where nothing says so."""
        if self.symbol is not None:
            return self.symbol.start
        try:
            found = self.code.frames.function(self.address - 1) if self.code is not None else None
        except SourceError:
            return None
        return None if found is None else found[0]

    @cached_property
    def exact(self) -> Rules | CannotUnwind | None:
        """The rules that unwind information gives; None: it says nothing of this code."""
        if self.code is None:
            return None
        try:
            return self.code.frames.rules(self.address - 1)
        except CannotUnwind as error:
            return error
        except SourceError as error:
            return CannotUnwind(error.message)

    @cached_property
    def guesses(self) -> list[Rules]:
        """Where unwind information says nothing: how the code itself leaves."""
        if self.code is None or self.is_go:
            return []
        try:
            return assembly.decoder().exits(self.code.fetch, self.address)
        except SourceError:
            return []

    @cached_property
    def is_go(self) -> bool:
        """Whether Go's compiler made the function: it keeps a frame pointer in each that calls."""
        go = self.code.symbols.go if self.code is not None else None
        return go is not None and go.find(self.address - 1) is not None

    @cached_property
    def before(self) -> bytes:
        """The code in front of the address, none where it cannot be read."""
        if self.code is None:
            return self._before
        try:
            return self.code.fetch(self.address - assembly.CALL_BYTES_MAX, assembly.CALL_BYTES_MAX)
        except SourceError:
            return b""

    @cached_property
    def call(self) -> assembly.Call | None:
        """The call instruction that the return address follows; None: it follows none."""
        return assembly.decoder().call(self.before, self.address)

    @cached_property
    def called(self) -> "Point | None":
        """The function that the call instruction names, at its start; None where it names none that has a
        name: what is called through a register, a table or the linker's stub.
        """
        if self.code is None or self.call is None or self.call.target is None:
            return None
        return self.code.entry(self.call.target)
