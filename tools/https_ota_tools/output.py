"""Printing for people and for pipes."""

import sys

from rich.console import Console


def console() -> Console:
    """Return standard output, for tables. Their lines are folded for terminals, never for a file or a pipe."""
    width = None if sys.stdout.isatty() else 10_000
    return Console(highlight=False, markup=False, width=width)
