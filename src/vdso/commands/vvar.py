"""`vdso vvar`: the kernel's data page of this process, decoded and proven, and watched as it is updated.

Only reads the command line and prints; vdso.kernel.vvar and vdso.kernel.tick do it.
"""

import json
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vdso.commands import output
from vdso.commands.parser import Parser
from vdso.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from vdso.kernel.datapage import Clock, Vvar
    from vdso.kernel.tick import Rate, Tick

HELP = """\
usage: vdso vvar [--json] [--by btf|code|table]
       vdso vvar --watch [--every SECONDS] [--json] [--by btf|code|table]

Shows the page of clock data that the kernel keeps for this process, [vvar]: what its vDSO reads instead of
making a system call. Nothing is shown that has not been proven, at this reading, to be what it is called.

  --json           print the result for programs; docs/vvar.md has its fields
  --by METHOD      find out where things lie by the kernel's own types (btf), by what the code of its time()
                   reveals (code), or by a table of kernel versions (table); by default the first to tell
  --watch          show the page's updates one by one and measure how often they come, until Ctrl-C
  --every SECONDS  with --watch: look only so often. Looking for every update keeps an idle machine awake,
                   and so ticking; its own rhythm is seen by looking seldom and counting what came between

example:
  vdso vvar
  vdso vvar --json | jq '.clocks[0].mult'
  vdso vvar --watch --every 5

exit status:
  0 shown, or watched until Ctrl-C; 1 no page, or one that is not proven; 2 usage
"""

METHODS = ("btf", "code", "table")
BY = {
    "btf": "the kernel's own types (BTF)",
    "code": "what the code of time() reveals",
    "table": "the table of kernel versions",
}
MODES = {
    "none": "every read is a system call: the clocksource has no vDSO path",
    "tsc": "a read takes the CPU's counter, and no system call",
    "pvclock": "a read takes the CPU's counter on the hypervisor's line, and no system call",
    "hvclock": "a read takes the CPU's counter on Hyper-V's line, and no system call",
}
OTHER_IMAGES = {
    "vdso": "this process runs on a vDSO of ours, in the place of the kernel's",
    "another": "this process runs on a vDSO that is neither the kernel's nor ours",
    "none": "this process was not told of its vDSO, and makes system calls",
}
EVERY_MAX_S = 3600.0
REFRESHES_PER_S = 8
SHOWN = 12  # updates on the terminal at once


def main(words: list[str]) -> int:
    parser = Parser("vvar", HELP)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--watch", action="store_true")
    parser.add_argument("--every", type=seconds)
    parser.add_argument("--by", choices=METHODS)
    options = parser.read(words)
    if options is None:
        return 0
    if options.every is not None and not options.watch:
        raise UsageError("--every goes with --watch", "vdso vvar --help shows how")
    from vdso.kernel import vvar

    page = vvar.read(options.by)
    if options.watch:
        return watch(page, options.every, as_json=options.json)
    if options.json:
        output.print_json(page)
    else:
        show(page)
    return 0


def seconds(text: str) -> float:
    """How often to look, in seconds."""
    import argparse

    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.001 <= value <= EVERY_MAX_S:
        raise argparse.ArgumentTypeError(f"{text}: seconds, from 0.001 to {EVERY_MAX_S:.0f}")
    return value


# ---- the page ----


def sentences(*headers: str, right: tuple[int, ...] = ()) -> "Table":
    """A table whose last column is text: on a narrow terminal that one is folded, and no other is cut."""
    table = output.columns(*headers, right=right)
    table.columns[-1].no_wrap = False
    return table


def show(page: "Vvar") -> None:
    console = output.console()
    console.print(facts(page))
    for title, table in (("Pages", pages(page)), ("Clocks", clocks(page)), ("Proofs", proofs(page))):
        console.print(f"\n[bold]{title}[/bold]")
        console.print(table)


def facts(page: "Vvar") -> "Table":
    table = sentences("", "")

    def fact(name: str, text: str) -> None:
        table.add_row(name, text)

    fact("kernel", f"Linux {page.kernel_version or 'of unknown version'}, {page.machine}")
    fact("page", f"{page.address:#x}, for the image at {page.image_address:#x}")
    if page.runs_on != "kernel":
        fact("", OTHER_IMAGES[page.runs_on] + "; shown is the kernel's own page")
    fact("layout by", BY[page.method])
    for method, why in page.refused.items():
        fact("", f"not by {method}: {why}")
    fact("mode", f"{page.mode}: {MODES.get(page.mode, 'a mode of this kernel')}")
    hz = page.clocks[0].counter_hz
    if hz is not None:
        fact("counter", f"{hz / 1e6:,.6f} MHz, as mult and shift have it")
    if page.time_namespace is None:
        fact("namespace", "the host's time: no time namespace with a page of its own")
    else:
        fact(
            "namespace",
            f"a time namespace: its offsets on page {page.time_namespace.address:#x}, the clocks behind it",
        )
        for offset in page.time_namespace.offsets:
            fact("", f"{offset.clock} {output_ns(offset.sec, offset.nsec, signed=True)} s")
    if page.timezone is not None:
        fact("timezone", f"{page.timezone.minutes_west} minutes west, DST {page.timezone.dst_time}")
    if page.hrtimer_res_ns is not None:
        fact("resolution", f"{page.hrtimer_res_ns} ns")
    if page.rng is not None:
        ready = "ready" if page.rng.is_ready else "not ready"
        fact("getrandom", f"generation {page.rng.generation}, {ready}")
    return table


def pages(page: "Vvar") -> "Table":
    table = output.columns("", "", "", "")
    for one in page.pages:
        used = "read" if one.read else "not read"
        table.add_row(f"{one.address:#x}", one.mapping.replace("[", r"\["), one.name or "?", used)
    return table


def clocks(page: "Vvar") -> "Table":
    """A column a vdso_clock, and below them what each clock id stood at."""
    names = [clock.name for clock in page.clocks]
    table = output.columns("", *names, right=tuple(range(1, len(names) + 1)))
    for name in ("sequence", "mode", "cycle_last", "max_cycles", "mask", "mult", "shift"):
        values = [getattr(clock, name) for clock in page.clocks]
        if name == "mask":
            values = [None if value is None else f"{value:#x}" for value in values]
        if any(value is not None for value in values):
            table.add_row(name, *("" if value is None else str(value) for value in values))
        elif page.mode == "none" and name in ("cycle_last", "mult"):
            table.add_row(name, *("not kept" for _ in values))
    for number, clock in enumerate(page.clocks):
        for base in clock.bases:
            cells = [""] * len(names)
            cells[number] = base_text(clock, base.sec, base.nsec, base.nsec_shifted)
            table.add_row(base.clock, *cells)
    return table


def base_text(clock: "Clock", sec: int, nsec: int, shifted: int | None) -> str:
    """Seconds and their fraction: below the ns where the page has it, as nsec << shift."""
    if shifted is None or clock.shift is None:
        return f"{output_ns(sec, nsec)}   "
    part = (shifted & (1 << clock.shift) - 1) * 1000 >> clock.shift
    return f"{output_ns(sec, nsec)}{part:03d}"


def output_ns(sec: int, nsec: int, *, signed: bool = False) -> str:
    whole = sec * 1_000_000_000 + nsec
    sign = "-" if whole < 0 else "+" if signed else ""
    return f"{sign}{abs(whole) // 1_000_000_000}.{abs(whole) % 1_000_000_000:09d}"


def proofs(page: "Vvar") -> "Table":
    table = sentences("", "", "", "", right=(1,))
    for proof in page.proofs:
        if proof.holds is None:
            table.add_row(proof.name, "", "[yellow]not run[/yellow]", proof.why)
            continue
        more = ""
        if proof.mean_width_ns is not None:
            more += f", {proof.mean_width_ns:.0f} ns apart"
        if proof.ticks:
            more += f"; {proof.ticks} met an update"
        table.add_row(proof.name, f"{proof.good} of {proof.of}", "[green]holds[/green]", proof.what + more)
    return table


# ---- watching ----


def watch(page: "Vvar", every_s: float | None, *, as_json: bool) -> int:
    """Until Ctrl-C, which ends it as it is meant to end: with the summary, and status 0."""
    from vdso.kernel.tick import Watch

    watching = Watch(page, None if every_s is None else int(every_s * 1e9))
    shown = live if sys.stdout.isatty() and not as_json else lines
    with interruptible() as stop:
        shown(watching.ticks(), watching.rate, stop, as_json)
    rate = watching.rate()
    if as_json:
        print_line({"rate": output.plain(rate)})
    else:
        console = output.console()
        console.print(summary(rate))
    return 0


@contextmanager
def interruptible() -> "Iterator[list[int]]":
    """A list that is no longer empty once Ctrl-C was pressed: a line that is being written is written to its
    end.

    A second Ctrl-C is the usual one, should the first find the output blocked.
    """
    stop: list[int] = []

    def handler(number: int, _frame: Any) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append(number)

    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.SIG_IGN:  # as in a background job of a shell: it stays so
        yield stop
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


def lines(ticks: "Iterator[Tick | None]", _rate: Any, stop: list[int], as_json: bool) -> None:
    """One line an update, each out at once."""
    for tick in ticks:
        if tick is not None and as_json:
            print_line(output.plain(tick))
        elif tick is not None:
            sys.stdout.write(tick_text(tick) + "\n")
            sys.stdout.flush()
        if stop:
            return


def print_line(value: Any) -> None:
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()


def live(ticks: "Iterator[Tick | None]", rate: Any, stop: list[int], _as_json: bool) -> None:
    """The last updates and the rate so far, drawn anew some times a second."""
    import time

    from rich.console import Group
    from rich.live import Live

    last: list[Tick] = []
    drawn = 0.0
    with Live(console=output.console(), auto_refresh=False, transient=True) as screen:
        for tick in ticks:
            if stop:
                return
            if tick is not None:
                last = [*last[1 - SHOWN :], tick]
            if time.monotonic() - drawn < 1 / REFRESHES_PER_S:
                continue
            drawn = time.monotonic()
            screen.update(Group(*(tick_text(one) for one in last), "", summary(rate())), refresh=True)


def tick_text(tick: "Tick") -> str:
    words = [f"sequence {tick.sequence:>10}"]
    words.append("" if tick.interval_ns is None else f"after {tick.interval_ns / 1e6:9.3f} ms")
    words.append("" if tick.moved_ns is None else f"time moved {tick.moved_ns / 1e6:9.3f} ms")
    words.append("" if tick.updates == 1 else f"{tick.updates} updates")
    return "  ".join(word for word in words if word)


def summary(rate: "Rate") -> "Table":
    table = sentences("", "")
    per_s = "none yet" if rate.updates_per_s is None else f"{rate.updates_per_s:.1f} a second"
    table.add_row(
        "updates", f"{per_s}: {rate.updates} in {rate.seconds:.2f} s, {rate.unseen} of them between two looks"
    )
    if rate.median_ns is not None:
        ms = [f"{(value or 0) / 1e6:.3f}" for value in (rate.min_ns, rate.p5_ns, rate.p95_ns, rate.max_ns)]
        table.add_row(
            "interval",
            f"median {rate.median_ns / 1e6:.3f} ms, p5 {ms[1]}, p95 {ms[2]}, from {ms[0]} to {ms[3]}, "
            f"of {rate.intervals}",
        )
    if rate.resolution_ns is not None:
        table.add_row("known to", f"{rate.resolution_ns / 1e6:.3f} ms: the page is looked at so often")
    return table
