"""`pack`: a smaller file of an image, compressed or as what it differs in from the one that runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from https_ota_tools import delta, encimg, files, image, packed
from https_ota_tools.errors import ToolError

NAME = "pack"
HELP = "compress an application image, or make a delta to it"


def pack(
    path: Path,
    output: Path,
    *,
    window: int = packed.WINDOW,
    base: Path | None = None,
    force: bool = False,
) -> tuple[int, int]:
    """Compress an application and write it. Returns the bytes of the image and of the file.

    base: the image that the boards run; the file is a delta then.
    force: take what is no application, too.

    Raises ToolError if a file is no good, or `output` can't be written.
    """
    data = files.read(path)
    if encimg.is_encrypted(data):
        raise ToolError(f"{path} is encrypted: pack the image first, then encrypt what is made")
    if packed.is_packed(data):
        raise ToolError(f"{path} is compressed already: expected an application image")
    if not force:
        image.load_app(data)
    if base is None:
        made = packed.pack(data, window)
    else:
        try:
            made = delta.make(files.read(base), data, window)
        except ToolError as e:
            raise ToolError(f"{base}: {e}") from e
    files.write(output, made)
    return len(data), len(made)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "app", type=Path, metavar="APP.bin", help="application image, signed if it is to be signed"
    )
    parser.add_argument(
        "--from",
        type=Path,
        dest="base",
        metavar="BASE.bin",
        help="make a delta, for boards that run this image",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.gz",
        help="file to write (default: the name of the image and .gz or .delta.gz)",
    )
    parser.add_argument(
        "--window",
        type=int,
        default=packed.WINDOW,
        metavar="BYTES",
        help="memory that a board needs to unpack it: 512 to 32768, a power of two (default %(default)s); more makes "
        "the file a little smaller",
    )
    parser.add_argument("--force", action="store_true", help="pack what is no application, too")


def run(args: argparse.Namespace) -> int:
    """Do the command."""
    output = args.output
    if output is None:
        output = args.app.with_name(args.app.name + (".delta.gz" if args.base else ".gz"))
    size, made = pack(args.app, output, window=args.window, base=args.base, force=args.force)
    what = f"delta from {args.base.name}" if args.base else "compressed"
    print(f"{output}: {what}, {made} bytes, {100 * made / size:.1f} % of {size}")
    return 0
