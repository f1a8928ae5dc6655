"""pytest: the marker and the fixture `travel`, and `--at WHEN` for a whole run. See docs/pytest.md.

Every pytest run of an environment that has vdso imports this, so it imports nothing that such a run has not:
vdso.swap.travel comes with the first test that travels. PYTEST_DONT_REWRITE: it has no assertions.
"""

import inspect
import sys
from collections.abc import Generator
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vdso.clocks.destination import Destination, Duration
    from vdso.errors import VdsoError
    from vdso.swap.travel import Clock

_not_possible = pytest.StashKey[str]()  # why the run does not begin at --at, and all of it is skipped
_traveller = pytest.StashKey["Traveller"]()  # the test's own
_begun = pytest.StashKey[dict["pytest.FixtureDef[Any]", list["Clock"]]]()  # by what fixtures have set up


class Traveller:
    """The fixture `travel`: called, it begins a journey that lasts until the test's end."""

    __slots__ = ("_clocks",)

    def __init__(self) -> None:
        self._clocks: list[Clock] = []

    def __call__(
        self,
        destination: "Destination",
        *,
        rate: float | None = None,
        tick: bool | None = None,
        children: bool = False,
    ) -> "Clock":
        """As vdso.travel(), from now on. Gives the clock, to be moved."""
        import vdso

        clock = vdso.travel(destination, rate=rate, tick=tick, children=children).start()
        self._clocks.append(clock)
        return clock

    @property
    def clock(self) -> "Clock":
        """Of the journey that was begun last, or a new one that begins where the clock is."""
        return self._clocks[-1] if self._clocks else self("+0s")

    def move_to(self, destination: "Destination", tick: bool | None = None) -> None:
        """Goes there, whether there is a journey or not."""
        if self._clocks:
            self.clock.move_to(destination, tick)
        else:
            self(destination, tick=tick)

    def at(self, when: "Destination") -> None:
        """move_to(), at the pace that it has."""
        self.move_to(when)

    def shift(self, delta: "Duration") -> None:
        """Moves the clock by seconds, a timedelta, or text such as "1h"."""
        self.clock.shift(delta)

    def tick(self, delta: "Duration" = 1) -> None:
        """shift(), by one second unless told otherwise."""
        self.clock.tick(delta)

    def freeze(self) -> None:
        """Stops the clock where it is."""
        self.clock.freeze()

    @property
    def rate(self) -> float:
        """How fast the clock goes: as vdso.swap.travel.Clock has it."""
        return self.clock.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self.clock.rate = rate

    @property
    def begun(self) -> "tuple[Clock, ...]":
        """The clocks of the journeys that it began."""
        return tuple(self._clocks)

    def end(self) -> None:
        """Ends all journeys that it began."""
        if self._clocks:
            from vdso.swap.travel import end

            while self._clocks:
                end(self._clocks.pop())


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vdso", "the process's clock (vdso)")
    group.addoption(
        "--at",
        dest="vdso_at",
        metavar="WHEN",
        help="run everything at another time: 2030-01-01T12:00:00Z, 2030-01-01, @1893456000 or +90d",
    )
    parser.addini(
        "vdso_travel",
        "what becomes of tests that travel where the clock cannot be moved: fail (the default) or skip",
        default="fail",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "travel(destination, *, rate=1, tick=True, children=False): run the test at another time, as "
        "vdso.travel() has it",
    )
    if config.getini("vdso_travel") not in ("fail", "skip"):
        raise pytest.UsageError(f"vdso_travel is fail or skip, and not {config.getini('vdso_travel')!r}")
    when: str | None = config.getoption("vdso_at")
    if when is not None:
        _travel_all(config, when)


def _travel_all(config: pytest.Config, when: str) -> None:
    import vdso
    from vdso.errors import SwapError, VdsoError

    try:
        journey = vdso.travel(when)
        journey.start()
    except SwapError as error:
        if not _skips(config):
            raise pytest.UsageError(_in_words(error)) from None
        config.stash[_not_possible] = _in_words(error)
    except VdsoError as error:
        raise pytest.UsageError(f"--at: {_in_words(error)}") from None
    else:
        config.add_cleanup(journey.stop)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reason = config.stash.get(_not_possible, None)
    for item in items:
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
        if _marker(item) is not None and hasattr(item, "fixturenames"):
            _travel_first(item)


def _marker(item: Any) -> pytest.Mark | None:
    """The nearest: of the parameter, the test, its class, its module."""
    marks: list[pytest.Mark] = getattr(getattr(item, "callspec", None), "marks", [])
    of_parameter = next((mark for mark in marks if mark.name == "travel"), None)
    nearest: pytest.Mark | None = of_parameter or item.get_closest_marker("travel")
    return nearest


def _travel_first(item: Any) -> None:
    """Before the test's own fixtures, and after those that it shares with other tests."""
    names: list[str] = item.fixturenames
    if "travel" in names:
        names.remove("travel")
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    shared = 0
    while shared < len(names) and names[shared] in known and known[names[shared]][-1].scope != "function":
        shared += 1
    names.insert(shared, "travel")


@pytest.fixture
def travel(request: pytest.FixtureRequest) -> Generator[Traveller, None, None]:
    """Journeys that end with the test: travel("2030-01-01"), travel.move_to(...), travel.shift("1h")."""
    request.node.stash[_traveller] = traveller = Traveller()
    marker = _marker(request.node)
    refused = _go(traveller, marker) if marker is not None else None
    if refused is not None:
        _refuse(request.config, refused)
    yield traveller
    traveller.end()


def _go(traveller: Traveller, marker: pytest.Mark) -> "VdsoError | None":
    from vdso.errors import UsageError, VdsoError

    try:
        traveller(*marker.args, **marker.kwargs)
    except TypeError:
        try:
            inspect.signature(traveller).bind(*marker.args, **marker.kwargs)
        except TypeError:
            hint = 'such as @pytest.mark.travel("2030-01-01", rate=0)'
            return UsageError("@pytest.mark.travel cannot be read", hint)
        raise  # of what was to give the destination
    except VdsoError as error:
        return error
    return None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """What a test's body began and did not end, ends with it; what its fixture began, with the test."""
    before = _journeys()
    outcome = yield
    module = sys.modules.get("vdso.swap.travel")
    if module is None:
        return
    traveller = item.stash.get(_traveller, None)
    _end_all_but([*before, *(traveller.begun if traveller is not None else ())])
    from vdso.errors import SwapError, VdsoError

    error = outcome.excinfo[1] if outcome.excinfo is not None else None
    if isinstance(error, VdsoError):
        if error.hint:
            error.add_note(error.hint)
        if isinstance(error, SwapError) and _skips(item.config):
            outcome.force_exception(pytest.skip.Exception(_in_words(error)))


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_setup(
    fixturedef: "pytest.FixtureDef[Any]", request: pytest.FixtureRequest
) -> Generator[None, Any, None]:
    before = _journeys()
    outcome = yield
    if outcome.excinfo is None and _journeys() != before:
        begun = request.config.stash.setdefault(_begun, {})
        others = [*before, *chain.from_iterable(begun.values())]
        begun[fixturedef] = [clock for clock in _journeys() if clock not in others]


def pytest_fixture_post_finalizer(
    fixturedef: "pytest.FixtureDef[Any]", request: pytest.FixtureRequest
) -> None:
    """What a fixture, or setup_class and its like, began and did not end, ends with it."""
    for clock in reversed(request.config.stash.get(_begun, {}).pop(fixturedef, [])):
        sys.modules["vdso.swap.travel"].end(clock)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, None]:
    """Nothing that a test has begun outlasts it, but for what belongs to a fixture that goes on."""
    before = _journeys()
    yield
    _end_all_but([*before, *chain.from_iterable(item.config.stash.get(_begun, {}).values())])


def _end_all_but(others: "list[Clock]") -> None:
    for clock in reversed(_journeys()):
        if clock not in others:
            sys.modules["vdso.swap.travel"].end(clock)


def _journeys() -> list[Any]:
    module = sys.modules.get("vdso.swap.travel")
    return module.journeys() if module is not None else []


def _refuse(config: pytest.Config, error: "VdsoError") -> None:
    from vdso.errors import SwapError

    if isinstance(error, SwapError) and _skips(config):
        pytest.skip(_in_words(error))
    pytest.fail(_in_words(error), pytrace=False)


def _skips(config: pytest.Config) -> bool:
    return bool(config.getini("vdso_travel") == "skip")


def _in_words(error: "VdsoError") -> str:
    return f"{error.message}\n{error.hint}" if error.hint else error.message
