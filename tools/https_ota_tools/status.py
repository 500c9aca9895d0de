"""`status`: the firmware slots of a board, what they hold, and which one boots."""

from __future__ import annotations

import argparse
import struct
import time
from dataclasses import dataclass
from typing import Any, cast

from rich.console import Console
from rich.table import Column, Table

from https_ota_tools import image, link, otadata, output, package, partition
from https_ota_tools.errors import ToolError
from https_ota_tools.package import Copy

NAME = "status"
HELP = "show the firmware slots of a board on a serial port"

# Header and descriptor of an application.
_HEAD_BYTES = 288
_HEADER = struct.Struct("<BBBB8xH9xB")

# Needs nothing of the package, and prints what it finds as a literal.
_PROBE = f"""\
import sys
from esp32 import Partition as P
def _parts():
    found = []
    for p in P.find(P.TYPE_APP) + P.find(P.TYPE_DATA):
        head = b""
        if p.info()[0] == 0:
            head = bytearray({_HEAD_BYTES})
            p.readblocks(0, head, 0)
        found.append((p.info()[:5], bytes(head)))
    return found
def _records():
    records = []
    for p in P.find(P.TYPE_DATA, subtype=0):
        for sector in (0, 1):
            raw = bytearray(32)
            p.readblocks(sector, raw, 0)
            records.append(bytes(raw))
    return records
def _next():
    try:
        return P(P.RUNNING).get_next_update().info()[4]
    except OSError:
        return None
def _address():
    # A LAN() without arguments is the one that the application has made, if there is one.
    for name, given in ("WLAN", (0,)), ("LAN", ()):
        try:
            import network
            n = getattr(network, name)(*given)
            if n.active() and n.isconnected():
                return n.ifconfig()[0]
        except Exception:
            pass
def _now():
    import time
    t = time.gmtime()
    return t[0], time.time() + (946684800 if time.gmtime(0)[0] == 2000 else 0)
_say(repr(dict(
    parts=_parts(), records=_records(), running=P(P.RUNNING).info()[4], next=_next(),
    address=_address(), now=_now(),
    machine=sys.implementation[2], micropython=sys.implementation[1][:3],
    mpy=getattr(sys.implementation, "_mpy", 0), path=sys.path,
)))
"""


@dataclass(frozen=True)
class Slot:
    """An app partition and the first bytes in it."""

    partition: partition.Partition
    head: bytes
    state: str

    @property
    def header(self) -> tuple[int, int] | None:
        """(chip id, flash mode) of the image in it, None when there is none."""
        magic, _, mode, _, chip_id, _ = _HEADER.unpack_from(self.head)
        return (chip_id, mode) if magic == image.MAGIC else None

    @property
    def desc(self) -> image.AppDesc | None:
        """The descriptor of the application in it."""
        return image.parse_desc(self.head[image.DESC_OFFSET :]) if self.header else None

    @property
    def name(self) -> str:
        """Project and version for people."""
        if self.header is None:
            return "empty" if self.head.count(0xFF) == len(self.head) else "no application"
        return f"{self.desc.project_name} {self.desc.version}" if self.desc else "no descriptor"


@dataclass(frozen=True)
class Status:
    """What a board said of itself. `address` is its own in the network, `package` version and file of the https_ota it loads, None without any.

    clock_s: how far its clock is ahead of this machine's.
    copies: all that there are of https_ota, the one that it loads first.
    """

    slots: list[Slot]
    running: Slot
    next_boot: Slot | None
    target: Slot | None
    package: tuple[str, str] | None
    address: str | None
    clock_set: bool
    clock_s: float
    machine: str
    micropython: tuple[int, int, int]
    mpy: int
    path: list[str]
    copies: list[Copy]

    @property
    def chip(self) -> str:
        """Name of the chip, from the running firmware."""
        header = self.running.header
        return image.chip_name(header[0]) if header else "unknown"


def read(board: link.Link, *, packages: bool = True) -> Status:
    """Ask a board. Raises ToolError when it is no ESP32 or does not answer.

    packages: look for copies of https_ota, too.
    """
    try:
        found = cast("dict[str, Any]", board.ask(_PROBE))
    except link.BoardError as e:
        if "ImportError" in e.trace:
            raise ToolError(
                f"{board.port}: no ESP32 with MicroPython: it has no esp32 module"
            ) from e
        raise
    copies = package.find(board) if packages else []
    first = copies[0] if copies and not copies[0].trouble else None
    table = [partition.Partition(p[4], *p[:4]) for p, _ in found["parts"]]
    heads = {p[4]: head for p, head in found["parts"]}
    records = [otadata.Entry.decode(raw) for raw in found["records"]]
    ota = partition.ota_slots(table)
    slots = [
        Slot(p, heads[p.name], _state(p, records, ota)) for p in table if p.type == partition.APP
    ]
    by_name = {s.partition.name: s for s in slots}
    running = by_name[found["running"]]
    target = by_name.get(found["next"])
    if not records or target is running:
        target = None
    chosen = otadata.first_choice(table, records)
    on_trial = running.state == "PENDING_VERIFY"
    board.settled = not on_trial and (chosen is None or chosen == running.partition)
    return Status(
        slots=slots,
        running=running,
        next_boot=by_name.get(chosen.name) if chosen else None,
        target=target,
        package=(first.version, f"{first.folder}/__init__" if first.folder else "frozen")
        if first
        else None,
        address=found["address"],
        clock_set=found["now"][0] >= 2024,
        clock_s=found["now"][1] - time.time(),
        machine=found["machine"],
        micropython=found["micropython"],
        mpy=found["mpy"],
        path=found["path"],
        copies=copies,
    )


def show(status: Status, console: Console) -> None:
    """Print it for people."""
    version = ".".join(map(str, status.micropython))
    console.print(f"{status.machine}, chip {status.chip}, MicroPython {version}")
    show_copies(status.copies, console)
    console.print()
    names = ("slot", "offset", "size", "project", "version", "ESP-IDF", "state")
    table = Table(*names, Column("", overflow="fold"), box=None, pad_edge=False)
    for s in status.slots:
        p, d = s.partition, s.desc
        marks = ["runs"] * (s is status.running) + ["boots next"] * (s is status.next_boot)
        words = (d.project_name, d.version, d.idf_ver) if d else (s.name, "", "")
        table.add_row(p.name, f"{p.offset:#x}", f"{p.size:#x}", *words, s.state, ", ".join(marks))
    console.print(table)


def show_copies(copies: list[Copy], console: Console) -> None:
    """Say which copy of the package is loaded, and what that keeps from being used."""
    if not copies:
        console.print("https_ota is not there: `https-ota push --install` copies it")
        return
    first, *rest = copies
    if first.trouble:
        console.print(
            f"https_ota {first} can't be loaded: {first.trouble}; `https-ota push --install` writes it anew"
            + (", or delete the folder" if first.folder else "")
        )
    else:
        console.print(f"https_ota {first}")
    for other in rest:
        console.print(f"  it comes before https_ota {other}, which is not used")


def _state(
    p: partition.Partition, records: list[otadata.Entry], ota: list[partition.Partition]
) -> str:
    mine = [
        e for e in records if e.seq != otadata.NO_SEQ and e.crc_ok and ota[e.slot(len(ota))] == p
    ]
    return max(mine, key=lambda e: e.seq).state_name if mine else ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    link.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do the command."""
    with link.from_arguments(args, soft_reset=False) as board:
        try:
            try:
                found = read(board)
            except (link.BoardError, link.SlowError):
                # The application's names, or its memory, are in the way.
                board.soft_reset()
                found = read(board)
        finally:
            # What was interrupted to ask starts again.
            board.run_main()
    show(found, output.console())
    return 0
