"""The pytest plugin, in runs of their own: marker, fixture, --at, workers, refusals, and what it costs."""

import os
import sys
from pathlib import Path

import pytest
from harness import finish

WHEN = """
import datetime as dt
import time
import unittest

import pytest
import vdso

T_2030 = 1893456000

def year():
    return dt.datetime.now(dt.timezone.utc).year

THIS = year()
"""


def run(pytester: pytest.Pytester, tests: str, *words: str, **outcomes: int) -> pytest.RunResult:
    """Runs these tests in an interpreter of their own, where every warning is an error."""
    pytester.makepyfile(WHEN + tests)
    done = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *words)
    done.assert_outcomes(**outcomes)
    return done


def test_the_marker(pytester: pytest.Pytester) -> None:
    tests = """
    @pytest.fixture(scope="session")
    def shared():
        return year()

    @pytest.fixture(autouse=True)
    def own():
        yield year()

    @pytest.mark.travel("2030-01-01", rate=0)
    def test_there(shared, own):
        assert (shared, own, time.time()) == (THIS, 2030, T_2030)

    @pytest.mark.travel("2030-01-01", tick=False)
    def test_with_the_fixture(own, travel):
        assert own == 2030
        travel.shift("1h")
        assert time.time() == T_2030 + 3600
        travel.move_to("2031-01-01")
        assert year() == 2031
        travel.clock.rate = 2

    @pytest.mark.travel("2030-01-01")
    @pytest.mark.parametrize("number", [1, 2])
    def test_each(number):
        assert 0 <= time.time() - T_2030 < 5

    @pytest.mark.travel("2030-01-01")
    class TestAll:
        def test_here(self):
            assert year() == 2030

        @pytest.mark.travel("2031-01-01")
        def test_nearer(self):
            assert year() == 2031

        @pytest.mark.travel("2031-01-01")
        @pytest.mark.parametrize(
            "wanted", [2031, pytest.param(2032, marks=pytest.mark.travel("2032-01-01"))]
        )
        def test_nearest(self, wanted):
            assert year() == wanted

    @pytest.mark.travel("2030-01-01", children=True)
    def test_what_it_execs():
        import subprocess
        assert subprocess.run(["date", "-u", "+%Y"], capture_output=True).stdout == b"2030\\n"

    @pytest.mark.travel("2030-01-01")
    class TestCase(unittest.TestCase):
        def test_case(self):
            assert year() == 2030

    def test_after():
        assert year() == THIS
    """
    run(pytester, "\n".join(line[4:] for line in tests.splitlines()), passed=11)


def test_the_fixture(pytester: pytest.Pytester) -> None:
    tests = """
def test_not_yet(travel):
    assert year() == THIS
    clock = travel("2030-01-01", rate=0)
    clock.tick()
    assert time.time() == T_2030 + 1
    travel("1999-12-31")
    assert year() == 1999

def test_from_here(travel):
    travel.shift("400d")
    assert year() > THIS

def test_to_there(travel):
    travel.move_to("2030-01-01", tick=False)
    assert time.time() == T_2030

def test_as_its_clock(travel):
    travel.freeze()
    travel.at("2030-01-01")
    travel.tick()
    assert (time.time(), travel.rate) == (T_2030 + 1, 0)
    travel.rate = 60
    assert travel.clock.rate == 60
    with pytest.raises(AttributeError):
        travel.pace = 60
"""
    run(pytester, tests, passed=4)


def test_the_fixture_lasts_until_the_end(pytester: pytest.Pytester) -> None:
    tests = """
years = []

@pytest.fixture
def after(travel):
    yield
    years.append(year())

@pytest.fixture
def before():
    yield
    years.append(year())

def test_both(before, travel, after):
    travel("2030-01-01")
    vdso.travel("2040-01-01").start()
    assert year() == 2040

def test_fails(before, travel, after):
    travel("2031-01-01")
    assert False

def test_by_another(after):
    assert years == [2030, THIS, 2031, THIS]
    assert year() == THIS
"""
    run(pytester, tests, passed=2, failed=1)


def test_a_decorated_class(pytester: pytest.Pytester) -> None:
    tests = """
@vdso.freeze("2030-01-01")
class TestAll:
    @classmethod
    def setup_class(cls):
        cls.began = [year()]

    def setup_method(self, method):
        self.began.append(method.__name__)

    def teardown_method(self):
        assert year() == 2030

    def test_one(self):
        assert (year(), self.began) == (2030, [2030, "test_one"])

    @pytest.mark.parametrize("number", [1, 2])
    def test_each(self, number):
        assert year() == 2030
        assert self.began[-1] == "test_each"

@vdso.freeze("2030-01-01")
class TestOthers:
    @staticmethod
    def setup_class():
        assert year() == 2030

    def setup_method(self):
        assert year() == 2030

    def teardown_class(cls):
        assert year() == 2030

    def test_one(self):
        assert year() == 2030

@pytest.fixture
@vdso.freeze("2030-01-01")
def there():
    yield year()

def test_fixture(there):
    assert (there, year()) == (2030, 2030)

def test_after():
    assert year() == THIS
"""
    run(pytester, tests, passed=6)


def test_what_crashes_inside_is_undone(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.fixture
def lasting():
    vdso.travel(0).start()
    yield
    raise OSError

@pytest.fixture(scope="module")
def longer():
    with vdso.freeze("2035-01-01"):
        yield

@pytest.fixture
def stays():
    vdso.travel("2045-01-01").start()

@pytest.fixture
def fails():
    vdso.travel("2046-01-01").start()
    raise OSError

@pytest.fixture(scope="module")
def fails_for_all():
    vdso.travel("2047-01-01").start()
    raise OSError

@pytest.fixture(scope="class")
def until_the_end():
    journey = vdso.travel("2048-01-01")
    journey.start()
    yield
    journey.stop()

class TestMethods:
    def setup_method(self):
        vdso.travel("2049-01-01").start()

    def test_there(self):
        assert year() == 2049

    def teardown_method(self):
        assert year() == 2049

def test_in_a_fixture(stays):
    assert year() == 2045

def test_not_in_the_next():
    assert year() == THIS

def test_after_one_that_fails(fails):
    pass

def test_home_from_there():
    assert year() == THIS

def test_after_one_that_fails_for_all(fails_for_all):
    pass

def test_home_from_there_too():
    assert year() == THIS

class TestForAll:
    def setup_class(self):
        vdso.travel("2043-01-01").start()

    def test_begins(self):
        assert year() == 2043

    def test_goes_on(self, stays):
        assert year() == 2045

    def test_goes_on_after(self):
        assert year() == 2043

def test_home_from_that_class():
    assert year() == THIS

@pytest.mark.usefixtures("until_the_end")
class TestLonger:
    def test_begins(self, stays):
        assert year() == 2045

    def test_goes_on(self):
        assert year() == 2048

@pytest.mark.travel("2030-01-01")
def test_fails():
    vdso.travel("2040-01-01").start()
    assert 0

def test_exits():
    vdso.travel("2040-01-01").start()
    raise SystemExit

def test_home():
    assert year() == THIS

def test_module_begins(longer):
    vdso.travel("2040-01-01").start()

def test_module_goes_on():
    assert year() == 2035
"""
    run(pytester, tests, passed=14, failed=2, errors=2)


def test_at(pytester: pytest.Pytester) -> None:
    tests = """
def test_there():
    assert (THIS, year()) == (2030, 2030)

@pytest.mark.travel("1999-01-01")
def test_elsewhere():
    assert year() == 1999
    vdso.travel(0).start()

def test_there_again():
    assert year() == 2030
"""
    done = run(pytester, tests, "--at", "2030-06-01", passed=3)
    assert done.duration < 60
    done.stdout.re_match_lines([r".*3 passed in \d{1,2}\.\d+s.*"])


def test_workers(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.mark.parametrize("number", range(8))
def test_at(number):
    assert year() == 2030

@pytest.mark.travel("1999-01-01")
@pytest.mark.parametrize("number", range(8))
def test_marked(number):
    assert year() == 1999
"""
    run(pytester, tests, "--at", "2030-06-01", "-n", "2", passed=16)


def test_a_worker_that_crashes(pytester: pytest.Pytester) -> None:
    """Its successor goes there too, and the other one has noticed nothing."""
    tests = """
@pytest.mark.parametrize("number", range(6))
def test_at(number):
    assert year() == 2030

@pytest.mark.travel("1999-01-01")
def test_crashes():
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.parametrize("number", range(6))
def test_still_at(number):
    assert year() == 2030
"""
    done = run(pytester, tests, "--at", "2030-06-01", "-n", "2", passed=12, failed=1)
    done.stdout.fnmatch_lines(["*worker 'gw?' crashed*"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ('("never")', "not a time: never"),
        ("()", "cannot be read"),
        ('("2030-01-01", rate=-1)', "no clock runs backwards"),
        ('("2030-01-01", speed=2)', "cannot be read"),
    ],
)
def test_a_marker_that_cannot_be_meant(pytester: pytest.Pytester, marker: str, message: str) -> None:
    done = run(pytester, f"@pytest.mark.travel{marker}\ndef test_it(): pass\n", errors=1)
    done.stdout.fnmatch_lines([f"*{message}*", "such as*" if "rate" not in marker else "*"])
    done.stdout.no_fnmatch_line("*Traceback*")
    done.stdout.no_fnmatch_line("*During handling*")


def test_a_configuration_that_cannot_be_meant(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    pytester.makeini("[pytest]\nvdso_travel = perhaps")
    done = pytester.runpytest_subprocess()
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: vdso_travel is fail or skip, and not 'perhaps'"])


def test_an_option_that_cannot_be_meant(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    done = pytester.runpytest_subprocess("--at", "never")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --at: not a time: never", "such as *"])


REFUSED = """
@pytest.mark.travel("2030-01-01")
def test_marked():
    assert year() == 2030

def test_by_fixture(travel):
    travel("2030-01-01")

def test_in_its_body():
    with vdso.travel("2030-01-01"):
        pass

def test_without():
    pass
"""


def refused(pytester: pytest.Pytester, *words: str) -> tuple[int, str]:
    """The same tests where a filter refuses ptrace."""
    pytester.makepyfile(WHEN + REFUSED)
    refusing = [sys.executable, Path(__file__).parent / "programs" / "refusing.py", "ptrace"]
    done = finish([*refusing, sys.executable, "-m", "pytest", "-rs", *words], cwd=pytester.path)
    return done.returncode, done.stdout + done.stderr


def test_where_it_is_not_possible_they_fail_with_the_hint(pytester: pytest.Pytester) -> None:
    status, said = refused(pytester)
    assert (status, said.count("docker run")) == (1, 3), said
    assert "2 failed, 1 passed, 1 error" in said


def test_where_it_is_not_possible_they_are_skipped_if_told(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nvdso_travel = skip")
    status, said = refused(pytester)
    assert status == 0, said
    assert "1 passed, 3 skipped" in said
    status, said = refused(pytester, "--at", "2030-01-01")
    assert status == 0, said
    assert "4 skipped" in said


def test_where_it_is_not_possible_a_whole_run_is_refused(pytester: pytest.Pytester) -> None:
    status, said = refused(pytester, "--at", "2030-01-01")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert said.startswith("ERROR: ")
    assert "docker run" in said


def test_the_example(pytester: pytest.Pytester) -> None:
    example = Path(__file__).parents[2] / "examples" / "test_travel.py"
    pytester.makepyfile(test_example=example.read_text(encoding="utf-8"))
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=5)


def test_it_imports_nothing_that_pytest_has_not(pytester: pytest.Pytester) -> None:
    tests = """
def test_nothing_of_it_is_there():
    import sys
    there = {name for name in sys.modules if name == "vdso" or name.startswith("vdso.")}
    assert there == {"vdso", "vdso.pytest_plugin"}
"""
    pytester.makepyfile(tests)
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1)
    names = "import pytest, sys; before = set(sys.modules); import vdso.pytest_plugin"
    done = finish(
        [sys.executable, "-c", f"{names}; print(*sorted(set(sys.modules) - before))"], env=os.environ
    )
    assert done.stdout.split() == ["vdso", "vdso.pytest_plugin"]
