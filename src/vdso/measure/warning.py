"""What makes a bench's figures worth less: one catalogue, each entry with what to do about it.

Goes by what the run found and noted (vdso.measure.result), and looks at nothing itself.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vdso.measure.result import BenchResult, Caution

# A batch's mean varies by some 3 % on a quiet machine: docs/bench.md.
NOISY_SPREAD = 0.30
STOLEN_PERCENT = 1.0
# The counter itself takes 7 to 20 ns; leaving the guest for it, 1,000 and more.
TRAPPED_NS = 200.0
# Above this share of a system call, a read of the clock is one.
NO_PATH_RATIO = 0.7
# With one of these the figures are not those of the kernel's vDSO on this CPU, and nothing follows from them.
WORTHLESS = ("tracer", "emulator", "our-image")
EMULATORS = ("TCGTCGTCGTCG", "VirtualApple")

Figures = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of warning. `when` gives what `text` shows, or None where there is nothing to warn of.

    `advice_quick` is for a `--quick` run, where it is another.
    """

    id: str
    when: Callable[[BenchResult, int], Figures | None]
    text: str
    advice: str
    advice_quick: str = ""


def noisy(result: BenchResult, _: int) -> Figures | None:
    spreads = [
        (row.p95_ns - row.p5_ns) / row.median_ns
        for row in result.rows
        # Below that, the timer's own grain is part of the spread.
        if row.median_ns is not None
        and row.p5_ns is not None
        and row.p95_ns is not None
        and row.median_ns > 2
    ]
    spread = statistics.median(spreads) if spreads else 0.0
    return {"percent": 100 * spread} if spread > NOISY_SPREAD else None


def loaded(result: BenchResult, _: int) -> Figures | None:
    load, cpus = result.conditions.load_1min, result.machine.cpus
    return {"load": load, "cpus": cpus, "s": "" if cpus == 1 else "s"} if load >= cpus else None


def stolen(result: BenchResult, _: int) -> Figures | None:
    percent = result.stolen_percent
    return {"percent": percent} if percent > STOLEN_PERCENT else None


def scaling(result: BenchResult, _: int) -> Figures | None:
    governor = result.conditions.governor
    cpu = 0 if result.cpu is None else result.cpu
    return {"governor": governor, "cpu": cpu} if governor not in ("", "performance") else None


def trapped(result: BenchResult, _: int) -> Figures | None:
    row = result.row("rdtsc", "cpu")
    if row is None or row.median_ns is None or row.median_ns <= TRAPPED_NS:
        return None
    return {"ns": row.median_ns, "who": result.machine.hypervisor or "something"}


def emulated(result: BenchResult, _: int) -> Figures | None:
    who = next(
        (
            name
            for name in EMULATORS
            if name in (result.machine.hypervisor, result.machine.cpu_model.split(" ")[0])
        ),
        "QEMU TCG" if "TCG" in result.machine.cpu_model else "",
    )
    return {"who": "QEMU TCG" if who == EMULATORS[0] else who} if who else None


def traced(result: BenchResult, _: int) -> Figures | None:
    pid, name = result.conditions.tracer_pid, result.conditions.tracer
    return {"who": f"{name}, process {pid}" if name else f"process {pid}"} if pid else None


def filtered(result: BenchResult, _: int) -> Figures | None:
    count = result.conditions.seccomp_filters
    # `vdso run` brings one of its own, and has a warning of its own.
    if count == 0 or (count == 1 and result.conditions.image == "vdso run"):
        return None
    return {"count": "a seccomp filter" if count == 1 else f"{count} seccomp filters"}


def swapped(result: BenchResult, _: int) -> Figures | None:
    image = result.conditions.image
    return (
        {"image": "one of ours" if image == "vdso run" else image}
        if image not in ("kernel", "none", "")
        else None
    )


def absent(result: BenchResult, _: int) -> Figures | None:
    return {} if result.conditions.image == "none" else None


def pathless(result: BenchResult, _: int) -> Figures | None:
    saved = result.saving
    if saved is None or saved.vdso_cores < NO_PATH_RATIO * saved.syscall_cores:
        return None
    # Slow, but for another reason.
    if trapped(result, 0) is not None:
        return None
    return {"clocksource": result.machine.clocksource or "unknown"}


def unpinned(result: BenchResult, _: int) -> Figures | None:
    return {} if result.cpu is None else None


def preloaded(result: BenchResult, _: int) -> Figures | None:
    names = result.conditions.preloaded
    return {"names": names} if names else None


def cut_short(result: BenchResult, asked: int) -> Figures | None:
    return {"done": result.rounds, "asked": asked} if result.rounds < 0.8 * asked else None


CATALOGUE = (
    Entry(
        "tracer",
        traced,
        "a debugger or tracer is attached ({who}): it may stop every system call",
        "run without it",
    ),
    Entry(
        "seccomp",
        filtered,
        "{count} on this process: each true system call goes through it first",
        "the true system calls cost more than elsewhere; in a container: --security-opt seccomp=unconfined",
    ),
    Entry(
        "our-image",
        swapped,
        "the vDSO of this process is {image}, not the kernel's",
        "run vdso bench without vdso run, to measure the kernel's",
    ),
    Entry(
        "no-vdso",
        absent,
        "this process has no vDSO: every read of a clock is a system call",
        "the kernel gives none with vdso=0 on its command line",
    ),
    Entry(
        "no-vdso-path",
        pathless,
        "the vDSO makes the system call itself (clocksource {clocksource})",
        "vdso run --clock tsc gives programs their fast clock back, where the CPUs' counters agree",
    ),
    Entry(
        "emulator",
        emulated,
        "an emulator ({who}) runs this machine: no figure is a CPU's",
        "measure on hardware, or under KVM",
    ),
    Entry(
        "trapped-counter",
        trapped,
        "reading the counter takes {ns:.0f} ns: {who} intercepts it",
        "ask for a virtual machine whose counter is the CPU's own (no RDTSC exiting)",
    ),
    Entry(
        "unpinned",
        unpinned,
        "pinning to a CPU was refused: the run may have moved between CPUs",
        "allow sched_setaffinity, or start it with taskset",
    ),
    Entry(
        "frequency-scaling",
        scaling,
        "CPU {cpu}'s frequency is scaled by the governor {governor}",
        "cpupower frequency-set -g performance, and back afterwards",
    ),
    Entry(
        "preloaded",
        preloaded,
        "LD_PRELOAD is set ({names}): the C library's column may be that library's",
        "unset LD_PRELOAD",
    ),
    Entry(
        "stolen-time",
        stolen,
        "the hypervisor gave {percent:.0f} % of the CPU's time to others",
        "repeat it, or measure on a machine of its own",
        "leave out --quick: a longer run has more rounds that were left alone",
    ),
    Entry(
        "load",
        loaded,
        "the load average is {load:g} on {cpus} CPU{s}: others compete for them",
        "close what runs beside it",
    ),
    Entry(
        "noisy-machine",
        noisy,
        "noisy: half of the rows vary by more than {percent:.0f} % from p5 to p95",
        "close what runs beside it and repeat; medians are still good where two runs agree",
        "leave out --quick, and close what runs beside it",
    ),
    Entry(
        "cut-short",
        cut_short,
        "stopped after {done} of {asked} rounds, at its limit of time",
        "fewer rounds, wider noise: whatever slowed it is worth finding",
        "leave out --quick: a longer run gets more rounds",
    ),
)


def worthless(result: BenchResult) -> Caution | None:
    """The warning by which nothing can be concluded from the figures, None without one."""
    return next((found for name in WORTHLESS for found in result.warnings if found.id == name), None)


def with_warnings(result: BenchResult, *, rounds_asked: int) -> BenchResult:
    """The same result with what the catalogue has to say of it."""
    found = []
    for entry in CATALOGUE:
        figures = entry.when(result, rounds_asked)
        if figures is not None:
            advice = (entry.advice_quick or entry.advice) if result.quick else entry.advice
            found.append(Caution(entry.id, entry.text.format(**figures), advice))
    return dataclasses.replace(result, warnings=tuple(found))
