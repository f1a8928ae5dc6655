"""What people write for a point in time and for a length of time, as exact nanoseconds.

Integers throughout: a float of seconds has lost the last 200 ns of today. No datetime either, which would
cost `vdso run` an import and know no nanoseconds.
"""

import time

from vdso.errors import BadDuration, BadRate, BadWhen

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and collections.abc are imports too
    from collections.abc import Callable

NS_PER_S = 1_000_000_000
RATE_ONE = 1 << 32  # of a line's rate, which is 32.32 fixed point
RATE_LIMIT = 1_000_000

# The years -2147481748 to 2147485547: what a broken-down time can name (struct tm counts years in an int). A
# time_t goes further, and programs that print such times fail.
FIRST_SECOND = -67_768_040_609_740_800
LAST_SECOND = 67_768_036_191_676_799

_UNITS_NS = {
    "w": 7 * 86400 * NS_PER_S,
    "d": 86400 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "m": 60 * NS_PER_S,
    "s": NS_PER_S,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ns": 1,
}
_DAYS_BEFORE_MONTH = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


def parse_when(text: str) -> int:
    """A point in time, as REALTIME ns since 1970-01-01T00:00:00Z.

    `2030-01-01T12:00:00.5Z` (also with a blank for the T, without seconds, with a comma), with an offset
    `+02:00`, or with neither: then it is the local zone's, as `date` takes it. A date alone is its midnight.
    `@1893456000.25` is seconds since 1970. Raises BadWhen.
    """
    text = text.strip()
    if not text:
        raise BadWhen("an empty time")
    if not text.isascii():
        raise BadWhen(f"not a time: {text}")
    ns = _parse_epoch(text) if text.startswith("@") else _parse_iso(text)
    if not FIRST_SECOND <= ns // NS_PER_S <= LAST_SECOND:
        raise BadWhen(f"no clock goes so far: {text}", f"the limits are @{FIRST_SECOND} and @{LAST_SECOND}")
    return ns


def parse_duration(text: str) -> int:
    """A length of time in ns: `+1000d`, `-2h30m`, `1.5h`; the sign stands in front and is for the whole.

    Units are w d h m s ms us ns, each at most once. Raises BadDuration.
    """
    rest = text.strip()
    sign = 1
    if rest[:1] in ("+", "-"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:].lstrip()
    if not rest:
        raise BadDuration("an empty duration")
    total = 0
    seen: set[int] = set()
    while rest:
        digits, rest = _take(rest, _is_number)
        unit, rest = _take(rest, str.isalpha)
        rest = rest.lstrip()
        total += _component(text, digits, unit, seen)
    if total // NS_PER_S > LAST_SECOND - FIRST_SECOND:
        raise BadDuration(f"no clock goes so far: {text}", "the limit is some four billion years")
    return sign * total


def parse_rate(text: str) -> int:
    """A rate as a line's 32.32 fixed point: `10`, `0.5`, `1e3`; 0 is a freeze. Raises BadRate."""
    text = text.strip()
    try:
        if not text.isascii() or "_" in text:
            raise ValueError
        rate = float(text)
    except ValueError:
        raise BadRate(f"not a rate: {text}" if text else "an empty rate") from None
    if rate != rate:
        raise BadRate(f"not a rate: {text}")
    if rate < 0:
        raise BadRate(f"no clock runs backwards: {text}")
    if rate > RATE_LIMIT:
        raise BadRate(f"no clock runs so fast: {text}")
    fixed = round(rate * RATE_ONE)
    if rate > 0 and fixed == 0:
        raise BadRate(f"slower than a clock can be told: {text}", "0 freezes it; the least is 2.4e-10")
    return fixed


def _component(text: str, digits: str, unit: str, seen: set[int]) -> int:
    if not digits:
        raise BadDuration(f"not a duration: {text}")
    if not unit:
        raise BadDuration(
            f"{digits} of what? a duration wants a unit: {text}", f"{digits}s for seconds, {digits}d for days"
        )
    scale = _UNITS_NS.get(unit)
    if scale is None:
        if unit in ("y", "yr", "year", "years", "M", "mo", "mon", "month", "months"):
            raise BadDuration(
                f"years and months have no fixed length: {text}", "365d, or 30d; or name the date with --at"
            )
        raise BadDuration(f"no such unit: {unit}", "the units are w d h m s ms us ns")
    if scale in seen:
        raise BadDuration(f"{unit} stands twice in {text}")
    seen.add(scale)
    return _scaled(digits, scale, lambda message: BadDuration(f"{message}: {text}"))


def _is_number(character: str) -> bool:
    return character in "0123456789."


def _take(text: str, wanted: "Callable[[str], bool]") -> tuple[str, str]:
    """The longest beginning of wanted characters, and the rest."""
    end = 0
    while end < len(text) and wanted(text[end]):
        end += 1
    return text[:end], text[end:]


def _scaled(digits: str, scale: int, error: "Callable[[str], BadWhen | BadDuration]") -> int:
    """`12.5` times a scale in ns, exactly."""
    whole, point, fraction = digits.partition(".")
    if "." in fraction or not (whole or fraction) or (point and not fraction):
        raise error(f"not a number: {digits}")
    if len(digits) > 100:
        raise error("a number of more than 100 digits")
    # Zeros at the end are no claim to be finer than a nanosecond.
    fraction = fraction.rstrip("0")
    denominator: int = 10 ** len(fraction)
    ns, rest = divmod(int(whole + fraction or "0") * scale, denominator)
    if rest:
        raise error("finer than a nanosecond")
    return ns


def _parse_epoch(text: str) -> int:
    digits = text[1:]
    sign = 1
    if digits[:1] in ("+", "-"):
        sign = -1 if digits[0] == "-" else 1
        digits = digits[1:]
    if not digits or not all(_is_number(character) for character in digits):
        raise BadWhen(f"not seconds since 1970: {text}")
    return sign * _scaled(digits, NS_PER_S, lambda message: BadWhen(f"{message}: {text}"))


def _parse_iso(text: str) -> int:
    year, month, day = _parse_date(text[:10], text)
    days = _days(year, month, day)
    rest = text[10:]
    if not rest:
        return _local(year, month, day, 0, 0, 0, text) * NS_PER_S
    if rest[0] not in "Tt ":
        raise BadWhen(f"not a time: {text}")
    clock, zone = _split_zone(rest[1:])
    hour, minute, second, fraction_ns = _parse_clock(clock.strip(), text)
    if zone is None:
        return _local(year, month, day, hour, minute, second, text) * NS_PER_S + fraction_ns
    seconds = days * 86400 + hour * 3600 + minute * 60 + second - _parse_zone(zone, text)
    return seconds * NS_PER_S + fraction_ns


def _parse_date(date: str, text: str) -> tuple[int, int, int]:
    if len(date) != 10 or date[4] != "-" or date[7] != "-":
        hint = None
        if text.isdigit():
            hint = f"@{text} for seconds since 1970; a date is written 2030-01-01"
        raise BadWhen(f"not a time: {text}", hint)
    year, month, day = (_number(part, text) for part in (date[:4], date[5:7], date[8:]))
    if year == 0:
        raise BadWhen(f"there is no year 0: {text}")
    if not 1 <= month <= 12:
        raise BadWhen(f"there is no month {month}: {text}")
    if not 1 <= day <= _days_in_month(year, month):
        raise BadWhen(f"that month has no day {day}: {text}")
    return year, month, day


def _parse_clock(clock: str, text: str) -> tuple[int, int, int, int]:
    whole, _, fraction = clock.replace(",", ".", 1).partition(".")
    parts = whole.split(":")
    if len(parts) not in (2, 3) or any(len(part) != 2 for part in parts):
        raise BadWhen(f"not a time of day: {text}")
    if len(whole) < len(clock) and (len(parts) != 3 or not fraction):
        raise BadWhen(f"not a time of day: {text}")
    numbers = [_number(part, text) for part in parts]
    hour, minute, second = (*numbers, 0)[:3]
    if second == 60:
        raise BadWhen(f"this clock has no leap seconds: {text}")
    if hour > 23 or minute > 59 or second > 59:
        raise BadWhen(f"there is no such time of day: {text}")
    ns = 0
    if fraction:
        if not fraction.isdigit():
            raise BadWhen(f"not a time of day: {text}")
        ns = _scaled("0." + fraction, NS_PER_S, lambda message: BadWhen(f"{message}: {text}"))
    return hour, minute, second, ns


def _split_zone(rest: str) -> tuple[str, str | None]:
    rest = rest.strip()
    if rest[-1:] in ("Z", "z"):
        return rest[:-1], "Z"
    for position, character in enumerate(rest):
        if character in "+-":
            return rest[:position], rest[position:]
    return rest, None


def _parse_zone(zone: str, text: str) -> int:
    """Seconds east of Greenwich."""
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    if zone[1:] not in (digits, ":".join((digits[:2], digits[2:]))) or len(digits) not in (2, 4):
        raise BadWhen(f"not an offset from UTC: {zone}", "such as +02:00 or -0530")
    hours, minutes = _number(digits[:2], text), _number(digits[2:] or "0", text)
    if hours > 23 or minutes > 59:
        raise BadWhen(f"not an offset from UTC: {zone}", "such as +02:00 or -0530")
    seconds = hours * 3600 + minutes * 60
    return -seconds if zone[0] == "-" else seconds


def _local(year: int, month: int, day: int, hour: int, minute: int, second: int, text: str) -> int:
    """Seconds since 1970 of a time in the local zone, as mktime(3) finds them."""
    wanted = (year, month, day, hour, minute, second)
    try:
        seconds = int(time.mktime((*wanted, 0, 0, -1)))
    except (OverflowError, ValueError):
        raise BadWhen(
            f"the local zone cannot say when this is: {text}", "say it in UTC, with a Z at the end"
        ) from None
    # In spring an hour is left out; mktime would silently take the one beside it.
    if tuple(time.localtime(seconds))[:6] != wanted:
        raise BadWhen(
            f"there is no such time in the local zone: {text}", "say it in UTC, with a Z at the end"
        )
    return seconds


def _number(digits: str, text: str) -> int:
    if not digits.isdigit():
        raise BadWhen(f"not a time: {text}")
    return int(digits)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if _is_leap(year) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01, in the calendar of today carried back."""
    before = year - 1
    days = (
        before * 365 + before // 4 - before // 100 + before // 400 + _DAYS_BEFORE_MONTH[month - 1] + day - 1
    )
    return days - 719_162 + (1 if month > 2 and _is_leap(year) else 0)
