"""For every test: pytester, which runs pytest on tests of its own, and no foreign size of the terminal."""

import os

pytest_plugins = ["pytester"]

# A test's terminal has a size of its own.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
