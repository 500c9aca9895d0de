"""`pack`: a compressed image, which boards unpack while it comes."""

import argparse
from pathlib import Path

from https_ota_tools import encimg, files, image, packed
from https_ota_tools.errors import ToolError

NAME = "pack"
HELP = "compress an application image for boards to download"


def pack(
    path: Path,
    output: Path,
    *,
    window: int = packed.WINDOW,
    force: bool = False,
) -> tuple[int, int]:
    """Compress an application and write it. Returns the bytes of the image and of the file.

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
    made = packed.pack(data, window)
    files.write(output, made)
    return len(data), len(made)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "app", type=Path, metavar="APP.bin", help="application image, signed if it is to be signed"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.gz",
        help="file to write (default: the name of the image and .gz)",
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
    output = args.output or args.app.with_name(args.app.name + ".gz")
    size, made = pack(args.app, output, window=args.window, force=args.force)
    print(f"{output}: {made} bytes, {100 * made / size:.1f} % of {size}")
    return 0
