"""The report's page: what a diagnosis, a bench and counts put on it, in the order of what matters."""

from vdso.measure.report import bench, doctor, page
from vdso.measure.report.counts import callers, counts
from vdso.measure.report.taking import Report


def document(report: Report) -> str:
    """The page's text. Raises ExtraMissing where there is no matplotlib."""
    found, run = report.diagnosis, report.bench
    body = [*doctor.heading(found), *doctor.cost(found), *doctor.findings(found)]
    if run is not None:
        body += page.warnings((caution.text, caution.advice) for caution in run.warnings)
    seen = found.observation
    if seen is not None:
        body += counts(seen)
    if run is not None:
        body += bench.picture(run)
    if seen is not None:
        body += callers(seen.stat)
    body += [*doctor.clocks(found.figures), *doctor.looked(found)]
    if run is not None:
        body += [*bench.conditions(run), *bench.table(run)]
    return page.document(doctor.title(found), body, f"vdso {found.version}, {found.taken_at}")
