"""The page decoded and proven: pages of every known kernel in memory of our own, and each proof with what it
must refuse."""

import contextlib
import ctypes
import dataclasses
import mmap
import struct
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdso import _core
from vdso.commands.vvar import show
from vdso.errors import NoVvar, VvarUnproven
from vdso.kernel import layout, maps, proof, tick, vvar
from vdso.kernel.datapage import CLOCKS, Place, copy

PAGE = 4096
SHIFT = 24
MULT = 7_294_442  # some 2.3 GHz
MOST = int(2**64 / (MULT * 1.11))
MODES = {"none": 0, "tsc": 1, "pvclock": 2, "hvclock": 3, "timens": 0x7FFFFFFF}
VERSIONS = ("5.10", "6.12", "6.18")
MEMBERS = (
    "time_page",
    "namespace_page",
    "clocks",
    "stride",
    "seq",
    "mode",
    "cycle_last",
    "max_cycles",
    "mask",
    "mult",
)
MEMBERS += ("shift", "bases", "timezone", "hrtimer_res", "rng", "rng_ready")
# Seconds and ns of each clock at the last update.
STOOD = {
    0: (1_800_000_000, 111_222_333),
    1: (5_000, 44),
    4: (5_001, 999_999_999),
    5: (1_800_000_000, 111_222_333),
    6: (5_000, 44),
    7: (9_000, 7),
    11: (1_800_000_037, 111_222_333),
}


class Memory:
    """Pages that look like a kernel's data, with holes where that kernel has none; and who reads them as a
    vDSO does."""

    def __init__(self, kernel: Any, reading: ctypes.CDLL, find: Callable[..., layout.Layout]) -> None:
        self.kernel, self.reading = kernel, reading
        self.layout = find(kernel)
        self.pages = kernel.before // PAGE
        self.memory = mmap.mmap(-1, kernel.before)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.home = 0
        # As the kernel's: what is not used raises SIGBUS, which here a page without rights stands for.
        self.backed = {0} if kernel.rng is None or kernel.rng < PAGE else {0, kernel.rng // PAGE}

    def put(self, form: str, offset: int, *values: int, page: int | None = None) -> None:
        struct.pack_into(form, self.memory, (self.home if page is None else page) * PAGE + offset, *values)

    def clock(self, index: int) -> int:
        return self.layout.clocks + index * self.layout.stride

    def fill(self, mode: str = "tsc", *, sequence: int = 1000) -> None:
        """An update just now."""
        now = self.count()
        for index in (0, 1):
            at, here = self.clock(index), self.layout
            self.put("=Ii", at, sequence, MODES[mode])
            self.put("=Q", at + here.cycle_last, now)
            self.put("=QII", at + here.mask, 2**64 - 1, MULT, SHIFT)
            if here.max_cycles is not None:
                self.put("=Q", at + here.max_cycles, MOST)
        for number, (sec, nsec) in STOOD.items():
            at = self.clock(int(number == 4)) + self.layout.bases + number * 16
            self.put("=QQ", at, sec, nsec if number in (5, 6) else nsec << SHIFT)
        if self.layout.timezone is not None:
            self.put("=iiI", self.layout.timezone, *_core.kernel_timezone(), 1)
        if self.kernel.rng is not None:
            self.put("=QB", self.kernel.rng, 31, 1, page=0)
        self.reading.look(
            ctypes.c_void_p(self.address + self.home * PAGE + self.layout.clocks),
            self.layout.stride,
            self.layout.cycle_last,
            self.layout.mult,
            self.layout.shift,
            self.layout.bases,
        )

    def count(self) -> int:
        self.reading.counter.restype = ctypes.c_uint64
        return int(self.reading.counter())

    def namespace(self, monotonic_ns: int, boottime_ns: int) -> None:
        """Puts the clocks on the page behind, and the offsets where they were."""
        self.home = self.layout.namespace_page or 0
        self.backed.add(self.home)
        for index, numbers in ((0, (1, 6, 7)), (1, (4,))):
            self.put("=Ii", self.clock(index), 1, MODES["timens"], page=0)
            for number in numbers:
                ns = boottime_ns if number == 7 else monotonic_ns
                at = self.clock(index) + self.layout.bases + number * 16
                self.put("=qQ", at, *divmod(ns, 10**9), page=0)
        self.fill()
        for number in (1, 4, 6, 7):
            self.reading.offset(number, ctypes.c_int64(boottime_ns if number == 7 else monotonic_ns))

    def place(self) -> Place:
        """Closes the pages that are not used, and says where the others are."""
        libc = ctypes.CDLL(None, use_errno=True)
        for page in range(self.pages):
            rights = mmap.PROT_READ | mmap.PROT_WRITE if page in self.backed else 0
            assert libc.mprotect(ctypes.c_void_p(self.address + page * PAGE), PAGE, rights) == 0

        def mapping(first: int, size: int, name: str) -> maps.Mapping:
            return maps.Mapping(first, first + size, "r--p", 0, "00:00", 0, name)

        size = self.kernel.vvar_bytes
        more = self.kernel.before - size
        return Place(
            vvar=mapping(self.address, size, "[vvar]"),
            vclock=mapping(self.address + size, more, "[vvar_vclock]") if more else None,
            image=SimpleNamespace(machine="x86-64", kernel_version="of the tests"),  # type: ignore[arg-type]
            image_address=self.address + self.kernel.before,
            clock_gettime=ctypes.cast(self.reading.say, ctypes.c_void_p).value or 0,
            runs_on="kernel",
        )

    def read(self) -> vvar.Vvar:
        return vvar.decode(self.place(), self.layout)


@pytest.fixture
def remember(
    kernels: Any, image_of: Callable[..., Any], reading: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Memory]:
    from vdso.kernel.btf import Btf

    def find(kernel: Any) -> layout.Layout:
        image = image_of(kernel)
        return layout.find(image, kernel.before, kernel.vvar_bytes, "btf", types=lambda: Btf(kernel.types()))[
            0
        ]

    # Nobody updates these pages: there is nothing to wait for.
    monkeypatch.setattr(proof, "WAIT_NS", 0)
    return lambda version: Memory(kernels[version], reading, find)


def proofs(page: vvar.Vvar) -> dict[str, Any]:
    return {one.name: one for one in page.proofs}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_known_kernel(remember: Callable[..., Memory], version: str) -> None:
    memory = remember(version)
    memory.fill()
    page = memory.read()
    assert (page.method, page.mode, page.time_namespace) == ("btf", "tsc", None)
    first, raw = page.clocks
    for clock in page.clocks:
        assert (clock.sequence, clock.mode, clock.mult, clock.shift) == (1000, "tsc", MULT, SHIFT)
        assert clock.mask == 2**64 - 1
        assert clock.max_cycles == (None if version == "5.10" else MOST)
        assert clock.counter_hz == pytest.approx(2.3e9, rel=1e-3)
    assert raw.address - first.address == memory.layout.stride
    stood = {base.clock_id: (base.sec, base.nsec) for clock in page.clocks for base in clock.bases}
    assert stood == STOOD
    assert [base.clock_id for base in raw.bases] == [4]
    assert page.hrtimer_res_ns == 1
    assert page.timezone is not None
    assert (page.rng is None) == (version == "5.10")
    assert all(one.holds for one in page.proofs)
    found = proofs(page)
    assert set(CLOCKS.values()) < set(found)
    assert all(found[name].good == found[name].of > 1000 for name in CLOCKS.values())
    read = [one for one in page.pages if one.read]
    assert [one.name for one in read] == (["time"] if version != "6.18" else ["time", "rng"])
    assert len(page.pages) == memory.pages


# ---- modes ----


@pytest.mark.parametrize("version", VERSIONS)
def test_mode_none(remember: Callable[..., Memory], version: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the kernel does not keep up then is not shown, and what cannot be run says so."""
    memory = remember(version)
    memory.fill("none")
    page = memory.read()
    assert page.mode == "none"
    for clock in page.clocks:
        assert (clock.cycle_last, clock.mask, clock.mult, clock.shift, clock.counter_hz) == (None,) * 5
    assert [base.clock_id for base in page.clocks[0].bases] == [0, 5, 6]
    assert page.clocks[1].bases == ()
    found = proofs(page)
    assert {name for name, one in found.items() if one.holds is None} == {
        "REALTIME",
        "MONOTONIC",
        "MONOTONIC_RAW",
        "BOOTTIME",
        "TAI",
    } | {"mask"} | (set() if version == "5.10" else {"max_cycles"})
    assert "no vDSO path" in found["MONOTONIC"].why
    assert found["MONOTONIC_COARSE"].good == found["MONOTONIC_COARSE"].of
    assert found["REALTIME's seconds"].holds
    show(page)
    text = capsys.readouterr().out
    assert "none: every read is a system call" in text
    said = [line.split() for line in text.splitlines()]
    assert ["cycle_last", "not", "kept", "not", "kept"] in said
    assert ["TAI", "not", "run"] in [line[:3] for line in said]
    memory.put("=Q", memory.clock(0) + memory.layout.bases, 5)
    refused(memory, "REALTIME's seconds")


@pytest.mark.parametrize("version", VERSIONS)
def test_mode_pvclock(remember: Callable[..., Memory], version: str) -> None:
    """On a hypervisor's line that is the counter itself: half of twice as much."""
    memory = remember(version)
    memory.fill("pvclock")
    number = 4 if version == "6.18" else 1
    stamp = memory.count() - 1000
    memory.put("=IIQQIbB", 0, 2, 0, stamp, stamp, 0x80000000, 1, 1, page=number)
    memory.backed.add(number)
    page = memory.read()
    assert page.mode == "pvclock"
    assert all(one.holds for one in page.proofs)
    assert [one.name for one in page.pages if one.read][-1] == "pvclock"
    memory.put("=IIQQIbB", 0, 2, 0, stamp, stamp, 0x80000000, 2, 1, page=number)
    refused(memory, "REALTIME")
    memory.backed.remove(number)
    refused(memory, "backed")


def test_mode_hvclock(remember: Callable[..., Memory]) -> None:
    memory = remember("6.18")
    memory.fill("hvclock")
    assert "not one that vdso reads" in proofs(memory.read())["TAI"].why


# ---- what is refused ----


def refused(memory: Memory, name: str, match: str = ".") -> None:
    with pytest.raises(VvarUnproven, match=match) as caught:
        memory.read()
    assert caught.value.proof == name
    assert caught.value.hint
    if name != "backed":
        assert caught.value.message.startswith(f"proof failed: {name}: ")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_page_that_is_something_else(remember: Callable[..., Memory], version: str) -> None:
    memory = remember(version)
    at, here = memory.clock(0), memory.layout
    for name, form, offset, value, match in (
        ("mode", "=i", at + here.mode, 9, "9 is in no enum vdso_clock_mode"),
        ("mode", "=i", at + here.mode, 2**31 - 2, "2147483646 is in no enum"),
        ("mode", "=i", memory.clock(1) + here.mode, 0, "tsc and none"),
        ("shift", "=I", at + here.shift, 33, "clock 0 has 33"),
        ("shift", "=I", memory.clock(1) + here.mult, 0, "clock 1 has mult 0"),
        ("mask", "=Q", at + here.mask, 0xFFFF00FF, "clock 0 has 0xffff00ff, with holes"),
        ("mask", "=Q", at + here.mask, 0, "clock 0 has 0x0"),
        ("REALTIME_COARSE", "=Q", at + here.bases + 5 * 16 + 8, 111_222_334, ""),
    ):
        memory.fill()
        memory.put(form, offset, value)
        # The function of the tests reads the same page: what is wrong of a coarse clock must be elsewhere.
        if name == "REALTIME_COARSE":
            memory.reading.offset(5, ctypes.c_int64(-1))
            match = "1000 of 1000 samples were wrong; .* 18.*334 ns, and clock_gettime says"
        refused(memory, name, match)


@pytest.mark.parametrize("number", [0, 1, 4, 7, 11])
def test_a_fine_clock_that_is_another(remember: Callable[..., Memory], number: int) -> None:
    memory = remember("6.18")
    memory.fill()
    memory.reading.offset(number, ctypes.c_int64(3_600_000_000_000))
    refused(
        memory,
        CLOCKS[number],
        r"1000 of 1000 samples .* which is not between \d+ and \d+ \(layout by btf\)",
    )


@pytest.mark.parametrize("most", [0, 1000, MOST // 2, MOST * 2, 2**64 - 2])
def test_max_cycles(remember: Callable[..., Memory], most: int) -> None:
    memory = remember("6.18")
    memory.fill()
    memory.put("=Q", memory.clock(1) + 16, most)
    refused(memory, "max_cycles", f"clock 1 has {most}, with mult {MULT}")
    memory.put("=Q", memory.clock(1) + 16, 2**64 - 1)  # a counter that mult can never overflow
    assert proofs(memory.read())["max_cycles"].holds


def test_a_sequence_that_stays_odd(remember: Callable[..., Memory]) -> None:
    memory = remember("6.18")
    memory.fill(sequence=1001)
    refused(memory, "sequence", "odd")


def test_what_changes_under_one_sequence(remember: Callable[..., Memory]) -> None:
    memory = remember("6.18")
    memory.fill()
    memory.reading.scribble()
    refused(memory, "sequence", "changed under the same sequence 1000")


@pytest.mark.parametrize(("version", "offset"), [("5.10", 128 + 224), ("6.18", 2320)])
def test_timezone_and_resolution(remember: Callable[..., Memory], version: str, offset: int) -> None:
    memory = remember(version)
    memory.fill()
    memory.put("=i", offset, 61)
    refused(memory, "timezone", "the page has .61, ")
    memory.fill()
    memory.put("=I", offset + 8, 4_000_000)
    refused(memory, "resolution", "4000000 ns")


@pytest.mark.parametrize(("generation", "ready"), [(0, 1), (31, 0), (31, 2)])
def test_random_data(remember: Callable[..., Memory], generation: int, ready: int) -> None:
    memory = remember("6.18")
    memory.fill()
    memory.put("=QB", memory.kernel.rng, generation, ready, page=0)
    refused(memory, "rng")


def test_a_page_that_is_not_there(remember: Callable[..., Memory]) -> None:
    memory = remember("6.18")
    memory.fill()
    memory.backed = {0}
    refused(memory, "backed", "is not backed")
    memory.backed = {2}
    refused(memory, "backed", "is not backed")
    memory.backed = {0, 2}
    for page in (1, 3):
        memory.layout = dataclasses.replace(memory.layout, time_page=page)
        refused(memory, "backed", "is not backed")


# ---- time namespaces ----


@pytest.fixture
def said(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def say(monotonic_ns: int, boottime_ns: int) -> None:
        lines = [
            f"{name} {sec:10} {nsec:9}\n"
            for name, (sec, nsec) in (
                ("monotonic", divmod(monotonic_ns, 10**9)),
                ("boottime", divmod(boottime_ns, 10**9)),
            )
        ]
        (tmp_path / "offsets").write_text("".join(lines), encoding="ascii")
        monkeypatch.setattr(proof, "TIMENS_OFFSETS", f"{tmp_path}/offsets")

    return say


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ns", [0, 10**15 + 5, -4_000_000_000_001])
def test_a_time_namespace(remember: Callable[..., Memory], said: Any, version: str, ns: int) -> None:
    memory = remember(version)
    memory.namespace(ns, ns // 2)
    said(ns, ns // 2)
    page = memory.read()
    assert page.time_namespace is not None
    assert {one.clock: one.ns for one in page.time_namespace.offsets} == {
        "MONOTONIC": ns,
        "MONOTONIC_RAW": ns,
        "MONOTONIC_COARSE": ns,
        "BOOTTIME": ns // 2,
    }
    assert page.clocks[0].address == memory.address + memory.home * PAGE + memory.layout.clocks
    assert page.clocks[0].bases[1].sec == STOOD[1][0]
    assert all(one.holds for one in page.proofs)
    names = [one.name for one in page.pages if one.read]
    assert names[0] == "timens"
    assert "time" in names
    said(ns + 1, ns // 2)
    refused(memory, "time namespace")
    memory.reading.offset(7, ctypes.c_int64(ns))
    said(ns, ns // 2)
    if ns:
        refused(memory, "BOOTTIME")


def test_a_time_namespace_that_the_layout_knows_nothing_of(remember: Callable[..., Memory]) -> None:
    memory = remember("6.18")
    memory.namespace(5, 5)
    memory.layout = dataclasses.replace(memory.layout, namespace_page=None)
    with pytest.raises(VvarUnproven, match="where a time namespace has the clocks"):
        memory.read()


# ---- this process's own ----


def own() -> bool:
    return maps.area().image is not None


@pytest.mark.skipif(not own(), reason="this process has no vDSO")
def test_wrong_layouts_of_the_real_page() -> None:
    """Every page and place that a wrong layout may name: refused, with this process alive to say so."""
    where = vvar.place()
    right, _ = layout.find(where.image, where.before, where.vvar.size)
    tried = 0
    for page in range(where.vvar.size // PAGE):
        for clocks in (0, 8, 128, 1024, PAGE - right.stride - right.clock_bytes):
            wrong = dataclasses.replace(right, time_page=page, clocks=clocks)
            if wrong != right:
                tried += 1
                with pytest.raises(VvarUnproven):
                    vvar.decode(where, wrong)
    for field, value in (("stride", 248), ("mult", 36), ("bases", 32), ("cycle_last", 16), ("rng", 3 * PAGE)):
        tried += 1
        with pytest.raises(VvarUnproven):
            vvar.decode(where, dataclasses.replace(right, **{field: value}))
    assert tried >= 20


@pytest.mark.skipif(not own(), reason="this process has no vDSO")
@settings(max_examples=150, deadline=5000)
@given(st.data())
def test_any_layout_of_the_real_page(data: st.DataObject) -> None:
    """Refused, or what it should be, or what no proof can tell from it: the process goes on in any case."""
    where = vvar.place()
    wrong = layout.by_table(layout.machine_of(where.image), 0x061000)
    for field in data.draw(st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=4)):
        value = data.draw(
            st.one_of(st.integers(-1, 4), st.integers(0, 64).map(lambda n: n * 4), st.integers(0, 5 * PAGE))
        )
        wrong = dataclasses.replace(wrong, **{field: value})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "WAIT_NS", 0)
        with contextlib.suppress(VvarUnproven):
            assert vvar.decode(where, wrong).proofs


def test_copying() -> None:
    assert copy(id(None), 8, "None")
    with pytest.raises(VvarUnproven, match="not backed"):
        copy(0, 8, "nothing")
    with pytest.raises(OSError, match="Invalid argument"):
        _core.vvar_copy(id(None), 1 << 30)


def test_clocks_that_cannot_be() -> None:
    members = {"seq": 0, "mode": 4, "cycle_last": 8, "mask": 24, "mult": 32, "shift": 36, "bases": 40}
    with pytest.raises(OSError, match="Bad address"):
        _core.VvarClock(4096, size=232, **members)
    with pytest.raises(OSError, match="Invalid argument"):
        _core.VvarClock(4096, size=231, **members)
    with pytest.raises(OSError, match="Invalid argument"):
        _core.VvarClock(4096)


@pytest.mark.parametrize("names", [(), ("[vdso]",), ("[vvar_vclock]", "[vdso]")])
def test_no_page(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        maps.Mapping(0x1000 * n, 0x1000 * (n + 1), "r--p", 0, "00:00", 0, name)
        for n, name in enumerate(names)
    ]
    monkeypatch.setattr(maps, "area", lambda: maps.area_of(found))
    with pytest.raises(NoVvar, match=r"has no vDSO" if not names else r"no \[vvar\]") as caught:
        vvar.place()
    assert caught.value.exit_code == 1


# ---- updates ----


def test_percentiles() -> None:
    assert tick.percentile(Counter(), 50) is None
    each = Counter(range(101))
    assert [tick.percentile(each, percent) for percent in (0, 5, 50, 100)] == [0, 5000, 50_000, 100_000]
    assert tick.percentile(Counter({7: 1000, 9: 1}), 95) == 7000
    assert tick.percentile(Counter({7: 1000, 9: 1}), 100) == 9000


@pytest.mark.skipif(not own(), reason="this process has no vDSO")
@pytest.mark.parametrize("every_ns", [None, 20_000_000])
def test_updates_of_the_real_page(every_ns: int | None) -> None:
    watching = tick.Watch(vvar.read(), every_ns)
    seen: list[tick.Tick] = []
    start = time.monotonic_ns()
    for one in watching.ticks():
        if one is not None:
            seen.append(one)
        if len(seen) == 8:
            break
        assert time.monotonic_ns() - start < 30e9, "the page is not updated"
    rate = watching.rate()
    assert all(one.sequence % 2 == 0 for one in seen)
    assert sum(one.updates for one in seen[1:]) == (seen[-1].sequence - seen[0].sequence) % 2**32 // 2
    assert rate.updates == sum(one.updates for one in seen[1:])
    assert rate.unseen == rate.updates - 7
    assert seen[0].interval_ns is None
    assert [one.seen_ns for one in seen] == sorted(one.seen_ns for one in seen)
    assert all((one.interval_ns or 0) > 0 and (one.moved_ns or 1) > 0 for one in seen[1:])
    assert rate.seconds == pytest.approx((seen[-1].seen_ns - seen[0].seen_ns) / 1e9)
    assert rate.updates_per_s is not None
    assert 0 < rate.updates_per_s < 2000
    if every_ns is not None:
        assert all((one.interval_ns or 0) >= every_ns for one in seen[1:])


def test_a_page_that_has_moved(remember: Callable[..., Memory]) -> None:
    memory = remember("6.18")
    memory.fill()
    with pytest.raises((VvarUnproven, NoVvar)):
        next(tick.Watch(memory.read()).ticks())
