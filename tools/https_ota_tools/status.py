"""`status`: the firmware slots of a board, what they hold, and which one boots."""

import argparse
import ast
import struct
from dataclasses import dataclass

from rich.console import Console
from rich.table import Column, Table

from https_ota_tools import image, link, otadata, output, partition, ports
from https_ota_tools.errors import ToolError

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
def _package():
    try:
        import https_ota
        return https_ota.__version__, getattr(https_ota, "__file__", "")
    except (ImportError, AttributeError):
        return None
def _wifi():
    try:
        import network
        w = network.WLAN(network.STA_IF)
        return w.active() and w.isconnected() and w.ifconfig()[0] or None
    except (ImportError, OSError):
        return None
def _year():
    import time
    return time.gmtime()[0]
print(repr(dict(
    parts=_parts(), records=_records(), running=P(P.RUNNING).info()[4], next=_next(),
    package=_package(), wifi=_wifi(), year=_year(),
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
    """What a board said of itself. `wifi` is its address, `package` version and file of https_ota."""

    slots: list[Slot]
    running: Slot
    next_boot: Slot | None
    target: Slot | None
    package: tuple[str, str] | None
    wifi: str | None
    clock_set: bool
    machine: str
    micropython: tuple[int, int, int]
    mpy: int
    path: list[str]

    @property
    def chip(self) -> str:
        """Name of the chip, from the running firmware."""
        header = self.running.header
        return image.chip_name(header[0]) if header else "unknown"


def read(board: link.Link) -> Status:
    """Ask a board. Raises ToolError when it is no ESP32 or does not answer."""
    try:
        found = ast.literal_eval(board.exec(_PROBE).strip())
    except link.BoardError as e:
        if "ImportError" in e.trace:
            raise ToolError(
                f"{board.port}: no ESP32 with MicroPython: it has no esp32 module"
            ) from e
        raise
    except (SyntaxError, ValueError) as e:
        raise ToolError(f"{board.port}: the board's answer makes no sense ({e})") from e
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
    return Status(
        slots=slots,
        running=running,
        next_boot=by_name.get(chosen.name) if chosen else None,
        target=target,
        package=found["package"],
        wifi=found["wifi"],
        clock_set=found["year"] >= 2024,
        machine=found["machine"],
        micropython=found["micropython"],
        mpy=found["mpy"],
        path=found["path"],
    )


def show(status: Status, console: Console) -> None:
    """Print it for people."""
    version = ".".join(map(str, status.micropython))
    console.print(f"{status.machine}, chip {status.chip}, MicroPython {version}")
    if status.package:
        number, file = status.package
        where = f"from {file}" if file.startswith("/") else "frozen"
        console.print(f"https_ota {number}, {where}")
    else:
        console.print("https_ota is not there: `https-ota push --install` copies it")
    console.print()
    names = ("slot", "offset", "size", "project", "version", "ESP-IDF", "state")
    table = Table(*names, Column("", overflow="fold"), box=None, pad_edge=False)
    for s in status.slots:
        p, d = s.partition, s.desc
        marks = ["runs"] * (s is status.running) + ["boots next"] * (s is status.next_boot)
        words = (d.project_name, d.version, d.idf_ver) if d else (s.name, "", "")
        table.add_row(p.name, f"{p.offset:#x}", f"{p.size:#x}", *words, s.state, ", ".join(marks))
    console.print(table)


def _state(
    p: partition.Partition, records: list[otadata.Entry], ota: list[partition.Partition]
) -> str:
    mine = [
        e for e in records if e.seq != otadata.NO_SEQ and e.crc_ok and ota[e.slot(len(ota))] == p
    ]
    return max(mine, key=lambda e: e.seq).state_name if mine else ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--port", metavar="PORT", help=ports.HELP)


def run(args: argparse.Namespace) -> int:
    """Do the command."""
    with link.Link(link.choose(args.port), soft_reset=False) as board:
        try:
            show(read(board), output.console())
        finally:
            # What was interrupted to ask starts again.
            board.run_main()
    return 0
