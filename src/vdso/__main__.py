"""`python -m vdso` is the command `vdso`."""

from vdso.cli import main

raise SystemExit(main())
