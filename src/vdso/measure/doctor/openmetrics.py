"""A diagnosis as metrics: text that is both OpenMetrics and what node_exporter's textfile collector reads.

Gauges alone, in base units: the collector's older text format shares no other form with OpenMetrics.
"""

from collections.abc import Iterable, Mapping

from vdso.measure.doctor.result import FAST, SLOW, UNKNOWN, Diagnosis

NS = 1e-9
VERDICTS = (FAST, SLOW, UNKNOWN)
Sample = tuple[Mapping[str, str], float]


def render(found: Diagnosis) -> str:
    """The text, with its end."""
    lines: list[str] = []
    for name, unit, meaning, samples in families(found):
        taken = list(samples)
        if not taken:
            continue
        lines.append(f"# HELP {name} {meaning}")
        lines.append(f"# TYPE {name} gauge")
        if unit:
            lines.append(f"# UNIT {name} {unit}")
        lines += [f"{name}{labels(given)} {value:.12g}" for given, value in taken]
    return "\n".join([*lines, "# EOF"]) + "\n"


def labels(given: Mapping[str, str]) -> str:
    if not given:
        return ""
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in given.items()) + "}"


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def families(found: Diagnosis) -> Iterable[tuple[str, str, str, Iterable[Sample]]]:
    """(name, unit, meaning, samples) of each metric."""
    figures, seen, cost = found.figures, found.observation, found.cost
    clocks = figures.clocks if figures else ()
    yield (
        "vdso_doctor_verdict",
        "",
        "1 for the verdict on the clock, 0 for the others.",
        [({"verdict": verdict}, float(verdict == found.verdict)) for verdict in VERDICTS],
    )
    yield (
        "vdso_doctor_finding",
        "",
        "1 for each check that found something; vdso doctor --list explains them.",
        [
            ({"id": one[0], "severity": one[1]}, 1.0)
            for one in dict.fromkeys((f.id, f.severity) for f in found.findings)
        ],
    )
    yield (
        "vdso_doctor_checks",
        "",
        "How many checks could look, and how many could not.",
        [
            ({"state": "looked"}, float(len(found.checks))),
            ({"state": "unseen"}, float(len({name for one in found.unseen for name in one.checks}))),
        ],
    )
    yield (
        "vdso_clocksource_used",
        "",
        "1 for the kernel's current clocksource, 0 for the others that are available.",
        [
            ({"clocksource": name}, float(name == found.host.machine.clocksource))
            for name in found.host.clocksources
        ],
    )
    yield (
        "vdso_clock_read_seconds",
        "seconds",
        "What one read of a clock takes, by the vDSO, the C library or the system call.",
        [
            ({"clock": clock.clock, "route": route}, ns * NS)
            for clock in clocks
            for route, ns in (("vdso", clock.vdso_ns), ("libc", clock.libc_ns), ("syscall", clock.syscall_ns))
            if ns is not None
        ],
    )
    yield (
        "vdso_clock_resolution_seconds",
        "seconds",
        "What clock_getres says of a clock.",
        [
            ({"clock": clock.clock}, clock.resolution_ns * NS)
            for clock in clocks
            if clock.resolution_ns is not None
        ],
    )
    yield (
        "vdso_clock_step_seconds",
        "seconds",
        "The smallest step that a clock was seen to make between two reads.",
        [({"clock": clock.clock}, clock.step_ns * NS) for clock in clocks if clock.step_ns is not None],
    )
    counter = figures.counter if figures else None
    yield (
        "vdso_tsc_read_seconds",
        "seconds",
        "What reading the CPU's counter takes.",
        [
            ({"instruction": name}, ns * NS)
            for name, ns in (("rdtsc", counter.read_ns), ("rdtscp", counter.ordered_ns))
            if ns is not None
        ]
        if counter
        else [],
    )
    yield (
        "vdso_tsc_warps",
        "",
        "Reads of a CPU's counter that were behind one of another CPU.",
        [({}, float(counter.warps))] if counter and (counter.compared or counter.warps) else [],
    )
    yield (
        "vdso_clock_cost_cores",
        "cores",
        "What reads of the clock could save, or do save, at the rate measured or assumed.",
        [({"rate": "measured" if cost.measured else "assumed"}, cost.cores)]
        if cost and cost.cores is not None
        else [],
    )
    yield (
        "vdso_program_clock_calls",
        "",
        "Clock calls that the program made while it was observed, by the way that they went.",
        [
            ({"function": row.function, "clock": row.clock, "route": row.route}, float(row.calls))
            for row in (seen.stat.rows if seen else ())
        ],
    )
    yield (
        "vdso_program_observed_seconds",
        "seconds",
        "For how long the program was observed.",
        [({}, seen.stat.seconds)] if seen else [],
    )
    yield (
        "vdso_doctor_duration_seconds",
        "seconds",
        "How long the diagnosis took.",
        [({}, found.duration_s)],
    )
