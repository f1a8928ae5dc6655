"""The product on this machine, in some seconds: `make demo`.

First the kernel's vDSO and ours, read and timed in this process; then unmodified programs on a clock of ours;
then this process itself, and a record that another reads. Needs no privilege. Every figure is measured now.
"""

import os
import platform
import subprocess
import tempfile
from pathlib import Path

import costs
import inside
import programs


def main() -> int:
    print(f"Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs\n")
    costs.where_the_vdso_is()
    costs.what_a_read_costs()
    with tempfile.TemporaryDirectory(prefix="vdso-demo-") as directory:
        telling = programs.those_that_tell_the_time(Path(directory))
        programs.started_there(telling)
        try:
            programs.taken_there_while_it_runs(*telling[-1])
            programs.counted(*telling[-1])
        except (OSError, subprocess.SubprocessError) as error:
            print(f"  not possible here: {error}\n")
    inside.at_another_time()
    inside.a_record_for_others()
    try:
        costs.what_a_run_costs()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"Under vdso run nothing can be started here: {error}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
