"""Every check: provoked on a host made for it, silent on a healthy one, and listed where it cannot look."""

import re
from pathlib import Path
from typing import Any

import elves
import hosts
import pytest

from vdso.kernel.image import Image
from vdso.measure.doctor.catalogue import CHECKS
from vdso.measure.doctor.diagnosis import Looked
from vdso.measure.doctor.result import SEVERITIES, Counter
from vdso.measure.doctor.view import Page, View

CURRENT = f"{hosts.CLOCKSOURCE}/current_clocksource"
AVAILABLE = f"{hosts.CLOCKSOURCE}/available_clocksource"
NO_VDSO = "".join(line + "\n" for line in hosts.MAPS.splitlines() if "[v" not in line)
NO_VSYSCALL = "".join(line + "\n" for line in hosts.MAPS.splitlines() if "vsyscall" not in line)
GVISOR = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n"
STATUS = str(hosts.FILES["proc/self/status"])
CALLS_VSYSCALL = hosts.program(body=b"\x48\xc7\xc0\x00\x04\x60\xff\xff\xd0 __vdso_clock_gettime\0")
LIBRARY = bytes(elves.build(symbols=(elves.Symbol("clock_gettime", 0, 16), elves.Symbol("other", 16, 16))))
PRELOADED = {"proc/self/environ": "LD_PRELOAD=/opt/fake.so\0", "opt/fake.so": LIBRARY}
FILTERED = {"proc/self/status": STATUS.replace("Seccomp:\t0", "Seccomp:\t2\nSeccomp_filters:\t1")}

PAGE = "7f1000000000-7f1000002000 r--s 00000000 00:01 5 /memfd:vdso-clock:77 (deleted)\n"
COUNTING = "7f1000003000-7f1000006000 r-xp 00000000 fe:00 6 /lib/python3/vdso/vdso-count.so\n"
COUNTED = {"proc/self/maps": hosts.MAPS.replace("[vdso]", "/lib/python3/vdso/vdso-count.so")}


def dear(name: str, ns: float | None) -> Any:
    return hosts.figures(hosts.clock(name, syscall_ns=ns))


def absent(**files: str | bytes) -> dict[str, Any]:
    return {"files": {"proc/self/auxv": hosts.vector(0), "proc/self/maps": NO_VDSO, **files}}


def cmdline(text: str) -> dict[str, Any]:
    return {"files": {"proc/cmdline": text}}


def log(*lines: str) -> dict[str, Any]:
    return {"files": {"dev/kmsg": hosts.messages(*lines)}}


def current(name: str, available: str, mode: str = "none") -> dict[str, Any]:
    files = {CURRENT: f"{name}\n", AVAILABLE: f"{available}\n"}
    return {"files": files, "page": Page(mode, "btf"), "figures": hosts.slow_figures()}


# Each check: the host that provokes it, and what stands in the cause or the remedy.
PROVOKED: dict[str, tuple[dict[str, Any], str]] = {
    "vdso-hidden": ({"files": {"proc/self/auxv": hosts.vector(0)}}, "AT_SYSINFO_EHDR"),
    "vdso-disabled": (absent(**{"proc/cmdline": "vdso=0"}), "vdso=0 stands"),
    "vdso32-disabled": (
        absent(**{"proc/cmdline": "vdso32=0", "proc/self/auxv": hosts.vector_32(0)}),
        "vdso32=0 stands",
    ),
    "vdso-none-in-gvisor": (absent(**{"proc/version": GVISOR}), "runs on gVisor"),
    "vdso-none-in-emulator": (
        absent(**{"proc/cpuinfo": hosts.cpuinfo(model="QEMU TCG CPU version 2.5+")}),
        "emulator (QEMU TCG)",
    ),
    "vdso-none": (absent(), "nothing that was looked at says why"),
    "clocksource-slow": (current("xen", "xen tsc hpet"), "the clocksource is xen"),
    "clocksource-only-slow": (current("hpet", "hpet acpi_pm"), "is available (hpet, acpi_pm)"),
    "clocksource-not-best": (
        {**current("kvm-clock", "tsc kvm-clock", "pvclock"), "figures": hosts.figures()},
        "the clocksource is kvm-clock, and tsc",
    ),
    "pvclock-unstable": (current("kvm-clock", "kvm-clock acpi_pm", "pvclock"), "a read takes 300 ns"),
    "tsc-unstable": (
        log("tsc: Marking TSC unstable due to clocksource watchdog"),
        '"Marking TSC unstable due to clocksource watchdog"; measured now they do not differ',
    ),
    "clocksource-refused": (
        log("clocksource: Override clocksource tsc is unstable and not HRT compatible - cannot switch"),
        "Override clocksource tsc is unstable",
    ),
    "tsc-warp": (
        log(
            "TSC synchronization [CPU#0 -> CPU#1]:",
            "Measured 72 cycles TSC warp between CPUs, turning off TSC clock.",
        ),
        "Measured 72 cycles",
    ),
    "tsc-calibration": (log("tsc: Fast TSC calibration failed"), "Fast TSC calibration failed"),
    "cmdline-clocksource": (cmdline("quiet clocksource=acpi_pm"), "clocksource=acpi_pm stands"),
    "cmdline-tsc": (cmdline("tsc=unstable"), "tsc=unstable stands"),
    "cmdline-hpet": (cmdline("hpet=force"), "hpet=force stands"),
    "cpu-flags": ({"files": {"proc/cpuinfo": hosts.cpuinfo("tsc rdtscp constant_tsc")}}, "no nonstop_tsc"),
    "counter-trapped": (
        {
            "figures": hosts.figures(counter=Counter(1830.0, 1850.0, 1, 9, 0, 0, True)),
            "hypervisor": "KVMKVMKVM",
        },
        "rdtsc takes 1830 ns: KVMKVMKVM intercepts",
    ),
    "counter-forbidden": ({"counter_allowed": False}, "PR_SET_TSC is set"),
    "counters-differ": (
        {"figures": hosts.figures(counter=Counter(9.0, 17.0, 3, 900, 40, 20000, True))},
        "40 reads were behind one of another CPU, by up to 20000 counts",
    ),
    "clock-slow": ({"figures": hosts.slow_figures()}, "takes 300 ns and the true system call 290"),
    "clock-coarse": (
        {"figures": hosts.figures(hosts.clock("MONOTONIC", resolution_ns=4_000_000))},
        "CLOCK_MONOTONIC moves in steps of 4 ms",
    ),
    "functions-missing": (
        {"image": Image.from_bytes(bytes(elves.build()))},
        "Linux 6.12.34 for x86-64 has no gettimeofday, clock_getres, getrandom",
    ),
    "libc-bypasses": (
        {"figures": hosts.figures(hosts.clock("MONOTONIC", route="syscall"))},
        "was seen to make a system call",
    ),
    "program-blind": (
        {
            "files": {
                "proc/self/exe": hosts.program("", body=b"no such name"),
                "proc/self/maps": hosts.MAPS.replace("libc.so.6", "other.so"),
            }
        },
        "a C library that is not known here, or none, static",
    ),
    "program-enters": (
        {
            "pid": 7,
            "observation": hosts.observed(
                hosts.row(10), hosts.row(900_000, route="syscall"), hosts.row(100, "", "syscall", "time")
            ),
        },
        "900100 of 900110 reads that the vDSO could have served",
    ),
    "program-cpu-time": (
        {
            "pid": 7,
            "observation": hosts.observed(hosts.row(60_000, "THREAD_CPUTIME_ID", "vdso-syscall"), seconds=2),
        },
        "30000 reads a second",
    ),
    "our-image": (
        {"files": {"proc/self/maps": hosts.MAPS.replace("[vdso]", "/lib/python3/vdso/vdso-clock.so")}},
        "by the image of vdso run",
    ),
    "our-counting-image": ({"files": COUNTED}, "Where vdso stat has ended it stays"),
    "our-counting-jumps": (
        {"pid": 7, "files": {"proc/self/maps": PAGE + COUNTING + hosts.MAPS}},
        "vdso detach 7",
    ),
    "foreign-image": (
        {"files": {"proc/self/maps": hosts.MAPS.replace("[vdso]", "/opt/other.so")}},
        "was given /opt/other.so",
    ),
    "program-32-bit": (
        {
            "files": {
                "proc/self/auxv": hosts.vector_32(),
                "proc/self/maps": "f7f00000-f7f02000 r-xp 00000000 00:00 0 [vdso]\n",
            }
        },
        "this process is one",
    ),
    "preload": ({"files": PRELOADED}, "/opt/fake.so stands before the C library and has clock_gettime"),
    "preload-slow": (
        {"files": PRELOADED, "figures": hosts.figures(hosts.clock("REALTIME", libc_ns=607.0))},
        "takes 607 ns by its name, 20 by the vDSO",
    ),
    "tracer": (
        {
            "files": {
                "proc/self/status": STATUS.replace("TracerPid:\t0", "TracerPid:\t4711"),
                "proc/4711/comm": "gdb\n",
            }
        },
        "gdb, process 4711 traces this process",
    ),
    "seccomp": ({"files": FILTERED}, "a filter on this process"),
    "our-filter": (
        {"files": {**FILTERED, **COUNTED}},
        "a filter is on this process, and vdso stat puts one into what it starts",
    ),
    "seccomp-dear": (
        {"files": FILTERED, "figures": dear("REALTIME", 16_000.0)},
        "clock_gettime(REALTIME) by system call takes 16000 ns, getppid 95",
    ),
    "seccomp-refuses": (
        {"files": FILTERED, "figures": dear("REALTIME", None)},
        "the system call for REALTIME fails",
    ),
    "time-namespace": (
        {
            "links": {"proc/self/ns/time": "time:[4026532177]"},
            "files": {"proc/self/timens_offsets": "monotonic    86400 0\nboottime    0 0\n"},
        },
        "moved: monotonic 86400 s",
    ),
    "gvisor": ({"files": {"proc/version": GVISOR}}, "are gVisor's"),
    "emulator": ({"hypervisor": "TCGTCGTCGTCG"}, "QEMU TCG, by CPUID"),
    "vsyscall-used": ({"files": {"proc/self/exe": CALLS_VSYSCALL}}, "vsyscall is xonly"),
    "vsyscall-gone": (
        {"files": {"proc/self/exe": CALLS_VSYSCALL, "proc/self/maps": NO_VSYSCALL}},
        "is a SIGSEGV",
    ),
    "vsyscall-emulate": (
        {"files": {"proc/self/maps": hosts.MAPS.replace("--xp", "r-xp")}},
        "vsyscall is emulate",
    ),
    "aslr-off": ({"files": {"proc/sys/kernel/randomize_va_space": "0\n"}}, "is 0"),
    "aslr-off-here": ({"files": {"proc/self/personality": "00040000\n"}}, "ADDR_NO_RANDOMIZE"),
    "aslr-fixed": ({"aslr": hosts.placed(1)}, "at 0x7ffc00000000 each time"),
    "sealed": ({"files": {"proc/self/smaps": hosts.SMAPS.format(seal="sl")}}, "(mseal)"),
    "yama-parents": ({"files": {"proc/sys/kernel/yama/ptrace_scope": "1\n"}}, "ptrace_scope is 1"),
    "yama-privileged": ({"files": {"proc/sys/kernel/yama/ptrace_scope": "2\n"}}, "ptrace_scope is 2"),
    "yama-nobody": ({"files": {"proc/sys/kernel/yama/ptrace_scope": "3\n"}}, "ptrace_scope is 3"),
    "memfd-refused": (
        {"memfd": "permission denied", "files": {"proc/sys/vm/memfd_noexec": "2\n"}},
        "memfd_create fails: permission denied; vm.memfd_noexec is 2",
    ),
    "noexec": (
        {
            "files": {
                "proc/self/mounts": "tmpfs /run tmpfs rw,noexec 0 0\ntmpfs /dev/shm tmpfs noexec,rw 0 0\n"
            }
        },
        "/run and /dev/shm are mounted noexec",
    ),
}
# What comes with it, being the same thing seen from another side.
TOO: dict[str, set[str]] = {
    "vdso-none-in-gvisor": {"gvisor"},
    "vdso-none-in-emulator": {"emulator"},
    "vdso32-disabled": {"program-32-bit"},
    "our-filter": {"our-counting-image"},
}


def look(found: View) -> Looked:
    looked = Looked()
    looked.run(found, CHECKS)
    return looked


@pytest.fixture(autouse=True)
def _no_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def test_a_healthy_host_has_nothing(tmp_path: Path) -> None:
    looked = look(hosts.view(tmp_path, image=Image.from_bytes(bytes(elves.build(symbols=WHOLE)))))
    assert looked.findings == []
    assert looked.unseen == {}
    assert looked.checks == [check.id for check in CHECKS]


WHOLE = tuple(
    elves.Symbol(f"__vdso_{name}", 16 * at, 16)
    for at, name in enumerate(
        ("clock_gettime", "gettimeofday", "time", "getcpu", "clock_getres", "getrandom")
    )
)


def test_every_check_is_provoked_here() -> None:
    assert list(PROVOKED) == [check.id for check in CHECKS]


@pytest.mark.parametrize("name", PROVOKED)
def test_provoked(tmp_path: Path, name: str) -> None:
    host, words = PROVOKED[name]
    host = {"image": Image.from_bytes(bytes(elves.build(symbols=WHOLE))), **host}
    found = {one.id: one for one in look(hosts.view(tmp_path, **host)).findings}
    assert set(found) == {name} | TOO.get(name, set())
    assert words in found[name].cause + found[name].remedy
    assert not re.search(r"[{}]", found[name].cause + found[name].remedy)


def test_rows_are_whole() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert re.fullmatch(r"[a-z0-9-]+", check.id)
        assert check.severity in SEVERITIES
        assert check.source.startswith("https://")
        assert check.title
        assert check.cause
        assert check.remedy
        assert check.look.__doc__


# ---- What cannot be looked at ----


@pytest.mark.parametrize("path", [CURRENT, AVAILABLE])
def test_an_empty_file_of_sysfs(tmp_path: Path, path: str) -> None:
    """Nothing was seen in it, and none of what takes it has looked. That the vDSO can read the clocksource
    the kernel's data page tells."""
    looked = look(hosts.view(tmp_path / "with", {path: "\n"}))
    assert looked.findings == []
    assert looked.unseen[f"/{path}", "it is empty"] == ["clocksource-not-best"]
    without_page = look(hosts.view(tmp_path / "without", {path: "\n"}, page=None))
    slow = {"clocksource-slow", "clocksource-only-slow"} if path == CURRENT else set()
    assert slow <= set(without_page.unseen[f"/{path}", "it is empty"])


def test_an_empty_proc(tmp_path: Path) -> None:
    """Nothing is found, and everything that is of files is said not to have been seen."""
    nothing: dict[str, str | bytes | None] = dict.fromkeys(hosts.FILES)
    looked = look(hosts.view(tmp_path, nothing, dict.fromkeys(hosts.LINKS)))
    assert looked.findings == []
    missed = {name for names in looked.unseen.values() for name in names}
    of_measurement = {
        *(
            "counter-trapped",
            "counter-forbidden",
            "counters-differ",
            "clock-slow",
            "clock-coarse",
            "aslr-fixed",
        ),
        *("program-enters", "program-cpu-time", "emulator", "pvclock-unstable", "preload-slow"),
        *("clocksource-slow", "clocksource-only-slow", "aslr-off", "memfd-refused"),
        *("yama-parents", "yama-privileged", "yama-nobody"),
    }
    assert missed >= {check.id for check in CHECKS} - of_measurement
    for what, why in looked.unseen:
        assert what
        assert why


@pytest.mark.parametrize("path", [path for path in hosts.FILES if path.startswith(("proc", "sys", "dev"))])
def test_an_entry_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    """The checks that take it are listed, or do without; none fails, and none finds anything."""
    looped = {path: path.rpartition("/")[2]}
    looked = look(
        hosts.view(tmp_path, {path: None}, looped, image=Image.from_bytes(bytes(elves.build(symbols=WHOLE))))
    )
    assert looked.findings == []
    listed = [check.id for check in CHECKS]
    assert sorted({*looked.checks, *(name for names in looked.unseen.values() for name in names)}) == sorted(
        listed
    )


def test_another_architectures_cpuinfo(tmp_path: Path) -> None:
    text = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd evtstrm\nCPU implementer\t: 0x41\n"
    looked = look(hosts.view(tmp_path, {"proc/cpuinfo": text}))
    assert ("/proc/cpuinfo", "no line `flags` in it, as x86's has") in looked.unseen
    assert looked.findings == []


def test_a_host_of_arm64(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\n",
        CURRENT: "arch_sys_counter\n",
        AVAILABLE: "arch_sys_counter\n",
        "proc/self/maps": NO_VSYSCALL,
    }
    looked = look(hosts.view(tmp_path, files, architecture="aarch64", page=None))
    assert looked.findings == []
    assert not any("cpu-flags" in names for names in looked.unseen.values())


@pytest.mark.parametrize("name", ["jiffies", "hpet", "xen", "hyperv_clocksource_msr"])
def test_without_a_proven_page_the_clocksource_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    host = {**current(name, f"{name} acpi_pm"), "page": None}
    assert [one.id for one in look(hosts.view(tmp_path, **host)).findings] == ["clocksource-only-slow"]


def test_an_architecture_that_is_not_known_has_no_slow_clocksource_by_name(tmp_path: Path) -> None:
    host = {**current("odd", "odd"), "page": None, "figures": hosts.figures()}
    assert look(hosts.view(tmp_path, architecture="m68k", **host)).findings == []


def test_a_counter_that_differs_is_not_what_to_change_to(tmp_path: Path) -> None:
    counter = Counter(9.0, 17.0, 3, 900, 40, 20000, True)
    host = {**current("xen", "xen tsc hpet"), "figures": hosts.slow_figures(counter=counter)}
    found = [one.id for one in look(hosts.view(tmp_path, **host)).findings]
    assert found == ["clocksource-only-slow", "counters-differ"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because", True),
        ("clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc-early' as unstable", True),
        ("clocksource: timekeeping watchdog on CPU1: Marking clocksource 'hpet' as unstable because", False),
        ("tsc: Detected 2300.000 MHz processor", False),
        ("kvm-clock: Using msrs 4b564d01 and 4b564d00", False),
    ],
)
def test_what_the_kernel_says_of_the_counter(tmp_path: Path, line: str, found: bool) -> None:
    looked = look(hosts.view(tmp_path, {"dev/kmsg": hosts.messages(line)}))
    assert [one.id for one in looked.findings] == ["tsc-unstable"] * found


def test_messages_that_have_been_overwritten(tmp_path: Path) -> None:
    kmsg = "".join(f"6,{n},{n},-;usb 1-1: new device\n" for n in range(1000, 1010))
    looked = look(hosts.view(tmp_path, {"dev/kmsg": kmsg}))
    missed = next(names for (what, _), names in looked.unseen.items() if what == "the kernel's messages")
    assert missed == ["tsc-unstable", "clocksource-refused", "tsc-warp", "tsc-calibration"]


def test_messages_that_the_boot_has_left_in_a_file(tmp_path: Path) -> None:
    kept = "[    0.000000] Linux version 6.18.0\n[    1.2] tsc: Marking TSC unstable due to check_tsc_sync\n"
    files = {"dev/kmsg": "6,1000,1,-;later\n", "var/log/dmesg": kept}
    assert [one.id for one in look(hosts.view(tmp_path, files)).findings] == ["tsc-unstable"]


@pytest.mark.parametrize(
    "version",
    [
        GVISOR,
        "Linux version 4.19.0-gvisor #1 SMP Sun Jan 10 15:06:54 PST 2016\n",
        "Linux version 6.1.0-gvisor\n",
    ],
)
def test_each_version_of_gvisor(tmp_path: Path, version: str) -> None:
    found = look(hosts.view(tmp_path, {"proc/version": version})).findings
    assert [one.id for one in found] == ["gvisor"]


def test_gvisor_by_its_messages(tmp_path: Path) -> None:
    kmsg = hosts.messages("Starting gVisor...", "Checking naughty and nice process list...")
    assert [one.id for one in look(hosts.view(tmp_path, {"dev/kmsg": kmsg})).findings] == ["gvisor"]


def test_a_hostile_message_stays_in_its_line(tmp_path: Path) -> None:
    kmsg = hosts.messages("tsc: Marking TSC unstable due to \x1b[2J{evil} %s")
    found = look(hosts.view(tmp_path, {"dev/kmsg": kmsg})).findings
    assert "{evil} %s" in found[0].cause


def test_a_library_that_is_named_and_not_there_is_not_a_finding(tmp_path: Path) -> None:
    looked = look(hosts.view(tmp_path, {"proc/self/environ": "LD_PRELOAD=/opt/gone.so\0"}))
    assert looked.findings == []
    assert ("the preloaded library /opt/gone.so", "it was not found") in looked.unseen


def test_the_loaders_own_file(tmp_path: Path) -> None:
    files = {"etc/ld.so.preload": "# nothing\n/opt/fake.so # why\n", "opt/fake.so": LIBRARY}
    assert [one.id for one in look(hosts.view(tmp_path, files)).findings] == ["preload"]


SLOW_BY_NAME = {"libc_ns": 160.0, "route": "syscall"}
ENTERING = {"observation": hosts.observed(hosts.row(500_000, route="syscall"))}


def test_what_a_slow_library_makes_of_reads_is_its_own_doing(tmp_path: Path) -> None:
    """And not the C library's, or the program's: those need no mending."""
    slow = hosts.figures(hosts.clock(**SLOW_BY_NAME))
    looked = look(hosts.view(tmp_path, PRELOADED, figures=slow, **ENTERING))
    assert [one.id for one in looked.findings] == ["preload-slow"]


def test_without_a_library_the_same_is_the_c_librarys_and_the_programs(tmp_path: Path) -> None:
    slow = hosts.figures(hosts.clock(**SLOW_BY_NAME))
    looked = look(hosts.view(tmp_path, figures=slow, **ENTERING))
    assert {one.id for one in looked.findings} == {"libc-bypasses", "program-enters"}


def test_what_a_library_costs_another_process_is_as_it_was_timed_elsewhere(tmp_path: Path) -> None:
    view = hosts.view(tmp_path, of_another(PRELOADED), pid=7, **ENTERING)
    view.__dict__["by_name"] = (hosts.clock("REALTIME", **SLOW_BY_NAME),)
    [found] = look(view).findings
    assert found.id == "preload-slow"
    assert "takes 160 ns by its name, 20 by the vDSO" in found.cause


def test_a_library_that_was_not_timed_is_named_before_the_program(tmp_path: Path) -> None:
    view = hosts.view(tmp_path, of_another(PRELOADED), pid=7, **ENTERING)
    found = {one.id: one for one in look(view).findings}
    assert found["program-enters"].remedy.startswith("start it without /opt/fake.so, which may be what")
    assert "was not measured" in found["preload"].cause


def of_another(files: dict[str, Any]) -> dict[str, Any]:
    return {**files, "proc/7/root/opt/fake.so": files["opt/fake.so"]}


@pytest.mark.parametrize("calls", [99, 101])
def test_a_handful_of_calls_is_start_up(tmp_path: Path, calls: int) -> None:
    seen = hosts.observed(hosts.row(calls, route="syscall"), seconds=0.002)
    found = [one.id for one in look(hosts.view(tmp_path, observation=seen)).findings]
    assert found == (["program-enters"] if calls > 100 else [])


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/exe": hosts.program("")},  # nobody loads it
        {"proc/self/auxv": hosts.vector(secure=1)},  # it would not be taken
        {"opt/fake.so": bytes(elves.build(symbols=(elves.Symbol("malloc", 0, 16),)))},
    ],
)
def test_a_preload_that_takes_no_clock_function(tmp_path: Path, files: dict[str, str | bytes | None]) -> None:
    assert look(hosts.view(tmp_path, {**PRELOADED, **files})).findings == []


def test_a_capability_that_overrides_yama(tmp_path: Path) -> None:
    files = {
        "proc/sys/kernel/yama/ptrace_scope": "2\n",
        "proc/self/status": STATUS.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000080000"),
    }
    assert look(hosts.view(tmp_path, files)).findings == []


def test_what_follows_two_dashes_is_inits(tmp_path: Path) -> None:
    found = hosts.view(tmp_path)
    assert ("clocksource", "hpet") not in found.command_line
    assert ("root", "/dev/vda") in found.command_line


def test_an_attached_process(tmp_path: Path) -> None:
    found = look(hosts.view(tmp_path, {"proc/self/maps": PAGE + hosts.MAPS})).findings
    assert [(one.id, "vdso attach" in one.cause) for one in found] == [("our-image", True)]
