"""The kernel's clocks by name: include/uapi/linux/time.h."""

CLOCKS = {
    0: "REALTIME",
    1: "MONOTONIC",
    2: "PROCESS_CPUTIME_ID",
    3: "THREAD_CPUTIME_ID",
    4: "MONOTONIC_RAW",
    5: "REALTIME_COARSE",
    6: "MONOTONIC_COARSE",
    7: "BOOTTIME",
    8: "REALTIME_ALARM",
    9: "BOOTTIME_ALARM",
    11: "TAI",
}


def clock_name(clock: int) -> str:
    """The name without CLOCK_, the number itself where it has none."""
    return CLOCKS.get(clock, str(clock))
