"""Printing for people and for pipes."""

import errno
import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from https_ota_tools import image

_COLOURS = {
    image.Verdict.VALID: "green",
    image.Verdict.INVALID: "red",
    image.Verdict.ABSENT: "yellow",
}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave the error to the command, which ends with it."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console() -> Console:
    """Return standard output, for tables. Their lines are folded for terminals, never for a file or a pipe."""
    width = None if sys.stdout.isatty() else 10_000
    return _Console(highlight=False, markup=False, width=width)


def show_checks(checks: Sequence[image.Check], console: Console) -> None:
    """Print checks as a table."""
    detail = Column("detail", overflow="fold")
    table = Table("check", "verdict", detail, box=None, pad_edge=False)
    for check in checks:
        table.add_row(
            check.name, Text(check.verdict.value, style=_COLOURS[check.verdict]), check.detail
        )
    console.print(table)
