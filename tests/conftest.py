"""For every test: pytester, which runs pytest on tests of its own."""

pytest_plugins = ["pytester"]
