"""`sign`: signatures that the device and ESP-IDF's Secure Boot v2 check."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from https_ota_tools import files, image, keys, sbv2
from https_ota_tools.errors import ToolError

NAME = "sign"
HELP = "sign an application image"


def sign(
    path: Path, key_paths: Sequence[Path], output: Path, append: bool = False
) -> list[sbv2.Block]:
    """Sign an application and write it. Returns all signatures it has then.

    append: add to the signatures that it has.

    Raises ToolError if the application or a key is no good, or `output` can't be written.
    """
    keys.refuse_to_replace(output, key_paths)
    signed = sbv2.sign(files.read(path), [_load(p) for p in key_paths], append)
    files.write(output, signed)
    return sbv2.blocks(signed, image.load(signed).length)


def _load(path: Path) -> keys.Private:
    key = keys.load_private(path)
    try:
        sbv2.scheme(key)
    except ToolError as e:
        raise ToolError(f"{path}: {e}") from e
    return key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "app", type=Path, metavar="APP.bin", help="application image (micropython.bin, .app-bin)"
    )
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        required=True,
        metavar="KEY.pem",
        help=f"private key, up to {sbv2.MAX_BLOCKS} of them",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.bin", help="file to write"
    )
    parser.add_argument(
        "--append", action="store_true", help="add to the signatures that APP.bin has"
    )


def run(args: argparse.Namespace) -> int:
    """Do the command."""
    found = sign(args.app, args.key, args.output, args.append)
    for b in found:
        print(f"block {b.number}: {b.scheme}, key digest {b.key_digest}")
    count = len(found)
    print(f"{args.output}: {count} signature{'s' * (count != 1)}")
    return 0
