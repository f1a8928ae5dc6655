"""Proofs that a layout of the kernel's data page is right, run when it is read and shown with what is read.

The page must be what it is called: its sequence and mode have to behave, the coarse clocks have to be what
the kernel's own function gives, to the nanosecond, and the fine ones, recomputed from the counter, have to
fall between two of its answers. The first proof that fails ends it: VvarUnproven says which, and what was
seen.
"""

import os
import struct
import time
from dataclasses import dataclass
from typing import NoReturn

from vdso import _core
from vdso.errors import VvarUnproven
from vdso.kernel.datapage import (
    CLOCKS,
    COARSE,
    COUNTERS,
    HOMES,
    MODE_NONE,
    Place,
    Proof,
    Rng,
    TimeNamespace,
    Timezone,
    copy,
    mode_name,
)
from vdso.kernel.layout import BASE_BYTES, PAGE_BYTES, Layout

SHIFT_MAX = 32
MAX_CYCLES_LEAST = 0.79  # 0.89 / 1.11, mult being what NTP has made of it
# Between bursts the page is waited for, so that what is proven holds over several updates.
BURSTS = 5
SNAPSHOTS_A_BURST = 50
SAMPLES_A_BURST = 1000
WAIT_NS = 10_000_000
POLL_NS = 250_000

TIMENS_OFFSETS = "/proc/self/timens_offsets"

Reader = _core.VvarClock


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read and proven: each clock's sequence and bytes, and the rest."""

    snapshots: tuple[tuple[int, bytes], ...]
    timezone: Timezone | None
    hrtimer_res_ns: int | None
    rng: Rng | None
    proofs: tuple[Proof, ...]


@dataclass(slots=True)
class Count:
    """Samples of one proof so far."""

    good: int = 0
    ticks: int = 0
    of: int = 0
    width_ns: int = 0


def run(
    where: Place, layout: Layout, home: int, readers: tuple[Reader, ...], namespace: TimeNamespace | None
) -> Seen:
    """Reads the clocks on page `home` and proves the layout. Raises VvarUnproven."""
    offsets = {offset.clock_id: offset.ns for offset in namespace.offsets} if namespace else {}
    snapshots = tuple(_snapshot(layout, reader, index) for index, reader in enumerate(readers))
    mode = _modes(layout, snapshots)
    proofs = [_shifts(layout, snapshots, mode), *_limits(layout, snapshots, mode)]
    fine = [number for _, ids in HOMES for number in ids if number not in COARSE]
    not_run = _why_no_counter(mode, where)
    counts = {number: Count() for number in CLOCKS}
    sequences = Count()
    for burst in range(BURSTS):
        if burst:
            _next_update(layout, readers[0])
        snapshots = _sequences(layout, readers, snapshots, sequences)
        for reader, (_, ids) in zip(readers, HOMES, strict=True):
            for number in ids:
                if number in COARSE or not not_run:
                    sample(
                        layout,
                        reader,
                        where.clock_gettime,
                        number,
                        offsets.get(number, 0),
                        SAMPLES_A_BURST,
                        counts[number],
                    )
    of = len(readers)
    what = "even, and copies of one sequence are alike"
    proofs.insert(0, Proof("sequence", what, True, sequences.good, sequences.of, sequences.ticks))
    proofs.insert(1, Proof("mode", f"{mode}, a name of enum vdso_clock_mode, on every clock", True, of, of))
    proofs += [
        _proven(number, counts[number], offsets, "is what clock_gettime gives, to the ns")
        for number in COARSE
    ]
    if not_run:
        proofs += [
            Proof(CLOCKS[number], "recomputed from the counter", None, why=not_run) for number in sorted(fine)
        ]
    else:
        what = "from the counter falls between two reads"
        proofs += [_proven(number, counts[number], offsets, what) for number in sorted(fine)]
    if mode == MODE_NONE:
        proofs.append(_realtime(layout, snapshots[0][1]))
    if namespace is not None:
        proofs.append(_namespace(namespace))
    page = where.vvar.start + home * PAGE_BYTES
    timezone = hrtimer_res_ns = rng = None
    if layout.timezone is not None:
        timezone, proof = _timezone(layout, page + layout.timezone)
        proofs.append(proof)
    if layout.hrtimer_res is not None:
        hrtimer_res_ns, proof = _resolution(layout, page + layout.hrtimer_res)
        proofs.append(proof)
    if layout.rng is not None:
        rng, proof = _rng(layout, where.vvar.start + layout.rng)
        proofs.append(proof)
    return Seen(snapshots, timezone, hrtimer_res_ns, rng, tuple(proofs))


def failed(layout: Layout, name: str, seen: str) -> NoReturn:
    raise VvarUnproven(f"proof failed: {name}: {seen} (layout by {layout.method})", proof=name)


# ---- the clocks ----


def _snapshot(layout: Layout, reader: Reader, index: int) -> tuple[int, bytes]:
    try:
        return reader.snapshot()
    except BlockingIOError:
        failed(layout, "sequence", f"that of clock {index} was odd, or changed all the time, for 0.1 s")


def _sequences(
    layout: Layout, readers: tuple[Reader, ...], last: tuple[tuple[int, bytes], ...], count: Count
) -> tuple[tuple[int, bytes], ...]:
    """Copies the clocks many times: those of one sequence are the same bytes. Returns the last copies."""
    current = list(last)
    for _ in range(SNAPSHOTS_A_BURST):
        for index, reader in enumerate(readers):
            sequence, data = _snapshot(layout, reader, index)
            count.of += 1
            if sequence != current[index][0]:
                count.ticks += 1
            elif data == current[index][1]:
                count.good += 1
            else:
                failed(layout, "sequence", f"clock {index} changed under the same sequence {sequence}")
            current[index] = (sequence, data)
    return tuple(current)


def _modes(layout: Layout, snapshots: tuple[tuple[int, bytes], ...]) -> str:
    modes = [mode_name(layout, data) for _, data in snapshots]
    if len(set(modes)) > 1:
        failed(layout, "mode", f"the clocks have different ones, {' and '.join(modes)}")
    return modes[0]


def _shifts(layout: Layout, snapshots: tuple[tuple[int, bytes], ...], mode: str) -> Proof:
    for index, (_, data) in enumerate(snapshots):
        shift, mult = (struct.unpack_from("=I", data, offset)[0] for offset in (layout.shift, layout.mult))
        if shift > SHIFT_MAX:
            failed(layout, "shift", f"clock {index} has {shift}, more than {SHIFT_MAX}")
        if not mult and mode != MODE_NONE:
            failed(layout, "shift", f"clock {index} has mult 0, with which no time would go by")
    return Proof("shift", f"at most {SHIFT_MAX}, and mult not 0", True, len(snapshots), len(snapshots))


def _limits(layout: Layout, snapshots: tuple[tuple[int, bytes], ...], mode: str) -> list[Proof]:
    """Mask and max_cycles, which no reading of the time needs to be right: the one has all bits of the
    counter, the other is how far mult can be applied in 64 bits, with up to 11 % of room for NTP
    (clocks_calc_max_nsecs() in kernel/time/clocksource.c), or all that the counter has."""
    proofs = [Proof("mask", "has every bit up to its highest", True, len(snapshots), len(snapshots))]
    if layout.max_cycles is not None:
        what = "is as far as mult goes in 64 bits, less what NTP may add"
        proofs.append(Proof("max_cycles", what, True, len(snapshots), len(snapshots)))
    if mode == MODE_NONE:
        why = "mode none: the kernel does not keep it up"
        return [Proof(proof.name, proof.what, None, why=why) for proof in proofs]
    for index, (_, data) in enumerate(snapshots):
        (mask,) = struct.unpack_from("=Q", data, layout.mask)
        if not mask or mask & mask + 1:
            failed(layout, "mask", f"clock {index} has {mask:#x}, with holes")
        if layout.max_cycles is not None:
            (most,) = struct.unpack_from("=Q", data, layout.max_cycles)
            (mult,) = struct.unpack_from("=I", data, layout.mult)
            if most != mask and not MAX_CYCLES_LEAST <= most * mult / 2.0**64 <= 1:
                failed(layout, "max_cycles", f"clock {index} has {most}, with mult {mult}")
    return proofs


def _why_no_counter(mode: str, where: Place) -> str | None:
    if mode == MODE_NONE:
        return "mode none: the clocksource has no vDSO path, so there is no counter to compute from"
    if mode not in COUNTERS:
        return f"mode {mode}: its counter is not one that vdso reads"
    if mode == "pvclock" and where.pvclock is None:
        return "where this kernel has the hypervisor's page is not known"
    return None


def _next_update(layout: Layout, reader: Reader) -> None:
    sequence, _ = _snapshot(layout, reader, 0)
    reader.wait(sequence, time.monotonic_ns(), 0, POLL_NS, WAIT_NS)


def sample(
    layout: Layout, reader: Reader, function: int, number: int, offset_ns: int, samples: int, count: Count
) -> None:
    """Holds the clock against the kernel's function, so many times more. Raises VvarUnproven at a bad one."""
    fine = number not in COARSE
    try:
        good, ticks, bad, before, computed, after, width = reader.prove(
            fine, function, number, offset_ns, samples
        )
    except BlockingIOError:
        failed(layout, CLOCKS[number], "the sequence was odd for 0.1 s")
    except OSError as error:
        failed(layout, CLOCKS[number], f"it could not be run: {error.strerror}")
    if bad:
        between = f"which is not between {before} and {after}" if fine else f"and clock_gettime says {before}"
        failed(
            layout,
            CLOCKS[number],
            f"{bad} of {samples} samples were wrong; in the first the page gives {computed} ns, {between}",
        )
    count.good += good
    count.ticks += ticks
    count.of += samples
    count.width_ns += width
    if not good:
        failed(layout, CLOCKS[number], f"the page changed during each of {samples} samples")


def _proven(number: int, count: Count, offsets: dict[int, int], what: str) -> Proof:
    if number in offsets:
        what += ", with the namespace's offset"
    width = None if number in COARSE else count.width_ns / count.good
    return Proof(CLOCKS[number], what, True, count.good, count.of, count.ticks, width)


def _realtime(layout: Layout, data: bytes) -> Proof:
    """Without a counter REALTIME's seconds are kept up for time(), and are those of the coarse clock."""
    fine, coarse = (
        struct.unpack_from("=Q", data, layout.bases + number * BASE_BYTES)[0] for number in (0, 5)
    )
    if fine != coarse:
        failed(layout, "REALTIME's seconds", f"{fine}, and those of REALTIME_COARSE are {coarse}")
    return Proof("REALTIME's seconds", "are those of REALTIME_COARSE", True, 1, 1)


# ---- the rest of the page ----


def _namespace(namespace: TimeNamespace) -> Proof:
    """The offsets against the kernel's text. That is of the namespace that children will be in: the same, but
    between an unshare and the next exec."""
    name, what = "time namespace", f"offsets are those of {TIMENS_OFFSETS}"
    try:
        if os.readlink("/proc/self/ns/time") != os.readlink("/proc/self/ns/time_for_children"):
            return Proof(name, what, None, why="the process has unshared another one for its children")
        with open(TIMENS_OFFSETS, encoding="ascii") as stream:
            lines = [line.split() for line in stream]
    except OSError as error:
        return Proof(name, what, None, why=f"{TIMENS_OFFSETS}: {(error.strerror or str(error)).lower()}")
    said = {words[0].upper(): (int(words[1]), int(words[2])) for words in lines if len(words) == 3}
    good = 0
    for offset in namespace.offsets:
        expected = said.get("BOOTTIME" if offset.clock == "BOOTTIME" else "MONOTONIC")
        if (offset.sec, offset.nsec) != expected:
            raise VvarUnproven(
                f"proof failed: {name}: the page has {offset.sec} s {offset.nsec} ns for {offset.clock}, "
                f"{TIMENS_OFFSETS} {expected}",
                proof=name,
            )
        good += 1
    return Proof(name, what, True, good, good)


def _timezone(layout: Layout, address: int) -> tuple[Timezone, Proof]:
    found = struct.unpack("=ii", copy(address, 8, f"layout by {layout.method}"))
    said = _core.kernel_timezone()
    if found != said:
        failed(layout, "timezone", f"the page has {found}, gettimeofday gives {said}")
    return Timezone(*found), Proof("timezone", "is what gettimeofday gives", True, 1, 1)


def _resolution(layout: Layout, address: int) -> tuple[int, Proof]:
    (found,) = struct.unpack("=I", copy(address, 4, f"layout by {layout.method}"))
    said = round(time.clock_getres(time.CLOCK_MONOTONIC) * 1e9)
    if found != said:
        failed(layout, "resolution", f"the page has {found} ns, clock_getres gives {said}")
    return found, Proof("resolution", "is what clock_getres gives", True, 1, 1)


def _rng(layout: Layout, address: int) -> tuple[Rng, Proof]:
    data = copy(address, layout.rng_ready + 1, f"layout by {layout.method}")
    (generation,) = struct.unpack_from("=Q", data)
    ready = data[layout.rng_ready]
    try:
        os.getrandom(1, os.GRND_NONBLOCK)
        said = 1
    except BlockingIOError:
        said = 0
    if ready != said or (ready and not generation):
        failed(layout, "rng", f"generation {generation}, is_ready {ready}, and getrandom says {said}")
    what = "is_ready is what getrandom says, and then generation is not 0"
    return Rng(address, generation, bool(ready)), Proof("rng", what, True, 1, 1)
