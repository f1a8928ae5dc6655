"""What findings and figures come to: verdict, reason, cost; as JSON by its schema, metrics, on a screen."""

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import elves
import hosts
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from vdso.commands import doctor
from vdso.kernel.image import Image
from vdso.measure.doctor import wording
from vdso.measure.doctor.examination import Examination, conclude
from vdso.measure.doctor.openmetrics import render
from vdso.measure.doctor.result import FAST, SLOW, UNKNOWN, Clock, Counter, Diagnosis
from vdso.measure.doctor.view import Page
from vdso.measure.result import LOST, Caution

CURRENT = f"{hosts.CLOCKSOURCE}/current_clocksource"
AVAILABLE = f"{hosts.CLOCKSOURCE}/available_clocksource"
XEN: dict[str, Any] = {
    "files": {CURRENT: "xen\n", AVAILABLE: "xen tsc\n"},
    "page": Page("none", "btf"),
    "figures": hosts.slow_figures(),
}


def diagnosed(root: Path, **host: Any) -> Diagnosis:
    host.setdefault("image", Image.from_bytes(bytes(elves.build())))
    view = hosts.view(root, **host)
    examined = Examination(view.measured)
    examined.look(view)
    examined.looked.run(view, examined.used)
    return conclude(examined, quick=True, begun=1_900_000_000 * 10**9, started_ns=0)


# ---- Verdicts ----


def test_fast(tmp_path: Path) -> None:
    found = diagnosed(tmp_path)
    assert (found.verdict, found.exit_status) == (FAST, 0)
    assert found.reason == "reads of the clock of this process stay out of the kernel"
    assert found.cost is not None
    # By what it was seen to read, and what such reads cost: all but three by the vDSO.
    assert (found.cost.read_ns, found.cost.could_be_ns, found.cost.measured) == (20.0, None, True)


def test_slow(tmp_path: Path) -> None:
    """As the issue has it: what a read costs, what it could, and what that comes to."""
    calls = hosts.observed(hosts.row(1_200_000, route="vdso-syscall", ns=300.0))
    found = diagnosed(tmp_path, **XEN, observation=calls)
    assert (found.verdict, found.exit_status) == (SLOW, 1)
    assert found.reason == "the clocksource has no vDSO path, and a better one is available"
    assert found.findings[0].remedy.startswith("echo tsc >/sys/devices/system/clocksource/clocksource0/")
    assert found.cost is not None
    # 17 for the counter and 3 for a coarse read; (300 - 20) ns, 1.2 million times a second.
    assert found.cost.sentence == (
        "each clock read costs 300 ns instead of 20; at the 1.2 M/s that this process makes, 0.34 cores"
    )


def test_a_rate_that_nobody_counted_is_said_to_be_an_example(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, **XEN, observation=None)
    assert found.cost is not None
    assert not found.cost.measured
    assert "at a million a second, say, 0.28 cores" in found.cost.sentence


def test_a_trapped_counter_says_nothing_of_what_could_be(tmp_path: Path) -> None:
    counter = Counter(1800.0, 1900.0, 1, 9, 0, 0, True)
    found = diagnosed(tmp_path, figures=hosts.slow_figures(counter=counter), observation=None)
    assert found.verdict == SLOW
    assert found.cost is not None
    assert found.cost.sentence == "each clock read costs 300 ns; what it could cost here is not known"


def test_unknown_without_figures(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, figures=None, lacking={"figures": "no reason at all"})
    assert (found.verdict, found.exit_status) == (UNKNOWN, 2)
    assert found.reason == "what a read costs could not be looked at: no reason at all"
    assert found.cost is None


def test_unknown_where_the_process_cannot_be_looked_into(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, files={"proc/self/auxv": None}, pid=7)
    assert found.verdict == UNKNOWN
    assert "/proc/7/auxv could not be looked at" in found.reason


def test_this_process_needs_no_proc_to_be_fast(tmp_path: Path) -> None:
    """What its C library takes was measured."""
    nothing: dict[str, Any] = dict.fromkeys(hosts.FILES)
    found = diagnosed(tmp_path, files=nothing, links=dict.fromkeys(hosts.LINKS), observation=None)
    assert found.verdict == FAST


def test_a_way_that_was_not_seen_is_not_told(tmp_path: Path) -> None:
    """Fast is what was measured, and no more is said."""
    unseen = hosts.figures(hosts.clock(route=None, vdso_ns=None, missing={"vdso": "/proc is not mounted"}))
    found = diagnosed(tmp_path, figures=unseen, observation=None)
    assert found.verdict == FAST
    assert found.reason == (
        "a read of the clock of this process takes 21.0 ns and a system call 150.0; which way it goes could "
        "not be looked at"
    )
    assert "  none: MONOTONIC by the vDSO: /proc is not mounted" in list(doctor.lines(found, 100))


def test_slow_whatever_else_could_not_be_seen(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, files={"proc/self/auxv": None, **XEN["files"]}, page=XEN["page"])
    assert found.verdict == SLOW


BLIND = {
    "proc/self/exe": hosts.program("", body=b"nothing"),
    "proc/self/maps": hosts.MAPS.replace("libc.so.6", "other.so"),
}


@pytest.mark.parametrize(
    ("calls", "verdict"),
    [
        (None, UNKNOWN),
        (hosts.observed(), FAST),  # it reads no clock at all
        (hosts.observed(hosts.row(500_000, route="syscall")), SLOW),
    ],
)
def test_a_program_that_looks_for_no_vdso(tmp_path: Path, calls: Any, verdict: str) -> None:
    found = diagnosed(tmp_path, files=BLIND, pid=7, observation=calls)
    assert found.verdict == verdict
    assert "program-blind" in [one.id for one in found.findings]


def test_a_process_pays_for_the_system_calls_it_makes(tmp_path: Path) -> None:
    calls = hosts.observed(hosts.row(500_000, route="syscall"))
    found = diagnosed(tmp_path, pid=7, observation=calls)
    assert found.cost is not None
    assert (found.cost.read_ns, found.cost.could_be_ns) == (150.0, 20.0)
    assert found.cost.reads_per_second == 500_000
    assert found.cost.cores == pytest.approx(0.065)


def test_reads_that_were_not_counted_are_no_rate(tmp_path: Path) -> None:
    """Those few that entered the kernel are not how often it reads the clock."""
    calls = hosts.observed(hosts.row(4, route="syscall"), whole=False)
    found = diagnosed(tmp_path, pid=7, observation=calls)
    assert found.cost is not None
    assert not found.cost.measured


LIBRARY = bytes(elves.build(symbols=(elves.Symbol("clock_gettime", 0, 16),)))
PRELOADED = {"proc/self/environ": "LD_PRELOAD=/opt/fake.so\0", "proc/7/root/opt/fake.so": LIBRARY}


def preloaded(root: Path, *by_name: Clock) -> Diagnosis:
    """Process 7's diagnosis, whose library's reads were timed as `by_name` says, and a million counted."""
    view = hosts.view(root, PRELOADED, image=Image.from_bytes(bytes(elves.build())), pid=7)
    view.__dict__["by_name"] = by_name
    examined = Examination(view.measured)
    examined.look(view)
    examined.looked.run(view, examined.used)
    return conclude(examined, quick=True, begun=1_900_000_000 * 10**9, started_ns=0)


def test_what_a_read_costs_with_a_slow_library_is_the_librarys(tmp_path: Path) -> None:
    """And not that of the vDSO's function, which the library calls; nor is the rate that of its calls."""
    found = preloaded(tmp_path, hosts.clock("REALTIME", libc_ns=372.0), hosts.clock(libc_ns=375.0))
    assert found.reason == "a preloaded library makes the clock slow"
    assert found.cost is not None
    assert found.cost.sentence == (
        "each clock read costs 375 ns instead of 20; at a million a second, say, 0.35 cores"
    )


def test_what_a_read_costs_with_a_library_that_is_not_slow(tmp_path: Path) -> None:
    found = preloaded(tmp_path, hosts.clock("REALTIME", libc_ns=60.0), hosts.clock(libc_ns=62.0))
    assert (found.verdict, found.cost and found.cost.read_ns) == (FAST, 62.0)


def test_a_library_whose_cost_nobody_knows_is_not_called_fast(tmp_path: Path) -> None:
    """What its reads cost is then not known at all: that of the vDSO's function is not told in its place."""
    found = preloaded(tmp_path)
    assert (found.verdict, found.cost) == (UNKNOWN, None)
    assert found.reason == (
        "/opt/fake.so takes clock functions, and what a read costs with it was not measured"
    )


def test_a_rate_that_counting_has_made_is_not_the_programs(tmp_path: Path) -> None:
    calls = hosts.observed(hosts.row(50_000, route="syscall"), slowed=True)
    found = diagnosed(tmp_path, pid=7, observation=calls)
    assert found.verdict == SLOW
    assert found.cost is not None
    assert not found.cost.measured
    assert "counting its system calls has slowed it" in " ".join(" ".join(doctor.lines(found, 100)).split())


def test_what_a_read_costs_is_of_the_reads_that_were_seen(tmp_path: Path) -> None:
    calls = hosts.observed(hosts.row(300, "REALTIME_COARSE", ns=4.0), hosts.row(100, ns=24.0))
    found = diagnosed(tmp_path, pid=7, observation=calls)
    assert found.cost is not None
    assert found.cost.read_ns == 9.0


def test_under_a_tracer_nothing_is_said_of_what_is_saved(tmp_path: Path) -> None:
    caution = Caution("tracer", "a debugger", "run without it")
    found = diagnosed(tmp_path, figures=hosts.figures(cautions=(caution,)), observation=None)
    assert found.cost is not None
    assert found.cost.sentence == "each clock read costs 21 ns"


def test_what_noise_has_hidden_is_no_figure(tmp_path: Path) -> None:
    """Nor is it a call that a filter refuses."""
    hidden = hosts.clock(libc_ns=None, syscall_ns=None, missing={"libc": LOST, "syscall": LOST})
    status = str(hosts.FILES["proc/self/status"]).replace("Seccomp:\t0", "Seccomp:\t2")
    seen = {"figures": hosts.figures(hidden), "observation": None, "files": {"proc/self/status": status}}
    found = diagnosed(tmp_path, **seen)
    assert (found.verdict, found.cost) == (UNKNOWN, None)
    assert found.reason == f"what a read of MONOTONIC costs could not be looked at: {LOST}"
    assert "seccomp-refuses" not in [one.id for one in found.findings]
    screen = list(doctor.lines(found, 100))
    assert any(line.split()[:4] == ["MONOTONIC", "20.0", "?", "?"] for line in screen)
    assert f"  ?: MONOTONIC by the C library: {LOST}" in screen


def test_where_the_system_call_is_refused_what_answers_is_none(tmp_path: Path) -> None:
    refused = {"syscall_ns": None, "missing": {"syscall": "refused: it answers with an error"}}
    clocks = hosts.clock("REALTIME", **refused), hosts.clock(**refused)
    found = diagnosed(tmp_path, figures=hosts.figures(*clocks), observation=None)
    assert found.verdict == FAST
    assert found.reason == "reads of the clock of this process stay out of the kernel"
    assert found.cost is not None
    assert found.cost.sentence == "each clock read costs 21 ns"


def test_a_system_call_that_could_not_be_timed_is_what_is_named(tmp_path: Path) -> None:
    lost = hosts.clock("REALTIME", syscall_ns=None, missing={"syscall": LOST})
    found = diagnosed(tmp_path, figures=hosts.figures(lost), observation=None)
    assert found.verdict == UNKNOWN
    assert found.reason == f"what the system call for REALTIME costs could not be looked at: {LOST}"


def test_reads_dearer_than_a_system_call_save_nothing(tmp_path: Path) -> None:
    calls = hosts.observed(hosts.row(300, ns=900.0))
    found = diagnosed(tmp_path, pid=7, observation=calls)
    assert found.cost is not None
    assert (found.cost.sentence, found.cost.cores) == ("each clock read costs 900 ns", None)


@pytest.mark.parametrize(
    ("counter", "said"),
    [
        (Counter(9.0, 17.0, 1, 9, 0, 0, True), "1 pair of CPUs compared, none behind"),
        (Counter(9.0, 17.0, 28, 9, 0, 0, True), "28 pairs of CPUs compared, each with each, none behind"),
        (Counter(9.0, 17.0, 99, 9, 0, 0, True, False), "each with the first (too many for each with each)"),
    ],
)
def test_which_cpus_were_compared(tmp_path: Path, counter: Counter, said: str) -> None:
    found = diagnosed(tmp_path, figures=hosts.figures(counter=counter))
    assert said in dict(wording.facts(found))["counter"]


def test_the_gravest_comes_first(tmp_path: Path) -> None:
    files = {"proc/sys/kernel/yama/ptrace_scope": "1\n", "proc/cmdline": "tsc=unstable", **XEN["files"]}
    found = diagnosed(tmp_path, **{**XEN, "files": files})
    order = ["critical", "warning", "note"]
    places = [order.index(one.severity) for one in found.findings]
    assert places == sorted(places)
    assert len(set(places)) == 3


# ---- Forms ----

HOSTS: dict[str, dict[str, Any]] = {
    "fast": {},
    "slow": XEN,
    "unknown": {"figures": None, "page": None, "aslr": None, "counter_allowed": None, "observation": None},
    "another process": {
        "pid": 7,
        "observation": hosts.observed(hosts.row(9, "", "vdso", "time"), hosts.row(9, "", "syscall", "time")),
    },
}


@pytest.fixture(scope="session")
def schema() -> Draft202012Validator:
    text = importlib.resources.files("vdso.measure.doctor").joinpath("schema.json").read_text("utf-8")
    Draft202012Validator.check_schema(json.loads(text))
    return Draft202012Validator(json.loads(text))


@pytest.mark.parametrize("name", HOSTS)
def test_json_is_as_its_schema_says(tmp_path: Path, schema: Draft202012Validator, name: str) -> None:
    found = diagnosed(tmp_path, **HOSTS[name])
    schema.validate(json.loads(json.dumps(found.to_json(), allow_nan=False)))


def test_the_schema_describes_every_field(tmp_path: Path, schema: Draft202012Validator) -> None:
    """Neither a field that it does not name, nor one that it names and that is not there."""
    document = json.loads(json.dumps(diagnosed(tmp_path, **XEN).to_json()))
    document["more"] = 1
    assert not schema.is_valid(document)
    del document["more"], document["reason"]
    assert not schema.is_valid(document)


@pytest.mark.parametrize("name", HOSTS)
def test_metrics_are_of_both_formats(tmp_path: Path, name: str) -> None:
    found = diagnosed(tmp_path, **HOSTS[name])
    text = render(found)
    for families in (openmetrics_families(text), text_families(text)):
        samples = [sample for family in families for sample in family.samples]
        values = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}
        assert len(values) == len(samples), "a sample is there twice"
        assert values["vdso_doctor_verdict", ("verdict", found.verdict)] == 1
        if found.figures:
            read = values["vdso_clock_read_seconds", ("clock", "MONOTONIC"), ("route", "syscall")]
            assert read == pytest.approx(found.figures.clocks[1].syscall_ns / 1e9)
        reported = {key[1][1] for key in values if key[0] == "vdso_doctor_finding"}
        assert reported == {one.id for one in found.findings}


def test_units_are_in_the_metrics_names(tmp_path: Path) -> None:
    for family in openmetrics_families(render(diagnosed(tmp_path))):
        assert family.type == "gauge"
        assert family.documentation
        assert not family.unit or family.name.endswith(f"_{family.unit}")
        # As promtool would have it.
        assert not {"counter", "gauge", "histogram", "summary"} & set(family.name.split("_"))


def test_labels_are_escaped(tmp_path: Path) -> None:
    files = {CURRENT: "tsc\n", AVAILABLE: 'tsc a"b\\n\n'}
    names = {
        sample.labels["clocksource"]
        for family in openmetrics_families(render(diagnosed(tmp_path, files=files)))
        if family.name == "vdso_clocksource_used"
        for sample in family.samples
    }
    assert names == {"tsc", 'a"b\\n'}


def clocks(found: Diagnosis) -> tuple[Clock, ...]:
    return found.figures.clocks if found.figures else ()


@pytest.mark.parametrize("width", [20, 33, 47, 64, 80, 100])
@pytest.mark.parametrize("name", HOSTS)
def test_a_screen_of_any_width(tmp_path: Path, name: str, width: int) -> None:
    found = diagnosed(tmp_path, **HOSTS[name])
    lines = list(doctor.lines(found, width))
    assert max(map(len, lines)) <= width
    # Cut into lines or not, the words are there.
    whole = "".join("".join(lines).split())
    assert found.verdict in lines[0]
    for one in found.findings:
        assert one.remedy.replace(" ", "") in whole
    # And every figure, below its clock's name or beside it.
    lines = lines[next((n for n, line in enumerate(lines) if line.startswith("ns a read")), 0) :]
    at = [next(n for n, line in enumerate(lines) if line.split()[:1] == [one.clock]) for one in clocks(found)]
    for clock, begin in zip(clocks(found), at, strict=True):
        end = min((n for n in at if n > begin), default=begin + 7)
        text = " ".join(lines[begin:end])
        figures = (clock.vdso_ns, clock.libc_ns, clock.syscall_ns)
        told = (f"{clock.ratio:.1f}x", wording.whole(clock.resolution_ns), wording.whole(clock.step_ns))
        for word in (*map(wording.ns, figures), *told):
            assert re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", text), (word, text)


def test_somebody_elses_text_is_no_command_to_a_terminal(tmp_path: Path) -> None:
    status = str(hosts.FILES["proc/self/status"]).replace("Name:\tserver", "Name:\t\x1b[2Jserver")
    kmsg = hosts.messages("tsc: Marking TSC unstable due to \x1b[31m\x07 red")
    found = diagnosed(tmp_path, files={"proc/self/status": status, "dev/kmsg": kmsg})
    text = "\n".join(doctor.lines(found, 100))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert "red" in text
