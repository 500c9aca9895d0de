"""Partition tables: the CSV that people write and the binary that the bootloader reads.

Binary form: entries of 32 bytes, then an entry whose second half is the MD5 of the entries before it,
then 0xFF. See "Partition Tables" in the ESP-IDF programming guide.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from https_ota_tools.errors import ToolError

TABLE_OFFSET = 0x8000
TABLE_SECTOR = 0x1000
# The rest of the sector is kept for a signature.
TABLE_BYTES = 0xC00
OTADATA_BYTES = 0x2000

APP = 0
DATA = 1
FACTORY = 0x00
OTA_0 = 0x10
OTA_SLOTS = 16
OTADATA = 0x00
NVS = 0x02
COREDUMP = 0x03

TYPES = {"app": APP, "data": DATA}
SUBTYPES = {
    APP: {
        "factory": FACTORY,
        "test": 0x20,
        **{f"ota_{i}": OTA_0 + i for i in range(OTA_SLOTS)},
    },
    DATA: {
        "ota": OTADATA,
        "phy": 0x01,
        "nvs": NVS,
        "coredump": COREDUMP,
        "nvs_keys": 0x04,
        "efuse": 0x05,
        "undefined": 0x06,
        "esphttpd": 0x80,
        "fat": 0x81,
        "spiffs": 0x82,
        "littlefs": 0x83,
    },
}
READONLY = 2
FLAGS = {"encrypted": 1, "readonly": READONLY}

ENTRY_MAGIC = b"\xaa\x50"
_ENTRY = struct.Struct("<2sBBII16sI")
_DIGEST_START = b"\xeb\xeb" + b"\xff" * 14
_END = b"\xff" * _ENTRY.size

# The flash cache maps pages of 64 KiB, so an app can only run from such a boundary; all else is erased by sector.
_APP_ALIGN = 0x10000
_SECTOR = 0x1000
# NVS needs a free page to move entries to.
_NVS_MIN = 0x3000

# Named after the flash size they are for, in MiB. They are part of the firmware, which is built with them.
_DEFAULT_TABLES = {n: f"partitions-{n}MiB-ota.csv" for n in (4, 8, 16, 32)}


@dataclass(frozen=True)
class Partition:
    """One entry of a partition table; offset and size are in bytes."""

    name: str
    type: int
    subtype: int
    offset: int
    size: int
    flags: int = 0

    @property
    def end(self) -> int:
        """Offset of the first byte behind the partition."""
        return self.offset + self.size

    @property
    def ota_index(self) -> int | None:
        """Number of an OTA slot, None for any other partition."""
        if self.type == APP and OTA_0 <= self.subtype < OTA_0 + OTA_SLOTS:
            return self.subtype - OTA_0
        return None

    @property
    def type_name(self) -> str:
        """The type as the CSV names it, or its number."""
        return _word(TYPES, self.type)

    @property
    def subtype_name(self) -> str:
        """The subtype as the CSV names it, or its number."""
        return _word(SUBTYPES.get(self.type, {}), self.subtype)


Table = Sequence[Partition]


def default_csv(flash_size: int) -> Path:
    """Return the path of the partition table made for a flash of this size in bytes.

    The tables are the ones the firmware is built with: an installed package has copies of them,
    a checkout has them in its firmware/ folder. Raises ToolError when there is none for this size.
    """
    name = _DEFAULT_TABLES.get(flash_size >> 20)
    if name is None or flash_size & 0xFFFFF:
        sizes = ", ".join(f"{n}MB" for n in _DEFAULT_TABLES)
        raise ToolError(
            f"no partition table for {flash_size:#x} bytes of flash (only {sizes}): give one with --table"
        )
    here = Path(__file__).resolve()
    for path in (here.parent / "tables" / name, here.parents[2] / "firmware" / name):
        if path.exists():
            return path
    raise ToolError(
        f"{name} is neither in the package nor in firmware/: give a table with --table"
    )


def read_csv(text: str, source: str = "table") -> list[Partition]:
    """Parse a partition table in CSV form. An empty offset means "right behind the one before".

    Raises ToolError, with `source` and the line number, for a line that is none.
    """
    table: list[Partition] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split(",")]
        try:
            table.append(
                _parse_line(fields, table[-1].end if table else TABLE_OFFSET + TABLE_SECTOR)
            )
        except ToolError as e:
            raise ToolError(f"{source}, line {number}: {e}") from e
    return table


def check(table: Table, flash_size: int) -> None:
    """Raise ToolError unless this table can work on a flash of this size in bytes."""
    problems = _problems(table, flash_size)
    if problems:
        raise ToolError(f"the partition table can't be used: {'; '.join(problems)}")


def encode(table: Table) -> bytes:
    """Return the binary form, 0xC00 bytes. Raises ToolError if there are too many partitions."""
    entries = b"".join(
        _ENTRY.pack(ENTRY_MAGIC, p.type, p.subtype, p.offset, p.size, p.name.encode(), p.flags)
        for p in table
    )
    data = entries + _DIGEST_START + hashlib.md5(entries).digest()
    if len(data) + len(_END) > TABLE_BYTES:
        raise ToolError(
            f"{len(table)} partitions are too many: {TABLE_BYTES // _ENTRY.size - 2} fit into a table"
        )
    return data.ljust(TABLE_BYTES, b"\xff")


def decode(data: bytes) -> list[Partition]:
    """Parse the binary form. Raises ToolError if it is damaged or something else."""
    table: list[Partition] = []
    for at in range(0, TABLE_BYTES, _ENTRY.size):
        raw = data[at : at + _ENTRY.size]
        if raw == _END and table:
            return table
        if raw.startswith(_DIGEST_START):
            if raw[16:] != hashlib.md5(data[:at]).digest():
                raise ToolError("the partition table is damaged: its MD5 is wrong")
            continue
        if len(raw) < _ENTRY.size or raw[:2] != ENTRY_MAGIC:
            raise ToolError(
                f"not a partition table: expected AA 50 at its offset {at:#x}, came {raw[:2].hex(' ')}"
            )
        _, kind, subtype, offset, size, name, flags = _ENTRY.unpack(raw)
        table.append(
            Partition(
                name.split(b"\0")[0].decode("utf-8", "replace"), kind, subtype, offset, size, flags
            )
        )
    raise ToolError("the partition table has no end")


def find(table: Table, name: str) -> Partition:
    """Return the partition of this name. Raises ToolError if there is none."""
    for p in table:
        if p.name == name:
            return p
    raise ToolError(
        f"no partition {name!r} in the table, which has {', '.join(p.name for p in table)}"
    )


def otadata(table: Table) -> Partition | None:
    """Return the partition that says which slot boots, if there is one."""
    return next((p for p in table if (p.type, p.subtype) == (DATA, OTADATA)), None)


def ota_slots(table: Table) -> list[Partition]:
    """Return the OTA slots in the order that otadata counts them in."""
    return sorted((p for p in table if p.ota_index is not None), key=lambda p: p.subtype)


def factory(table: Table) -> Partition | None:
    """Return the factory app's partition, if there is one."""
    return next((p for p in table if (p.type, p.subtype) == (APP, FACTORY)), None)


def _word(words: dict[str, int], value: int) -> str:
    return next((word for word, number in words.items() if number == value), f"{value:#04x}")


def _align(p_type: int) -> int:
    return _APP_ALIGN if p_type == APP else _SECTOR


def _parse_line(fields: list[str], behind: int) -> Partition:
    if not 5 <= len(fields) <= 7 or any(fields[6:]):
        raise ToolError(
            f"expected name, type, subtype, offset, size, flags; came {len(fields)} fields"
        )
    name, type_word, subtype_word, offset_word, size_word = fields[:5]
    if not 0 < len(name.encode()) <= 16:
        raise ToolError(f"expected a name of 1 to 16 bytes, came {name!r}")
    kind = _number("type", type_word, TYPES)
    subtype = _number("subtype", subtype_word, SUBTYPES.get(kind, {}))
    align = _align(kind)
    offset = _number("offset", offset_word) if offset_word else -(-behind // align) * align
    size = _number("size", size_word)
    flags = 0
    for word in filter(None, fields[5].split(":") if len(fields) > 5 else []):
        if word not in FLAGS:
            raise ToolError(f"unknown flag {word!r}: expected {' or '.join(FLAGS)}")
        flags |= FLAGS[word]
    for what, value, limit in (
        ("type", kind, 0xFE),
        ("subtype", subtype, 0xFE),
        ("offset", offset, 0xFFFFFFFF),
    ):
        if not 0 <= value <= limit:
            raise ToolError(f"{what} {value:#x} is out of range")
    if not 0 < size <= 0xFFFFFFFF:
        raise ToolError(f"size {size:#x} is out of range")
    return Partition(name, kind, subtype, offset, size, flags)


def _number(what: str, word: str, words: dict[str, int] | None = None) -> int:
    if words and word.lower() in words:
        return words[word.lower()]
    units = {"k": 1 << 10, "m": 1 << 20}
    unit = units.get(word[-1:].lower(), 1)
    try:
        return int(word[:-1] if unit > 1 else word, 0) * unit
    except ValueError:
        known = f" or one of {', '.join(words)}" if words else ""
        raise ToolError(f"{what} {word!r}: expected a number{known}") from None


def _problems(table: Table, flash_size: int) -> list[str]:
    problems = []
    names = [p.name for p in table]
    problems += [
        f"partition {name!r} is there twice"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if len([p for p in table if (p.type, p.subtype) == (DATA, OTADATA)]) > 1:
        problems.append("more than one otadata partition (type data, subtype ota)")
    for p in table:
        if p.offset % _align(p.type):
            what = "64 KiB, since it is an app," if p.type == APP else "4 KiB"
            problems.append(
                f"{p.name!r} at {p.offset:#x} must start at a multiple of {what} {_align(p.type):#x}"
            )
        if p.type == APP and p.size % _SECTOR:
            problems.append(
                f"the size {p.size:#x} of {p.name!r} must be a multiple of a sector, {_SECTOR:#x}"
            )
        if (p.type, p.subtype) == (DATA, OTADATA) and p.size != OTADATA_BYTES:
            problems.append(
                f"the size of {p.name!r} must be {OTADATA_BYTES:#x}, two sectors; it is {p.size:#x}"
            )
        if p.type == DATA and p.flags & READONLY and p.subtype in (OTADATA, COREDUMP):
            problems.append(f"{p.name!r} is written to by its nature, it can't be readonly")
        if (p.type, p.subtype) == (DATA, NVS) and p.size < _NVS_MIN and not p.flags & READONLY:
            problems.append(
                f"the size {p.size:#x} of {p.name!r} must be at least {_NVS_MIN:#x}, or its flag readonly"
            )
        if p.end > flash_size:
            problems.append(f"{p.name!r} ends at {p.end:#x}, the flash at {flash_size:#x}")
    in_order = sorted(table, key=lambda p: p.offset)
    first_free = TABLE_OFFSET + TABLE_SECTOR
    if in_order and in_order[0].offset < first_free:
        problems.append(
            f"{in_order[0].name!r} starts at {in_order[0].offset:#x}, "
            f"but up to {first_free:#x} bootloader and partition table have their place"
        )
    for a, b in zip(in_order, in_order[1:]):
        if a.end > b.offset:
            problems.append(
                f"{b.name!r} at {b.offset:#x} overlaps {a.name!r}, which ends at {a.end:#x}"
            )
    slots = [p.subtype - OTA_0 for p in ota_slots(table)]
    # The bootloader counts the slots and takes their subtypes for 0, 1, 2, …
    if slots != list(range(len(slots))):
        problems.append(
            f"OTA slots must be ota_0, ota_1, … once each; there are {', '.join(map(str, slots))}"
        )
    if slots and otadata(table) is None:
        problems.append("there are OTA slots but no otadata partition (type data, subtype ota)")
    return problems
