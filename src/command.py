#!python
# The command `vdso`. The script that an entry point would get imports `re`, which takes 9 ms of the 45 that
# a whole run may take.
from vdso.cli import main

raise SystemExit(main())
