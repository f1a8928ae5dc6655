"""From a sample outwards: return address after return address, each checked.

An address that is found on a stack counts as a return address when code is mapped there, and when it follows
a call instruction: else the way there was wrong, and what would come after it made up.
"""

from collections.abc import Iterator, Mapping

from vdso.errors import CannotUnwind
from vdso.measure.callers.code import Point
from vdso.measure.callers.rules import FRAME_POINTER, NUMBERS, RIP, RSP, Rules, Stack, caller
from vdso.measure.callers.space import Space

FRAMES_MAX = 128


def walk(registers: Mapping[str, int], stack: Stack, space: Space) -> Iterator[Point]:
    """The points from the return address in `registers` outwards, as far as asked for or the outermost.
    Between them, marked as `tail`, functions that have no frame and that the call instruction names: mostly
    they ended in a jump to the one before them.

    Raises CannotUnwind where there are more, and no way to them.
    """
    state = {NUMBERS[name]: value for name, value in registers.items() if name in NUMBERS}
    point = space.at(state[RIP])
    if point is None:
        raise CannotUnwind("its return address is in no executable mapping")
    inner: Point | None = None
    for _ in range(FRAMES_MAX):
        # Through a call of a function that is not the one that was running.
        called = point.called
        if called is not None and (inner is None or inner.code is not point.code or _another(inner, called)):
            yield called
        yield point
        inner = point
        found = _caller(point, state, stack, space)
        if found is None:
            return
        state, point = found


def _another(inner: Point, called: Point) -> bool:
    return inner.start is not None and inner.start != called.address


def _caller(
    point: Point, state: dict[int, int], stack: Stack, space: Space
) -> tuple[dict[int, int], Point] | None:
    """The caller's registers and point; None: there is none. Raises CannotUnwind."""
    if point.code is None:
        raise CannotUnwind(point.why)
    exact = point.exact
    if isinstance(exact, CannotUnwind):
        raise CannotUnwind(exact.message)
    if exact is not None:
        return _follow(caller(exact, state, stack), space)
    if point.is_go:
        if _is_go_exit(point):
            return None
        return _follow(caller(FRAME_POINTER, state, stack), space)
    return _guess(point, state, stack, space)


def _is_go_exit(point: Point) -> bool:
    """Whether it is what a goroutine's first function was made to look called by."""
    return point.function is not None and point.function.startswith("runtime.goexit")


def _follow(registers: dict[int, int] | None, space: Space) -> tuple[dict[int, int], Point] | None:
    if registers is None:
        return None
    point = space.at(registers[RIP])
    if point is None:
        raise CannotUnwind("it leads to a return address in no executable mapping")
    # What cannot be looked at, generated code of a program that has gone, has to be believed.
    if point.call is None and (point.code is not None or point.before):
        # The kernel enters a signal's handler, as if called from the code that goes back.
        entered = isinstance(point.exact, Rules) and point.exact.signal
        if entered or _is_go_exit(point):
            return None
        raise CannotUnwind("it leads to an address that follows no call")
    return registers, point


def _guess(
    point: Point, state: dict[int, int], stack: Stack, space: Space
) -> tuple[dict[int, int], Point] | None:
    """The caller where no unwind information tells: as the code leaves, else by the frame pointer."""
    found: list[tuple[dict[int, int], Point]] = []
    failure = ""
    for rules in point.guesses:
        try:
            registers = caller(rules, state, stack)
        except CannotUnwind as error:
            failure = error.message
            continue
        outer = space.at(registers[RIP]) if registers is not None else None
        if registers is not None and outer is not None and outer.call is not None:
            found.append((registers, outer))
    if len({(registers[RIP], registers[RSP]) for registers, _ in found}) > 1:
        raise CannotUnwind("no unwind information, and its code leaves by several ways")
    if found:
        return found[0]
    try:
        registers = caller(FRAME_POINTER, state, stack)
    except CannotUnwind as error:
        raise CannotUnwind(f"no unwind information, and {failure or error.message}") from None
    outer = space.at(registers[RIP]) if registers is not None else None
    if registers is None or outer is None or outer.call is None or registers[RSP] <= state[RSP]:
        raise CannotUnwind(f"no unwind information, and {failure or 'no frame pointer'}")
    return registers, outer
