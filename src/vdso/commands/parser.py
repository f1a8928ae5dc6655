"""Command lines of the commands that may take a moment: argparse, with this project's errors and help.

`vdso run` reads its words by hand, for the time that the import takes.
"""

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from vdso.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class Parser(argparse.ArgumentParser):
    """An argument parser whose `--help` prints the command's HELP, and whose errors are UsageError."""

    def __init__(self, command: str, help_text: str) -> None:
        super().__init__(prog=f"vdso {command}", add_help=False, allow_abbrev=False)
        self.help_text = help_text
        self.add_argument("-h", "--help", action="help")

    def format_help(self) -> str:
        return self.help_text

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        # argparse's own takes no notice of an output that is full.
        (sys.stdout if file is None else file).write(self.help_text)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help shows how")

    def read(self, words: list[str]) -> argparse.Namespace | None:
        """The options, or None where help was asked for and printed. Raises UsageError."""
        try:
            return self.parse_args(words)
        except SystemExit:  # argparse's way to end after --help
            return None
