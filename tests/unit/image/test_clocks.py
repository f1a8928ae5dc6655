"""The image's functions at their edges: unknown clocks, NULL and bad pointers, as the kernel's own.

The long counts, and everything with threads or a keeper, are tests/c/test_clock.c and tests/c/test_image.c.
"""

import ctypes
import errno
import mmap
import os
import resource
import signal
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from vdso import _core
from vdso.swap.run import IMAGE

SERVED = [0, 1, 4, 5, 6, 7, 8, 9, 11]
WALL = [0, 5, 11]
INT_MIN, INT_MAX = -(2**31), 2**31 - 1
SYS_CLOCK_GETTIME, SYS_CLOCK_GETRES, SYS_GETTIMEOFDAY = 228, 229, 96
OFFSET_S, OFFSET_NS = 86_400_000, 123_456_789
NOWHERE = 8  # an address that nothing is mapped at

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Functions:
    """Functions by address: ours, or the kernel's."""

    def __init__(self, addresses: dict[str, int]) -> None:
        pointer, unsigned, size = ctypes.c_void_p, ctypes.c_uint, ctypes.c_size_t

        def bind(name: str, result: type, *arguments: type) -> Callable[..., int] | None:
            function = ctypes.CFUNCTYPE(result, *arguments)
            return function(addresses[name]) if name in addresses else None

        self.clock_gettime = bind("clock_gettime", ctypes.c_int, ctypes.c_int, pointer)
        self.clock_getres = bind("clock_getres", ctypes.c_int, ctypes.c_int, pointer)
        self.gettimeofday = bind("gettimeofday", ctypes.c_int, pointer, pointer)
        self.time = bind("time", ctypes.c_int64, pointer)
        self.getcpu = bind("getcpu", ctypes.c_long, pointer, pointer, pointer)
        self.getrandom = bind("getrandom", ctypes.c_long, pointer, size, unsigned, pointer, size)


class Session:
    """Our image in this process, on a page of its own."""

    def __init__(self, offset_ns: int) -> None:
        self.offset_ns = offset_ns
        self.page = _core.ClockPage.create("vdso-clock")
        if offset_ns:
            self.page.set_offset(*divmod(offset_ns, 10**9))
        else:
            self.page.set_identity()
        self.page.release()
        with open(IMAGE, "rb") as image:
            self.local = _core.LocalImage(image.fileno(), self.page.reader_fd)
        self.ours = Functions(self.local.functions)
        self.kernel = Functions(self.local.kernel)


@pytest.fixture(scope="module", params=[0, OFFSET_S * 10**9 + OFFSET_NS], ids=["kernel", "offset"])
def session(request: pytest.FixtureRequest) -> Session:
    return Session(request.param)


def system_call(number: int, *arguments: object) -> int:
    """0, or the negative errno, as the vDSO's functions answer."""
    ctypes.set_errno(0)
    return 0 if libc.syscall(number, *arguments) == 0 else -ctypes.get_errno()


def process_clock(pid: int) -> int:
    """The dynamic id of that process's CPU-time clock (clock_getcpuclockid)."""
    return ~pid << 3 | 2


# ---- clock ids ----


@pytest.mark.parametrize("clock_id", SERVED)
def test_clocks_that_the_kernel_serves(session: Session, clock_id: int) -> None:
    ts = ctypes.create_string_buffer(16)
    error = system_call(SYS_CLOCK_GETTIME, clock_id, ts)
    assert session.ours.clock_gettime(clock_id, ts) == error
    if error:  # an ALARM clock where there is no real-time clock device
        assert (clock_id, error) in [(8, -errno.EINVAL), (9, -errno.EINVAL)]
        return
    by = session.offset_ns if clock_id in (*WALL, 8) else 0
    before = _core.kernel_clock_ns(clock_id) + by
    now = session.local.clock_ns(clock_id)
    assert before <= now <= _core.kernel_clock_ns(clock_id) + by


def test_cpu_time_clocks(session: Session) -> None:
    for clock_id in (2, 3, process_clock(os.getpid()), process_clock(os.getppid()), process_clock(0)):
        before = _core.kernel_clock_ns(clock_id)
        now = session.local.clock_ns(clock_id)
        assert before <= now <= _core.kernel_clock_ns(clock_id), clock_id


def test_a_dynamic_clock_of_a_device(session: Session) -> None:
    """An id made of a descriptor (FD_TO_CLOCKID) that is no clock device."""
    ts = ctypes.create_string_buffer(16)
    with open("/dev/null", "rb") as device:
        clock_id = ~device.fileno() << 3 | 3
        error = system_call(SYS_CLOCK_GETTIME, clock_id, ts)
        assert error < 0
        assert session.ours.clock_gettime(clock_id, ts) == error


@pytest.mark.parametrize(
    "clock_id",
    [
        -1,
        -2,
        -3,
        -6,
        10,
        12,
        15,
        16,
        31,
        32,
        99,
        1 << 16,
        INT_MIN,
        INT_MIN + 1,
        INT_MAX,
        process_clock(2**22),
    ],
)
def test_clocks_that_there_are_not(session: Session, clock_id: int) -> None:
    ts = ctypes.create_string_buffer(b"\xa5" * 16, 16)
    for number, function in (
        (SYS_CLOCK_GETTIME, session.ours.clock_gettime),
        (SYS_CLOCK_GETRES, session.ours.clock_getres),
    ):
        error = system_call(number, clock_id, ts)
        if clock_id in (-1, 10, 16, 99, INT_MIN, INT_MAX) and number == SYS_CLOCK_GETTIME:
            assert error == -errno.EINVAL
        answer = function(clock_id, ts)
        # Linux 6.18's own vDSO has a resolution for CLOCK_AUX (16) while its system call has none.
        if number == SYS_CLOCK_GETRES and answer != error and session.kernel.clock_getres is not None:
            error = session.kernel.clock_getres(clock_id, ts)
        assert answer == error
        if error:
            assert ts.raw == b"\xa5" * 16


@pytest.mark.parametrize("clock_id", [*SERVED, 2, 3])
def test_resolution(session: Session, clock_id: int) -> None:
    theirs, ours = ctypes.create_string_buffer(16), ctypes.create_string_buffer(16)
    error = system_call(SYS_CLOCK_GETRES, clock_id, theirs)
    assert session.ours.clock_getres(clock_id, ours) == error
    assert ours.raw == theirs.raw
    assert session.ours.clock_getres(clock_id, None) == error


# ---- pointers that are NULL ----


def test_gettimeofday_without_a_time(session: Session) -> None:
    theirs, ours = ctypes.create_string_buffer(8), ctypes.create_string_buffer(b"\xa5" * 8, 8)
    assert system_call(SYS_GETTIMEOFDAY, None, theirs) == 0
    assert session.ours.gettimeofday(None, ours) == 0
    assert ours.raw == theirs.raw
    assert session.ours.gettimeofday(None, None) == 0


def test_gettimeofday_with_a_zone(session: Session) -> None:
    tv, theirs, ours = (ctypes.create_string_buffer(b"\xa5" * 16, 16) for _ in range(3))
    assert system_call(SYS_GETTIMEOFDAY, None, theirs) == 0
    before = session.local.clock_ns(0) // 1000
    assert session.ours.gettimeofday(tv, ours) == 0
    assert ours.raw == theirs.raw
    sec, usec = struct.unpack("=qq", tv.raw)
    assert before <= sec * 10**6 + usec <= session.local.clock_ns(0) // 1000


def test_time_with_and_without_a_pointer(session: Session) -> None:
    stored = ctypes.c_int64()
    before = session.local.clock_ns(5) // 10**9
    without = session.ours.time(None)
    got = session.ours.time(ctypes.byref(stored))
    assert before <= without <= got == stored.value <= session.local.clock_ns(5) // 10**9


def test_getcpu(session: Session) -> None:
    cpu, node = ctypes.c_uint(77777), ctypes.c_uint(77777)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        assert session.ours.getcpu(ctypes.byref(cpu), ctypes.byref(node), None) == 0
        assert cpu.value == max(allowed)
        assert os.path.exists(f"/sys/devices/system/cpu/cpu{cpu.value}")
        assert node.value != 77777
        cpu.value = 77777
        assert session.ours.getcpu(ctypes.byref(cpu), None, None) == 0
        assert cpu.value == max(allowed)
        assert session.ours.getcpu(None, ctypes.byref(node), None) == 0
        assert session.ours.getcpu(None, None, None) == 0
    finally:
        os.sched_setaffinity(0, allowed)


# ---- pointers that are bad ----


def ending(action: Callable[[], int | None]) -> str:
    """How a child ends that does it: "SIGSEGV", an errno's name, or "0"."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os._exit(-(action() or 0) & 0xFF)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    code = os.WEXITSTATUS(status)
    return errno.errorcode.get(code, str(code))


@pytest.fixture(scope="module")
def read_only() -> Iterator[int]:
    """The address of a page that may not be written."""
    page = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    assert libc.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ) == 0
    yield address
    assert libc.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_WRITE) == 0


@pytest.mark.parametrize("clock_id", [0, 1, 5])
def test_a_bad_pointer_faults_or_is_refused(session: Session, read_only: int, clock_id: int) -> None:
    for address in (None, NOWHERE, read_only, 2**64 - 16):
        assert ending(lambda at=address: session.ours.clock_gettime(clock_id, at)) in ("SIGSEGV", "EFAULT")
        if address is not None:
            assert ending(lambda at=address: session.ours.clock_getres(clock_id, at)) in ("SIGSEGV", "EFAULT")


def test_a_bad_pointer_for_a_system_call_is_refused(session: Session, read_only: int) -> None:
    for address in (None, NOWHERE, read_only):
        assert ending(lambda at=address: session.ours.clock_gettime(2, at)) == "EFAULT"


def test_bad_pointers_of_the_others(session: Session, read_only: int) -> None:
    refused = ("SIGSEGV", "EFAULT")
    room = ctypes.create_string_buffer(16)
    for bad in (NOWHERE, read_only):
        assert ending(lambda at=bad: session.ours.gettimeofday(at, None)) in refused
        assert ending(lambda at=bad: session.ours.gettimeofday(room, at)) in refused
        assert ending(lambda at=bad: session.ours.gettimeofday(None, at)) in refused
        assert ending(lambda at=bad: 0 * session.ours.time(at)) in refused
        assert ending(lambda at=bad: session.ours.getcpu(at, None, None)) in refused


def test_an_unknown_clock_needs_no_pointer(session: Session) -> None:
    for clock_id in (-1, 99, INT_MIN):
        assert ending(lambda at=clock_id: session.ours.clock_gettime(at, NOWHERE)) == "EINVAL"


# ---- getrandom ----


def test_getrandoms_parameters_are_the_kernels(session: Session) -> None:
    ours, theirs = (ctypes.create_string_buffer(b"\xa5" * 64, 64) for _ in range(2))
    if session.kernel.getrandom is None:
        assert session.ours.getrandom(None, 0, 0, ours, 2**64 - 1) == -errno.ENOSYS
        return
    assert session.kernel.getrandom(None, 0, 0, theirs, 2**64 - 1) == 0
    assert session.ours.getrandom(None, 0, 0, ours, 2**64 - 1) == 0
    assert ours.raw == theirs.raw
    size, prot, flags = struct.unpack_from("=III", ours)
    assert 0 < size <= mmap.PAGESIZE
    libc.mmap.restype = ctypes.c_void_p
    state = libc.mmap(None, ctypes.c_size_t(4096), prot, flags, -1, 0)
    assert state != 2**64 - 1
    drawn = set()
    for _ in range(100):
        room = ctypes.create_string_buffer(16)
        assert session.ours.getrandom(room, 16, 0, state, size) == 16
        drawn.add(room.raw)
    assert len(drawn) == 100


# ---- pages that change ----


def test_an_offset_can_change_under_a_reader() -> None:
    """A step holds from the next read on; a clock that is only the kernel's stays so."""
    page = _core.ClockPage.create("vdso-clock")
    page.set_offset(0, 1)
    with open(IMAGE, "rb") as image:
        local = _core.LocalImage(image.fileno(), page.reader_fd)
    for sec in (0, 10**9, -(10**9), 2**33, -(2**33), 5):
        page.set_offset(sec, 999_999_999)
        by = sec * 10**9 + 999_999_999
        for clock_id in WALL:
            ts = ctypes.create_string_buffer(16)
            before = _core.kernel_clock_ns(clock_id) + by
            assert Functions(local.functions).clock_gettime(clock_id, ts) == 0
            got_sec, got_nsec = struct.unpack("=qq", ts.raw)
            assert 0 <= got_nsec < 10**9
            assert before <= got_sec * 10**9 + got_nsec <= _core.kernel_clock_ns(clock_id) + by
        assert abs(local.clock_ns(1) - time.monotonic_ns()) < 10**9
    page.release()


def test_a_process_that_may_not_use_the_counter() -> None:
    """VDSO_PROCESS_NO_COUNTER: the kernel's clock, and the offset, whatever the page says of counters."""
    page = _core.ClockPage.create("vdso-clock")
    page.set_offset(OFFSET_S, OFFSET_NS)
    page.release()
    with open(IMAGE, "rb") as image:
        local = _core.LocalImage(image.fileno(), page.reader_fd, 1)
    by = OFFSET_S * 10**9 + OFFSET_NS
    before = _core.kernel_clock_ns(0) + by
    assert before <= local.clock_ns(0) <= _core.kernel_clock_ns(0) + by
