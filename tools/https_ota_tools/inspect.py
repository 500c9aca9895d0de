"""`inspect`: what is in an application image, and whether the chip would take it.

Signatures are judged by the keys in them, encrypted images by their header: whose they are, `verify` says. A compressed
one is unpacked; of a delta nothing is seen but what it is to.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from https_ota_tools import delta, encimg, files, image, output, sbv2
from https_ota_tools.errors import BAD, DONE, IMPOSSIBLE, ToolError

NAME = "inspect"
HELP = "show and check an application image"


def inspect(path: Path) -> image.Report:
    """Check a file ("-": the standard input) as an application image, an encrypted or a compressed one.

    Raises ToolError if it can't be read.
    """
    data = files.read_input(path)
    if encimg.is_encrypted(data):
        return image.Report(len(data), None, encimg.checks(data))
    content, checks = delta.opened_checked(data)
    if content is None:
        return image.Report(len(data), None, checks)
    data = content
    report = image.examine(data)
    checks += report.checks
    if report.image is None:
        return image.Report(len(data), None, checks)
    found = sbv2.blocks(data, report.image.length)
    size = sbv2.start(report.image.length) + sbv2.SECTOR - report.image.length if found else 0
    checks += sbv2.checks(found)
    return image.Report(len(data), report.image, checks, signature_bytes=size)


def show(report: image.Report, console: Console) -> None:
    """Print a report for people."""
    if report.image:
        _show_image(report.image, console)
        _show_segments(report.image, console)
    output.show_checks(report.checks, console)
    if report.image:
        length, signature = report.image.length, report.signature_bytes
        behind = f", {signature} bytes of padding and signatures" if signature else ""
        if (trailing := report.size - length - signature) > 0:
            behind += f", {trailing} bytes behind it are no part of it"
        console.print(f"\nimage length {length} of {report.size} bytes{behind}")


def revision(number: int) -> str:
    """Return a chip or eFuse block revision (major * 100 + minor) as people write it."""
    return f"v{number // 100}.{number % 100}"


def _show_image(i: image.Image, console: Console) -> None:
    table = Table("", Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    newest = "any" if i.max_rev_full in (0, 0xFFFF) else revision(i.max_rev_full)
    rows: list[tuple[str, object]] = [
        ("chip", f"{i.chip} (id {i.chip_id})"),
        ("chip revision", f"{revision(i.min_rev_full)} to {newest} (legacy minimum {i.min_rev})"),
        ("flash", f"{i.spi_mode}, {i.flash_freq}, {i.flash_size}"),
        ("entry", f"{i.entry:#x}"),
    ]
    if d := i.desc:
        rows += [
            ("project", d.project_name or "(none)"),
            ("version", d.version or "(none)"),
            ("secure version", d.secure_version),
            ("compiled", f"{d.date} {d.time}".strip() or "(none)"),
            ("ESP-IDF", d.idf_ver or "(none)"),
            ("ELF SHA-256", d.app_elf_sha256),
            (
                "eFuse block",
                f"{revision(d.min_efuse_blk_rev_full)} to {revision(d.max_efuse_blk_rev_full)}",
            ),
            ("MMU page", f"{d.mmu_page_size}" if d.mmu_page_size else "default"),
            ("SPI mode byte", d.spi_flash_mode),
        ]
    for name, value in rows:
        table.add_row(name, str(value))
    console.print(table)


def _show_segments(i: image.Image, console: Console) -> None:
    names = ("segment", "load address", "length", "file offset", Column("memory", overflow="fold"))
    table = Table(*names, box=None, pad_edge=False)
    for n, s in enumerate(i.segments):
        table.add_row(
            str(n), f"{s.load_addr:#010x}", f"{s.size:#x}", f"{s.offset:#x}", s.memory or "padding"
        )
    console.print()
    console.print(table)
    console.print()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="application image, plain, compressed or encrypted, or a delta; - for the standard input",
    )


def run(args: argparse.Namespace) -> int:
    """Do the command: 0 if nothing is wrong with the images, 1 if any other file is among them."""
    console = output.console()
    status = DONE
    for n, path in enumerate(args.files):
        try:
            report = inspect(path)
        except ToolError as e:
            if len(args.files) == 1:
                raise
            print(f"https-ota: error: {e}", file=sys.stderr)
            status = IMPOSSIBLE
            continue
        if len(args.files) > 1:
            console.print(f"{path}:" if n == 0 else f"\n{path}:")
        show(report, console)
        if not report.valid:
            status = max(status, BAD)
    return status
