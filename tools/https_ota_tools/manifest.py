"""`manifest`: a release as boards look for it: what to install, who may, until when, signed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import hashlib
import os
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import esptool.targets

from https_ota_tools import (
    delta,
    encimg,
    files,
    image,
    keys,
    output,
    packed,
    release,
    releasecheck,
    room,
    sbv2,
    verify,
)
from https_ota_tools.errors import ToolError

NAME = "manifest"
HELP = "make, change or check the manifest of a release"

_DAYS = 60
_KEYS = ("board", "variant", "url", "encrypted")
_FORM_KEYS = ("url", "encrypted", "base")


@dataclass(frozen=True)
class Form:
    """The same image in a shorter file: compressed, or a delta."""

    path: Path
    url: str = ""
    # What is downloaded, where that is not the file itself.
    encrypted: Path | None = None
    # The image that a delta is to, so that it can be tried.
    base: Path | None = None


@dataclass(frozen=True)
class Source:
    """An image to be released: its file, and what no image says of itself."""

    path: Path
    board: str = ""
    variant: str = ""
    url: str = ""
    # What is downloaded, where that is not the image itself.
    encrypted: Path | None = None
    forms: tuple[Form, ...] = ()


def make(
    sources: Sequence[Source],
    number: int,
    *,
    version: str = "",
    min_version: str = "",
    rollout: int = 100,
    expires: datetime.datetime | None = None,
    notes: str = "",
    url_prefix: str = "",
    signed_images: bool = True,
) -> bytes:
    """Return the manifest of a release.

    version: empty takes that of the images, which must be the same in all of them that have one.
    signed_images: images without a signature are an error, as boards with `trusted_keys` refuse them.

    Raises ToolError for images that can't be used or don't go together.
    """
    if not sources:
        raise ToolError("expected at least one --file")
    entries: list[dict[str, Any]] = []
    versions: dict[str, Path] = {}
    secure: dict[int, Path] = {}
    for source in sources:
        entry, found = _describe(source, url_prefix, signed_images)
        if any(_same_boards(entry, e) for e in entries):
            raise ToolError(
                f"{source.path}: another file is for the same boards; give board= or variant="
            )
        entries.append(entry)
        assert found.desc
        secure.setdefault(found.desc.secure_version, source.path)
        if found.desc.version:
            versions.setdefault(found.desc.version, source.path)
    if version:
        versions.setdefault(version, Path("--version"))
    for what, values in (("version", versions), ("secure version", secure)):
        if len(values) > 1:
            said = ", ".join(f"{path} has {value}" for value, path in values.items())
            raise ToolError(f"the images of a release have one {what}: {said}")
    made: dict[str, Any] = {"release": number, "version": next(iter(versions), "")}
    if expires:
        made["expires"] = release.time_text(expires)
    if min_version:
        made["min_version"] = min_version
    if any(secure):
        made["secure_version"] = next(iter(secure))
    made["rollout"] = rollout
    if notes:
        made["notes"] = notes
    made["files"] = entries
    return release.encode(made)


def change(
    data: bytes,
    *,
    rollout: int | None = None,
    expires: datetime.datetime | None = None,
    notes: str | None = None,
) -> bytes:
    """Return a manifest with some fields changed; the release stays the same. Raises ToolError for values that can't be."""
    release.parse(data)
    found = release.load(data)
    if rollout is not None:
        found["rollout"] = rollout
    if expires is not None:
        found["expires"] = release.time_text(expires)
    if notes is not None:
        found["notes"] = notes
    return release.encode(found)


def write(path: Path, data: bytes, key_paths: Sequence[Path]) -> list[sbv2.Block]:
    """Write a manifest and its signature. Returns the blocks of the signature, none without keys.

    Raises ToolError if a key can't sign, or a file can't be written.
    """
    signature_path = release.signature_path(path)
    keys.refuse_to_replace(path, key_paths)
    keys.refuse_to_replace(signature_path, key_paths)
    if path.exists():
        old = files.read(path)
        # Servers make ETags of size and time, and the time may be one that a build always sets: boards that ask for
        # what has changed would not see it.
        if len(old) == len(data) and old != data:
            data += b"\n"
    if not key_paths:
        if signature_path.exists():
            raise ToolError(
                f"{signature_path} would not fit the new manifest: give --sign, or remove it"
            )
        files.write(path, data)
        return []
    before = None
    if path.exists() and signature_path.exists():
        before = (old, files.read(signature_path))
    signature = release.sign(data, [keys.load_private(p) for p in key_paths], before)
    files.write_all([(signature_path, signature), (path, data)])
    return sbv2.data_blocks(data, signature)


def _describe(source: Source, prefix: str, signed: bool) -> tuple[dict[str, Any], image.Image]:
    data = files.read(source.path)
    try:
        found = image.load_app(data)
    except ToolError as e:
        raise ToolError(f"{source.path}: {e}") from e
    blocks = sbv2.blocks(data, found.length)
    for block in blocks:
        if block.problem:
            raise ToolError(f"{source.path}: signature block {block.number}: {block.problem}")
    if signed and not blocks:
        raise ToolError(
            f"{source.path} is not signed: boards with trusted_keys refuse it; sign it with `https-ota sign`, or say "
            "--unsigned-images when your boards say image_keys=None"
        )
    sent = source.encrypted or source.path
    if source.encrypted and not encimg.is_encrypted(files.read(sent)):
        raise ToolError(f"{sent}: expected an encrypted image, another file came")
    entry: dict[str, Any] = {"chip": esptool.targets.CHIP_DEFS[found.chip].CHIP_NAME}
    if source.board:
        entry["board"] = source.board
    if source.variant:
        entry["variant"] = source.variant
    # As `serve` and other servers know it.
    entry["url"] = source.url or prefix + urllib.parse.quote(os.fsencode(sent.name), safe=",")
    entry["size"] = len(data)
    entry["sha256"] = hashlib.sha256(data).hexdigest()
    assert found.desc  # load_app() takes nothing without
    if found.desc.app_elf_sha256.strip("0"):
        entry["elf_sha256"] = found.desc.app_elf_sha256
    if source.encrypted:
        entry["encrypted"] = True
    for form in source.forms:
        _describe_form(form, entry, data, prefix)
    return entry, found


def _describe_form(form: Form, entry: dict[str, Any], data: bytes, prefix: str) -> None:
    """Add a shorter form of the image `data` to its entry. Raises ToolError if it is of another image."""
    try:
        content = packed.content(files.read(form.path))
        base = delta.base_of(content) if delta.is_delta(content) else ""
        if not base:
            size = len(content)
        elif form.base:
            content = delta.apply(content, files.read(form.base))
            size = len(content)
        else:
            size = delta.made_size(content)
    except ToolError as e:
        raise ToolError(f"{form.path}: {e}") from e
    if size != len(data) or (content != data and (form.base or not base)):
        raise ToolError(
            f"{form.path}: expected what makes {len(data)} bytes, those of the --file before it, came another image"
        )
    sent = form.encrypted or form.path
    came = files.read(sent)
    if encimg.is_encrypted(came) != ("encrypted" in entry):
        kind = "an encrypted" if "encrypted" in entry else "a plain"
        raise ToolError(f"{sent}: expected {kind} file, as --file says it of the image")
    made: dict[str, Any] = {"base": base} if base else {}
    made["url"] = form.url or prefix + urllib.parse.quote(os.fsencode(sent.name), safe=",")
    made["bytes"] = len(came)
    if not base:
        entry["packed"] = made
    elif any(d["base"] == base for d in entry.setdefault("deltas", [])):
        raise ToolError(f"{form.path}: another delta is to the same image")
    else:
        entry["deltas"].append(made)


def _same_boards(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(a.get(name) == b.get(name) for name in ("chip", "board", "variant"))


def _split(text: str, keys: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """Return what `FILE,key=value,...` says. Raises argparse.ArgumentTypeError for keys that are unknown."""
    name, *rest = re.split(r",(?=[a-z]+=)", text)
    given = dict(part.split("=", 1) for part in rest)
    for key in given:
        if key not in keys:
            raise argparse.ArgumentTypeError(f"{key}=: expected {', '.join(keys)}")
    return Path(name), given


def _form(text: str) -> Form:
    path, given = _split(text, _FORM_KEYS)
    encrypted, base = (Path(given[k]) if given.get(k) else None for k in ("encrypted", "base"))
    return Form(path, given.get("url", ""), encrypted, base)


class _AddForm(argparse.Action):
    """A shorter form belongs to the --file before it."""

    def __call__(self, parser: argparse.ArgumentParser, args: Any, form: Any, *_: Any) -> None:
        if not args.file:
            raise argparse.ArgumentError(self, "expected behind the --file that it is a form of")
        last = args.file[-1]
        args.file[-1] = dataclasses.replace(last, forms=(*last.forms, form))


def _source(text: str) -> Source:
    """Return what `APP.bin,board=B,...` says."""
    name, given = _split(text, _KEYS)
    encrypted = Path(given["encrypted"]) if given.get("encrypted") else None
    return Source(
        name,
        given.get("board", ""),
        given.get("variant", ""),
        given.get("url", ""),
        encrypted,
    )


def _refuse_going_back(path: Path, data: bytes) -> None:
    """Raise ToolError if boards would take the manifest in `data` for a replay of that at `path`."""
    if not path.exists():
        return
    try:
        old = release.parse(files.read(path))
    except ToolError:
        return  # no manifest, so no board has accepted it
    new = release.parse(data)
    if new.release < old.release or (new.release == old.release and new.version != old.version):
        raise ToolError(
            f"{path} is of release {old.release} ({old.version}): boards that have seen it refuse a lower one; "
            f"expected --release {old.release + 1} or more"
        )


def _require_signature(path: Path, data: bytes, key_paths: Sequence[Path]) -> None:
    """Raise ToolError unless one of these keys signed the manifest: else whoever changed it gets it signed."""
    signature_path = release.signature_path(path)
    if not key_paths:
        return
    trusted = [sbv2.key_digest(keys.load_private(p).public_key()) for p in key_paths]
    verdict = releasecheck.check_signature(data, files.read(signature_path), trusted)
    if verdict.verdict is not image.Verdict.VALID:
        raise ToolError(
            f"{signature_path} is not the signature of {path} by this key, so it may have been changed; "
            f"make it anew from the images ({verdict.detail})"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--file",
        type=_source,
        action="append",
        metavar="APP.bin[,board=B][,variant=V][,url=U][,encrypted=FILE]",
        help="make a manifest: an image as it ends in the flash, and its encrypted form if that is downloaded",
    )
    what.add_argument(
        "--update", type=Path, metavar="MANIFEST", help="change a manifest and sign it anew"
    )
    what.add_argument(
        "--check",
        type=Path,
        metavar="MANIFEST",
        help="check a manifest, its signature and its files",
    )
    for option, words in (
        ("--packed", "a compressed form of the --file before it, for boards that can unpack it"),
        ("--delta", "a delta to it, for boards that run its base; with base=IMAGE it is tried"),
    ):
        parser.add_argument(
            option,
            type=_form,
            action=_AddForm,
            metavar="FILE[,url=U][,encrypted=FILE]"
            + (",base=IMAGE" if option == "--delta" else ""),
            help=words,
        )
    parser.add_argument("--release", type=int, metavar="N", help="higher than any before it")
    parser.add_argument(
        "--version", default="", help="of the firmware; by default that in the images"
    )
    parser.add_argument("--min-version", default="", help="the lowest to upgrade from")
    parser.add_argument("--rollout", type=int, metavar="PERCENT", help="of the boards (100)")
    parser.add_argument(
        "--expires-days",
        type=int,
        metavar="DAYS",
        help=f"until boards stop to believe it ({_DAYS}); 0: never",
    )
    parser.add_argument("--notes", help="for people")
    parser.add_argument(
        "--url-prefix", default="", help="what precedes the names of the files in their URLs"
    )
    parser.add_argument(
        "--unsigned-images", action="store_true", help="allow images without a signature"
    )
    parser.add_argument(
        "--sign",
        type=Path,
        action="append",
        default=[],
        metavar="KEY.pem",
        help=f"private key, up to {sbv2.MAX_BLOCKS} of them",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="MANIFEST",
        help="file to write; its signature gets .sig",
    )
    parser.add_argument(
        "--trusted",
        action="append",
        default=[],
        metavar="DIGEST|PUBLIC.pem",
        help="with --check: one of the boards' trusted_keys, or the public key",
    )
    parser.add_argument(
        "--running",
        type=Path,
        metavar="APP.bin",
        help='with --check: what the boards run, where "running" is one of their trusted_keys',
    )
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="with --check: where the files are (beside it)"
    )
    parser.add_argument(
        "--slot-size",
        type=room.parse,
        action="append",
        default=[],
        metavar="[BOARDS=]BYTES|TABLE",
        help="what the boards out there have room for, all or those of a chip, board or variant: what does not fit is no release",
    )
    parser.add_argument(
        "--published",
        metavar="URL|MANIFEST",
        help="with --check: what boards have seen, which this one must follow",
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="with --published URL: certificates to trust (default: certifi's)",
    )


def run(args: argparse.Namespace) -> int:
    """Do the command: 0, or 1 if --check found something wrong."""
    now = datetime.datetime.now(datetime.timezone.utc)
    if args.check:
        return _run_check(args, now)
    if args.expires_days is not None and not 0 <= args.expires_days <= 36500:
        raise ToolError(f"--expires-days: expected 0 to 36500, came {args.expires_days}")
    expires = None
    if args.expires_days or (args.expires_days is None and args.file):
        expires = now + datetime.timedelta(days=args.expires_days or _DAYS)
    if args.update:
        path = args.output or args.update
        old = files.read(args.update)
        _require_signature(args.update, old, args.sign)
        data = change(old, rollout=args.rollout, expires=expires, notes=args.notes)
    else:
        path = args.output
        if path is None or args.release is None:
            raise ToolError("expected --release and -o with --file")
        data = make(
            args.file,
            args.release,
            version=args.version,
            min_version=args.min_version,
            rollout=100 if args.rollout is None else args.rollout,
            expires=expires,
            notes=args.notes or "",
            url_prefix=args.url_prefix,
            signed_images=bool(args.sign) and not args.unsigned_images,
        )
        _refuse_going_back(path, data)
    for c in room.check(release.parse(data).files, args.slot_size):
        if c.verdict is image.Verdict.INVALID:
            raise ToolError(f"{c.name}: {c.detail}")
    before = [old] if args.update else []
    if path.exists() and path != args.update:
        with contextlib.suppress(ToolError):  # no manifest, so no board has seen it
            there = files.read(path, release.LIMIT)
            release.parse(there)
            before.append(there)
    blocks = write(path, release.with_serial(data, now, before), args.sign)
    data = files.read(path)
    made = release.parse(data)
    print(
        f"{path}: release {made.release}, serial {made.serial}, version {made.version or '(none)'}, {len(data)} bytes, "
        f"for {made.rollout} % of the boards"
    )
    for b in blocks:
        words = "of the manifest that it replaces" if b.problem else f"key digest {b.key_digest}"
        print(f"{release.signature_path(path)}: block {b.number}: {b.scheme}, {words}")
    if blocks:
        print("publish the images first, then the signature, then the manifest")
    return 0


def _published(where: str, ca: Path | None) -> bytes | None:
    if "://" in where:
        return releasecheck.fetch(where, ca)
    return files.read(Path(where))


def _run_check(args: argparse.Namespace, now: datetime.datetime) -> int:
    signature_path = release.signature_path(args.check)
    checks = releasecheck.check(
        files.read(args.check),
        files.read(signature_path) if signature_path.exists() else None,
        [verify.key_digest(given) for given in args.trusted],
        args.dir or args.check.parent,
        now,
        verify.running_key(args.running),
    )
    data = files.read(args.check)
    named: list[release.File] = []
    with contextlib.suppress(ToolError):  # of one that can't be read the checks tell
        named = release.parse(data).files
    if named:
        checks += room.check(named, args.slot_size)
    if args.published:
        checks.append(releasecheck.check_published(data, _published(args.published, args.ca)))
    console = output.console()
    output.show_checks(checks, console)
    bad = any(c.verdict is image.Verdict.INVALID for c in checks)
    console.print(f"\nthis manifest {'must not' if bad else 'can'} be published")
    return 1 if bad else 0
