"""Every error that vdso raises on its own account: one class a situation, with a hint that says what to try.

The command line prints `vdso: message` and the hint below it, and exits with `exit_code`. Imports nothing:
`vdso run` pays for each import.
"""


def shown(path: str) -> str:
    """A file's name, or a text that has one in it, on one line that can be printed: it may hold anything."""
    try:
        name = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # not from a name's bytes, but such as JSON may have
        name = path.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


class VdsoError(Exception):
    """Something that vdso cannot do, said in one line that names the thing.

    `hint` says what to try, and may be empty. `exit_code` is the command line's: 125, as with env, nohup and
    timeout, for a failure that is neither the command's nor one that has a code of its own.
    """

    exit_code = 125
    default_hint = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint


# ---- What was asked for ----


class UsageError(VdsoError):
    """The command line, or an argument, says something that cannot be meant."""

    exit_code = 2


class BadWhen(UsageError, ValueError):
    """A point in time that cannot be read, or that no clock can show."""

    default_hint = "such as 2030-01-01T00:00:00Z, 2030-01-01, '2030-01-01 12:00', or @1893456000"


class BadDuration(UsageError, ValueError):
    """A duration that cannot be read."""

    default_hint = "such as +1000d, -2h30m, +90s or 1.5h; the units are w d h m s ms us ns"


class BadRate(UsageError, ValueError):
    """A rate at which no clock can run."""

    default_hint = "such as 10, 0.5, or 0, which freezes the clock; at most 1000000"


# ---- Sessions ----


class SessionError(VdsoError):
    """Something about a session."""


class SessionNotThere(SessionError):
    """There is no session of that name, or its last program has ended."""

    default_hint = "vdso sessions lists those that there are"


class SessionExists(SessionError):
    """A session of that name runs, on a clock of its own."""


class SessionAmbiguous(SessionError):
    """No session was named, and there is not exactly one."""


class SessionRefused(SessionError):
    """The session's clock cannot be adjusted so."""


# ---- The command ----


class CommandNotFound(VdsoError):
    """There is no such program, at the path given or along PATH."""

    exit_code = 127

    def __init__(self, command: str, hint: str | None = None) -> None:
        super().__init__(f"{command}: command not found", hint)
        self.command = command


class CommandNotExecutable(VdsoError):
    """The program is there and cannot be executed."""

    exit_code = 126

    def __init__(self, command: str, reason: str = "permission denied", hint: str | None = None) -> None:
        super().__init__(f"{command}: {reason}", hint)
        self.command = command


# ---- What is looked at ----


class CallRefused(VdsoError):
    """A system call that we cannot do without, and that is refused here."""

    default_hint = "a sandbox's filter? in a container: docker run --security-opt seccomp=unconfined"

    @classmethod
    def check(cls, call: str, error: OSError) -> None:
        """Raises it where the error says that it is refused, and not that something has run out."""
        import errno
        import os

        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            why = os.strerror(error.errno).lower()
            raise cls(f"{call} is refused here: {why}") from None


class ProcNotMounted(VdsoError):
    """There is no /proc, by which processes are found and looked at."""

    default_hint = "mount -t proc proc /proc"


class SourceError(VdsoError):
    """A process, file, core or kernel image that cannot be read, or does not hold what was looked for."""

    exit_code = 1


class BadImage(SourceError):
    """Bytes that are no vDSO image, or whose offsets and counts lie. The message does not name the file."""


class TooMuch(SourceError):
    """Bytes that would take more time or memory than anything real does."""


class NothingToDiagnose(VdsoError):
    """The process that was to be diagnosed is not there, has no memory of its own, or has ended."""

    exit_code = 2


class ExtraMissing(VdsoError):
    """A library that a part of vdso needs, and that is not installed."""

    exit_code = 1


class OutputRefused(VdsoError):
    """A file that was to be written, and cannot be."""

    exit_code = 1


class BadBtf(SourceError):
    """The kernel's description of its types cannot be read, or is not as it should be."""


class CannotUnwind(SourceError):
    """A frame whose caller cannot be found. The message says why, and does not name the frame."""


class NoVvar(SourceError):
    """This process has no page of the kernel's clock data."""


class VvarUnproven(SourceError):
    """No layout of the kernel's data page is known here, or the one that is does not stand its proofs.

    `proof` names the proof that failed, None where none was reached.
    """

    default_hint = "nothing of the page is shown that has not been proven to be what it is called"

    def __init__(self, message: str, hint: str | None = None, *, proof: str | None = None) -> None:
        super().__init__(message, hint)
        self.proof = proof


# ---- The swap ----


class SwapError(VdsoError):
    """The program cannot be given our image. Codes below 125 tell the reasons apart."""


class PtraceRefused(SwapError):
    """The kernel or the container does not let us trace the program, which the swap takes."""

    exit_code = 120
    default_hint = (
        "see /proc/sys/kernel/yama/ptrace_scope (2 wants CAP_SYS_PTRACE, 3 refuses everyone); "
        "in a container: docker run --cap-add SYS_PTRACE"
    )


class SeccompRefused(SwapError):
    """The filter by which execs are followed cannot be installed."""

    exit_code = 119
    default_hint = "try --no-follow; in a container: docker run --security-opt seccomp=unconfined"


class CounterRefused(SwapError):
    """The CPUs' counter cannot be a clock here, so `--clock tsc` is not possible."""

    exit_code = 116
    default_hint = "use --clock kernel, the default"


class HelperMissing(SwapError):
    """A file that belongs to the package is not where it was installed, or cannot be executed."""

    exit_code = 115
    default_hint = "install the package again"


class HelperEnded(SwapError):
    """A program of the package was ended by somebody, before it said what had come of it."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while something was being done to another process. `message` says what is so of that now."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = ""


class KeeperFailed(SwapError):
    """The keeper of a tsc clock did not start, or ended at once."""

    exit_code = 114
    default_hint = "use --clock kernel, which needs no keeper"


class UnsupportedMachine(SwapError):
    """No clock image for this architecture or operating system."""

    exit_code = 113
    default_hint = "vdso runs on Linux, on x86-64"


# ---- Running processes ----


class NoSuchProcess(SwapError):
    """There is no process of that id here."""

    exit_code = 118


class NotAttachable(SwapError):
    """The process is none that can be attached to, as it is or at all."""

    exit_code = 121


class NotAttached(SwapError):
    """The process is to be detached, and is on the host's clock already."""

    exit_code = 122
    default_hint = "vdso attach PID attaches; what a process execs is not attached any more"


class MaySetClock(NotAttachable):
    """The process could not set the host's clock when that was asked, and can now."""


class AlreadyAttached(SwapError):
    """The process is on a clock of ours already."""

    exit_code = 123


class ProcessBusy(SwapError):
    """The process could not be stopped in the time that it may stand still, however often that was tried."""

    exit_code = 124


# ---- Counting ----


class NotCountable(SwapError):
    """The clock calls of a program cannot be counted where it runs."""

    exit_code = 121


# ---- Travelling ----


class JourneyEnded(VdsoError):
    """The clock of a journey is to be moved, and the journey is over."""

    default_hint = "inside of `with vdso.travel(...) as clock`, or between start() and stop()"


class ChildrenNotFollowed(SwapError):
    """What the process execs cannot be taken along."""

    default_hint = (
        "children by fork are on its clock as they are; for what is exec'd: vdso run --at WHEN -- COMMAND"
    )


# ---- Pages ----


class PageError(VdsoError):
    """Something about a page."""


class PageNotThere(PageError):
    """There is no page, or none that this version reads."""

    exit_code = 1


class PageNeverWritten(PageError):
    """The page is there and has had no record yet."""

    exit_code = 1

    def __init__(self, message: str = "the page has never been written", hint: str | None = None) -> None:
        super().__init__(message, hint)


class PageStale(PageError):
    """The newest record is whole, and its writer's heartbeat is older than was asked for.

    `version` and `record` are what was read.
    """

    def __init__(self, version: int, record: bytes, hint: str | None = None) -> None:
        super().__init__(f"the page's version {version} is stale: its writer's heart has stopped", hint)
        self.version = version
        self.record = record


class PageLapped(PageError):
    """The writer went round all slots during each of many tries."""

    exit_code = 1

    default_hint = "a page with more slots gives its readers more time"

    def __init__(
        self, message: str = "the page's writer is faster than this reader", hint: str | None = None
    ) -> None:
        super().__init__(message, hint)


class PageBusy(PageError):
    """The page has a writer already; `pid` says which process, 0 when it had gone before we asked."""

    def __init__(self, pid: int, hint: str | None = None) -> None:
        super().__init__(f"the page has a writer: process {pid}", hint)
        self.pid = pid


class ForkedWriter(PageError):
    """This process was forked by a page's writer, and a page has one."""

    default_hint = "open the writer in the process that writes"

    def __init__(
        self, message: str = "a forked child of a page's writer may not write it", hint: str | None = None
    ) -> None:
        super().__init__(message, hint)


class BadSchema(UsageError):
    """A record that cannot be: a field's name or type, or two of a name."""


class BadPageName(UsageError):
    """A page cannot be called so."""

    default_hint = "letters, digits, _ and -, a letter first, 64 at most"


class PageUnreadable(PageNotThere):
    """There is a file, and it is not what it should be: damaged, of another format, or not to be trusted."""


class PageClosed(PageError, ValueError):
    """The reader or publisher was closed."""

    def __init__(self, message: str = "it is closed", hint: str | None = None) -> None:
        super().__init__(message, hint)


class PageDiffers(PageError):
    """A page's fields are not those that were expected; `differences` has a phrase for each."""

    exit_code = 1

    def __init__(self, name: str, differences: list[str], hint: str | None = None) -> None:
        super().__init__(f"{name} is another record: {', '.join(differences)}", hint)
        self.differences = differences


class WriterActive(PageBusy):
    """The name has a publisher already; `pid` says which process, -1 when it is not to be seen from here."""

    exit_code = 1

    def __init__(self, name: str, pid: int, hint: str | None = None) -> None:
        super().__init__(pid, hint)
        who = f"process {pid}" if pid > 0 else "a process in another pid namespace"
        self.message = f"{name} has a publisher: {who}"
        self.args = (self.message,)
        self.name = name


class NotPublisher(ForkedWriter):
    """This process was forked by the publisher, or got its object from it, and a page has one publisher."""

    default_hint = "publish in the process that called publish()"

    def __init__(
        self, message: str = "this process was forked by the page's publisher", hint: str | None = None
    ) -> None:
        super().__init__(message, hint)


class BadValue(PageError, ValueError):
    """A field cannot hold a value. Nothing was published; `field` is the field's name."""

    exit_code = 1

    def __init__(self, field: str, reason: str, hint: str | None = None) -> None:
        super().__init__(f"{field}: {reason}", hint)
        self.field = field


class DirectoryRefused(PageError):
    """A directory in which pages cannot be trusted."""

    exit_code = 1

    default_hint = "a directory that belongs to the publisher, and that nobody else can write in"


class NoDirectory(PageError):
    """There is no directory in memory for pages."""

    exit_code = 1


class NoSpace(PageError):
    """The filesystem that a page was to be in is full."""

    exit_code = 1
    default_hint = "directory= names another; pages of ended publishers go with `vdso rm`"
