"""Where to travel: what people give for a time, a length of time and a rate, as exact nanoseconds.

Python's own types and their conventions; what is written as text is read by clocks/transform.py. A time
without a zone is UTC's here, as freezegun has it, so that a test means the same on every machine.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from numbers import Real
from typing import Any

from vdso.clocks.transform import NS_PER_S, RATE_ONE, parse_duration, parse_rate, parse_when
from vdso.errors import BadDuration, BadRate, BadWhen

# What time.time() and time.time_ns() count in 64 bits: 1677-09-21 to 2262-04-11. Beyond, they go wrong.
FIRST_NS = -((1 << 63) // NS_PER_S) * NS_PER_S  # they multiply the seconds first
LAST_NS = (1 << 63) - 1

When = str | datetime | date | timedelta | int | float
Destination = When | Callable[[], When] | Iterator[When]
Duration = str | timedelta | int | float

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ACCEPTED = (
    "a time is text such as 2030-01-01T12:00:00Z, a datetime, a date, a timedelta from now, "
    "or seconds since 1970"
)


def when_ns(when: Destination, now_ns: Callable[[], int]) -> int:
    """The point in time, as REALTIME ns; a timedelta, and text such as "+1h", count from now_ns().

    Raises BadWhen, BadDuration.
    """
    if isinstance(when, str):
        ns = now_ns() + parse_duration(when) if is_relative(when) else _text_ns(when)
    elif isinstance(when, datetime):
        ns = _ns(when - _EPOCH if when.utcoffset() is not None else when.replace(tzinfo=UTC) - _EPOCH)
    elif isinstance(when, date):
        ns = (when.toordinal() - _EPOCH.toordinal()) * 86400 * NS_PER_S
    elif isinstance(when, timedelta):
        ns = now_ns() + _ns(when)
    elif isinstance(when, (float, int, Real)) and not isinstance(when, bool):
        ns = _seconds_ns(when, BadWhen)
    elif isinstance(when, Iterator):
        return when_ns(next(when), now_ns)
    elif callable(when):
        return when_ns(when(), now_ns)
    else:
        raise BadWhen(f"not a time: {when!r}", _ACCEPTED)
    return in_range(ns, when)


def is_relative(when: Destination) -> bool:
    """Whether it means another time each time that it is asked. Raises BadDuration."""
    if isinstance(when, str):
        return when.lstrip()[:1] in ("+", "-") and parse_duration(when) is not None
    return not isinstance(when, date) and (isinstance(when, (timedelta, Iterator)) or callable(when))


def in_range(ns: int, when: object) -> int:
    """The ns, if Python can show them. Raises BadWhen."""
    if not FIRST_NS <= ns <= LAST_NS:
        raise BadWhen(
            f"Python's clock does not go so far: {when}",
            "it counts in 64 bits of nanoseconds: from 1677-09-21T00:12:44Z to 2262-04-11T23:47:16Z",
        )
    return ns


def duration_ns(duration: Duration) -> int:
    """A length of time: seconds, a timedelta, or text such as "1h" or "-90s". Raises BadDuration."""
    if isinstance(duration, str):
        return parse_duration(duration)
    if isinstance(duration, timedelta):
        return _ns(duration)
    if isinstance(duration, Real) and not isinstance(duration, bool):
        return _seconds_ns(duration, BadDuration)
    raise BadDuration(
        f"not a length of time: {duration!r}", "seconds, a timedelta, or text such as 1h or -90s"
    )


def rate_fixed(rate: float) -> int:
    """A rate as 32.32 fixed point. Raises BadRate."""
    if isinstance(rate, bool) or not isinstance(rate, (str, Real)):
        raise BadRate(f"not a rate: {rate!r}")
    if rate == 0 or rate == 1:
        return int(rate) * RATE_ONE
    return parse_rate(str(rate) if isinstance(rate, (str, int)) else repr(float(rate)))


def zone_of(when: Destination) -> str | None:
    """The name that TZ is to have: of a datetime in a zone that has a name."""
    zone: tzinfo | None = when.tzinfo if isinstance(when, datetime) else None
    zoneinfo = sys.modules.get("zoneinfo") if zone is not None else None
    if zoneinfo is None or not isinstance(zone, zoneinfo.ZoneInfo):
        return None
    key: str | None = zone.key
    return key


def _ns(delta: timedelta) -> int:
    return (delta.days * 86400 + delta.seconds) * NS_PER_S + delta.microseconds * 1000


def _seconds_ns(seconds: Any, error: type[BadWhen] | type[BadDuration]) -> int:
    """To the nearest ns, which gives every float of today back as it was."""
    if isinstance(seconds, int):
        return seconds * NS_PER_S
    try:
        whole = int(seconds)
        return whole * NS_PER_S + round((float(seconds) - whole) * NS_PER_S)
    except (OverflowError, ValueError):
        raise error(f"not a number of seconds: {seconds}") from None


@lru_cache(256)
def _text_ns(text: str) -> int:
    given = text.strip()
    clock = given[10:]
    if given[:1] in ("", "@"):
        return parse_when(given)
    zoned = any(character in "Zz+-" for character in clock)
    utc = given if zoned else f"{given}Z" if clock else f"{given}T00:00Z"
    try:
        return parse_when(utc)
    except BadWhen as error:
        other = _other_iso_ns(given)
        if other is None:
            raise BadWhen(error.message.replace(utc, given), error.hint) from None
        return other


def _other_iso_ns(text: str) -> int | None:
    """What else of ISO 8601 Python reads, to microseconds: 20300101T120000Z, 2030-W01-1, 2030-01-01T12."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    _, point, fraction = text.replace(",", ".").rpartition(".")
    if point and len(fraction) - len(fraction.lstrip("0123456789")) > 6:
        return None  # a datetime would drop the rest
    return _ns((when if when.tzinfo is not None else when.replace(tzinfo=UTC)) - _EPOCH)
