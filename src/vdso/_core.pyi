"""The mechanism, in C: see c/binding, one file a type."""

from types import TracebackType
from typing import Any, NoReturn, Self, final

from typing_extensions import Buffer

# constants.c: the layouts of c/include.
LINE_BYTES: int
PAGE_MAGIC: int
PAGE_FORMAT: int
PAGE_HEADER_BYTES: int
PAGE_HEAD_OFFSET: int
PAGE_HEARTBEAT_OFFSET: int
PAGE_WRITER_PID_OFFSET: int
PAGE_WRITER_START_OFFSET: int
SLOTS_MAX: int
RECORD_BYTES_MAX: int
CLOCK_IDS: int
CLOCK_SLOTS: int
CLOCK_SCHEMA: int
CLOCK_RECORD_BYTES: int
CLOCK_BYTES: int
CLOCK_LEAD_NS: int
DATA_BYTES: int
IMAGE_BYTES: int
IMAGE_FILE_BYTES: int

def page_shape(slots: int, record_size: int, /) -> tuple[int, int]:
    """The bytes from one slot to the next, and of the header and all slots together."""

# clock.c
def kernel_clock_ns(clock_id: int, /) -> int:
    """The kernel's clock in ns, by the true system call. OSError for a clock that it does not have."""

def kernel_timezone() -> tuple[int, int]:
    """The kernel's time zone: (minutes west of Greenwich, DST). Raises OSError."""

# counter.c
def counter_compare(budget_ns: int, /) -> tuple[int, int, int, int, bool, bool]:
    """(pairs of CPUs, handovers, warps, widest in counts, whether every pair met often enough). OSError."""

def counter_allowed() -> bool:
    """Whether this process may read the counter: False after PR_SET_TSC. OSError."""

def clock_step(clock_id: int, limit_ns: int, /) -> int:
    """The smallest step in ns between two reads of the clock; 0: it stood still for limit_ns. OSError."""

# held.c
def held_ask() -> None:
    """In a forked child: its next successful exec stops it before its first instruction. OSError."""

def held_wait(pid: int, /) -> bool:
    """Whether the child is held at its exec; False: it has ended. By the thread that forked it. OSError."""

# page.c
@final
class Page:
    """A page in a file: its descriptors, which are not to be closed, and its shape."""

    @classmethod
    def create(cls, name: str, record_size: int, *, slots: int = 4, schema_hash: int = 0) -> Self:
        """An empty page in a new memfd. record_size: bytes, a multiple of 8; slots: a power of two."""
    @classmethod
    def from_fd(cls, fd: int, /) -> Self:
        """The page that fd, which stays the caller's, has open. Raises errors.PageNotThere."""
    def holder(self) -> int:
        """The pid of the process that has the writer's lock, 0 when no other process has."""
    @property
    def fd(self) -> int: ...
    @property
    def reader_fd(self) -> int:
        """A read-only descriptor: what readers are given."""
    @property
    def slots(self) -> int: ...
    @property
    def record_size(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def schema_hash(self) -> int: ...

@final
class PageWriter:
    """The page's one writer. Raises errors.PageBusy, whose `pid` says who writes."""

    def __new__(cls, page: Page) -> Self: ...
    def write(self, record: Buffer, /, *, wake: bool = False) -> int:
        """Publishes record_size bytes and returns their version."""
    def stage(self, record: Buffer, /) -> int:
        """The first half of write(), invisible until finish(). Returns the version that it will have."""
    def finish(self, *, wake: bool = False) -> int: ...
    def beat(self, now_ns: int | None = None, /) -> None:
        """Stores the heartbeat, CLOCK_MONOTONIC in ns: now, if not given."""
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> None: ...

@final
class PageReader:
    """A read-only mapping of the page that fd has open. Raises errors.PageNotThere."""

    def __new__(cls, fd: int) -> Self: ...
    def read(self, *, max_age_ns: int = 0) -> tuple[int, bytes]:
        """Version and record. Raises errors.PageNeverWritten, PageLapped, PageStale."""
    def wait(self, seen: int, /, timeout_ns: int = -1) -> bool:
        """Sleeps until the newest version is not `seen`; False: timeout_ns (negative: for ever) went by."""
    @property
    def head(self) -> int: ...
    @property
    def writer_alive(self) -> bool: ...
    @property
    def slot_versions(self) -> tuple[int, ...]: ...

# file.c
STATE_REPLACED: int
STATE_SILENT: int

def filesystem(path: str, /) -> tuple[bool, bool]:
    """(noexec, volatile) of a path's filesystem; volatile: in memory. Raises OSError."""

def page_find(fd: int, /) -> tuple[int, int, int, int, int]:
    """(offset, slots, record_size, fields_at, fields_size) of a file's page. Raises errors.PageNotThere."""

def page_state(fd: int, offset: int, /) -> tuple[int, float | None, int, int, bool]:
    """(version, age in s or None, publisher's pid, STATE_*, whether it lives), without mapping the file.

    Raises errors.PageNotThere.
    """

def page_create(
    fd: int, offset: int, record_size: int, slots: int, schema_hash: int, fields_at: int, fields_size: int, /
) -> None:
    """Lays an empty page into a file, whose space is allocated. Raises OSError."""

def page_retire(fd: int, offset: int, /) -> None:
    """Says in a page without a writer that it has been replaced. Raises errors.PageNotThere."""

def lock_file(fd: int, /) -> None:
    """A lock that ends with the process and that its children do not have. BlockingIOError: another's."""

def lock_holder(fd: int, /) -> int:
    """The other process that has the lock; 0: none; -1: one that is not to be seen from here."""

def claim(directory_fd: int, name: str, /) -> int:
    """Claims a name for the caller, in all of this process. BlockingIOError: somebody in it has it."""

def unclaim(claim: int, /) -> None: ...
def name_locked(directory_fd: int, name: str, /) -> bool | None:
    """Whether anybody has the name's lock, in this process or another; None: its file is not to be had."""

# record.c
@final
class Record:
    """What reads and writes such records. fields: name, kind, offset, item_size, shape, nested record."""

    def __new__(
        cls,
        layout: Any,
        name: str,
        size: int,
        fields: tuple[tuple[str, int, int, int, tuple[int, ...], Record | None], ...],
    ) -> Self: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def layout(self) -> Any: ...

# snapshot.c
@final
class Snapshot:
    """One whole record: an attribute a field, and its version. Never changes."""

    @property
    def version(self) -> int: ...
    def asdict(self) -> dict[str, Any]: ...
    def astuple(self) -> tuple[Any, ...]: ...
    def as_(self, schema: Any, /) -> Any: ...
    @property
    def _record(self) -> Record: ...
    @classmethod
    def _from_bytes(cls, record: Record, version: int, data: Buffer, /) -> Self: ...
    def __getattr__(self, name: str, /) -> Any: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

# reader.c
class RecordReader:
    """Reads the page at `offset` of a file, which is the reader's from then on.

    Raises errors.PageNotThere.
    """

    def __new__(cls, fd: int, offset: int, record: Record) -> Self: ...
    def snapshot(self) -> Snapshot:
        """One whole record. Raises errors.PageNeverWritten, PageLapped, PageClosed."""
    def close(self) -> None: ...
    def _wait(self, seen: int, timeout_ns: int, /) -> int:
        """1: the newest version is not `seen`; 0: timeout_ns (negative: for ever) went by; -1: replaced."""
    @property
    def version(self) -> int:
        """The newest version's number; 0: nothing has been published yet."""
    @property
    def age(self) -> float | None:
        """Seconds since the newest version was published; None: nothing has been."""
    @property
    def publisher_alive(self) -> bool:
        """By the page's own lock, or else by the pid that has signed it."""
    @property
    def _page_locked(self) -> bool: ...
    @property
    def _state(self) -> int: ...
    @property
    def _writer_pid(self) -> int: ...
    @property
    def _fd(self) -> int: ...
    @property
    def _slots(self) -> int: ...
    @property
    def _record(self) -> Record: ...
    @property
    def _slot_versions(self) -> tuple[int, ...]:
        """Each slot's version; one past the newest is being written."""
    @property
    def _address(self) -> int:
        """Where the page is mapped."""
    def __getattr__(self, name: str, /) -> Any: ...

# publisher.c
class RecordPublisher:
    """Publishes in the page at `offset` of a file, which is the publisher's from then on."""

    def __new__(cls, fd: int, offset: int, record: Record, notify: bool) -> Self: ...
    def update(self, **fields: Any) -> int:
        """Publishes one version with these fields changed.

        Raises errors.BadValue, NotPublisher, PageClosed.
        """
    def set(self, record: Any, /) -> int:
        """Publishes one version with all fields. Raises errors.BadValue, NotPublisher, PageClosed."""
    def _begin_with(self, name: str, value: Any, /) -> None: ...
    def _current(self) -> bytes: ...
    def _merge(self, before: Buffer, after: Buffer, /) -> int: ...
    def _close(self) -> None: ...
    def _leave(self) -> None: ...
    @property
    def version(self) -> int: ...
    @property
    def _here(self) -> bool: ...
    _record: Record

# draft.c
@final
class Draft:
    """A record to be changed: an attribute a field."""

    def __new__(cls, record: Record, data: Buffer) -> Self: ...
    def __getattr__(self, name: str, /) -> Any: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

# clockpage.c
TIME_KEEP: int
TIME_AT: int
TIME_OFFSET: int
TIME_SHIFT: int
RATE_KEEP: int
RATE_SET: int
RATE_THAW: int

@final
class ClockPage:
    """A session's clock page; its descriptors are not to be closed."""

    @classmethod
    def create(cls, name: str, /) -> Self: ...
    @classmethod
    def from_fd(cls, fd: int, /) -> Self:
        """The clock page that fd, which stays the caller's, has open. Raises errors.PageNotThere."""
    def begin(self, everything: bool, time: int, sec: int, nsec: int, how: int, rate: int, /) -> None:
        """The first record of a page that nobody reads yet. OSError: ERANGE."""
    def adjust(self, time: int, sec: int, nsec: int, how: int, rate: int, /) -> None:
        """A step and a rate (32.32), live. Raises errors.PageBusy; OSError: EOPNOTSUPP, ERANGE, ETIMEDOUT."""
    def settle(self) -> None:
        """Makes an offset of a line of rate 1, some ms after it has come into force. Raises as adjust()."""
    def state(self) -> tuple[int, int, int, int, int, int, bool, bool, bool]:
        """(host sec, nsec, session sec, nsec, rate, rate after a thaw, everything, counter, moved)."""
    def set_identity(self) -> None:
        """Every clock the kernel's own. Raises errors.PageBusy, ForkedWriter."""
    def set_offset(self, sec: int, nsec: int, /) -> None:
        """The wall clocks moved, the others the kernel's own. Raises errors.PageBusy, ForkedWriter."""
    def release(self) -> None:
        """Gives the writer's lock up: for the keeper, or before an exec."""
    @property
    def fd(self) -> int: ...
    @property
    def reader_fd(self) -> int: ...

# counts.c
CELL_PROGRAM: int
CELL_THREAD: int
CELL_RAW: int
COUNT_IDS: int
COUNT_CPU: int
COUNT_DEVICE: int
COUNT_AUXILIARY: int
COUNT_UNKNOWN: int
COUNT_GETTIMEOFDAY: int
COUNT_TIME: int
COUNT_GETCPU: int
COUNT_GETRES: int
COUNT_GETRANDOM: int
COUNT_RAW: int
COUNT_CELLS: int

@final
class Counts:
    """Where programs count their clock calls: memory that they share, and that goes with the object.

    OSError where there is none.
    """

    def __new__(cls) -> Self: ...
    @property
    def fd(self) -> int:
        """The memfd's descriptor, which stays the object's."""
    @property
    def began_ns(self) -> int:
        """When the first program was given a cell, by CLOCK_MONOTONIC; 0: none was."""
    @property
    def full(self) -> bool:
        """All cells have been handed out."""
    @property
    def followed(self) -> bool:
        """A follower has a filter by which it sees execs, and what else was asked for."""
    def program(self, pid: int, name: bytes, /) -> int:
        """A cell for a program; 0 where none is left."""
    def cells(self) -> list[tuple[int, int, int, int, bytes, tuple[int, ...]]]:
        """All that are in use: (CELL_*, pid, tid, the program's cell, name, calls by slot)."""
    def end(self) -> None:
        """What begins from now on is not counted, and left on the kernel's vDSO; what counts goes on."""

    def sample_one_in(self, calls: int, /) -> None:
        """Takes samples of one call in so many from now on, on average; 0: none."""
    def samples(
        self, after: int, /
    ) -> tuple[list[tuple[int, int, int, int, int, int, tuple[int, ...], bytes, bytes, bool]], int]:
        """Those after that number which are still there, and the number of the last that was begun.

        Each is (pid, tid, program, slot, clock, weight, (rip, rsp, rbp, rbx, r12, r13, r14, r15), stack,
        frame, raw): raw, of a system call that the thread made by itself, with rip and rsp alone.
        """
    def left(self) -> list[tuple[int, bytes]]:
        """What programs had mapped when they ended or exec'd: (pid, executable lines of its maps)."""

def counts_look(fd: int, /) -> list[tuple[int, int, int, int, bytes, tuple[int, ...]]]:
    """As Counts.cells(), of counts that are another's, which may be open for reading alone. OSError."""

# image.c
@final
class LocalImage:
    """The clock image, mapped into this process beside the kernel's vDSO and reading that clock page."""

    def __new__(cls, image_fd: int, clock_fd: int, flags: int = 0, counts_fd: int = -1) -> Self: ...
    def clock_ns(self, clock_id: int, /) -> int:
        """What our clock_gettime gives, in ns. OSError as the system call would."""
    @property
    def functions(self) -> dict[str, int]:
        """Addresses of our functions, by their unprefixed names."""
    @property
    def kernel(self) -> dict[str, int]:
        """Addresses of the kernel's own, as far as it has them."""

# launch.c
FILTER_EXEC: int
FILTER_EXITS: int
FILTER_DEADLINES: int
FILTER_ALL: int
FILTER_READS: int
FILTER_LAST: int
FILTER_NONE: int
LAUNCH_START: int
LAUNCH_FILTER: int
LAUNCH_HOLD: int

def launch(
    follower: str,
    image_fd: int,
    clock_fd: int,
    filter_flags: int,
    life_fd: int,
    counts_fd: int,
    counter: bool,
    strict: bool,
    command: list[str] | None,
    /,
) -> tuple[int, int, int]:
    """(errno, step, wait status): of a command that was run, or of getting ready to exec one (None)."""

def launch_apart(path: str, words: list[str], fds: list[int], /) -> None:
    """Starts a program in a session of its own that is nobody's child. Raises OSError."""

# membership.c
PROCESS_NO_COUNTER: int  # for attaching: by the kernel's clock, whatever a tsc clock says

def counts_calls(pid: int, /) -> bool:
    """Whether a process is on the counting image, and counts its clock calls there. Raises OSError: no such
    process, or none that we may look into."""

def clock_inode(pid: int, /) -> int:
    """The inode of the clock page that a process computes its time by; 0: the host's. Raises OSError."""

# launch.c
def adopt(clock_fd: int, counter: bool, strict: bool, /) -> int | None:
    """Asks a follower above us to run our next exec on this page. None: there is none; else 0 or an errno."""

def refuse_clock_setting() -> None:
    """From now on, and in what we exec, setting the clock fails. Raises OSError."""

def end_as(wait_status: int, /) -> NoReturn:
    """Ends this process as that status says another one ended."""

# observe.c
CALLER_NOBODY: int
CALLER_LIBRARY: int
CALLER_VDSO: int
CALLER_VSYSCALL: int

def observe_calls() -> list[tuple[str, int, int, int, str | None]]:
    """(call, clock id or -1, entered the vDSO or -1, who entered the kernel, system call) of each call."""

def placement(program: str, count: int, /) -> list[int]:
    """The vDSO's address in that many executions of vdso-base; 0: without one. OSError."""

def sysinfo_ehdr() -> int:
    """The vDSO's address as this process was told it (getauxval(3)), 0: it was told of none."""

# routes.c
ROUTE_LOOP: int
ROUTE_EMPTY: int
ROUTE_FUNCTION: int
ROUTE_LIBC: int
ROUTE_SYSCALL: int
ROUTE_VSYSCALL: int
ROUTE_RDTSC: int
ROUTE_RDTSCP: int
ROUTE_LFENCE_RDTSC: int
CALL_CLOCK_GETTIME: int
CALL_CLOCK_GETRES: int
CALL_GETTIMEOFDAY: int
CALL_TIME: int
CALL_GETCPU: int
CALL_GETRANDOM: int
CALL_GETPPID: int
ROUTE_RANDOM_BYTES: int

def route_ns(route: int, count: int, function: int = 0, clock_id: int = 0, call: int = ..., /) -> int:
    """The ns that `count` calls by that route take together; a count of 0 gives the timer's own cost.

    function is the address of that call's function, for ROUTE_FUNCTION. OSError: EINVAL when the route
    answers with an error, ENOSYS when there is none such for this call, or on this machine."""

def route_compare(
    first: int, second: int, clock_id: int, count: int, /
) -> list[tuple[int, int, int, int, int, int]]:
    """(counter, first's ns, counter, second's ns, counter, first's ns), of two functions' addresses."""

def has_vsyscall() -> bool:
    """Whether the kernel lets programs call into the vsyscall page."""

def hypervisor() -> str:
    """Who answers CPUID's hypervisor leaf ("KVMKVMKVM", "TCGTCGTCGTCG"), "" where none does."""

# vvar.c
VVAR_COUNTER_NONE: int
VVAR_COUNTER_TSC: int
VVAR_COUNTER_PVCLOCK: int
VVAR_CLOCK_BYTES_MAX: int
VVAR_BASES: int

@final
class VvarClock:
    """One clock of the kernel's data page: offsets of its members in bytes. OSError: EFAULT, not backed;
    EINVAL."""

    def __new__(
        cls,
        address: int,
        *,
        size: int,
        seq: int,
        mode: int,
        cycle_last: int,
        mask: int,
        mult: int,
        shift: int,
        bases: int,
        counter: int = 0,
        pvclock: int = 0,
    ) -> Self: ...
    def snapshot(self) -> tuple[int, bytes]:
        """The even sequence and `size` bytes that belong together. OSError: EAGAIN, a write for 0.1 s."""
    def prove(
        self, fine: bool, function: int, clock_id: int, offset_ns: int, count: int, /
    ) -> tuple[int, int, int, int, int, int, int]:
        """(good, ticks, bad, first bad one's before, computed, after, the good ones' brackets together), in
        ns."""
    def wait(
        self, seen: int, looked_ns: int, first_ns: int, poll_ns: int, timeout_ns: int, /
    ) -> tuple[int, int, int, int] | None:
        """(sequence, cycle_last, seen at ns, no older than ns), or None after timeout_ns or a signal."""

def vvar_copy(address: int, size: int, /) -> bytes:
    """Bytes of this process, copied by the kernel. OSError: EFAULT where they cannot be read."""

# tracepoint.c
def tracepoint_find(name: str, /) -> int:
    """The number of syscalls:sys_enter_NAME. Raises OSError."""

def tracepoint_open(number: int, only: str | None, tid: int, from_exec: bool, /) -> int:
    """A descriptor from which to read, as 8 bytes, how often the task, and what it starts, passes it.

    `only`: in the tracepoint's own words, such as "which_clock == 1". Raises OSError.
    """

# travel.c
@final
class TravelPage:
    """This process's own clock page, placed nowhere at first.

    A line (in, at, rate) shows, at the host's REALTIME `in`, the time `at`, and goes on from there at the
    rate; ns, and 32.32.
    """

    def __new__(cls) -> Self: ...
    def arrive(self) -> None:
        """Finds itself in this process, which has been attached to it. OSError: ENOENT."""
    def succeed(self, before: Self, /) -> None:
        """Stands where that one stands, and says the same: in a forked child, the parent's. OSError."""
    def borrow(self, region: int, /) -> None:
        """Stands for the session's page that is there. OSError: EOPNOTSUPP (it moves more than the date)."""
    def give_back(self) -> None:
        """Puts the session's page back in its place."""
    def borrow_again(self) -> None:
        """After give_back(): stands for it again. OSError: ESTALE (its place is another's)."""
    def stands(self) -> bool:
        """Whether this process reads its clock from this page, and writes it: it may have been detached,
        attached elsewhere, or forked."""
    def host_ns(self) -> int:
        """The host's REALTIME."""
    def publish(self, in_ns: int, at_ns: int, rate: int, /) -> None:
        """The wall clocks show that line from the next read on. Raises errors.ForkedWriter."""
    def bend(self, in_ns: int, at_ns: int, rate: int, new_rate: int, /) -> tuple[int, int, int]:
        """From the line in force to another rate without a jump, and waits for it: the new line."""
    def home(self) -> None:
        """Every clock the kernel's own. Raises errors.ForkedWriter."""
    @property
    def reader_fd(self) -> int: ...
    @property
    def forked(self) -> bool: ...  # this is a forked child, and the page its parent's
    @property
    def replaced(self) -> bool: ...  # the process has been attached again since: its place is another's
    @property
    def borrowed(self) -> bool: ...  # it stands for a session's page
    @property
    def away(self) -> bool: ...  # which is back in its place
    wake: bool  # what the process execs is on it too, and waits for its changes

class Journey:
    """Ends by its stop(), which may be called again for what it has not come to."""

    def __exit__(self, *exc: object) -> None:
        """Calls stop(), and once more should that be interrupted: it cannot be kept from that."""

def travel_region() -> int:
    """Where this process reads a clock page of ours. 0: it is on the kernel's image."""
