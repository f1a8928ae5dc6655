"""Which functions are only the way to who reads the clock, and how a place is shown."""

import subprocess
import sys

import pytest

from vdso.measure.sites import Frame, is_way

WAYS = [
    ("/usr/lib/x86_64-linux-gnu/libc.so.6", "__sleep"),
    ("/usr/lib/x86_64-linux-gnu/libc-2.31.so", None),
    ("/lib/ld-musl-x86_64.so.1", None),
    ("/usr/lib/libc.so", "gettimeofday"),
    ("/usr/lib/x86_64-linux-gnu/libpthread-2.31.so", None),
    ("/bin/static", "__clock_gettime64"),
    ("/bin/static", "clock_gettime"),
    ("/bin/static", "time"),
    ("/usr/lib/libasan.so.8", "__interceptor_clock_gettime"),
    ("/usr/lib/libstdc++.so.6.0.30", "std::chrono::_V2::system_clock::now()"),
    ("/bin/c++", "std::__1::chrono::steady_clock::now()"),
    ("/bin/rust", "std::time::Instant::now"),
    ("/bin/rust", "<std::time::Instant>::now"),
    ("/bin/rust", "<std::sys::pal::unix::time::Timespec>::now"),
    ("/bin/rust", "std::sys::unix::time::inner::Timespec::now"),
    ("/bin/go", "runtime.nanotime1.abi0"),
    ("/bin/go", "runtime.walltime"),
    ("/bin/go", "time.now"),
    ("/bin/go", "time.Since"),
    ("/usr/lib/libpython3.11.so.1.0", "_PyTime_GetSystemClockWithInfo"),
    ("/usr/bin/python3.13", "PyTime_Monotonic"),
    ("/usr/bin/python3.12", "py_get_monotonic_clock"),
    ("/usr/lib/libjvm.so", "os::javaTimeNanos()"),
    ("/usr/bin/node", "v8::base::Time::Now()"),
    ("/usr/bin/node", "uv__hrtime"),
]
SITES = [
    ("/bin/program", "main"),
    ("/bin/program", None),
    ("/usr/lib/libcrypto.so.3", None),
    ("/usr/lib/libcap.so.2", None),
    ("/usr/lib/libc++.so.1", "something"),
    ("/bin/program", "timer"),
    ("/bin/program", "clock_of_mine"),
    ("/bin/program", "app::std::chrono()"),
    ("/bin/rust", "std::thread::sleep"),
    ("/bin/go", "time.Sleep"),
    ("/bin/go", "time.(*Timer).Reset"),
    ("/bin/go", "runtime.findRunnable"),
    ("/usr/lib/libpython3.11.so.1.0", "time_monotonic"),
    ("/usr/lib/libjvm.so", "elapsedTimer::start()"),
]


@pytest.mark.parametrize(("path", "function"), WAYS)
def test_the_way(path: str, function: str | None) -> None:
    assert is_way(path, function)


@pytest.mark.parametrize(("path", "function"), SITES)
def test_who_reads_the_clock(path: str, function: str | None) -> None:
    assert not is_way(path, function)


def test_labels() -> None:
    assert Frame("/bin/a", 0x1234, "main", 0x34, ".symtab").label == "a: main+0x34"
    assert Frame("/bin/a", 0x1200, "main", 0, ".symtab", tail=True).label == "a: main"
    assert Frame("/bin/a", 0x1234, None, None, "no symbol").label == "a+0x1234"
    assert (
        Frame("generated code [anon]", 0x7F00, None, None, "generated code").label == "generated code [anon]"
    )
    assert Frame("generated code [anon]", 0x7F00, "f", None, "perf map").label == "generated code [anon]: f"
    memory = Frame("generated code /memfd:jit", 0x7F00, None, None, "generated code")
    assert memory.label == "generated code /memfd:jit"


def test_nothing_heavy_is_imported_until_sites_are_asked_for() -> None:
    heavy = ("capstone", "elftools", "lzma", "pycxxfilt", "rich", "ctypes")
    program = f"import sys, vdso.measure.sites; print([one for one in {heavy} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
