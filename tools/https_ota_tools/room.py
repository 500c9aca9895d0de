"""Slots of the boards that are out there, and whether what a release puts there fits."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from https_ota_tools import files, image, partition, release
from https_ota_tools.errors import ToolError

# Of a slot; MicroPython and ESP-IDF grow from release to release.
_MUCH = 0.9
_SECTOR = 4096
_EXPECTED = "expected the bytes of a slot, a multiple of 4096, such as 1920K or 0x1e0000, or a partition table"


@dataclass(frozen=True)
class Room:
    """The size of the slots of some boards; `boards` is empty where nobody has said which."""

    boards: str
    size: int

    def is_for(self, file: release.File) -> bool:
        """Whether `boards` names those of a file: chip, board, variant, or all that the file says of them."""
        names = (file.board, file.variant, file.kind, str(file.chip))
        return _plain(self.boards) in map(_plain, filter(None, names))


def parse(text: str) -> Room:
    """Return what `[BOARDS=]BYTES` or `[BOARDS=]TABLE` says. Raises argparse.ArgumentTypeError for what is neither."""
    boards, equals, said = text.rpartition("=")
    number = re.fullmatch(r"(0x[0-9a-fA-F]+|[0-9]+)([kKmM]?)", said)
    try:
        if number:
            size = int(number[1], 0) << {"": 0, "k": 10, "m": 20}[number[2].lower()]
        else:
            size = _of_table(Path(said))
    except (ToolError, ValueError) as e:
        raise argparse.ArgumentTypeError(str(e)) from e
    if size % _SECTOR or not 0 < size <= release.MAX_IMAGE or (equals and not boards):
        raise argparse.ArgumentTypeError(f"{_EXPECTED}; came {text!r}")
    return Room(boards, size)


def check(found: Sequence[release.File], rooms: Sequence[Room]) -> list[image.Check]:
    """Check that each file of a manifest fits the slots of its boards, those with the smallest.

    What counts is the image that ends in the flash, with its signature, in whatever form it is downloaded. Padding counts, too:
    boards that know the SHA-256 of a file write all of it. Rooms that name boards go before those that don't.

    Raises ToolError for rooms that no file is for.
    """
    for room in rooms:
        if room.boards and not any(map(room.is_for, found)):
            kinds = ", ".join(file.kind for file in found)
            raise ToolError(
                f"--slot-size {room.boards}=: no file is for it; expected one of {kinds}"
            )
    return [_check(file, rooms) for file in found] if rooms else []


def _check(file: release.File, rooms: Sequence[Room]) -> image.Check:
    name = f"slot for {file.kind}"
    its = [r for r in rooms if r.boards and r.is_for(file)] or [r for r in rooms if not r.boards]
    if not its:
        return image.Check(name, image.Verdict.ABSENT, "no --slot-size is for it")
    size = min(r.size for r in its)
    detail = f"{file.size:,} of {size:,} bytes"
    if file.size > size:
        detail += f", {file.size - size:,} too many: boards refuse it (TOO_BIG)"
        return image.Check(name, image.Verdict.INVALID, detail)
    detail += f", {file.size / size:.1%}"
    if file.size > _MUCH * size:
        detail += ": little room for the releases to come"
    return image.Check(name, image.Verdict.VALID, detail)


def _of_table(path: Path) -> int:
    """Return the size of the smallest OTA slot of a table: CSV, binary, or the flash that it is in."""
    try:
        data = files.read(path)
    except ToolError as e:
        raise ToolError(f"{_EXPECTED}; {e}") from e
    if len(data) > partition.TABLE_OFFSET:
        data = data[partition.TABLE_OFFSET :][: partition.TABLE_BYTES]
    if data.startswith(partition.ENTRY_MAGIC):
        table = partition.decode(data)
    else:
        table = partition.read_csv(data.decode("utf-8", "replace"), str(path))
    slots = partition.ota_slots(table)
    if len(slots) < 2:
        raise ToolError(f"{path} has no two OTA slots")
    return min(p.size for p in slots)


def _plain(name: str) -> str:
    return name.lower().replace("-", "")
