"""The `https-ota` command: a thin layer over the modules that do the work."""

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from https_ota_tools import (
    ca,
    decrypt,
    encrypt,
    inspect,
    keygen,
    manifest,
    mkflash,
    probe,
    push,
    serve,
    sign,
    slots,
    status,
    verify,
)
from https_ota_tools.errors import ToolError


class Command(Protocol):
    """What a command's module has."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command line."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the command and return the exit code: 0, or 1 for "checked and found bad"."""


COMMANDS: tuple[Command, ...] = (
    *(mkflash, inspect, slots),
    *(keygen, sign, encrypt, decrypt, verify),
    *(manifest, probe, ca),
    *(push, status, serve),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="https-ota",
        description="Prepares and checks firmware for updates over HTTPS.",
        epilog="Exit codes: 0 done, 1 checked and found bad, 2 could not be done.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    args = parser.parse_args(argv)
    try:
        code: int = args.run(args)
    except ToolError as e:
        print(f"https-ota: error: {e}", file=sys.stderr)
        return 2
    return code
