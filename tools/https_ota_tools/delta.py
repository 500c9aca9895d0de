"""Deltas: what makes a new image of the one that runs, for boards to download.

The format is that of Espressif's esp_delta_ota: a header with the SHA-256 at the end of the old image, then a patch of
detools. Ours is "sequential" without compression, and compressed as images are. In the part of the header that is left free
are the first bytes of the SHA-256 at the end of the new image: so a board sees that it runs already.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from https_ota_tools import image, packed
from https_ota_tools.errors import BadFileError, ToolError

MAGIC = struct.pack("<I", 0xFCCDDE10)
HEADER_BYTES = 64
_NAME_BYTES = 28
_PLAIN, _HEATSHRINK = 0x00, 0x04


def is_delta(data: bytes) -> bool:
    """Return whether a file, no longer compressed, is a delta."""
    return data.startswith(MAGIC)


def make(base: bytes, new: bytes, window: int = packed.WINDOW) -> bytes:
    """Return the compressed delta from one image to another; it was applied and compared.

    What is behind the base image, a signature for example, is not relied on: only the image itself has a name.
    """
    body, digest = _base(base)
    patch = io.BytesIO()
    _detools().create_patch(io.BytesIO(body), io.BytesIO(new), patch, compression="none")
    delta = MAGIC + digest + _name(new) + patch.getvalue()
    if apply(delta, base) != new:
        raise ToolError(
            "the delta does not make the new image of the old one: is detools damaged?"
        )
    return packed.pack(delta, window)


def base_of(delta: bytes) -> str:
    """Return the SHA-256 that the base image of a delta has at its end, as 64 hex digits. Raises BadFileError."""
    if len(delta) <= HEADER_BYTES:
        raise BadFileError(f"the delta ends within its header: it has {len(delta)} bytes")
    if delta[HEADER_BYTES] not in (_PLAIN, _HEATSHRINK):
        kind = delta[HEADER_BYTES]
        raise BadFileError(
            f"the delta is of kind {kind:#04x}: boards know detools' sequential ones, "
            "without compression (0x00) or heatshrink (0x04)"
        )
    return delta[4:36].hex()


def made_size(delta: bytes) -> int:
    """Return the size of the image that a delta makes. Raises BadFileError if it does not tell."""
    base_of(delta)
    value, shift = 0, 0
    for n, byte in enumerate(delta[HEADER_BYTES + 1 :][:6]):
        value |= (byte & (0x7F if n else 0x3F)) << shift
        shift += 7 if n else 6
        if not byte & 0x80:
            return value
    raise BadFileError("the delta does not tell the size of what it makes")


def apply(delta: bytes, base: bytes) -> bytes:
    """Return the image that a delta makes of its base. Raises BadFileError for another base, or a damaged delta."""
    body, digest = _base(base)
    if base_of(delta) != digest.hex():
        raise BadFileError(
            f"the delta is for the image with SHA-256 {base_of(delta)}, the base has {digest.hex()}"
        )
    size = made_size(delta)
    if size > packed.LIMIT:
        raise BadFileError(f"the delta says that it makes {size} bytes")
    out = io.BytesIO()
    detools = _detools()
    try:
        detools.apply_patch(io.BytesIO(body), io.BytesIO(delta[HEADER_BYTES:]), out)
    except (detools.Error, ValueError, IndexError, struct.error, MemoryError) as e:
        raise BadFileError(f"the delta is damaged: {e}") from e
    new = out.getvalue()
    if len(new) != size:
        raise BadFileError(f"expected {size} bytes by the delta, came {len(new)}")
    name = delta[36:HEADER_BYTES]
    if any(name) and name != _name(new):
        raise BadFileError(
            f"expected an image with SHA-256 {name.hex()}... by the delta's header, came one with {_name(new).hex()}..."
        )
    return new


def opened(data: bytes, base: bytes | None = None) -> bytes:
    """Return the image in a file, which may be compressed, or a delta to `base`. Raises ToolError if it can't be had."""
    data = packed.content(data)
    if not is_delta(data):
        return data
    if base is None:
        raise ToolError(
            f"it is a delta to the image with SHA-256 {base_of(data)}: give that with --from"
        )
    return apply(data, base)


def opened_checked(
    data: bytes, base: bytes | None = None
) -> tuple[bytes | None, list[image.Check]]:
    """Return the image in a file, None if that can't be had, and the checks of what it is in."""
    content, found = packed.open_checked(data)
    if content is None or not is_delta(content):
        return content, found
    if base is None:
        return None, [*found, *checks(content)]
    try:
        new = apply(content, base)
    except ToolError as e:
        return None, [*found, image.Check("delta", image.Verdict.INVALID, str(e))]
    detail = f"{len(content)} bytes make {len(new)} of the image with SHA-256 {base_of(content)}"
    return new, [*found, image.Check("delta", image.Verdict.VALID, detail)]


def checks(delta: bytes) -> list[image.Check]:
    """Return the checks of a delta whose base is not at hand."""
    try:
        base, size = base_of(delta), made_size(delta)
    except BadFileError as e:
        return [image.Check("delta", image.Verdict.INVALID, str(e))]
    name = delta[36:HEADER_BYTES]
    made = f"makes an image of {size} bytes" + (
        f" with SHA-256 {name.hex()}..." if any(name) else ""
    )
    return [
        image.Check("delta", image.Verdict.VALID, made),
        image.Check("base", image.Verdict.VALID, f"the image with SHA-256 {base}"),
        image.Check("application", image.Verdict.ABSENT, "not to be seen without the base"),
    ]


def _base(data: bytes) -> tuple[bytes, bytes]:
    found = image.load_app(data)
    if found.digest is None:
        raise ToolError("the base image has no SHA-256 at its end, which would be its name")
    return data[: found.length], found.digest


def _name(new: bytes) -> bytes:
    """Return what the header tells of the new image: zeros if that has no SHA-256 at its end."""
    found = image.examine(new).image
    return ((found and found.digest) or bytes(_NAME_BYTES))[:_NAME_BYTES]


def _detools() -> Any:
    try:
        import detools
    except ImportError as e:
        raise ToolError("deltas need the package detools: pip install detools") from e
    return detools
