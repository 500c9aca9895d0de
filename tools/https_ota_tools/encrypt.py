"""`encrypt`: an application for the device that has the private key."""

import argparse
from pathlib import Path

from https_ota_tools import delta, encimg, files, image, keys, packed
from https_ota_tools.errors import ToolError

NAME = "encrypt"
HELP = "encrypt an application image"


def encrypt(path: Path, key_path: Path, output: Path, force: bool = False) -> str:
    """Encrypt an application and write it. Returns the scheme, "RSA-3072" or "P-256", that the key decides.

    force: take what is no application, too.

    Raises ToolError if the file or the key is no good, or `output` can't be written.
    """
    keys.refuse_to_replace(output, [key_path])
    key = keys.load_public(key_path)
    try:
        scheme = encimg.scheme(key)
    except ToolError as e:
        raise ToolError(f"{key_path}: {e}") from e
    data = files.read(path)
    if not force:
        content = packed.content(data)
        if delta.is_delta(content):
            delta.base_of(content)
        else:
            image.load_app(content)
    files.write(output, encimg.encrypt(data, key))
    return scheme


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "app",
        type=Path,
        metavar="APP.bin",
        help="application image, signed and packed first if it is to be that",
    )
    parser.add_argument(
        "--key", type=Path, required=True, metavar="PUBLIC.pem", help="the device's public key"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.bin", help="file to write"
    )
    parser.add_argument("--force", action="store_true", help="encrypt what is no application, too")


def run(args: argparse.Namespace) -> int:
    """Do the command."""
    scheme = encrypt(args.app, args.key, args.output, args.force)
    print(f"{args.output}: {args.app.name} encrypted, for the {scheme} key {args.key.name}")
    return 0
