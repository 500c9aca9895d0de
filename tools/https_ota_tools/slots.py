"""`slots`: partition table, otadata and applications in the contents of a flash."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from https_ota_tools import files, image, otadata, output, partition
from https_ota_tools.errors import ToolError

NAME = "slots"
HELP = "show what a flash file holds and what would boot"


@dataclass(frozen=True)
class Slot:
    """An app partition; `report` is None when it is erased."""

    partition: partition.Partition
    report: image.Report | None


@dataclass(frozen=True)
class Flash:
    """What a flash holds. `active` is the record that counts now, `next_boot` what the next boot chooses."""

    table: list[partition.Partition]
    entries: list[otadata.Entry]
    active: int | None
    slots: list[Slot]
    next_boot: Slot | None

    @property
    def bootable(self) -> bool:
        """Whether the partition chosen by the next boot holds a valid application."""
        return bool(self.next_boot and self.next_boot.report and self.next_boot.report.valid)


def read_flash(data: bytes) -> Flash:
    """Parse the contents of a whole flash. Raises ToolError if there is no partition table in it."""
    try:
        table = partition.decode(data[partition.TABLE_OFFSET :][: partition.TABLE_BYTES])
    except ToolError as e:
        raise ToolError(
            f"no flash with a partition table at {partition.TABLE_OFFSET:#x}: {e}"
        ) from e
    last = max(table, key=lambda p: p.end)
    if last.end > len(data):
        raise ToolError(
            f"the file has {len(data):#x} bytes, but {last.name!r} ends at {last.end:#x}: expected a whole flash"
        )
    found = partition.otadata(table)
    entries = list(otadata.decode(data[found.offset : found.end])) if found else []
    slots = [_read_slot(data, p) for p in table if p.type == partition.APP]
    chosen = otadata.first_choice(table, entries)
    return Flash(
        table=table,
        entries=entries,
        active=otadata.active(entries) if entries else None,
        slots=slots,
        next_boot=next((s for s in slots if s.partition == chosen), None),
    )


def show(flash: Flash, console: Console) -> None:
    """Print what a flash holds for people."""
    table = Table("partition", "type", "subtype", "offset", "size", box=None, pad_edge=False)
    for p in flash.table:
        table.add_row(p.name, p.type_name, p.subtype_name, f"{p.offset:#x}", f"{p.size:#x}")
    console.print(table)
    ota = partition.ota_slots(flash.table)
    if flash.entries:
        table = Table("otadata", "sequence", "state", "CRC", "slot", "", box=None, pad_edge=False)
        for i, e in enumerate(flash.entries):
            if e.erased:
                table.add_row(str(i), "erased")
                continue
            name = ota[e.slot(len(ota))].name if ota else "none"
            crc = "good" if e.crc_ok else "bad"
            table.add_row(
                str(i), str(e.seq), e.state_name, crc, name, "active" if i == flash.active else ""
            )
        console.print()
        console.print(table)
    verdict = Column("verdict", overflow="fold")
    names = ("app", "project", "version", "chip", "length", verdict, "")
    table = Table(*names, box=None, pad_edge=False)
    for s in flash.slots:
        mark = "next boot" if s is flash.next_boot else ""
        table.add_row(s.partition.name, *_describe(s.report), mark)
    console.print()
    console.print(table)


def _read_slot(data: bytes, p: partition.Partition) -> Slot:
    content = data[p.offset : p.end]
    return Slot(p, None if content.count(0xFF) == len(content) else image.examine(content))


def _describe(report: image.Report | None) -> tuple[str, str, str, str, str]:
    if report is None:
        return "", "", "", "", "erased"
    verdict = "valid" if report.valid else "; ".join(report.problems)
    i = report.image
    if i is None:
        return "", "", "", "", verdict
    project, version = (i.desc.project_name, i.desc.version) if i.desc else ("", "")
    return project, version, i.chip, str(i.length), verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("flash", type=Path, metavar="FLASH", help="contents of a whole flash")


def run(args: argparse.Namespace) -> int:
    """Do the command: 0 if the next boot finds a valid application, 1 if not."""
    flash = read_flash(files.read(args.flash))
    show(flash, output.console())
    return 0 if flash.bootable else 1
