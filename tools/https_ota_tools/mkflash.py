"""`mkflash`: the contents of a whole flash, as after flashing a new board by cable."""

from __future__ import annotations

import argparse
from pathlib import Path

from https_ota_tools import files, image, partition
from https_ota_tools.errors import ToolError

NAME = "mkflash"
HELP = "make a whole-flash file with an application in a slot"

_SIZES = {f"{n}MB": n << 20 for n in (2, 4, 8, 16, 32, 64, 128)}


def make_flash(
    app: bytes,
    table: partition.Table,
    flash_size: int,
    slot: str = "ota_0",
    bootloader: bytes | None = None,
) -> bytes:
    """Return the contents of a flash: table at 0x8000, an app, all else (otadata too) erased.

    app: an application image, for any chip.
    flash_size: in bytes.
    slot: name of the partition for the app.
    bootloader: an image for the same chip, put where this chip's ROM looks for it.

    Raises ToolError if one of these is invalid, or doesn't fit where it belongs.
    """
    partition.check(table, flash_size)
    target = partition.find(table, slot)
    if target.type != partition.APP:
        raise ToolError(f"{slot!r} is a {target.type_name} partition, expected an app partition")
    parsed = image.load_app(app)
    if len(app) > target.size:
        raise ToolError(
            f"the application has {len(app)} bytes, {slot!r} has room for {target.size}: "
            "build a smaller one or use a table with larger slots"
        )
    flash = bytearray(b"\xff" * flash_size)

    def put(offset: int, data: bytes) -> None:
        flash[offset : offset + len(data)] = data

    put(partition.TABLE_OFFSET, partition.encode(table))
    put(target.offset, app)
    if bootloader is not None:
        offset = parsed.bootloader_offset
        _check_bootloader(bootloader, parsed, partition.TABLE_OFFSET - offset)
        put(offset, bootloader)
    return bytes(flash)


def _check_bootloader(data: bytes, app: image.Image, room: int) -> None:
    try:
        boot = image.load(data)
    except ToolError as e:
        raise ToolError(f"the bootloader can't be used: {e}") from e
    problems = [c.detail for c in image.integrity(boot) if c.verdict is image.Verdict.INVALID]
    if problems:
        raise ToolError(f"the bootloader can't be used: {'; '.join(problems)}")
    if boot.desc:
        raise ToolError("the bootloader can't be used: it is an application")
    if boot.chip_id != app.chip_id:
        raise ToolError(f"the bootloader is for {boot.chip}, the application for {app.chip}")
    if len(data) > room:
        raise ToolError(
            f"the bootloader has {len(data)} bytes, below the partition table is room for {room}"
        )


def flash_bytes(size: str) -> int:
    """Return the number of bytes of a size like "4MB". Raises ToolError for no size that flash has."""
    if size not in _SIZES:
        raise ToolError(f"flash size {size!r}: expected one of {', '.join(_SIZES)}")
    return _SIZES[size]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "app", type=Path, metavar="APP.bin", help="application image (micropython.bin, .app-bin)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FLASH", help="file to write"
    )
    parser.add_argument(
        "--table", type=Path, metavar="CSV", help="partition table (default: by --size)"
    )
    parser.add_argument("--size", default="4MB", help="size of the flash, default %(default)s")
    parser.add_argument(
        "--slot", default="ota_0", help="partition for the app, default %(default)s"
    )
    parser.add_argument(
        "--bootloader", type=Path, metavar="FILE", help="bootloader image, default none"
    )


def run(args: argparse.Namespace) -> int:
    """Do the command."""
    flash_size = flash_bytes(args.size)
    path = args.table or partition.default_csv(flash_size)
    text = files.read_text(path, "a partition table in CSV form")
    table = partition.read_csv(text, str(path))
    app = files.read(args.app)
    bootloader = files.read(args.bootloader) if args.bootloader else None
    files.write(args.output, make_flash(app, table, flash_size, args.slot, bootloader))
    print(f"{args.output}: {args.size}, {args.app.name} in {args.slot}, table {path.name}")
    return 0
