"""Every check there is, one row each: what `vdso doctor --list` shows and what a finding is filled from.

A row's texts are filled with what its `look` yields; `look` itself is a function of a View, in the room that
its subject names. `critical` rows, and no others, make a clock slow.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from vdso.measure.doctor import clocksource, preload, program, setting, vdso
from vdso.measure.doctor.result import CRITICAL, NOTE, WARNING
from vdso.measure.doctor.view import View

KERNEL_DOCS = "https://docs.kernel.org"
PARAMETERS = f"{KERNEL_DOCS}/admin-guide/kernel-parameters.html"
MAN = "https://man7.org/linux/man-pages"

CURRENT = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
OUR_CLOCK = (
    "vdso run --clock tsc -- COMMAND gives a program its fast clock back, where the CPUs' counters agree"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One row. `cause` and `remedy` are formats of what `look` yields; `decides`: without its answer there is
    no saying that the clock is fast; `observes`: it looks at how a program has used the clock; `starts`: it
    may start a process to measure in, which is not to be taken for the program's."""

    id: str
    severity: str
    title: str
    cause: str
    remedy: str
    source: str
    look: Callable[[View], Iterable[Mapping[str, object]]]
    decides: bool = False
    observes: bool = False
    starts: bool = False


CHECKS = (
    # ---- Is there a vDSO ----
    Check(
        "vdso-hidden",
        CRITICAL,
        "the vDSO is hidden from the program",
        "[vdso] is mapped in {process}, and the auxiliary vector on its stack does not name it: whoever "
        "started it took AT_SYSINFO_EHDR out",
        "start it without what starts it: a tracer, a sandbox, a record-and-replay tool",
        f"{MAN}/man7/vdso.7.html",
        vdso.hidden,
        decides=True,
    ),
    Check(
        "vdso-disabled",
        CRITICAL,
        "there is no vDSO: the kernel was told to give none",
        "vdso=0 stands on the kernel's command line",
        "take vdso=0 off the kernel's command line, and boot again",
        PARAMETERS,
        vdso.disabled,
    ),
    Check(
        "vdso32-disabled",
        CRITICAL,
        "there is no vDSO for 32-bit programs: the kernel was told to give none",
        "vdso32=0 stands on the kernel's command line, and {process} is a 32-bit program",
        "take vdso32=0 off the kernel's command line, and boot again; or use a 64-bit build of it",
        PARAMETERS,
        vdso.disabled_32,
    ),
    Check(
        "vdso-none-in-gvisor",
        CRITICAL,
        "there is no vDSO: gVisor has given none",
        "{process} runs on gVisor, and neither its auxiliary vector nor its mappings have a vDSO",
        "run it under another runtime: docker run --runtime=runc",
        "https://gvisor.dev/docs/architecture_guide/performance/",
        vdso.absent_in_gvisor,
    ),
    Check(
        "vdso-none-in-emulator",
        CRITICAL,
        "there is no vDSO: the emulator has given none",
        "{process} is run by an emulator ({who}), and has no vDSO",
        "run it on a CPU of its own architecture, or under a qemu-user of 8.2 or later, which brings a vDSO",
        "https://www.qemu.org/docs/master/user/main.html",
        vdso.absent_in_emulator,
    ),
    Check(
        "vdso-none",
        CRITICAL,
        "there is no vDSO",
        "neither the auxiliary vector of {process} nor its mappings have one, and nothing that was looked at "
        "says why",
        "look for CONFIG_GENERIC_GETTIMEOFDAY in the kernel's configuration; an architecture may have no "
        "vDSO",
        f"{MAN}/man7/vdso.7.html",
        vdso.absent,
    ),
    # ---- The clocksource ----
    Check(
        "clocksource-slow",
        CRITICAL,
        "the clocksource has no vDSO path, and a better one is available",
        "the clocksource is {current} ({evidence}): each read of the clock is a system call. {better} is "
        "available and is not used",
        f"echo {{better}} >{CURRENT}; to keep it, clocksource={{better}} on the kernel's command line",
        f"{KERNEL_DOCS}/timers/timekeeping.html",
        clocksource.slow_with_better,
    ),
    Check(
        "clocksource-only-slow",
        CRITICAL,
        "the clocksource has no vDSO path",
        "the clocksource is {current} ({evidence}): each read of the clock is a system call. None that the "
        "vDSO reads is available ({available}); other findings may say why",
        OUR_CLOCK,
        f"{KERNEL_DOCS}/timers/timekeeping.html",
        clocksource.slow_without_better,
    ),
    Check(
        "clocksource-not-best",
        NOTE,
        "the kernel rates another clocksource higher",
        "the clocksource is {current}, and {better}, which the vDSO reads too, stands before it",
        f"echo {{better}} >{CURRENT}",
        f"{KERNEL_DOCS}/timers/timekeeping.html",
        clocksource.not_best,
    ),
    Check(
        "pvclock-unstable",
        CRITICAL,
        "the hypervisor's clock has no vDSO path here",
        "the clock mode is pvclock and a read takes {ns:.0f} ns, a system call {syscall_ns:.0f}: without the"
        " hypervisor's word that the TSC is stable the vDSO makes the system call",
        f"give the host a stable TSC; where the guest's is sound: echo {{other}} >{CURRENT}",
        f"{KERNEL_DOCS}/virt/kvm/x86/msr.html",
        clocksource.paravirtual_unstable,
    ),
    Check(
        "tsc-unstable",
        WARNING,
        "the kernel has found the TSC unstable",
        'the kernel says "{line}"; {agreement}',
        "tsc=reliable on the kernel's command line, if the CPUs' counters do not differ; else mend the "
        "firmware",
        f"{KERNEL_DOCS}/admin-guide/kernel-parameters.html",
        clocksource.unstable,
    ),
    Check(
        "clocksource-refused",
        WARNING,
        "the kernel did not take the clocksource that it was told to",
        'the kernel says "{line}"',
        "take clocksource= off the kernel's command line, or name one of available_clocksource",
        PARAMETERS,
        clocksource.refused,
    ),
    Check(
        "tsc-warp",
        WARNING,
        "the kernel has found the CPUs' counters apart at boot",
        'the kernel says "{line}"; {agreement}',
        "a newer firmware; on a guest, a host whose TSCs are synchronised",
        f"{KERNEL_DOCS}/virt/kvm/x86/timekeeping.html",
        clocksource.warp,
    ),
    Check(
        "tsc-calibration",
        NOTE,
        "the counter's rate could not be found out as usual",
        'the kernel says "{line}"',
        "tsc_early_khz=N on the kernel's command line, where the rate is known and the clock drifts",
        PARAMETERS,
        clocksource.calibration,
    ),
    Check(
        "cmdline-clocksource",
        WARNING,
        "the kernel was told to use a clocksource that the vDSO cannot read",
        "{parameter} stands on the kernel's command line",
        "take {parameter} off the kernel's command line, and boot again",
        PARAMETERS,
        clocksource.told_clocksource,
    ),
    Check(
        "cmdline-tsc",
        WARNING,
        "the kernel was told not to trust the TSC",
        "{parameter} stands on the kernel's command line",
        "take {parameter} off the kernel's command line, and boot again",
        PARAMETERS,
        clocksource.told_tsc,
    ),
    Check(
        "cmdline-hpet",
        NOTE,
        "the kernel was told to use an HPET that the firmware hides",
        "{parameter} stands on the kernel's command line",
        "take {parameter} off the kernel's command line, and boot again",
        PARAMETERS,
        clocksource.told_hpet,
    ),
    Check(
        "cpu-flags",
        WARNING,
        "the CPU does not promise a counter that goes on at one rate",
        "no {missing} among the flags in /proc/cpuinfo: the kernel does not use such a TSC as its clock",
        "on a guest, a CPU model with invariant TSC: qemu -cpu host,+invtsc",
        f"{KERNEL_DOCS}/virt/kvm/x86/timekeeping.html",
        clocksource.flags,
    ),
    # ---- The counter, measured ----
    Check(
        "counter-trapped",
        CRITICAL,
        "reading the CPU's counter is intercepted",
        "rdtsc takes {ns:.0f} ns: {who} intercepts it, and each read of the clock with it",
        "a virtual machine whose counter is the CPU's own: no RDTSC exiting",
        f"{KERNEL_DOCS}/virt/kvm/x86/timekeeping.html",
        clocksource.trapped,
    ),
    Check(
        "counter-forbidden",
        CRITICAL,
        "the process may not read the CPU's counter",
        "PR_SET_TSC is set: rdtsc, and each read of the clock by the vDSO, is a SIGSEGV",
        "start it without what called prctl(PR_SET_TSC, PR_TSC_SIGSEGV): a sandbox, a record-and-replay tool",
        f"{MAN}/man2/PR_SET_TSC.2const.html",
        clocksource.forbidden,
    ),
    Check(
        "counters-differ",
        WARNING,
        "the CPUs' counters differ",
        "measured between {pairs} pairs of CPUs: {warps} reads were behind one of another CPU, by up to "
        "{widest} counts",
        "do not use clocksource=tsc or vdso run --clock tsc on this machine; a newer firmware may mend it",
        f"{KERNEL_DOCS}/virt/kvm/x86/timekeeping.html",
        clocksource.differs,
    ),
    Check(
        "clock-slow",
        CRITICAL,
        "a read of the clock costs what a system call costs",
        "clock_gettime(MONOTONIC) takes {ns:.0f} ns and the true system call {syscall_ns:.0f}; the clock "
        "mode is {mode}, and nothing that was looked at says why",
        "vdso bench says by which route; perf record -e cycles:k shows what the kernel does",
        f"{MAN}/man7/vdso.7.html",
        clocksource.unexplained,
        decides=True,
    ),
    Check(
        "clock-coarse",
        WARNING,
        "a fine clock goes by ticks",
        "CLOCK_{clock} moves in steps of {ms:.3g} ms",
        "take highres=off off the kernel's command line; else see what is said of the clocksource",
        f"{MAN}/man7/time.7.html",
        clocksource.coarse,
    ),
    # ---- The image, and whether it is used ----
    Check(
        "functions-missing",
        NOTE,
        "the vDSO lacks functions that its version has elsewhere",
        "the image of Linux {version} for {machine} has no {lacks}: calling them is a system call",
        "a kernel built with them (CONFIG_VDSO_GETRANDOM), or a newer one of your distribution's",
        f"{MAN}/man7/vdso.7.html",
        vdso.missing,
    ),
    Check(
        "libc-bypasses",
        CRITICAL,
        "the C library does not use the vDSO",
        "there is one, and the C library's clock_gettime was seen to make {way}",
        "a newer C library: glibc uses it in static programs from 2.31 on, musl from 1.0",
        f"{MAN}/man7/vdso.7.html",
        vdso.bypassed,
    ),
    Check(
        "program-blind",
        WARNING,
        "the program does not look for the vDSO",
        "nothing in the files of {process} ({libc}) names a function of the vDSO's: what it reads of the "
        "clock are system calls",
        "link it with a C library that looks for it: glibc from 2.31 on, musl from 1.0",
        f"{MAN}/man7/vdso.7.html",
        vdso.blind,
        decides=True,
    ),
    Check(
        "program-enters",
        CRITICAL,
        "the program's reads of the clock are system calls",
        "counted in {process}: {entered} of {reads} reads that the vDSO could have served entered the "
        "kernel, most of them {worst}",
        "{first}call clock_gettime() of the C library, and not syscall(SYS_clock_gettime)",
        f"{MAN}/man7/vdso.7.html",
        program.enters,
        observes=True,
    ),
    Check(
        "program-cpu-time",
        WARNING,
        "the program reads CPU-time clocks often",
        "counted in {process}: {rate:.0f} reads a second of CPU-time clocks, which no vDSO serves",
        "read CLOCK_MONOTONIC where elapsed time will do",
        f"{MAN}/man2/clock_getres.2.html",
        program.reads_cpu_time,
        observes=True,
    ),
    Check(
        "our-image",
        NOTE,
        "the clock is one of ours",
        "{process} reads its clock by the image of {whose}, which answers in the kernel's place",
        "vdso sessions lists them; vdso detach PID gives an attached process the kernel's back",
        f"{MAN}/man7/vdso.7.html",
        vdso.ours,
    ),
    Check(
        "our-counting-image",
        NOTE,
        "the clock is that of vdso stat, which has started the program",
        "{process} reads its clock by the image that counts calls; the answers are the kernel's. Where vdso "
        "stat has ended it stays, and a read takes 1 ns longer",
        "start it anew: it cannot be given the kernel's back",
        f"{MAN}/man7/vdso.7.html",
        vdso.started_counted,
    ),
    Check(
        "our-counting-jumps",
        NOTE,
        "vdso stat -p counts the program's calls",
        "jumps in the vDSO of {process} lead to the image that counts them; the answers are the kernel's. "
        "They are gone when vdso stat ends, unless it was killed",
        "vdso detach {pid}",
        f"{MAN}/man7/vdso.7.html",
        vdso.counted_in_place,
    ),
    Check(
        "foreign-image",
        WARNING,
        "the vDSO is not the kernel's",
        "{process} was given {whose} as its vDSO",
        "start it without what starts it",
        f"{MAN}/man7/vdso.7.html",
        vdso.anothers,
    ),
    Check(
        "program-32-bit",
        NOTE,
        "a 32-bit program",
        "{process} is one: its vDSO is another than that of 64-bit programs, and vdso run leaves it on the "
        "kernel's",
        "a 64-bit build of it",
        f"{MAN}/man7/vdso.7.html",
        vdso.of_32_bits,
    ),
    # ---- What stands between ----
    Check(
        "preload",
        WARNING,
        "a preloaded library takes the clock functions",
        "{library} stands before the C library and has {functions}; {cost}",
        "unset LD_PRELOAD, or take it out of /etc/ld.so.preload",
        f"{MAN}/man8/ld.so.8.html",
        preload.preloaded,
        starts=True,
    ),
    Check(
        "preload-slow",
        CRITICAL,
        "a preloaded library makes the clock slow",
        "{library} stands before the C library and has {functions}; {cost}",
        "unset LD_PRELOAD, or take it out of /etc/ld.so.preload",
        f"{MAN}/man8/ld.so.8.html",
        preload.preloaded_slow,
        starts=True,
    ),
    Check(
        "tracer",
        WARNING,
        "a tracer is attached",
        "{who} traces {process}: it may stop at each system call, and then takes tens of microseconds",
        "end it, or detach: kill -INT {pid}",
        f"{MAN}/man2/ptrace.2.html",
        program.traced,
    ),
    Check(
        "seccomp",
        NOTE,
        "a seccomp filter looks at system calls",
        "{count} on {process}: reads by the vDSO do not meet it, true system calls do",
        "in a container: docker run --security-opt seccomp=unconfined",
        f"{KERNEL_DOCS}/userspace-api/seccomp_filter.html",
        program.filtered,
    ),
    Check(
        "our-filter",
        NOTE,
        "a seccomp filter of ours looks at system calls",
        "{count} on {process}, and {whose} puts one into what it starts: reads by the vDSO do not meet it, "
        "true system calls do",
        "start it anew without {whose}: a filter stays until its program ends",
        f"{KERNEL_DOCS}/userspace-api/seccomp_filter.html",
        program.filtered_by_us,
    ),
    Check(
        "seccomp-dear",
        WARNING,
        "a seccomp filter makes true clock calls dear",
        "clock_gettime({clock}) by system call takes {ns:.0f} ns, getppid {plain_ns:.0f}",
        "without the filter: docker run --security-opt seccomp=unconfined; vdso run without --strict",
        f"{KERNEL_DOCS}/userspace-api/seccomp_filter.html",
        program.filter_dear,
    ),
    Check(
        "seccomp-refuses",
        WARNING,
        "a seccomp filter refuses true clock calls",
        "the system call for {clocks} fails under the filter: what the vDSO cannot answer is an error",
        "allow clock_gettime in the filter, or a newer libseccomp and container runtime",
        f"{KERNEL_DOCS}/userspace-api/seccomp_filter.html",
        program.filter_refuses,
    ),
    Check(
        "time-namespace",
        NOTE,
        "the process is in a time namespace",
        "MONOTONIC and BOOTTIME of {process} are moved: {offsets}; the vDSO serves them. Under vdso run "
        "--clock tsc a program in another namespace than the command line's goes by the kernel's clock",
        "start it without unshare --time, or without the container's timeOffsets",
        f"{MAN}/man7/time_namespaces.7.html",
        program.namespaced,
    ),
    Check(
        "gvisor",
        WARNING,
        "this is gVisor, and not the Linux kernel",
        "/proc/version or its messages are gVisor's: a true system call costs several of Linux's",
        "docker run --runtime=runc, where its isolation is not needed",
        "https://gvisor.dev/docs/architecture_guide/performance/",
        vdso.gvisor,
    ),
    Check(
        "emulator",
        WARNING,
        "an emulator runs this machine",
        "{who}, by CPUID or the CPU's name: no figure here is a CPU's",
        "run it on a CPU of its own architecture, or under KVM",
        "https://www.qemu.org/docs/master/system/introduction.html",
        vdso.emulator,
    ),
    # ---- vsyscall ----
    Check(
        "vsyscall-used",
        WARNING,
        "the program has the vsyscall page's address in it",
        "vsyscall is {mode}: each call that {process} makes there is an exception, slower than a system call",
        "a newer build of it: glibc from 2.14 on asks the vDSO instead",
        PARAMETERS,
        vdso.vsyscall_used,
    ),
    Check(
        "vsyscall-gone",
        WARNING,
        "the program has the address of a vsyscall page that is not there",
        "vsyscall is none: a call that {process} makes there is a SIGSEGV",
        "a newer build of it, or vsyscall=xonly on the kernel's command line",
        PARAMETERS,
        vdso.vsyscall_gone,
    ),
    Check(
        "vsyscall-emulate",
        NOTE,
        "the vsyscall page can be read",
        "vsyscall is emulate: the same bytes at the same address in every process, whatever ASLR does",
        "vsyscall=xonly on the kernel's command line, or none where nothing old runs",
        PARAMETERS,
        vdso.vsyscall_readable,
    ),
    # ---- Where it is ----
    Check(
        "aslr-off",
        WARNING,
        "the kernel does not move what it maps",
        "kernel.randomize_va_space is 0: the vDSO is at one address in every process",
        "sysctl kernel.randomize_va_space=2",
        f"{KERNEL_DOCS}/admin-guide/sysctl/kernel.html#randomize-va-space",
        program.randomisation_off,
    ),
    Check(
        "aslr-off-here",
        WARNING,
        "the process asked not to be moved",
        "the personality of {process} has ADDR_NO_RANDOMIZE: its vDSO is where it is in every run",
        "start it without setarch -R, or outside of the debugger",
        f"{MAN}/man2/personality.2.html",
        program.personal,
    ),
    Check(
        "aslr-fixed",
        WARNING,
        "the vDSO is always at one address",
        "in {execs} executions it was at {address:#x} each time, and no setting says why",
        "take norandmaps off the kernel's command line",
        f"{KERNEL_DOCS}/admin-guide/sysctl/kernel.html#randomize-va-space",
        program.fixed,
    ),
    # ---- What vdso itself can do here ----
    Check(
        "sealed",
        NOTE,
        "the kernel's pages are sealed",
        "the vDSO of {process} may not be moved (mseal): under vdso run our image stands beside it, and a "
        "program that asks PR_GET_AUXV is led to the kernel's",
        "a kernel without CONFIG_MSEAL_SYSTEM_MAPPINGS; nothing has to be mended",
        f"{KERNEL_DOCS}/userspace-api/mseal.html",
        program.sealed,
    ),
    Check(
        "yama-parents",
        NOTE,
        "only a parent may trace",
        "kernel.yama.ptrace_scope is 1: vdso attach, and vdso stat -p, reach no process that they have not "
        "started",
        "as root, or: sysctl kernel.yama.ptrace_scope=0",
        f"{KERNEL_DOCS}/admin-guide/LSM/Yama.html",
        setting.yama_parents,
    ),
    Check(
        "yama-privileged",
        WARNING,
        "only root may trace",
        "kernel.yama.ptrace_scope is 2: vdso run leaves a program on the host's clock, and vdso attach is "
        "refused",
        "as root, or: sysctl kernel.yama.ptrace_scope=1",
        f"{KERNEL_DOCS}/admin-guide/LSM/Yama.html",
        setting.yama_privileged,
    ),
    Check(
        "yama-nobody",
        WARNING,
        "nobody may trace",
        "kernel.yama.ptrace_scope is 3: vdso run leaves a program on the host's clock, and vdso attach is "
        "refused",
        "boot with another kernel.yama.ptrace_scope in /etc/sysctl.d: this one stays until then",
        f"{KERNEL_DOCS}/admin-guide/LSM/Yama.html",
        setting.yama_nobody,
    ),
    Check(
        "memfd-refused",
        WARNING,
        "memory files are refused",
        "memfd_create fails: {error}; vm.memfd_noexec is {noexec}: vdso run and vdso attach cannot make a "
        "session's page",
        "sysctl vm.memfd_noexec=1, in the same pid namespace; in a container, allow memfd_create",
        f"{KERNEL_DOCS}/userspace-api/mfd_noexec.html",
        setting.memfd,
    ),
    Check(
        "noexec",
        NOTE,
        "no directory in memory lets libraries be loaded",
        "{paths} are mounted noexec: a live page there is read by vdso.open, and dlopen refuses it",
        "mount -o remount,exec /dev/shm, or publish with --directory on another tmpfs",
        f"{MAN}/man8/mount.8.html",
        setting.no_place_to_execute,
    ),
)
