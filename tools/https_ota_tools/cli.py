"""The `https-ota` command: a thin layer over the modules that do the work."""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import io
import os
import sys
from collections.abc import Sequence
from typing import Protocol, TextIO

from https_ota_tools import (
    ca,
    decrypt,
    encrypt,
    inspect,
    keygen,
    manifest,
    mkflash,
    pack,
    probe,
    push,
    serve,
    sign,
    slots,
    status,
    verify,
)
from https_ota_tools.errors import BAD, IMPOSSIBLE, INTERRUPTED, BadFileError, ToolError


class Command(Protocol):
    """What a command's module has."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command line."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the command and return the exit code: 0, or 1 for "checked and found bad"."""


# What writing to a full disk or to a pipe that nobody reads ends with.
_OF_OUTPUT = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}

COMMANDS: tuple[Command, ...] = (
    *(mkflash, inspect, slots),
    *(keygen, sign, pack, encrypt, decrypt, verify),
    *(manifest, probe, ca),
    *(push, status, serve),
)


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: TextIO | None = None) -> None:  # type: ignore[override]
        # argparse would swallow that the output can't be written.
        if message:
            (file or sys.stderr).write(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status."""
    _prepare_output()
    try:
        status = _run(argv)
        # What is still to be written fails here rather than when Python ends, where it would be a traceback.
        _flush()
        return status
    except BadFileError as e:
        return _end(BAD, f"error: {e}")
    except ToolError as e:
        return _end(IMPOSSIBLE, f"error: {e}")
    except KeyboardInterrupt as e:
        return _end(INTERRUPTED, ": ".join(["interrupted", *map(str, e.args)]))
    except MemoryError:
        return _end(
            IMPOSSIBLE, "error: there is not enough memory on this machine for files of this size"
        )
    except OSError as e:
        at = f"{e.filename}: " if e.filename else "the output: " if e.errno in _OF_OUTPUT else ""
        return _end(IMPOSSIBLE, f"error: {at}{e.strerror or e}")


def _run(argv: Sequence[str] | None) -> int:
    parser = _Parser(
        prog="https-ota",
        description="Prepares and checks firmware for updates over HTTPS.",
        epilog="Exit status: 0 done, 1 checked and found bad, 2 could not be done, 130 ended by Ctrl-C "
        "(serve, once it serves: 0).",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    try:
        args = parser.parse_args(argv)
    except SystemExit:
        _flush()  # --help, --version
        raise
    status: int = args.run(args)
    return status


def _version() -> str:
    try:
        return importlib.metadata.version("https-ota")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _prepare_output() -> None:
    if sys.stdout is None:  # it was closed before the start
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the end
    # A name may hold what the terminal's encoding has not.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush() -> None:
    sys.stdout.flush()


def _end(status: int, words: str) -> int:
    """Print words for an error; what can't be written any more is dropped, or Python would try again when it ends."""
    _end_stream(sys.stdout, "")
    _end_stream(sys.stderr, f"https-ota: {words}\n")
    return status


def _end_stream(stream: TextIO | None, words: str) -> None:
    if stream is None:
        return
    try:
        stream.write(words)
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
