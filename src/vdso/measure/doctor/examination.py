"""One examination: of this process, of another, or of a command that is started for it.

Measures first, while nothing of the command runs; then looks, observes, and concludes.
"""

import dataclasses
import os
import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from vdso import __version__
from vdso.errors import NothingToDiagnose, SourceError
from vdso.kernel import auxv, process
from vdso.measure.doctor import diagnosis, measuring, preload
from vdso.measure.doctor.measuring import now_ns
from vdso.measure.doctor.result import FORMAT, KIND, Diagnosis
from vdso.measure.doctor.view import Measured, View
from vdso.measure.result import BenchResult

if TYPE_CHECKING:
    from vdso.measure.doctor.observation import Observed

NS_PER_S = 1_000_000_000
# For how long a running process is observed.
WINDOW_S, WINDOW_QUICK_S = 0.5, 0.1


def diagnose(
    *,
    quick: bool = False,
    pid: int | None = None,
    command: list[str] | None = None,
    sites: bool = False,
    take: Callable[[], BenchResult] | None = None,
) -> Diagnosis:
    """Examines this process, or that of `pid`, or `command`, which it runs to its end.

    sites: it is also looked who calls, where calls are counted. take: gives the bench that its figures are
    from, when nothing else is measured; None: one of its own.

    Raises NothingToDiagnose: no such process, or none with memory of its own, or it has ended meanwhile;
    CommandNotFound, CommandNotExecutable. Pins the calling thread for as long as it measures.
    """
    if pid is not None and command is not None:
        raise ValueError("a process or a command")
    begun, started_ns = now_ns(time.CLOCK_REALTIME), now_ns()
    task = 0 if pid is None else there(pid)
    begin = process.started(task) if task else b""
    examined = Examination(measuring.measure(quick, take), sites)
    if command is not None:
        examined.command(command)
    elif pid is not None:
        examined.process(pid, task, WINDOW_QUICK_S if quick else WINDOW_S, touch=not quick)
    else:
        examined.look(examined.view_of(None))
    if pid is not None and (process.started(task) != begin if task == pid else not process.living(pid)):
        raise NothingToDiagnose(f"process {pid} ended while it was looked at")
    return conclude(examined, quick=quick, begun=begun, started_ns=started_ns)


class Examination:
    """What is known so far: the view that was looked through last, and what that has shown."""

    def __init__(self, measured: Measured, sites: bool = False) -> None:
        self.measured = measured
        self.sites = sites
        self.there, self.used, self.last = diagnosis.split()

    def view_of(
        self, pid: int | None, *, command: bool = False, counted: bool = False, called: str = ""
    ) -> View:
        architecture = platform.machine()
        return View(
            self.measured,
            pid=pid,
            architecture=architecture,
            command=command,
            counted=counted,
            called=called,
            timed=preload.timed,
        )

    def anew(self) -> "Examination":
        """Of another program, with the same figures."""
        return Examination(self.measured)

    def look(self, view: View) -> None:
        """Looks at what is there; a later view takes the place of the one before."""
        looked = diagnosis.Looked()
        looked.run(view, self.there)
        preload.note(view)
        self.view, self.looked, self.subject = view, looked, diagnosis.subject(view)

    def command(self, words: list[str]) -> None:
        """Looks at it, and runs it to its end. Raises CommandNotFound, CommandNotExecutable."""
        from vdso.measure.doctor import observation
        from vdso.measure.doctor.patient import held
        from vdso.measure.doctor.programs import Looks, pauses_s
        from vdso.swap.run import keep_low_descriptors

        keep_low_descriptors()
        with held(words) as (pid, why):
            if not why:
                self.look(self.view_of(pid, command=True))

        if why:
            self.look(self.view_of(0, command=True))
        looks = Looks(self, held=not why)
        seen = observation.of_command(words, looks.take, pauses_s(), sites=self.sites)
        looks.settle(seen)
        if why:
            self.looked.miss("the command before its first instruction", why)
        self.subject = dataclasses.replace(self.subject, ended=seen.ended)
        self.observed(seen)

    def process(self, pid: int, task: int, window_s: float, *, touch: bool) -> None:
        """Looks at it, by this thread of its, and at how it reads the clock for that long."""
        from vdso.measure.doctor import observation

        self.look(self.view_of(task, called=f"process {pid}"))
        self.subject = dataclasses.replace(self.subject, pid=pid)
        self.observed(observation.of_process(pid, window_s, touch=touch, sites=self.sites))

    def observed(self, seen: "Observed") -> None:
        lacking = {**self.measured.lacking, "observation": seen.why}
        self.view.measured = dataclasses.replace(self.measured, observation=seen.observation, lacking=lacking)
        self.looked.run(self.view, self.used)


def conclude(examined: Examination, *, quick: bool, begun: int, started_ns: int) -> Diagnosis:
    view, looked = examined.view, examined.looked
    looked.run(view, examined.last)
    verdict, reason = diagnosis.judge(view, looked)
    return Diagnosis(
        kind=KIND,
        format=FORMAT,
        version=__version__,
        taken_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun // NS_PER_S)),
        duration_s=round((now_ns() - started_ns) / NS_PER_S, 3),
        quick=quick,
        verdict=verdict,
        reason=reason,
        cost=diagnosis.cost(view, looked, verdict),
        host=diagnosis.host(view),
        subject=examined.subject,
        figures=view.measured.figures,
        aslr=view.measured.aslr,
        observation=view.measured.observation,
        findings=looked.ordered(),
        unseen=looked.not_seen(),
        checks=tuple(looked.checks),
    )


def there(pid: int) -> int:
    """The thread by which it is looked at. Raises NothingToDiagnose where there is none that has memory."""
    task = process.living(pid)
    if not task:
        if not process.proc_mounted():
            raise NothingToDiagnose(process.NOT_MOUNTED, "mount -t proc proc /proc")
        raise NothingToDiagnose(f"there is no process {pid}")
    if os.access(process.path(task, "auxv"), os.R_OK):
        try:
            auxv.read(task)
        except SourceError as error:
            # What is somebody else's can be looked at in part.
            if "belongs to somebody else" not in error.message:
                raise NothingToDiagnose(error.message, error.hint) from None
    return task
