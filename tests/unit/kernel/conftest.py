"""Kernels to look at: their types as BTF, their code, and memory that looks like their data page."""

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

IMAGE = 0x100000  # where assembled images are linked; what the tests see is relative to it
INT_MAX = 0x7FFFFFFF


class Types:
    """Makes BTF."""

    def __init__(self) -> None:
        self.names = bytearray(b"\0")
        self.words: list[int] = []
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        at = self.names.find(b"\0" + text.encode() + b"\0") + 1
        if not at:
            at = len(self.names)
            self.names += text.encode() + b"\0"
        return at

    def add(self, kind: int, name: str, size: int, *more: int, members: int = 0, flag: int = 0) -> int:
        """A type of its id, by the words that the format has."""
        self.words += [self.name(name), flag << 31 | kind << 24 | members, size, *more]
        self.count += 1
        return self.count

    def integer(self, name: str, size: int) -> int:
        return self.add(1, name, size, size * 8)

    def array(self, of: int, count: int) -> int:
        return self.add(3, "", 0, of, of, count)

    def struct(
        self, name: str, size: int, members: Sequence[tuple[str, int, int]], *, kind: int = 4, flag: int = 0
    ) -> int:
        """Members: name, type, offset in bytes."""
        words = [word for member, of, at in members for word in (self.name(member), of, at * 8)]
        return self.add(kind, name, size, *words, members=len(members), flag=flag)

    def union(self, members: Sequence[tuple[str, int, int]], size: int) -> int:
        return self.struct("", size, members, kind=5)

    def enum(self, name: str, values: dict[str, int], *, signed: bool = False) -> int:
        words = [word for key, value in values.items() for word in (self.name(key), value & 0xFFFFFFFF)]
        return self.add(6, name, 4, *words, members=len(values), flag=int(signed))

    def encode(self) -> bytes:
        types = b"".join(word.to_bytes(4, "little") for word in self.words)
        header = [24, 0, len(types), len(types), len(self.names)]
        head = (0xEB9F).to_bytes(2, "little") + b"\1\0"
        return head + b"".join(word.to_bytes(4, "little") for word in header) + types + bytes(self.names)


@dataclass(frozen=True)
class Kernel:
    """One of the table: what stands where. `before`: bytes from [vvar] to the image."""

    version: int
    clocks: int
    stride: int
    bases: int
    namespace_page: int
    rng: int | None
    before: int = 6 * 4096
    vvar_bytes: int = 4 * 4096
    tail: int | None = field(default=None)

    def types(self, *, without: str = "") -> bytes:
        """The kernel's BTF; `without` a member, an enum's value or a type of that name."""
        types = Types()
        ids = {
            name: types.integer(name, size) for name, size in (("u8", 1), ("u32", 4), ("int", 4), ("u64", 8))
        }
        u32 = types.add(8, "u32_alias", ids["u32"])

        def kept(*members: tuple[str, int, int]) -> list[tuple[str, int, int]]:
            return [member for member in members if member[0] != without]

        def named(name: str) -> str:
            return name + "_gone" if name == without else name

        stamp = types.struct("vdso_timestamp", 16, [("sec", ids["u64"], 0), ("nsec", ids["u64"], 8)])
        union = types.union([("basetime", types.array(stamp, 12), 0)] if without != "basetime" else [], 192)
        members = kept(("seq", u32, 0), ("clock_mode", ids["int"], 4), ("cycle_last", ids["u64"], 8))
        members += kept(("max_cycles", ids["u64"], 16)) if self.bases == 40 else []
        members += kept(
            ("mask", ids["u64"], self.bases - 16),
            ("mult", u32, self.bases - 8),
            ("shift", u32, self.bases - 4),
        )
        members += [("", union, self.bases)]
        rest = self.bases + 192
        tail = [("tz_minuteswest", ids["int"], 0), ("tz_dsttime", ids["int"], 4), ("hrtimer_res", u32, 8)]
        if self.tail is None:
            members += kept(*((name, of, rest + at) for name, of, at in tail))
            types.struct(named("vdso_data"), self.stride, members)
        else:
            clock = types.struct(named("vdso_clock"), self.stride, members)
            whole = [("clock_data", types.array(clock, 2), 0)]
            whole += [(name, of, self.tail + at) for name, of, at in tail]
            types.struct(named("vdso_time_data"), self.tail + 16, kept(*whole))
            pages = {"TIME_PAGE_OFFSET": 0, "TIMENS_PAGE_OFFSET": 1, "RNG_PAGE_OFFSET": 2, "NR_PAGES": 4}
            values = {"VDSO_" + name: value for name, value in pages.items() if "VDSO_" + name != without}
            types.enum(named("vdso_pages"), values)
        if self.rng is not None:
            types.struct(
                named("vdso_rng_data"), 16, kept(("generation", ids["u64"], 0), ("is_ready", ids["u8"], 8))
            )
        modes = {"NONE": 0, "TSC": 1, "PVCLOCK": 2, "HVCLOCK": 3, "MAX": 4, "TIMENS": INT_MAX}
        types.enum(
            named("vdso_clock_mode"), {"VDSO_CLOCKMODE_" + name: value for name, value in modes.items()}
        )
        return types.encode()

    def source(self) -> dict[str, str]:
        """Its functions in assembly, as far as they name the page."""
        mode, sec = self.clocks + 4, self.clocks + self.bases
        away = self.namespace_page * 4096
        time = f"""
            cmpl $0x7fffffff, page+{mode}(%rip)
            lea page+{away}(%rip), %rax
            je 1f
            sub ${away}, %rax
        1:  mov {sec}(%rax), %rax
            test %rdi, %rdi
            je 2f
            mov %rax, (%rdi)
        2:  xor %edi, %edi
            ret"""
        gettime = f"""
            lea page+{self.clocks}(%rip), %r10
            cmp $4, %edi
            jne 1f
            lea page+{away + self.clocks + self.stride}(%rip), %r9
        1:  mov $228, %eax
            syscall
            ret"""
        found = {"__vdso_time": time, "__vdso_clock_gettime": gettime}
        if self.rng is not None:
            found["__vdso_getrandom"] = (
                f"movzbl page+{self.rng + 8}(%rip), %eax\nmov page+{self.rng}(%rip), %rax\nret"
            )
        return found


KERNELS = {
    "5.10": Kernel(0x050A10, 128, 240, 32, 3, None, before=4 * 4096),
    "6.9": Kernel(0x060901, 128, 240, 32, 3, None, before=4 * 4096),
    "6.12": Kernel(0x060C05, 128, 248, 40, 3, 640, before=4 * 4096),
    "6.16": Kernel(0x061000, 0, 232, 40, 1, 8192, tail=464),
    "6.18": Kernel(0x06122C, 0, 232, 40, 1, 8192, tail=2320),
}


@pytest.fixture(scope="session")
def kernels() -> dict[str, Kernel]:
    return KERNELS


@pytest.fixture(scope="session")
def types() -> type[Types]:
    return Types


@pytest.fixture(scope="session")
def assemble(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Bytes of assembly that names `page`, `before` bytes before the image, and stands `at` bytes from its
    start."""
    directory = tmp_path_factory.mktemp("code")
    made: dict[tuple[str, int, int], bytes] = {}

    def make(source: str, at: int = 0x400, before: int = 6 * 4096) -> bytes:
        if (source, at, before) not in made:
            (directory / "code.s").write_text(source + "\n", encoding="utf-8")
            subprocess.run(["as", "-o", directory / "code.o", directory / "code.s"], check=True)
            words = ["ld", f"-Ttext={IMAGE + at:#x}", f"--defsym=page={IMAGE - before:#x}", "-e", "0"]
            words += ["--oformat", "binary", "-o", directory / "code", directory / "code.o"]
            subprocess.run(words, check=True)
            made[source, at, before] = (directory / "code").read_bytes()
        return made[source, at, before]

    return make


@pytest.fixture(scope="session")
def image_of(assemble: Callable[..., bytes]) -> Callable[..., SimpleNamespace]:
    """An image that has a kernel's functions, as far as the layout asks for them."""

    def make(kernel: Kernel, **other: str) -> SimpleNamespace:
        places, code = {}, {}
        for number, (name, source) in enumerate({**kernel.source(), **other}.items()):
            places[name] = 0x400 * (number + 1)
            code[name] = assemble(source, places[name], kernel.before)
        return SimpleNamespace(
            machine="x86-64",
            version_note=kernel.version,
            kernel_version="of the tests",
            lookup=lambda name: SimpleNamespace(name=name, value=places[name]) if name in places else None,
            code=lambda function: code[function.name],
        )

    return make


@pytest.fixture(scope="session")
def reading(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """reading.c: a clock_gettime that goes by a page of ours."""
    path = tmp_path_factory.mktemp("reading") / "reading.so"
    source = Path(__file__).with_name("reading.c")
    subprocess.run(["gcc", "-O1", "-Wall", "-shared", "-fPIC", "-o", path, source], check=True)
    return ctypes.CDLL(str(path))
