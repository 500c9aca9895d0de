"""Reading and writing whole files, with errors a user can act on."""

import codecs
import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from https_ota_tools.errors import ToolError

# What is read as a whole: the largest flash there is has 128 MiB, the largest image 256 MiB, with some room for what is
# around it.
LIMIT = (256 << 20) + (1 << 20)
# Of texts: scripts, tables, lists of certificates.
TEXT_LIMIT = 4 << 20
STDIN = Path("-")

# The longer marks first, as those of UTF-32 begin like those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read(path: Path, limit: int = LIMIT) -> bytes:
    """Return the bytes of a file. Raises ToolError if it can't be read, or has more than `limit` bytes."""
    try:
        with path.open("rb") as f:
            return _read(f, path, limit)
    except OSError as e:
        raise ToolError(f"cannot read {path}: {e.strerror}") from e
    except ValueError as e:  # a NUL in its name
        raise ToolError(f"cannot read {str(path)!r}: {e}") from e


def read_input(path: Path, limit: int = LIMIT) -> bytes:
    """Return the bytes of a file, those of the standard input for "-". Raises ToolError as read() does."""
    if path != STDIN:
        return read(path, limit)
    try:
        return _read(sys.stdin.buffer, Path("the standard input"), limit)
    except (OSError, AttributeError) as e:  # it may be closed
        raise ToolError("cannot read the standard input") from e


def read_text(path: Path, what: str = "text") -> str:
    r"""Return the text in a file, its lines ended by \n: UTF-8, or what a mark at its beginning says.

    Windows writes UTF-16, and marks. Raises ToolError for what can't be read; `what` says in words what was expected.
    """
    return decode(read(path, TEXT_LIMIT), path, what)


def decode(data: bytes, path: Path, what: str = "text") -> str:
    """Return what read_text() does, for data that was read from a file."""
    mark, coding = _coding(data)
    try:
        text = data[len(mark) :].decode(coding)
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, len(mark) + e.start) + 1
        if b"\0" in data or coding != "utf-8":
            raise ToolError(f"{path} is not text: expected {what}") from e
        raise ToolError(
            f"{path} is not text in UTF-8: line {line} has the byte {data[len(mark) + e.start]:#04x} (Latin-1, perhaps); "
            f"expected {what}: save it as UTF-8"
        ) from e
    if "\0" in text:
        raise ToolError(f"{path} is not text: expected {what}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_pem(path: Path) -> bytes:
    """Return the bytes of a file of keys or certificates; PEM in UTF-16 or with a mark comes as UTF-8 without one.

    Anything else (DER, 32 bytes of a secret) comes as it is. Raises ToolError if it can't be read.
    """
    data = read(path, TEXT_LIMIT)
    mark, coding = _coding(data)
    if not mark and coding == "utf-8":
        return data
    try:
        text = data[len(mark) :].decode(coding)
    except UnicodeDecodeError:
        return data
    return text.encode() if "-----BEGIN" in text else data


def write(path: Path, data: bytes) -> None:
    """Write a file, replacing what was there: all of it, or nothing. Raises ToolError if that is impossible."""
    write_all([(path, data)])


def write_all(new: Sequence[tuple[Path, bytes]]) -> None:
    """Write files, replacing what was there: all of them, or none. Raises ToolError if that is impossible."""
    with contextlib.ExitStack() as stack:
        steps = []
        for path, data in new:
            with _words(path):
                steps.append((path, _prepare(path, data, stack)))
        for path, finish in steps:
            with _words(path):
                finish()


@contextlib.contextmanager
def _words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise ToolError(f"cannot write {path}: {e.strerror}") from e
    except ValueError as e:  # a NUL in its name
        raise ToolError(f"cannot write {str(path)!r}: {e}") from e


def _coding(data: bytes) -> tuple[bytes, str]:
    for mark, coding in _MARKS:
        if data.startswith(mark):
            return mark, coding
    # UTF-16 without a mark: every other byte of its first letters is 0.
    head = data[:32]
    if len(head) >= 4 and len(data) % 2 == 0:
        if not any(head[1::2]) and all(head[::2]):
            return b"", "utf-16-le"
        if not any(head[::2]) and all(head[1::2]):
            return b"", "utf-16-be"
    return b"", "utf-8"


def _read(file: BinaryIO, path: Path, limit: int) -> bytes:
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_size:
        if found.st_size > limit:
            raise ToolError(f"{path} has {found.st_size} bytes: expected {limit} at most")
        return file.read()
    # A pipe or a device, which may have no end.
    data = bytearray()
    while piece := file.read(1 << 16):
        data += piece
        if len(data) > limit:
            raise ToolError(f"{path} has no end: expected {limit} bytes at most")
    return bytes(data)


def _prepare(path: Path, data: bytes, stack: contextlib.ExitStack) -> Callable[[], object]:
    """Write data beside a file; return what puts it in its place. What is not needed then goes with the stack."""
    mode = None
    with contextlib.suppress(FileNotFoundError):
        found = path.stat().st_mode
        mode = stat.S_IMODE(found)
        if stat.S_ISDIR(found):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found):
            # A device or a pipe can't be replaced.
            return lambda: path.write_bytes(data)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    real = Path(os.path.realpath(path))  # a link stays one
    beside = real.with_name(f".https-ota-{os.getpid()}-{id(data):x}")
    try:
        file = beside.open("xb")
    except PermissionError:
        # The file may be written, its folder not.
        return lambda: path.write_bytes(data)
    stack.callback(beside.unlink, missing_ok=True)
    with file:
        if mode is not None:
            beside.chmod(mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return lambda: beside.replace(real)
