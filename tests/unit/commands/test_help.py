"""The help of every command: each option stands where it is looked for."""

import importlib
import re

import pytest

from vdso.cli import COMMANDS

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_stands_at_the_start_of_a_line(command: str) -> None:
    text: str = importlib.import_module(f"vdso.commands.{command}").HELP
    usage = text.partition("\n\n")[0]
    options = set(OPTION.findall(usage)) - {"--help"}
    listed = re.findall(r"^ +(?:-\w, )?(--[a-z][a-z-]+)(?: [^ ]+)*  +\S", text, re.MULTILINE)
    assert options <= set(listed), f"not at the start of a line: {options - set(listed)}"
    # Nothing of the list was joined into a paragraph.
    for line in text.splitlines():
        assert not re.search(r"\S {3,}\S.* (-\w, )?--[a-z-]+ [A-Z]+ {2,}", line), line
        assert len(line) <= 110


@pytest.mark.parametrize("command", ["look", "dump", "disasm", "diff"])
def test_source_may_be_self(command: str) -> None:
    text: str = importlib.import_module(f"vdso.commands.{command}").HELP
    assert re.search(r"^  (SOURCE|A, B) .*\bself: this process", text, re.MULTILINE)
