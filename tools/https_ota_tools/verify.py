"""`verify`: whether a device with certain keys would take a file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from https_ota_tools import delta, encimg, files, image, keys, output, sbv2
from https_ota_tools.errors import ToolError

NAME = "verify"
HELP = "check a file as a device with these keys does"


def verify(
    data: bytes,
    trusted: Collection[str] = (),
    decrypt_keys: Sequence[keys.Private] = (),
    running: str = "",
    base: bytes | None = None,
) -> image.Report:
    """Check a file as a device does, by the same rules.

    trusted: its `trusted_keys`, as 64 hex digits each. Without any it doesn't look at signatures.
    running: what "running" in its `trusted_keys` stands for, see sbv2.running_key().
    base: what it runs, where the file is a delta.
    decrypt_keys: what encimg.load_keys() returns for the key of its `decrypt`. With one it takes encrypted images
        alone, without one plain ones.

    The report is that of the application; `valid` is the answer.
    """
    checks = []
    if decrypt_keys:
        try:
            data = encimg.decrypt(data, *decrypt_keys)
        except ToolError as e:
            bad = image.Check("encryption", image.Verdict.INVALID, str(e))
            return image.Report(len(data), None, [bad])
        checks = [image.Check("encryption", image.Verdict.VALID, "the key opens it")]
    elif encimg.is_encrypted(data):
        detail = "it is encrypted: expected a plain image, as there is no --decrypt-key"
        bad = image.Check("encryption", image.Verdict.INVALID, detail)
        return image.Report(len(data), None, [bad])
    content, found_in = delta.opened_checked(data, base)
    checks += found_in
    if content is None:
        if base is None and not any(c.verdict is image.Verdict.INVALID for c in checks):
            checks.append(image.Check("base", image.Verdict.INVALID, "give it with --from"))
        return image.Report(len(data), None, checks)
    data = content
    report = image.examine(data)
    checks += report.checks
    if report.image:
        found = sbv2.blocks(data, report.image.length)
        if trusted or running:
            checks.append(sbv2.check_trust(found, trusted, running))
        else:
            has = f"{len(found)} in the file" if found else "none in the file"
            detail = f"not checked ({has}): a device without trusted_keys takes any image"
            checks.append(image.Check("signature", image.Verdict.ABSENT, detail))
    return image.Report(len(data), report.image, checks)


def key_digest(given: str) -> str:
    """Return the digest that is meant: 64 hex digits, or the file of a public key. Raises ToolError for others."""
    if re.fullmatch("[0-9A-Fa-f]{64}", given):
        return given.lower()
    path = Path(given)
    if not path.exists():
        raise ToolError(f"{given}: expected 64 hex digits or the file of a public key (PEM)")
    try:
        return sbv2.key_digest(keys.load_public(path))
    except ToolError as e:
        raise ToolError(str(e) if str(e).startswith(given) else f"{given}: {e}") from e


def running_key(path: Path | None) -> str:
    """Return the digest of the key that "running" stands for where this image runs; empty without a path."""
    if path is None:
        return ""
    try:
        return sbv2.running_key(files.read(path))
    except ToolError as e:
        raise ToolError(f"{path}: {e}") from e


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what the device would download")
    parser.add_argument(
        "--trusted",
        action="append",
        default=[],
        metavar="DIGEST|PUBLIC.pem",
        help="one of the device's trusted_keys, or the public key",
    )
    parser.add_argument(
        "--running",
        type=Path,
        metavar="APP.bin",
        help='what the device runs, where "running" is one of its trusted_keys',
    )
    parser.add_argument(
        "--from",
        type=Path,
        dest="base",
        metavar="BASE.bin",
        help="what the device runs, where the file is a delta",
    )
    parser.add_argument(
        "--decrypt-key",
        type=Path,
        metavar="PRIVATE",
        help="the device's key for encrypted images: PEM, or the 32 bytes of a scalar or an HMAC key",
    )


def run(args: argparse.Namespace) -> int:
    """Do the command: 0 if the device would take it, 1 if not."""
    trusted = [key_digest(given) for given in args.trusted]
    decrypt_keys = encimg.load_keys(args.decrypt_key) if args.decrypt_key else []
    base = files.read(args.base) if args.base else None
    running = running_key(args.running)
    report = verify(files.read(args.file), trusted, decrypt_keys, running, base)
    console = output.console()
    output.show_checks(report.checks, console)
    console.print(f"\na device {'takes' if report.valid else 'refuses'} this file")
    return 0 if report.valid else 1
