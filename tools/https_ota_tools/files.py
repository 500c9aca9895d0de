"""Reading and writing whole files, with errors a user can act on."""

from pathlib import Path

from https_ota_tools.errors import ToolError


def read(path: Path) -> bytes:
    """Return the bytes of a file. Raises ToolError if it can't be read."""
    try:
        return path.read_bytes()
    except OSError as e:
        raise ToolError(f"cannot read {path}: {e.strerror}") from e


def write(path: Path, data: bytes) -> None:
    """Write a file, replacing what was there. Raises ToolError if that is impossible."""
    try:
        path.write_bytes(data)
    except OSError as e:
        raise ToolError(f"cannot write {path}: {e.strerror}") from e
