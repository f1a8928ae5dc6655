"""DWARF expressions, as unwind information has them: PLT entries, realigned stacks, signal frames.

DWARF 5, section 2.5: the operations on values. What needs debugging information, or the program's own
memory beyond its stack, is an error.
"""

from collections.abc import Callable, Mapping

from vdso.errors import CannotUnwind
from vdso.measure.callers.cursor import MASK, Cursor

# An expression may loop, and none that is written needs many.
STEPS_MAX = 1000
DEPTH_MAX = 100

CONSTANTS = {
    0x03: "<Q", 0x08: "<B", 0x09: "<b", 0x0A: "<H", 0x0B: "<h", 0x0C: "<I", 0x0D: "<i", 0x0E: "<Q",
    0x0F: "<q",
}  # fmt: skip


def _divide(a: int, b: int) -> int:
    """Signed, towards zero."""
    a, b = _signed(a), _signed(b)
    if b == 0:
        raise CannotUnwind("an expression that divides by zero")
    return -(-a // b) if (a < 0) != (b < 0) else a // b


def _modulo(a: int, b: int) -> int:
    if b == 0:
        raise CannotUnwind("an expression that divides by zero")
    return a % b


# The lower of the two on the stack comes first.
BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b,
    0x1B: _divide,
    0x1C: lambda a, b: a - b,
    0x1D: _modulo,
    0x1E: lambda a, b: a * b,
    0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b,
    0x24: lambda a, b: a << b if b < 64 else 0,
    0x25: lambda a, b: a >> b if b < 64 else 0,
    0x26: lambda a, b: _signed(a) >> min(b, 63),
    0x27: lambda a, b: a ^ b,
    0x29: lambda a, b: a == b,
    0x2A: lambda a, b: _signed(a) >= _signed(b),
    0x2B: lambda a, b: _signed(a) > _signed(b),
    0x2C: lambda a, b: _signed(a) <= _signed(b),
    0x2D: lambda a, b: _signed(a) < _signed(b),
    0x2E: lambda a, b: a != b,
}
UNARY: dict[int, Callable[[int], int]] = {
    0x19: lambda a: abs(_signed(a)),
    0x1F: lambda a: -a,
    0x20: lambda a: ~a,
}


def evaluate(
    code: bytes,
    registers: Mapping[int, int],
    read: Callable[[int, int], int],
    initial: int | None = None,
) -> int:
    """The value of an expression. `read(address, size)` reads the program's stack; `initial` is what the
    stack of values begins with. Raises CannotUnwind.
    """
    stack = [] if initial is None else [initial]
    cursor = Cursor(code)
    for _ in range(STEPS_MAX):
        if not cursor.more():
            return _top(stack)
        _step(cursor, stack, registers, read)
        if len(stack) > DEPTH_MAX:
            break
    raise CannotUnwind("an expression that has no end")


def _step(
    cursor: Cursor, stack: list[int], registers: Mapping[int, int], read: Callable[[int, int], int]
) -> None:
    op = cursor.byte()
    if 0x30 <= op <= 0x4F:  # lit
        stack.append(op - 0x30)
    elif 0x70 <= op <= 0x8F:  # breg
        stack.append(_register(op - 0x70, registers) + cursor.sleb() & MASK)
    elif op == 0x92:  # bregx
        stack.append(_register(cursor.uleb(), registers) + cursor.sleb() & MASK)
    elif op in CONSTANTS:
        stack.append(cursor.number(CONSTANTS[op]) & MASK)
    elif op == 0x10:  # constu
        stack.append(cursor.uleb())
    elif op == 0x11:  # consts
        stack.append(cursor.sleb() & MASK)
    elif op == 0x23:  # plus_uconst
        stack.append(_pop(stack) + cursor.uleb() & MASK)
    elif op in BINARY:
        second = _pop(stack)
        stack.append(BINARY[op](_pop(stack), second) & MASK)
    elif op in UNARY:
        stack.append(UNARY[op](_pop(stack)) & MASK)
    elif op == 0x06:  # deref
        stack.append(read(_pop(stack), 8))
    elif op == 0x94:  # deref_size
        size = cursor.byte()
        if size not in (1, 2, 4, 8):
            raise CannotUnwind(f"an expression that reads {size} bytes")
        stack.append(read(_pop(stack), size))
    elif op in (0x28, 0x2F):  # bra, skip
        by = cursor.number("<h")
        if op == 0x2F or _pop(stack):
            if not 0 <= cursor.at + by <= len(cursor.data):
                raise CannotUnwind("an expression that jumps out of itself")
            cursor.at += by
    elif op in (0x12, 0x14, 0x15):  # dup, over, pick
        depth = {0x12: 0, 0x14: 1}.get(op)
        stack.append(_top(stack, cursor.byte() if depth is None else depth))
    elif op == 0x13:  # drop
        _pop(stack)
    elif op == 0x16:  # swap
        _top(stack, 1)
        stack[-2:] = stack[-1], stack[-2]
    elif op == 0x17:  # rot
        _top(stack, 2)
        stack[-3:] = stack[-1], stack[-3], stack[-2]
    elif op != 0x96:  # nop
        raise CannotUnwind(f"an expression with the unknown operation {op:#x}")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _top(stack: list[int], depth: int = 0) -> int:
    if depth >= len(stack):
        raise CannotUnwind("an expression that takes more values than it has")
    return stack[-1 - depth]


def _pop(stack: list[int]) -> int:
    if not stack:
        raise CannotUnwind("an expression that takes more values than it has")
    return stack.pop()


def _register(number: int, registers: Mapping[int, int]) -> int:
    try:
        return registers[number]
    except KeyError:
        raise CannotUnwind(f"an expression that goes by register {number}, which is not known here") from None
