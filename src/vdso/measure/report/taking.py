"""Takes what a report is of: a diagnosis and a bench, each once."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from vdso.measure.doctor import diagnose
from vdso.measure.doctor.result import Diagnosis
from vdso.measure.result import BenchResult
from vdso.measure.rounds import bench

Progress = Callable[[int, int], None]

# Of the one bench, from which the doctor has its figures too: half of what a bench alone takes.
ROUNDS, QUICK_ROUNDS = 400, 60
LIMIT_S, QUICK_LIMIT_S = 2.0, 0.5


@dataclass(frozen=True, slots=True)
class Report:
    """bench: None where it could not be taken, and the diagnosis says why."""

    diagnosis: Diagnosis
    bench: BenchResult | None


def take(
    *,
    quick: bool = False,
    pid: int | None = None,
    command: list[str] | None = None,
    progress: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
) -> Report:
    """Measures this host and looks at this process, that of `pid`, or `command`, which it runs to its end,
    counts its calls, and samples who makes them.

    progress: gives what vdso.measure.bench calls, for as long as that runs. Raises what
    vdso.measure.doctor.diagnose does.
    """
    taken: BenchResult | None = None

    def measure() -> BenchResult:
        nonlocal taken
        with progress() as step:
            taken = bench(
                quick=quick,
                rounds=QUICK_ROUNDS if quick else ROUNDS,
                limit_s=QUICK_LIMIT_S if quick else LIMIT_S,
                progress=step,
            )
        return taken

    diagnosis = diagnose(quick=quick, pid=pid, command=command, sites=True, take=measure)
    return Report(diagnosis, taken)
