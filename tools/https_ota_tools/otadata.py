"""The two records that tell the bootloader which OTA slot to boot and how far it is trusted.

Each sits at the start of its own sector, so that one survives while the other is rewritten.
"""

from __future__ import annotations

import binascii
import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from https_ota_tools import partition
from https_ota_tools.errors import ToolError

SECTOR = 0x1000
NO_SEQ = 0xFFFFFFFF

_RECORD = struct.Struct("<I20sII")


class State(enum.IntEnum):
    """How far the image of a record is trusted."""

    NEW = 0
    PENDING_VERIFY = 1
    VALID = 2
    INVALID = 3
    ABORTED = 4
    UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """One record. The CRC covers the sequence number only, not the state."""

    seq: int
    state: int
    crc: int
    label: bytes = b"\xff" * 20

    @classmethod
    def make(cls, seq: int, state: State) -> Entry:
        """Return a record with the right CRC."""
        return cls(seq, state, _crc(seq))

    @classmethod
    def decode(cls, raw: bytes) -> Entry:
        """Parse the first 32 bytes."""
        seq, label, state, crc = _RECORD.unpack(raw[: _RECORD.size])
        return cls(seq, state, crc, label)

    def encode(self) -> bytes:
        """Return 32 bytes."""
        return _RECORD.pack(self.seq, self.label, self.state, self.crc)

    @property
    def erased(self) -> bool:
        """Whether nothing was written here since the sector was erased."""
        return self.encode() == b"\xff" * _RECORD.size

    @property
    def crc_ok(self) -> bool:
        """Whether the CRC is that of the sequence number."""
        return self.crc == _crc(self.seq)

    @property
    def valid(self) -> bool:
        """Whether the bootloader would consider the record at all."""
        return (
            self.seq != NO_SEQ and self.crc_ok and self.state not in (State.INVALID, State.ABORTED)
        )

    @property
    def state_name(self) -> str:
        """Name of the state, or its number if it is none of the known."""
        try:
            return State(self.state).name
        except ValueError:
            return f"{self.state:#x}"

    def slot(self, slots: int) -> int:
        """Return the number of the OTA slot that the record means, among this many."""
        # Unsigned, as in the bootloader.
        return ((self.seq - 1) & 0xFFFFFFFF) % slots


def decode(data: bytes) -> tuple[Entry, Entry]:
    """Parse both records of an otadata partition. Raises ToolError if it is too small for them."""
    if len(data) < 2 * SECTOR:
        raise ToolError(f"otadata is two sectors, {2 * SECTOR:#x} bytes; {len(data):#x} came")
    return Entry.decode(data), Entry.decode(data[SECTOR:])


def encode(first: Entry | None = None, second: Entry | None = None) -> bytes:
    """Return an otadata partition with these records; None is an erased one."""
    raw = (e.encode() if e else b"" for e in (first, second))
    return b"".join(r.ljust(SECTOR, b"\xff") for r in raw)


def active(entries: Sequence[Entry]) -> int | None:
    """Return which record (0 or 1) counts, or None: the valid one with the larger sequence number."""
    valid = [i for i in (0, 1) if entries[i].valid]
    # A tie goes to the first record, as in the bootloader.
    return max(valid, key=lambda i: entries[i].seq, default=None)


def at_boot(entries: Sequence[Entry]) -> list[Entry]:
    """Return the records as a bootloader with rollback leaves them before it chooses.

    PENDING_VERIFY at this point means that the image was booted and never confirmed.
    """
    return [
        replace(e, state=State.ABORTED) if e.state == State.PENDING_VERIFY else e for e in entries
    ]


def first_choice(table: partition.Table, entries: Sequence[Entry]) -> partition.Partition | None:
    """Return the partition that the bootloader tries first.

    It tries the others if the image there is bad, which ought not to happen.
    """
    ota = partition.ota_slots(table)
    if entries and ota:
        entries = at_boot(entries)
        number = active(entries)
        if number is not None:
            return ota[entries[number].slot(len(ota))]
    return partition.factory(table) or (ota[0] if ota else None)


def _crc(seq: int) -> int:
    return binascii.crc32(seq.to_bytes(4, "little"), 0xFFFFFFFF)
