"""`decrypt`: what is in an encrypted image."""

import argparse
from pathlib import Path

from https_ota_tools import encimg, files, keys

NAME = "decrypt"
HELP = "decrypt an encrypted image"


def decrypt(path: Path, key_path: Path, output: Path) -> int:
    """Decrypt an image and write it, once it is known to be unchanged. Returns its size in bytes.

    key_path: a private key as PEM, or 32 bytes that are a P-256 scalar or an HMAC key.

    Raises ToolError if the file or the key is no good, or `output` can't be written.
    """
    keys.refuse_to_replace(output, [key_path])
    candidates = encimg.load_keys(key_path)
    data = encimg.decrypt(files.read(path), *candidates)
    files.write(output, data)
    return len(data)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("file", type=Path, metavar="FILE", help="encrypted image")
    parser.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="PRIVATE",
        help="private key (PEM), or file of the 32 bytes of a scalar or of an HMAC key",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.bin", help="file to write"
    )


def run(args: argparse.Namespace) -> int:
    """Do the command."""
    size = decrypt(args.file, args.key, args.output)
    print(f"{args.output}: {size} bytes, unchanged since they were encrypted")
    return 0
