"""Release manifests: the file that tells a fleet what to install, and its signature beside it.

The format is described where the device reads it, in lib/https_ota/decide.py; what this accepts, the device accepts.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from https_ota_tools import keys, sbv2
from https_ota_tools.errors import ToolError

LIMIT = 8192
MAX_RELEASE = (1 << 31) - 1
MAX_SERIAL = (1 << 32) - 1
MAX_IMAGE = 1 << 28

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_WORDS = {int: "a whole number", str: "a text", list: "a list", bool: "true or false"}
# Lone surrogates, which JSON can spell, are no text.
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class File:
    """An image for one kind of board. `size` and `sha256` are those of the image that ends in the flash."""

    chip: str | int
    board: str
    variant: str
    url: str
    size: int
    sha256: str
    elf_sha256: str
    encrypted: bool
    # Other forms of it: (the base's digest, "" for one that is only compressed, URL, bytes).
    smaller: tuple[tuple[str, str, int], ...] = ()

    @property
    def kind(self) -> str:
        """The boards that it is for."""
        chip = self.chip if isinstance(self.chip, str) else f"chip id {self.chip}"
        return " ".join(filter(None, (chip, self.board, self.variant)))


@dataclass(frozen=True)
class Manifest:
    """What is in a manifest; empty or the default where it says nothing."""

    release: int
    serial: int
    version: str
    expires: datetime.datetime | None
    min_version: str
    secure_version: int
    rollout: int
    notes: str
    files: list[File]

    @property
    def mark(self) -> tuple[int, int]:
        """What boards compare: they take no manifest with a lower one than they have seen."""
        return self.release, self.serial


def load(data: bytes) -> dict[str, Any]:
    """Return the JSON of a manifest, with what is unknown in it. Raises ToolError for what is none; see parse()."""
    if len(data) > LIMIT:
        raise ToolError(
            f"the manifest has {len(data)} bytes: a board reads up to {LIMIT}; shorten the notes, or make one "
            "manifest for each kind of board"
        )
    try:
        found = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:
        raise ToolError(f"the manifest is no JSON: {e}") from e
    if not isinstance(found, dict):
        raise ToolError(f"the manifest can't be used: expected {{...}}, came {_shown(found)}")
    return found


def parse(data: bytes) -> Manifest:
    """Return what a manifest says. Raises ToolError for one that a board would refuse."""
    found = load(data)
    least = _get(found, "min_version", str, "")
    # What the device can compare.
    if least and not re.match(r"[vV]?\.*[0-9]", least):
        raise _bad(f"min_version: expected one like 1.2.3, came {least[:40]!r}")
    return Manifest(
        _number(found, "release", 1, MAX_RELEASE),
        _number(found, "serial", 0, MAX_SERIAL, 0),
        _get(found, "version", str),
        _expires(found),
        least,
        _number(found, "secure_version", 0, (1 << 32) - 1, 0),
        _number(found, "rollout", 0, 100, 100),
        _get(found, "notes", str, ""),
        [_file(entry) for entry in _get(found, "files", list)],
    )


def encode(found: Mapping[str, Any]) -> bytes:
    """Return a manifest as it is published. Raises ToolError for one that a board would refuse."""
    data = (json.dumps(found, indent=1) + "\n").encode()
    parse(data)
    return data


def with_serial(data: bytes, now: datetime.datetime, before: Sequence[bytes]) -> bytes:
    """Return a manifest with a serial above those of the manifests of its release in `before`.

    It is the time in seconds where nothing speaks against it: then whoever makes the manifest anew, without what is
    published at hand, has a higher one as well. One that says what all of `before` say keeps theirs.

    Raises ToolError when there is no higher one.
    """
    found = _without_serial(data)
    same = before and all(_without_serial(other) == found for other in before)
    serial = 0 if same else int(now.timestamp())
    for old in map(parse, before):
        if old.release == found["release"]:
            serial = max(serial, old.serial + (not same))
    if serial > MAX_SERIAL:
        raise ToolError(
            f"there is no serial above {MAX_SERIAL}, which release {found['release']} has: expected a higher --release"
        )
    first: dict[str, Any] = {"release": found.pop("release")}
    if serial:
        first["serial"] = serial
    return encode(first | found)


def _without_serial(data: bytes) -> dict[str, Any]:
    found = load(data)
    found.pop("serial", None)
    return found


def time_text(moment: datetime.datetime) -> str:
    """Return a moment as it is in a manifest."""
    return moment.astimezone(datetime.timezone.utc).strftime(_TIME)


def signature_path(path: Path) -> Path:
    """Return where the signature of a manifest is."""
    return path.parent / (path.name + ".sig")


def sign(
    data: bytes, signers: Sequence[keys.Private], before: tuple[bytes, bytes] | None = None
) -> bytes:
    """Return the signature of a manifest: a block for each key.

    before: the manifest that this one replaces, and its signature. As far as there is room, the new signature holds
        the old one as well, so that it can be published first, and boards find no pair that does not fit.

    Raises ToolError for keys that can't sign, sign twice or are too many.
    """
    digests = [sbv2.key_digest(key.public_key()) for key in signers]
    for n, digest in enumerate(digests):
        if digest in digests[:n]:
            raise ToolError(f"the key with the digest {digest} is given twice")
    if not 1 <= len(signers) <= sbv2.MAX_BLOCKS:
        raise ToolError(f"expected 1 to {sbv2.MAX_BLOCKS} keys to sign with, came {len(signers)}")
    made = sbv2.sign_data(data, signers)
    if before and before[0] != data:
        for block in sbv2.data_blocks(*before):
            if block.good and len(made) < sbv2.MAX_BLOCKS * sbv2.BLOCK_BYTES:
                made += before[1][block.number * sbv2.BLOCK_BYTES :][: sbv2.BLOCK_BYTES]
    found = sbv2.data_blocks(data, made)
    if [(b.key_digest, b.problem) for b in found[: len(digests)]] != [(d, "") for d in digests]:
        raise ToolError(
            "espsecure made a signature that does not verify: try another version of esptool"
        )
    return made


def _file(entry: object) -> File:
    if not isinstance(entry, dict):
        raise _bad(f"files: expected {{...}}, came {_shown(entry)}")
    chip = entry.get("chip")
    if isinstance(chip, bool) or not isinstance(chip, (int, str)):
        raise _bad(f"chip: expected a name or a number, came {_shown(chip)}")
    sha256 = _get(entry, "sha256", str)
    if not re.fullmatch("[0-9A-Fa-f]{64}", sha256):
        raise _bad(f"sha256: expected 64 hex digits, came {sha256[:80]!r}")
    elf_sha256 = _get(entry, "elf_sha256", str, "")
    if elf_sha256 and not re.fullmatch("[0-9A-Fa-f]{64}", elf_sha256):
        raise _bad(f"elf_sha256: expected 64 hex digits, came {elf_sha256[:80]!r}")
    return File(
        chip,
        _get(entry, "board", str, ""),
        _get(entry, "variant", str, ""),
        _url(_get(entry, "url", str)),
        _number(entry, "size", 1, MAX_IMAGE),
        sha256.lower(),
        elf_sha256.lower(),
        _get(entry, "encrypted", bool, False),
        tuple(_smaller(entry)),
    )


def _smaller(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    deltas = _get(entry, "deltas", list, [])
    for n, form in enumerate([*deltas, *([entry["packed"]] if "packed" in entry else [])]):
        if not isinstance(form, dict):
            raise _bad(f"packed, deltas: expected {{...}}, came {_shown(form)}")
        base = ""
        if n < len(deltas):
            base = _get(form, "base", str).lower()
            if not re.fullmatch("[0-9a-f]{64}", base):
                raise _bad(f"base: expected 64 hex digits, came {base[:80]!r}")
        yield base, _url(_get(form, "url", str)), _number(form, "bytes", 1, MAX_IMAGE)


def _url(url: str) -> str:
    if not re.fullmatch("[!-~]+", url):
        raise _bad(f"url: {url[:80]!r} must be percent-encoded, and not empty")
    whole = re.match("(?i)https?://([^/?#]*)", url)
    if whole:
        host = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^:@\[\]]+)(?::([0-9]{1,5}))?", whole[1])
        good = host is not None and 0 < int(host[1] or 1) < 65536
    else:
        # Neither another scheme nor another host.
        start = re.split("[/?#]", url)[0]
        good = ":" not in start and "://" not in url.split("?", maxsplit=1)[0] and url[:2] != "//"
    if not good:
        raise _bad(f"url: expected https://host/path or a relative path, came {url[:80]!r}")
    return url


def _expires(found: Mapping[str, Any]) -> datetime.datetime | None:
    text = _get(found, "expires", str, "")
    if "expires" not in found:
        return None
    try:
        moment = datetime.datetime.strptime(text, _TIME).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        moment = None
    if moment is None or len(text) != 20 or not text.isascii():
        raise _bad(f"expires: expected 2026-12-31T23:59:59Z or the like, came {text[:40]!r}")
    return moment


def _number(
    found: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None
) -> int:
    value: int = _get(found, name, int, default)
    if not low <= value <= high:
        raise _bad(f"{name}: expected {low} to {high}, came {_shown(value)}")
    return value


def _get(found: Mapping[str, Any], name: str, kind: type, default: object = None) -> Any:
    value = found.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _bad(f"{name}: expected {_WORDS[kind]}, came {_shown(value)}")
    if isinstance(value, str) and _SURROGATE.search(value):
        raise _bad(f"{name}: half a character in it")
    return value


def _shown(value: object) -> str:
    if isinstance(value, (list, dict)):
        return type(value).__name__
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    return repr(value)[:40]


def _bad(what: str) -> ToolError:
    return ToolError(f"the manifest can't be used: {what}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
