"""Flash files for the SIM board: what a new board holds after it was flashed by cable."""

import functools
from collections.abc import Mapping
from pathlib import Path

import images

from https_ota_tools import mkflash, partition


def make_flash(
    path: Path,
    app: bytes | None = None,
    *,
    slot: str = "ota_0",
    size: str = "4MB",
    contents: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a flash file and return its path: the firmware's OTA table for this size, an app in a slot.

    Without an app it is images.app_image(): 20000 bytes for an ESP32-C3. `contents` maps names of other
    partitions to what is at their start, unchecked; what is not mentioned, otadata too, is erased.
    The same arguments again cost no more than writing the file.

    Raises ToolError for an app that is invalid or too large and for an unknown partition or size,
    ValueError for contents larger than their partition.
    """
    path.write_bytes(_flash(app, slot, size, tuple((contents or {}).items())))
    return path


def table(size: str = "4MB") -> list[partition.Partition]:
    """Return the table of these flash files."""
    path = partition.default_csv(mkflash.flash_bytes(size))
    return partition.read_csv(path.read_text(), path.name)


@functools.lru_cache(maxsize=8)
def _flash(
    app: bytes | None, slot: str, size: str, contents: tuple[tuple[str, bytes], ...]
) -> bytes:
    if app is None:
        app = images.app_image()
    flash = bytearray(mkflash.make_flash(app, table(size), mkflash.flash_bytes(size), slot))
    for name, data in contents:
        target = partition.find(table(size), name)
        if len(data) > target.size:
            raise ValueError(f"{len(data)} bytes don't fit into {name!r}")
        flash[target.offset : target.offset + len(data)] = data
    return bytes(flash)
