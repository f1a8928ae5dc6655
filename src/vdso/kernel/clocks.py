"""The kernel's clocks by name (include/uapi/linux/time.h), and what its images put before a call's name."""

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
# Those of the CPU's time, which is in no page.
CPU_CLOCKS = (2, 3)

PREFIXES = ("__vdso_", "__kernel_")


def clock_name(clock: int) -> str:
    """The name without CLOCK_, the number itself where it has none."""
    return CLOCKS.get(clock, str(clock))


def call_name(symbol: str) -> str | None:
    """The call that an image's function serves, such as "time"; None: its name has none of PREFIXES."""
    for prefix in PREFIXES:
        if symbol.startswith(prefix):
            return symbol.removeprefix(prefix)
    return None
